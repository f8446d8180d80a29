"""``python -m benchmarks.recipes``: trains trials of recipes for the same time, and keeps a record of them.

A trial is a recipe and its changes: settings of `tinygan.train`, or `benchmarks.ideas`. The trials of a seed
take turns, so that a busy minute of the machine slows all of them alike. A stopped benchmark resumes."""

import ast
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.chart import lines_chart
from benchmarks.coloured import SIDE, InGrey, write_coloured
from benchmarks.competitors import hardware, note
from benchmarks.ideas import IDEAS, Ideas, check_ideas
from tinygan import backend, cli, data, machine
from tinygan.backend import Backend
from tinygan.data import Dataset
from tinygan.errors import UsageError
from tinygan.evaluation.evaluation import SAMPLES, Evaluation
from tinygan.fast.threads import POOL
from tinygan.files import write_atomically
from tinygan.runs import checkpoint
from tinygan.runs.settings import RECIPES, new_settings
from tinygan.runs.state import State, pictures_of
from tinygan.runs.trainer import trainer
from tinygan.step import AS_A_WHOLE
from tinygan.views.pictures import grid, save_png, to_uint8

FASHION = "fashion-mnist"
TURN = 5.0  # seconds
# Settings that a trial may change. The others have no effect on it, or must be equal for all trials.
TRIED = (
    "batch_size", "lr", "lr_d", "beta1", "beta2", "average", "penalty", "dropout", "width", "noise_dim",
    "limit",
)  # fmt: skip
TIMES = 5  # FCD is measured after each fifth of the time
KEPT = {"trial", "seed", "data", "minutes", "samples", "device", "measured", "trouble", "fcd"}  # in each line
FIGURES = ("fcd", "precision", "recall", "coverage", "rarest")


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.recipes", "Train trials of recipes for the same time, and evaluate them.")
    ideas = ". ".join(f"{name}: {words}" for name, words in IDEAS.items())
    what = (
        "a recipe and its changes, such as best,lr=4e-4,top=0.7 (default: each recipe). Settings, as in the "
        f"options of tinygan.train: {', '.join(TRIED)}. Ideas: {ideas}"
    )
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=what)
    parser.add_argument("--minutes", type=float, default=5, help="training time of each trial (default: 5)")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...", help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="pictures to evaluate (default: 10000)")
    sets = (
        "fashion-mnist, strokes, or coloured: 500 images of fashion-mnist, each in one colour, 32x32, in a "
        "folder next to the record; only their shapes are evaluated (default: fashion-mnist)"
    )
    parser.add_argument("--data", default=FASHION, choices=(FASHION, "strokes", "coloured"), help=sets)
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder that holds fashion-mnist/")
    parser.add_argument("--device", choices=backend.DEVICES, default="cpu", help="(default: cpu)")
    record = "a line of JSON for each trial and seed, with a chart, .png, next to it (default: trials.jsonl)"
    parser.add_argument("--record", type=Path, default=Path("trials.jsonl"), metavar="FILE", help=record)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write each trial's pictures to DIR")
    return parser


class Trial(NamedTuple):
    """A recipe with changed settings and added ideas."""

    name: str  # as on the command line
    settings: dict[str, Any]
    ideas: dict[str, Any]


