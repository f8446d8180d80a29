"""Writes a run's report, ``report.html``: the files in ``page/``, the run as JSON, the trained networks."""

import base64
import html
import json
import math
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import CheckpointError, ShapeError, printable
from tinygan.fast.originals import unlike
from tinygan.files import write_atomically
from tinygan.runs.folder import GROUPS, LISTS, RunFolder, damaged
from tinygan.runs.state import PREVIEWS, State
from tinygan.views import health
from tinygan.views.explorer import for_page
from tinygan.views.pictures import grid, png, read_picture, tiles

EVALUATED = ("fcd", "error", "precision", "recall", "coverage", "floor", "ceiling", "samples")
MEASURED = ("g_loss", "d_loss", "real_score", "fake_score")  # at every step
LIMITS = ("COLLAPSED", "REPEATED", "CERTAIN", "DEAD")  # the verdict's, drawn in charts
MOST_POINTS = 700  # of a curve: about the width of a chart in pixels


def write_report(
    run: RunFolder, state: State, measured: dict[str, Any] | None = None, path: Path | None = None
) -> Path:
    """Write the report of `run`, with the networks of `state`, to `path` (by default ``report.html`` in the
    run's folder), and return where it is. `measured` is the result of `evaluation.directions.for_report`.
    Pictures that cannot be read are left out. Raises: CheckpointError if the configuration or the statistics
    are damaged, or the file cannot be written."""
    config, stats, name = config_of(run), statistics(run), run_name(run)
    images, height, width, _ = config["data"]["shape"]
    path, networks = path or run.report_path, (state.shown_G, state.D)
    edits = unlike(*networks)  # changes to code of which the page has its own version
    samples = run.samples()
    frames = ((at, _sprite(at.path, PREVIEWS, height, width)) for at in samples)
    exported = [([], "") if edits else for_page(network) for network in networks]
    contents = {
        "name": name, "steps_per_epoch": math.ceil(images / config["settings"]["batch_size"]),
        "config": config, "resume": run.resume_command(config["settings"].get("data")),
        "limits": {name.lower(): getattr(health, name) for name in LIMITS},
        "stats": stats, "curves": curves(run.read_losses(), stats),
        "frames": [{"epoch": at.epoch, "step": at.step, "picture": one} for at, one in frames if one],
        "reals": _sprite(run.reals_path, min(PREVIEWS, images), height, width),
        "networks": [
            {"name": network.name, "input": network.input_shape, "layers": layers}
            for network, (layers, _) in zip(networks, exported, strict=True)
        ],
        "step": state.step, "edits": edits, "directions": [], "ranked": None, **(measured or {}),
        "noise": rounded(state.preview_noise),
    }  # fmt: skip
    parts = {
        "generator-weights": exported[0][1], "discriminator-weights": exported[1][1],
        "picture": f"samples/{samples[-1].path.name}" if samples and path.parent == run.path else "",
    }  # fmt: skip
    title = f"Pictures by a neural network trained on {config['data'].get('name', 'pictures')} ({name})"
    write_atomically(path, page("page.html", printable(title), contents, parts).encode())
    return path


def page(file: str, title: str, contents: dict[str, Any], parts: dict[str, str]) -> str:
    """Fill in a `file` of ``page/``: the files that it names, the title, `contents` and other `parts`."""
    folder = resources.files("tinygan.views") / "page"
    # A "</script>" or "<!--" in a file name must not end the element that holds it.
    data = json.dumps(contents, allow_nan=False).replace("<", "\\u003c")
    parts = parts | {"title": html.escape(title), "contents": data}

    def part(name: str) -> str:
        return parts[name] if name in parts else (folder / name).read_text(encoding="utf-8")

    return re.sub(r"\{\{ (\S+) \}\}", lambda match: part(match[1]), part(file))


def run_name(run: RunFolder) -> str:
    return printable(run.path.resolve().name)


def config_of(run: RunFolder) -> dict[str, Any]:
    """The configuration, checked for everything that a page needs."""
    config = run.read_config()
    shape = config["data"].get("shape")
    sizes = [*shape, config["settings"].get("batch_size")] if isinstance(shape, list) else []
    if len(sizes) != 5 or not all(type(size) is int and 0 < size < 2**53 for size in sizes):
        raise damaged(run.config_path, "the data's shape or the batch size is missing or wrong")
    return {name: config[name] for name in (*GROUPS, *LISTS)}


def statistics(run: RunFolder) -> list[dict[str, Any]]:
    """The rows of the statistics: what a page shows, if it has the right type."""

    def numbers(row: Any, names: Sequence[str]) -> dict[str, float]:
        found = row if isinstance(row, dict) else {}
        return {name: found[name] for name in names if type(found.get(name)) in (int, float)}

    return [
        {
            **numbers(row, ("epoch", "step", *MEASURED, "seconds", "images_per_second")),
            **{name: row[name] for name in ("verdict", "advice") if isinstance(row.get(name), str)},
            "health": numbers(row.get("health"), health.Health._fields),
            "evaluation": numbers(row.get("evaluation"), EVALUATED),
        }
        for row in run.read_stats()
    ]


def curves(losses: np.ndarray, stats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reduce `losses` (steps, 4), in the order of `MEASURED`, to curves of at most `MOST_POINTS` points.
    Each point stands for `every` steps and ends at step `step`; `mean`, `low` and `high` are lists of four
    curves. A step that was not recorded takes the mean of its epoch, or else None. If no step was recorded,
    there is one point per epoch, and `every` is None."""
    means = np.array([[row.get(name, np.nan) for name in MEASURED] for row in stats], float).reshape(-1, 4)
    ends = [row["step"] for row in stats]
    if np.isfinite(losses).any():
        every = math.ceil(len(losses) / MOST_POINTS)
        points = math.ceil(len(losses) / every)
        padded = np.full((points * every, 4), np.nan)
        padded[: len(losses)] = losses
        for first, last, mean in zip([0, *ends], ends, means, strict=False):
            part = padded[first:last]  # a view
            part[...] = np.where(np.isfinite(part), part, mean)
        bins = np.ma.masked_invalid(padded.reshape(points, every, 4))
        steps = np.minimum((np.arange(points) + 1) * every, len(losses))
        found = [part.filled(np.nan).T for part in (bins.mean(axis=1), bins.min(axis=1), bins.max(axis=1))]
    else:
        every, steps, found = None, np.array(ends, np.float64), [means.T] * 3
    mean, low, high = map(rounded, found)
    return {"every": every, "step": steps.tolist(), "mean": mean, "low": low, "high": high}


def _sprite(path: Path, count: int, height: int, width: int) -> str | None:
    """The grid in `path` as a `sprite`; None if it is missing or unusable."""
    try:
        return sprite(tiles(read_picture(path), count, height, width))
    except (CheckpointError, ShapeError):
        return None


def sprite(images: np.ndarray, columns: int | None = None) -> str:
    """The `grid` of `images`, not magnified and without gaps, as a data: URL of a PNG."""
    return "data:image/png;base64," + base64.b64encode(png(grid(images, columns, scale=1, gap=0))).decode()


def rounded(numbers: np.ndarray) -> list[Any]:
    """The numbers as nested lists, rounded to five digits; None for NaN and infinities."""
    if numbers.ndim > 1:
        return [rounded(row) for row in numbers]
    return [float(f"{number:.5g}") if np.isfinite(number) else None for number in numbers]
