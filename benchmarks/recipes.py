"""``python -m benchmarks.recipes``: what each recipe makes of the same time, on the same images."""

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.competitors import hardware, note
from tinygan import backend, cli, data, machine
from tinygan.backend import Backend
from tinygan.data import Dataset
from tinygan.errors import UsageError
from tinygan.evaluation.evaluation import SAMPLES, Evaluation
from tinygan.fast.threads import POOL
from tinygan.runs.settings import RECIPES, new_settings
from tinygan.runs.state import State, pictures_of
from tinygan.runs.trainer import schedule, trainer
from tinygan.views.pictures import grid, save_png, to_uint8

TURN = 5.0  # seconds: a noisy minute of the machine falls on all recipes alike
COLUMNS = ("fcd", "precision", "recall", "coverage")


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.recipes", "Train each recipe for the same time, and evaluate it.")
    parser.add_argument("--only", default=",".join(RECIPES), metavar="NAME,...", help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=5, help="of training for each; default: 5")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="0 to N - 1; default: 3")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="pictures to evaluate; default: 10000")
    parser.add_argument("--data", default="fashion-mnist", choices=("fashion-mnist", "strokes"))
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where fashion-mnist/ lies")
    parser.add_argument("--device", choices=backend.DEVICES, default="cpu", help="default: cpu")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write a page of pictures of each there")
    return parser


class Contender:
    """A recipe in training, and how long it has trained."""

    def __init__(self, recipe: str, seed: int, images: Dataset, device: Backend) -> None:
        self.recipe, self.seed = recipe, seed
        self.settings = new_settings({"recipe": recipe, "seed": seed, "data": images.name})
        self.state = State(self.settings, device)
        self.taking = trainer(self.state, images)
        self.steps_per_epoch = schedule(self.settings, len(images.images)).steps_per_epoch
        self.steps, self.seconds = 0, 0.0

    def train(self, until: float) -> None:
        """Take steps until they have taken `until` seconds in all."""
        while self.seconds < until:
            count, start = self.taking.stride, time.perf_counter()
            self.taking.steps(count)
            self.seconds += time.perf_counter() - start
            self.steps += count

    def evaluated(self, evaluation: Evaluation) -> dict[str, Any]:
        """What it has come to."""
        return {
            "recipe": self.recipe,
            "seed": self.seed,
            "steps": self.steps,
            "epochs": round(self.steps / self.steps_per_epoch, 2),
            "seconds": round(self.seconds, 1),
            **evaluation(self.state.shown_G),
        }


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    names = options.only.split(",")
    for name in names:
        if name not in RECIPES:
            raise UsageError(f"unknown recipe {name!r}. Use some of: {', '.join(RECIPES)}.")
    if options.seeds < 1 or not 0 < options.minutes < 1e6:
        raise UsageError("--seeds must be at least 1, and --minutes more than 0.")
    for folder in (options.pictures, options.json and options.json.absolute().parent):
        if folder and not folder.is_dir():  # found now, not after all the work
            raise UsageError(f"there is no folder {folder}. Make it first.")
    machine.keep_memory()
    device = backend.choose(options.device)
    POOL.resize(machine.usable_cores())
    images = data.load(options.data, data_dir=options.data_dir)
    first = new_settings({"recipe": names[0], "data": images.name})
    evaluation = Evaluation(first, options.data_dir, samples=options.samples)

    print(f"{hardware()['processor']}, {device.device}, {options.minutes:g} minutes each on {images.name}")
    print(f"{'recipe':<10}{'seed':>5}{'steps':>8}{'epochs':>8}" + "".join(f"{name:>11}" for name in COLUMNS))
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        contenders = [Contender(name, seed, images, device) for name in names]
        goal = 60 * options.minutes
        for until in [*np.arange(TURN, goal, TURN), goal]:
            for contender in contenders:
                note(f"seed {seed}, {until:.0f} of {goal:.0f} s: {contender.recipe}")
                contender.train(until)
        for contender in contenders:
            rows.append(contender.evaluated(evaluation))
            print(line(rows[-1]), flush=True)
            if options.pictures:
                pictures = to_uint8(pictures_of(contender.state.shown_G, contender.state.preview_noise))
                save_png(options.pictures / f"{contender.recipe}_seed_{seed}.png", grid(pictures))
            contender.taking.close()
        if options.json:  # after each seed: what breaks later takes nothing of it away
            result = {
                "command": " ".join(["python", "-m", "benchmarks.recipes", *arguments]),
                "hardware": hardware(),
                "numpy": np.__version__,
                "samples": options.samples,
                "recipes": {name: RECIPES[name] for name in names},
                "runs": rows,
                "means": averages(rows),
            }
            report.write_json(options.json, result)
    for mean in averages(rows):
        print(line(mean))
    return 0


def averages(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over the seeds of each recipe's numbers."""
    means = []
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        own = [row for row in rows if row["recipe"] == recipe]
        numbers = {
            name: round(statistics.mean(row[name] for row in own), 4)
            for name in ("steps", "epochs", "seconds", *COLUMNS)
        }
        means.append({"recipe": recipe, "seed": "mean", **numbers})
    return means


def line(row: dict[str, Any]) -> str:
    return f"{row['recipe']:<10}{row['seed']:>5}{row['steps']:>8.0f}{row['epochs']:>8.2f}" + "".join(
        f"{row[name]:>11.2f}" for name in COLUMNS
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
