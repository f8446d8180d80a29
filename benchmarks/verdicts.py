"""``python -m benchmarks.verdicts``: checks the verdicts on runs whose outcome is known.

The right answers were written down, from the settings and the pictures, before the rules were made. The runs
in `HELD_OUT` were not inspected before the rules had been tried on them once. The old rules used 64 pictures;
here they get the statistics of 256.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.competitors import hardware, note
from tinygan import cli
from tinygan.errors import TinyganError, UsageError
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import new_settings
from tinygan.views.health import verdict

STROKES = "--data strokes --limit 4000 --recipe quick --width 16"
GARMENTS = "--data fashion-mnist --limit 8000"


class Case(NamedTuple):
    """A run, and the right kinds of verdict, keyed by the first epoch from which they hold."""

    arguments: str
    right: dict[int, str]
    why: str


CASES = {
    # Runs that go well. For about 300 steps the verdict may be that it is too early, but never a failure.
    "exercise": Case(f"{STROKES} --epochs 12", {1: "early", 3: "early healthy", 6: "healthy"},
                     "the manual's exercise; pictures: blobs until epoch 3, digits from epoch 5 or 6"),
    "best strokes": Case(
        "--data strokes --limit 4000 --recipe best --width 16 --epochs 10",
        {1: "early", 2: "early healthy", 6: "healthy"}, "the best recipe on few channels"),
    "best garments": Case(f"{GARMENTS} --recipe best --width 16 --epochs 8",
                          {1: "early healthy", 4: "healthy"}, "a small network, long enough"),
    "full width": Case(f"{GARMENTS} --recipe best --epochs 3",
                       {1: "early healthy", 3: "early healthy"}, "README's first command, shortened"),
    "tutorial": Case(f"{GARMENTS} --recipe seed --width 16 --epochs 10", {1: "early"},
                     "320 of its small steps: nothing is wrong, but nothing can be seen yet"),
    # The learning rate is too high.
    "lr 0.03": Case(f"{STROKES} --lr 0.03 --epochs 6", {1: "unstable", 3: "unstable early healthy"},
                    "losses of 22 and 13 at first; pictures: it recovers from epoch 3 on"),
    "lr 1": Case(f"{STROKES} --lr 1 --epochs 4", {1: "unstable"}, "10,000 times too large"),
    "lr 0.01": Case(f"{GARMENTS} --recipe best --width 16 --lr 0.01 --lr-d 0.01 --epochs 5",
                    {1: "unstable"}, "13 times the recipe's rate for G, 25 times its rate for D"),
    "momentum": Case(f"{STROKES} --lr 2e-3 --beta1 0.9 --epochs 8",
                     {1: "early unstable", 3: "unstable"}, "G's loss rises to 6; pictures: dotted blots"),
    # One network is too strong.
    "strong D": Case(f"{STROKES} --lr 2e-5 --lr-d 4e-3 --epochs 6",
                     {1: "early D", 2: "D"}, "D learns 200 times as fast"),
    "slow D": Case(f"{STROKES} --lr-d 1e-7 --epochs 6", {1: "early G", 3: "G"}, "D learns almost nothing"),
    # The pictures look alike.
    "one number": Case(f"{STROKES} --noise-dim 1 --epochs 8", {1: "early collapse", 6: "collapse"},
                       "pictures: a line of few digits"),
    "batch of one": Case("--data strokes --limit 60 --batch-size 1 --width 8 --epochs 6", {1: "batch"},
                         "the manual's third question"),
    # This run was expected to copy 30 pictures. After 1,000 steps with 30, and 500 with 10, no sample was a
    # copy, so the answer was corrected and the run shortened.
    "few": Case("--data strokes --limit 90 --recipe quick --batch-size 30 --width 16 --epochs 150",
                {1: "early", 80: "early healthy", 130: "healthy"}, "90 pictures, three steps an epoch"),
    # There is nothing to learn from the data.
    "blank": Case("--data {blank} --recipe quick --width 8 --epochs 4", {1: "blank"},
                  "one picture, 1,000 times"),
}  # fmt: skip
HELD_OUT = ("best strokes", "best garments", "tutorial", "lr 0.01")


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.verdicts", "Train runs whose outcome is known, and check their verdicts.")
    parser.add_argument("--only", default=",".join(CASES), metavar="NAME,...", help="runs (default: all)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder that holds fashion-mnist/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs in DIR")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    names = options.only.split(",")
    for name in names:
        if name not in CASES:
            raise UsageError(f"unknown run {name!r}. Use one or more of: {', '.join(CASES)}.")
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in names:
            note(name)
            folder = (options.keep or Path(temporary)) / name
            folder.mkdir(parents=True)
            runs[name] = trained(name, folder.resolve(), options.data_dir)
            print(line(name, runs[name]), flush=True)
    if options.json:
        result = {
            "command": " ".join(["python", "-m", "benchmarks.verdicts", *arguments]),
            "hardware": hardware(),
            "numpy": np.__version__,
            "held_out": list(HELD_OUT),
            "runs": runs,
        }
        report.write_json(options.json, result)
    return 0


def trained(name: str, folder: Path, data_dir: Path | None) -> dict[str, Any]:
    """Train a case in `folder`. Returns its statistics and the verdict on each epoch."""
    case, blank = CASES[name], folder / "blank.npy"
    np.save(blank, np.zeros((1000, 28, 28, 1), np.uint8))
    words = [str(blank) if word == "{blank}" else word for word in case.arguments.split()]
    words += ["--threads", "1", "--no-gif", "--no-report"]
    words += ["--data-dir", str(data_dir.resolve())] if data_dir else []
    start = time.perf_counter()
    command = [sys.executable, "-m", "tinygan.train", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TinyganError(f"{name}: {done.stderr.strip()[-500:]}")
    run, _ = RunFolder.find(None, folder / "runs")
    config = run.read_config()
    facts = ("epoch", "step", "g_loss", "d_loss", "real_score", "fake_score", "health")
    return compared(name, {
        "arguments": case.arguments, "why": case.why,
        "seconds": round(time.perf_counter() - start),
        "settings": {key: config["settings"][key] for key in ("recipe", "batch_size", "lr", "lr_d")},
        "rows": [{fact: row[fact] for fact in facts} for row in run.read_stats()],
    })  # fmt: skip


def compared(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """`run` with, for each epoch, the right kinds of verdict and the kinds by the new and the old rules."""
    rows, settings = run["rows"], new_settings(run["settings"])
    right = [answer(CASES[name].right, row["epoch"]) for row in rows]
    found = {
        "new": [verdict(rows[:end], settings).kind for end in range(1, len(rows) + 1)],
        "old": [old_kind(row["health"]) for row in rows],
    }
    wrong = {
        f"{which}_wrong": sum(kind not in good.split() for kind, good in zip(kinds, right, strict=True))
        for which, kinds in found.items()
    }
    return {**run, "right": right, **found, **wrong}


def answer(right: Mapping[int, str], epoch: int) -> str:
    """The right kinds of verdict at an epoch."""
    return right[max(first for first in right if first <= epoch)]


def old_kind(health: Mapping[str, float]) -> str:
    """The worst verdict by the old rules, which checked each epoch by itself, under its current name."""
    if health["diversity"] < 0.4 or health["nearest"] < 0.35:
        return "collapse"
    if min(health["real_accuracy"], health["fake_accuracy"]) >= 0.98:
        return "D"
    if max(health["real_spread"], health["fake_spread"]) < 0.02 or health["fake_accuracy"] <= 0.1:
        return "G"
    return "dead" if health["dead"] > 0.25 else "healthy"


def line(name: str, run: dict[str, Any]) -> str:
    return (
        f"{name:<18}{run['seconds']:>5} s  {len(run['rows']):>4} epochs, wrong: {run['new_wrong']} "
        f"(by the old rules {run['old_wrong']})"
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
