"""Compares several runs on one page, ``comparison.html``: the files in ``page/``, and the runs as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import PREVIEWS, State, pictures_of, sample_noise
from tinygan.views.webpage import MOST_POINTS, config_of, curves, page, rounded, run_name, sprite, statistics

Line: TypeAlias = tuple[Any, Any]  # x (N,), ascending, and y (N,)


def write_comparison(models: Sequence[tuple[RunFolder, State]], path: Path) -> None:
    """Write a page that shows runs side by side, each with the networks of its state: pictures of the same
    noise, the settings that `differ`, and the curves of `lines_of`. Raises: as `write_report`."""
    runs, found = [], []
    for run, state in models:
        stats, noise = statistics(run), sample_noise(0, PREVIEWS, state.shown_G)
        settings = asdict(Settings()) | config_of(run)["settings"]  # older runs lack some
        shown = {"name": run_name(run), "stats": stats, "settings": settings}
        runs.append(shown | {"pictures": sprite(pictures_of(state.shown_G, noise)), "step": state.step})
        found.append(lines_of(run, stats))
    first, *others = [run["settings"] for run in runs]
    names = dict.fromkeys(name for settings in (first, *others) for name in settings)
    contents = {
        "runs": runs, "charts": {name: together([one[name] for one in found]) for name in found[0]},
        "differ": [name for name in names if any(one.get(name) != first.get(name) for one in others)],
        "same_noise": len({state.shown_G.input_shape for _, state in models}) == 1,
    }  # fmt: skip
    write_atomically(path, page("compare.html", "Runs side by side", contents, {}).encode())


def lines_of(run: RunFolder, stats: Sequence[dict[str, Any]]) -> dict[str, Line]:
    """The curves of a run: losses by step, and FCD by step and by minute of training."""
    curve = curves(run.read_losses(), stats)
    G, D, *_ = np.array(curve["mean"], float)
    minutes = np.cumsum([row.get("seconds", 0) for row in stats]) / 60
    measured = [
        (row["step"], minute, row["evaluation"]["fcd"])
        for row, minute in zip(stats, minutes, strict=True) if "fcd" in row["evaluation"]
    ]  # fmt: skip
    step, minute, fcd = np.array(measured, float).reshape(-1, 3).T
    losses = {"g_loss": (curve["step"], G), "d_loss": (curve["step"], D)}
    return losses | {"fcd_by_step": (step, fcd), "fcd_by_minute": (minute, fcd)}


def together(lines: Sequence[Line]) -> dict[str, Any]:
    """The `lines` on one shared x of at most `MOST_POINTS` points: interpolated, and None outside a line."""
    x = np.unique(np.concatenate([x for x, _ in lines]))
    if len(x) > MOST_POINTS:
        x = np.linspace(x[0], x[-1], MOST_POINTS)
    ys = [np.interp(x, *line, np.nan, np.nan) if len(line[0]) else np.full(len(x), np.nan) for line in lines]
    return {"x": rounded(x), "lines": [rounded(y) for y in ys]}
