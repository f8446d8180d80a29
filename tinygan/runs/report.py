"""The report of a run: one file, ``report.html``, that holds all there is to see of it.

Samples, real images, curves, verdicts, configuration, and the trained networks themselves. The page is made
of the files in ``page/``, to which the run is added as JSON; it needs no network and no other file.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import CheckpointError, ShapeError
from tinygan.runs.explorer import directions, export
from tinygan.runs.folder import RunFolder, write_atomically
from tinygan.runs.pictures import grid, png, read_png, tiles
from tinygan.runs.state import PREVIEWS, State
from tinygan.runs.summary import rows

MOST_POINTS = 2000  # of a curve: more than a screen has pixels across


def write_report(run: RunFolder, state: State) -> Path:
    """Write ``report.html`` into the folder of `run`, whose networks are now as in `state`; return its path.

    Pictures that cannot be read are left out. Raises CheckpointError when the configuration or the
    statistics are damaged, or the file cannot be written.
    """
    config, stats = run.read_config(), run.read_stats()
    try:
        images, height, width, _ = (int(number) for number in config["data"]["shape"])
        settings, name = config["settings"], config["data"]["name"]
        steps_per_epoch = math.ceil(images / settings["batch_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{run.config_path} is damaged: no configuration. Name another run.") from error
    generator, discriminator = export(state.G), export(state.D)
    contents = {
        "name": run.path.name,
        "data": name,
        "steps_per_epoch": steps_per_epoch,
        "config": config,
        "stats": stats,
        "curves": curves(run.read_losses(), stats),
        "size": [height, width],
        "previews": PREVIEWS,
        "frames": _frames(run, stats, height, width),
        "reals": _sprite(run.reals_path, min(PREVIEWS, images), height, width),
        "networks": [
            {"name": network.name, "input": network.input_shape, "rows": rows(network)}
            for network in (state.G, state.D)
        ],
        "step": state.step,
        "generator": {"input": state.G.input_shape, "layers": generator.layers},
        "discriminator": {"input": state.D.input_shape, "layers": discriminator.layers},
        "directions": _rounded(directions(state.G)),
        "noise": _rounded(state.preview_noise),
    }
    weights = {"generator-weights": generator.weights, "discriminator-weights": discriminator.weights}
    text = page(f"{run.path.name}: report", contents, weights)
    path = run.report_path
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def page(title: str, contents: dict[str, Any], weights: Mapping[str, str]) -> str:
    """The page as HTML: ``page/page.html`` with the files that it names, `contents` and `weights` put in."""
    folder = resources.files("tinygan.runs") / "page"

    def put_in(match: re.Match[str]) -> str:
        name = match[1]
        if name == "title":
            return html.escape(title)
        if name == "contents":  # no "</script>" or "<!--" of a file's name may end the element it lies in
            return json.dumps(contents, allow_nan=False).replace("<", "\\u003c")
        return weights[name] if name in weights else (folder / name).read_text(encoding="utf-8")

    return re.sub(r"\{\{ (\S+) \}\}", put_in, (folder / "page.html").read_text(encoding="utf-8"))


def curves(losses: np.ndarray, stats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The numbers (steps, 4) of all steps as curves of at most `MOST_POINTS` points.

    Each point stands for `every` steps and ends with step `step`; `mean`, `low` and `high` are lists of
    four curves (losses of G and D, scores of real and fake), None where nothing was kept. A run that kept
    nothing has the means of its epochs.
    """
    if np.isfinite(losses).any():
        every = math.ceil(len(losses) / MOST_POINTS)
        points = math.ceil(len(losses) / every)
        padded = np.full((points * every, 4), np.nan)
        padded[: len(losses)] = losses
        bins = padded.reshape(points, every, 4)
        known = np.isfinite(bins)
        count = known.sum(axis=1)
        mean = np.where(known, bins, 0).sum(axis=1) / np.maximum(count, 1)
        low, high = (
            reduce(np.where(known, bins, limit), axis=1)
            for reduce, limit in ((np.min, np.inf), (np.max, -np.inf))
        )
        steps = np.minimum((np.arange(points) + 1) * every, len(losses))
        found = [np.where(count > 0, part, np.nan).T for part in (mean, low, high)]
    else:
        names = ("g_loss", "d_loss", "real_score", "fake_score")
        every = None
        steps = np.array([row["step"] for row in stats], int)
        found = [np.array([[row[name] for row in stats] for name in names], float)] * 3
    return {
        "every": every,
        "step": steps.tolist(),
        **dict(zip(("mean", "low", "high"), map(_rounded, found), strict=True)),
    }


def _frames(run: RunFolder, stats: Sequence[dict[str, Any]], height: int, width: int) -> list[dict[str, Any]]:
    """The sample grids there are, up to the last epoch of the statistics."""
    last = max((row["epoch"] for row in stats), default=0)
    found = []
    for epoch in range(last + 1):
        if sprite := _sprite(run.sample_path(epoch), PREVIEWS, height, width):
            found.append({"epoch": epoch, "picture": sprite})
    return found


def _sprite(path: Path, count: int, height: int, width: int) -> str | None:
    """The grid in `path` as a data: URL of a PNG, not magnified and without gaps; None if there is none."""
    try:
        images = tiles(read_png(path), count, height, width)
    except (CheckpointError, ShapeError):
        return None
    data = png(grid(images, columns=math.ceil(math.sqrt(count)), scale=1, gap=0))
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _rounded(numbers: np.ndarray) -> list[Any]:
    """Nested lists of numbers of five digits; None for NaN."""
    if numbers.ndim > 1:
        return [_rounded(row) for row in numbers]
    return [float(f"{number:.5g}") if np.isfinite(number) else None for number in numbers]