def trial(text: str) -> Trial:
    """Parse a trial such as best,lr=4e-4,top=0.7. Raises: UsageError if a part of it is unknown."""
    recipe, *changes = text.split(",")
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}. Use one of: {', '.join(RECIPES)}.")
    settings, ideas = {"recipe": recipe}, {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not (name in TRIED or name in IDEAS):
            known = ", ".join([*TRIED, *IDEAS])
            raise UsageError(f"{change!r} in {text!r} is unknown. Use NAME=VALUE, with one of: {known}.")
        (settings if name in TRIED else ideas)[name] = read(value)
    check_ideas(ideas, new_settings(settings))  # fail now, not after an hour
    return Trial(text, settings, ideas)


def read(value: str) -> Any:
    """The Python value that the text denotes, or else the text itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


class Contender:
    """A trial in training, and how long it has trained."""

    def __init__(
        self, tried: Trial, facts: dict[str, Any], images: Dataset, device: Backend, store: Path
    ) -> None:
        """`facts` identify its line in the record. Until that exists, its state is in the folder `store`."""
        _, size, _, channels = images.images.shape
        given = {"seed": facts["seed"], "data": images.name, "size": size, "channels": channels}
        settings = new_settings({**tried.settings, **given})
        few = replace(images, images=images.images[: settings.limit])
        self.facts, self.images, self.first_batch = facts, few, settings.batch_size
        self.state, self.steps, self.seconds = State(settings, device), 0, 0.0
        self.examples, self.measured, self.trouble = 0, [], ""
        name = f"{tried.name}_{facts['data']}_{facts['minutes']:g}_minutes_seed_{facts['seed']}"
        self.path = store / f"{name}.npz"
        if self.path.exists():
            arrays, meta = checkpoint.read(self.path)
            if meta.pop("facts") == facts:
                self.state.restore(arrays, self.path)
                vars(self).update(meta)
        self.ideas = Ideas(tried.ideas, self.state)
        self._begin()

    def _begin(self) -> None:
        """Begin or continue with steps of the state's batch size."""
        self.state.step = self.steps
        self.taking = trainer(self.state, self.images)
        if self.ideas.chosen and self.taking.how != AS_A_WHOLE:
            raise UsageError("ideas work only with the fast engine's step on a processor. Use --device cpu.")

    def train(self, until: float, goal: float) -> None:
        """Train until all its steps together have taken `until` seconds, out of `goal`."""
        while self.seconds < until:
            start, progress = time.perf_counter(), self.seconds / goal
            size = self.ideas.batch_size(self.first_batch, progress)
            if size != self.state.settings.batch_size:
                self.state.settings = replace(self.state.settings, batch_size=size)
                self.taking.close()
                self._begin()
            count = self.taking.stride
            with self.ideas.at(progress, self.steps):
                self.taking.steps(count)
            self.trouble = self.trouble or self.taking.trouble
            self.seconds += time.perf_counter() - start
            self.steps += count
            self.examples += count * size

    def measure(self, evaluation: Evaluation) -> None:
        """Record FCD at this point, and save the state."""
        fcd = evaluation.fcd(evaluation.pictures(self.state.shown_G))
        self.measured.append({"seconds": round(self.seconds, 1), "steps": self.steps, "fcd": round(fcd, 2)})
        names = "facts", "steps", "seconds", "examples", "measured", "trouble"
        kept = {name: vars(self)[name] for name in names}
        self.state.step = self.steps
        self.path.parent.mkdir(exist_ok=True)
        checkpoint.save(self.path, self.state.arrays(), kept)

    def evaluated(self, evaluation: Evaluation) -> dict[str, Any]:
        """Its line in the record."""
        figures, classes = evaluation.compare(evaluation.pictures(self.state.shown_G))
        return {
            **self.facts,
            "steps": self.steps,
            "epochs": round(self.examples / len(self.images.images), 2),
            "seconds": round(self.seconds, 1),
            **{name: round(float(number), 4) for name, number in figures.items()},
            "rarest": round(float(classes.min()), 4),
            "trouble": self.trouble,
            "classes": [round(float(share), 4) for share in classes],
            "measured": self.measured,
            "hardware": hardware(),
            "numpy": np.__version__,
        }


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    trials = [trial(text) for text in dict.fromkeys(options.trials or RECIPES)]
    seeds = [int(text) if text.isdecimal() else -1 for text in options.seeds.split(",")]
    if min(seeds) < 0 or not 0 < options.minutes < 1e6:
        raise UsageError("--seeds takes numbers such as 0,1,2, and --minutes must be more than 0.")
    if options.record.suffix != ".jsonl":
        raise UsageError(f"--record {options.record} does not end in .jsonl. Name a file that does.")
    for folder in (options.pictures, options.record.absolute().parent):
        if folder and not folder.is_dir():  # fail now, not after all the work
            raise UsageError(f"there is no folder {folder}. Make it first.")
    rows = recorded(options.record)
    machine.keep_memory()
    device = backend.choose(options.device)
    POOL.resize(machine.usable_cores())
    store = options.record.with_suffix("")  # the states of unfinished trials
    coloured = options.data == "coloured"
    source, measure = (FASHION, InGrey) if coloured else (options.data, Evaluation)
    images = data.load(source, data_dir=options.data_dir)
    if coloured:
        write_coloured(images.images, store / "coloured")
        images = data.load(str(store / "coloured"), size=SIDE, channels=3)
    evaluation = measure(new_settings({"data": source}), options.data_dir, samples=options.samples)
    shared = {"data": images.name, "minutes": options.minutes, "samples": options.samples}
    shared |= {"device": device.device}
    print(f"{hardware()['processor']}, {device.device}, {options.minutes:g} minutes each on {images.name}")
    for seed in seeds:
        named = [({"trial": one.name, "seed": seed, **shared}, one) for one in trials]
        done = [{name: row[name] for name in named[0][0]} for row in rows]
        contenders = [
            Contender(one, facts, images, device, store) for facts, one in named if facts not in done
        ]
        take_turns(contenders, 60 * options.minutes, evaluation)
        for contender in contenders:
            rows.append(contender.evaluated(evaluation))
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_atomically(options.record, text.encode())
            contender.path.unlink()
            if options.pictures:
                pictures = to_uint8(pictures_of(contender.state.shown_G, contender.state.preview_noise))
                save_png(options.pictures / f"{contender.path.stem}.png", grid(pictures))
            contender.taking.close()
    ours = [row for row in rows if {name: row[name] for name in shared} == shared]
    for line in table(ours):
        print(line)
    lines_chart(options.record.with_suffix(".png"), curves(ours), "minutes", "FCD")
    return 0


def take_turns(contenders: list[Contender], goal: float, evaluation: Evaluation) -> None:
    """Train all contenders for `goal` seconds, and measure them after the same times."""
    for part in range(1, TIMES + 1):
        end = goal * part / TIMES
        for until in [*np.arange(end - goal / TIMES + TURN, end, TURN), end]:
            for contender in contenders:
                name, seed = contender.facts["trial"], contender.facts["seed"]
                note(f"{name}, seed {seed}: {until:.0f} of {goal:.0f} s")
                contender.train(until, goal)
        for contender in contenders:
            if len(contender.measured) < part:  # a resumed one may have this already
                contender.measure(evaluation)


def recorded(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; none if there is no file yet. Raises: UsageError if the file is not a record."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if any(KEPT - row.keys() for row in rows):
            raise KeyError
    except (OSError, ValueError, KeyError, AttributeError) as problem:
        raise UsageError(f"--record {path} is not a record of trials. Name another file.") from problem
    return rows


def of_trials(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each trial, those with the lowest mean FCD first."""
    names = dict.fromkeys(row["trial"] for row in rows)
    groups = {name: [row for row in rows if row["trial"] == name] for name in names}
    return dict(sorted(groups.items(), key=lambda item: statistics.mean(row["fcd"] for row in item[1])))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A Markdown table of each trial's means over its seeds, the best first."""
    lines = ["| trial | seeds | steps | epochs | FCD | precision | recall | coverage | rarest class |"]
    lines.append("|---" * 9 + "|")
    for name, own in of_trials(rows).items():
        mean = {key: statistics.mean(row[key] for row in own) for key in ("steps", "epochs", *FIGURES)}
        fcd, seeds = [row["fcd"] for row in own], ",".join(str(row["seed"]) for row in own)
        spread = f" ({min(fcd):.1f} - {max(fcd):.1f})" if len(own) > 1 else ""
        shares = " | ".join(f"{mean[key]:.2f}" for key in FIGURES[1:4])
        counts = f"{seeds} | {mean['steps']:,.0f} | {mean['epochs']:.1f}"
        quality = f"{mean['fcd']:.1f}{spread} | {shares} | {mean['rarest']:.1%}"
        trouble = "; not finite" * any(row["trouble"] for row in own)
        lines.append(f"| `{name}`{trouble} | {counts} | {quality} |")
    return lines


def curves(rows: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """For each trial, points (minutes, mean FCD over its seeds)."""
    found = {}
    for name, own in of_trials(rows).items():
        points = zip(*(row["measured"] for row in own), strict=False)
        means = [[statistics.mean(at[key] for at in same) for key in ("seconds", "fcd")] for same in points]
        found[name] = [(seconds / 60, fcd) for seconds, fcd in means]
    return found


if __name__ == "__main__":
    sys.exit(cli.run(main))
