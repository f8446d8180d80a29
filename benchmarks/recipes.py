"""``python -m benchmarks.recipes``: trials of recipes, in the same time on the same images; and their record.

A trial is a recipe and what it changes: settings of `tinygan.train`, or `benchmarks.ideas`. Trials of a seed
take turns, so that a noisy minute of the machine falls on all alike. What is stopped goes on where it was."""

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
# Settings that a trial may change; the others would change nothing, or what all trials share.
TRIED = (
    "batch_size", "lr", "lr_d", "beta1", "beta2", "average", "penalty", "dropout", "width", "noise_dim",
    "limit",
)  # fmt: skip
TIMES = 5  # when FCD is measured: after each fifth of the time
KEPT = {"trial", "seed", "data", "minutes", "samples", "device", "measured", "trouble", "fcd"}  # of a line
FIGURES = ("fcd", "precision", "recall", "coverage", "rarest")


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.recipes", "Train trials of recipes for the same time, and evaluate them.")
    ideas = "; ".join(f"{name}: {words}" for name, words in IDEAS.items())
    what = (
        "a recipe, and what is changed: best,lr=4e-4,top=0.7; default: each recipe. Settings are "
        f"{', '.join(TRIED)}, as the options of tinygan.train; the rest are ideas. {ideas}"
    )
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=what)
    parser.add_argument("--minutes", type=float, default=5, help="of training for each; default: 5")
    parser.add_argument("--seeds", default="0,1,2", metavar="N,...", help="default: %(default)s")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="pictures to evaluate; default: 10000")
    sets = (
        "default: fashion-mnist; coloured: 500 of its images, each in a colour, 32x32, in a folder beside "
        "the record; their shapes are evaluated"
    )
    parser.add_argument("--data", default=FASHION, choices=(FASHION, "strokes", "coloured"), help=sets)
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where fashion-mnist/ lies")
    parser.add_argument("--device", choices=backend.DEVICES, default="cpu", help="default: cpu")
    record = "a line of JSON for each trial and seed, and beside it a chart, .png; default: trials.jsonl"
    parser.add_argument("--record", type=Path, default=Path("trials.jsonl"), metavar="FILE", help=record)
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write a page of pictures of each there")
    return parser


class Trial(NamedTuple):
    """What is tried, with one seed."""

    name: str  # as it was given
    settings: dict[str, Any]
    ideas: dict[str, Any]


def trial(text: str) -> Trial:
    """The trial that a command line names. Raises UsageError."""
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
    check_ideas(ideas, new_settings(settings))  # refused now, not after an hour
    return Trial(text, settings, ideas)


def read(value: str) -> Any:
    """A number, or the text as it stands."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


class Contender:
    """A trial in training, and how long it has trained."""

    def __init__(
        self, tried: Trial, facts: dict[str, Any], images: Dataset, device: Backend, store: Path
    ) -> None:
        """`facts`: what names its line in the record; `store`: the folder where it is kept until then."""
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
        """Take steps of the state's batch size from here on."""
        self.state.step = self.steps
        self.taking = trainer(self.state, self.images)
        if self.ideas.chosen and self.taking.how != AS_A_WHOLE:
            raise UsageError("ideas change the fast step of a processor alone. Use --device cpu.")

    def train(self, until: float, goal: float) -> None:
        """Take steps until they have taken `until` seconds in all, of `goal`."""
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
        """Note the distance at this point, and keep all of it."""
        fcd = evaluation.fcd(evaluation.pictures(self.state.shown_G))
        self.measured.append({"seconds": round(self.seconds, 1), "steps": self.steps, "fcd": round(fcd, 2)})
        names = "facts", "steps", "seconds", "examples", "measured", "trouble"
        kept = {name: vars(self)[name] for name in names}
        self.state.step = self.steps
        self.path.parent.mkdir(exist_ok=True)
        checkpoint.save(self.path, self.state.arrays(), kept)

    def evaluated(self, evaluation: Evaluation) -> dict[str, Any]:
        """Its line of the record."""
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
        raise UsageError(f"--record {options.record} does not end in .jsonl. Name such a file.")
    for folder in (options.pictures, options.record.absolute().parent):
        if folder and not folder.is_dir():  # found now, not after all the work
            raise UsageError(f"there is no folder {folder}. Make it first.")
    rows = recorded(options.record)
    machine.keep_memory()
    device = backend.choose(options.device)
    POOL.resize(machine.usable_cores())
    store = options.record.with_suffix("")  # of what it takes to go on
    coloured = options.data == "coloured"
    source, judge = (FASHION, InGrey) if coloured else (options.data, Evaluation)
    images = data.load(source, data_dir=options.data_dir)
    if coloured:
        write_coloured(images.images, store / "coloured")
        images = data.load(str(store / "coloured"), size=SIDE, channels=3)
    evaluation = judge(new_settings({"data": source}), options.data_dir, samples=options.samples)
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
    """Train all of them for `goal` seconds, and measure them at the same times."""
    for part in range(1, TIMES + 1):
        end = goal * part / TIMES
        for until in [*np.arange(end - goal / TIMES + TURN, end, TURN), end]:
            for contender in contenders:
                name, seed = contender.facts["trial"], contender.facts["seed"]
                note(f"{name}, seed {seed}: {until:.0f} of {goal:.0f} s")
                contender.train(until, goal)
        for contender in contenders:
            if len(contender.measured) < part:  # one that went on where it was has it already
                contender.measure(evaluation)


def recorded(path: Path) -> list[dict[str, Any]]:
    """The lines of a record; none where there is no file yet. Raises UsageError for another file."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if any(KEPT - row.keys() for row in rows):
            raise KeyError
    except (OSError, ValueError, KeyError, AttributeError) as problem:
        raise UsageError(f"--record {path} holds no trials. Name another file.") from problem
    return rows


def of_trials(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each trial, in the order of their mean FCD."""
    names = dict.fromkeys(row["trial"] for row in rows)
    groups = {name: [row for row in rows if row["trial"] == name] for name in names}
    return dict(sorted(groups.items(), key=lambda item: statistics.mean(row["fcd"] for row in item[1])))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The means of each trial over its seeds, the best first, as lines of Markdown."""
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
    """FCD over minutes for each trial, the mean over its seeds."""
    found = {}
    for name, own in of_trials(rows).items():
        points = zip(*(row["measured"] for row in own), strict=False)
        means = [[statistics.mean(at[key] for at in same) for key in ("seconds", "fcd")] for same in points]
        found[name] = [(seconds / 60, fcd) for seconds, fcd in means]
    return found


if __name__ == "__main__":
    sys.exit(cli.run(main))
