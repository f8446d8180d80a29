"""``python -m tinygan.train``: train the DCGAN and leave pictures, checkpoints and an animation."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import backend, cli, gpu_errors
from tinygan.arrays import CPU, Backend
from tinygan.data import Dataset
from tinygan.data.dataset import fingerprint, spread
from tinygan.data.download import cache_folder
from tinygan.data.sources import NAMES
from tinygan.errors import (
    DataError,
    DeviceError,
    TinyganError,
    UsageError,
    by_product,
    filled,
    printable,
    python,
)
from tinygan.evaluation.evaluation import Evaluation, unmeasurable
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import started
from tinygan.runs import checkpoint
from tinygan.runs.config import configuration, reconfigure
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import EARLY, Training, signals
from tinygan.runs.progress import Progress, duration
from tinygan.runs.settings import Settings, add_options, new_settings, resumed_settings
from tinygan.runs.state import State, saved_settings
from tinygan.runs.trainer import StepByStep, check_images, images_of, measure_step_seconds, schedule, trainer
from tinygan.step import unfit
from tinygan.views.inspection import summary
from tinygan.views.pictures import grid, save_png

SHOWN = 64  # images that a dry run shows
FEW = 1000  # images: fewer of them are learnt by heart


def parser() -> cli.Parser:
    """Options of settings that were not given are absent from the result: defaults and recipes come later."""
    parser = cli.Parser("tinygan.train", "Train the DCGAN on small pictures.")
    add_options(parser)
    parser.add_argument("--out", type=cli.path, default=Path("runs"), help="folder of runs; default: runs")
    parser.add_argument(
        "--resume", nargs="?", const=False, type=filled, metavar="RUN|FILE",  # const: a text is converted
        help="go on with a run (bare: the newest) or from one of its checkpoint files",
    )  # fmt: skip
    parser.add_argument("--name", type=filled, help="of the run, and its folder; default: that of the data")
    parser.add_argument("-n", "--dry-run", action="store_true", help="check everything, train nothing")
    parser.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Train as `arguments` say; returns the exit code, or raises a `TinyganError`. Afterwards Python, and the
    program that calls this, are as they were. Only in the main thread do signals stop the training."""
    arguments, ranks = cli.words(arguments), started()
    with ranks.together(), ExitStack() as held:
        if not ranks.writes:
            held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        given = vars(parser().parse_args(arguments))
        out, resume, dry_run, quiet, name = map(given.pop, ("out", "resume", "dry_run", "quiet", "name"))
        output = Output(ranks, quiet)
        held.callback(lambda: output.progress.close(keep=False))  # an error's line stands by itself
        if name and resume is not None:
            raise UsageError(f"--name {name}: a run that goes on has its name. Leave it out.")
        if given.get("data") and given["data"] not in NAMES and os.path.exists(given["data"]):
            given["data"] = os.path.abspath(given["data"])  # a run may be resumed from elsewhere
        if resume is None:
            start = Start(new_settings(given), out, name)
        else:
            start = resumed(resume or None, out, given, ranks, None if dry_run else held, output)
        job = Job(start, ranks, output, held)
        if dry_run:
            job.rehearse()
        else:
            job.train(arguments)
    return 0


class Output:
    """Where lines go: to the terminal, unless `quiet`, and to the log of `run` once there is one. Of several
    `ranks` the first alone prints and writes."""

    def __init__(self, ranks: Ranks, quiet: bool) -> None:
        self.writes, self.quiet = ranks.writes, quiet
        self.run: RunFolder | None = None
        self.early: list[str] = []  # lines from before there was a log
        self.progress = Progress(sys.stdout, quiet=quiet)  # in a training it knows how many steps there are

    def log(self, *lines: str) -> None:
        self.early += map(printable, lines)
        if self.run and self.writes and self.early:
            self.run.log(*self.early)
            self.early = []

    def say(self, *lines: str) -> None:
        self.log(*lines)
        for line in () if self.quiet else lines:
            self.progress.line(printable(line))

    def answer(self, line: str) -> None:
        if self.writes:
            self.progress.answer(line)

    def warn(self, line: str) -> None:
        self.log(line)
        if self.writes:
            self.progress.around(cli.warn, line)


@dataclass(frozen=True)
class Start:
    """What a training begins with: new, or where a checkpoint `file` of a `run` left it."""

    settings: Settings
    out: Path  # the folder of the runs
    name: str | None = None  # that a new one was given
    run: RunFolder | None = None
    file: Path = Path()  # without a name, if the run was stopped before it had saved anything
    arrays: dict[str, np.ndarray] | None = None
    meta: dict[str, Any] = field(default_factory=dict)


def resumed(
    where: str | None, out: Path, given: dict[str, Any], ranks: Ranks, held: ExitStack | None, output: Output
) -> Start:
    """The start of a run that goes on, with the settings `given` now; `held` keeps its lock."""

    def found() -> tuple[RunFolder, Path, dict[str, np.ndarray] | None, dict[str, Any]]:
        run, file = RunFolder.find(where, out)
        if held:
            held.enter_context(run.locked())
        files = [file] if file else run.checkpoints()
        if not files and len(run.read_stats()) < 2:  # stopped in its first epoch; else they were deleted
            config = run.read_config()
            meta = {"settings": config["settings"], "data_sha256": config["data"].get("sha256")}
            return run, Path(), None, meta
        return run, *checkpoint.newest_intact(files, output.warn)

    run, file, arrays, meta = ranks.by_first(found)
    if given.get("data") == "auto":  # whatever was found then
        del given["data"]
    saved = saved_settings(meta, file if arrays else run.config_path, arrays)
    settings = resumed_settings(asdict(saved), given, str(run.path))
    return Start(settings, out, None, run, file, arrays, meta)


def choose_device(
    settings: Settings, ranks: Ranks, output: Output, held: ExitStack
) -> tuple[Backend, int, str]:
    """The device that all `ranks` compute on, this one's number of threads (in use for as long as `held`
    lasts), and where that number comes from."""
    how = {"precision": settings.precision, "number": ranks.number_here}
    device = backend.choose(settings.device, settings.engine, output.say, **how)
    if settings.engine == "auto" and (device.device, device.engine) == ("gpu", "fast"):
        state = State(settings, CPU)
        if why := unfit(state.G, state.D, "gpu"):
            output.say(f"engine   readable: {why}")
            device = backend.choose("gpu", "readable", output.say, **how)
    computes = f"on the {device.device} in {device.precision}"
    if others := ranks.others(computes):
        first = ranks.by_first(lambda: computes)
        raise DeviceError(f"rank 0 computes {first}, and {', '.join(others)} not so. Use --device cpu.")
    device = backend.shared_by(device, ranks)
    threads, source = backend.default_threads(ranks.sharing)
    if settings.threads:
        threads, source = settings.threads, "--threads"
    if not held.enter_context(backend.use_threads(threads)) and settings.threads:
        why = "this NumPy's BLAS cannot be told how many threads to use"
        output.warn(f"warning: {why}; --threads has no effect.")
    return device, threads, source


def load_images(start: Start, ranks: Ranks, output: Output) -> Dataset:
    """The images, the same ones on all `ranks`, and in a run that goes on those that it was trained on."""
    output.progress.show("loading the images")
    with ranks.first_alone():  # what it downloads, the others find
        images = images_of(start.settings, output.say)
    if others := ranks.others(fingerprint(images.images)):
        raise DataError(
            f"{', '.join(others)}: {images.source} holds other images than rank 0 has. "
            "Give every host the same data."
        )
    digest = ranks.by_first(lambda: images.sha256)  # one reads all of them for it
    if start.run:
        check_images(images, digest, start.meta.get("data_sha256"), start.run.path, start.run)
    return images


class Job:
    """A training with everything that it needs: made once, then rehearsed or trained."""

    def __init__(self, start: Start, ranks: Ranks, output: Output, held: ExitStack) -> None:
        """`held` keeps what lasts as long as the job: locks, threads."""
        self.start, self.output, self.run, self.held = start, output, start.run, held
        self.device, self.threads, self.source = choose_device(start.settings, ranks, output, held)
        self.ranks = self.device.ranks
        self.images = load_images(start, self.ranks, output)
        # A run that resumes must not choose again what "auto" means.
        data = self.images.name if start.settings.data == "auto" else start.settings.data
        self.settings = replace(start.settings, data=data)
        self.schedule = schedule(self.settings, len(self.images.images), self.ranks.size)
        with self.failures():
            self.state = State(self.settings, self.device)
            if start.arrays:
                self.state.restore(start.arrays, start.file)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Within this, a full memory or a GPU that fails is one line that names the last checkpoint. What
        fails is logged, if there is a log."""
        try:
            with gpu_errors.failures(self.settings.batch_size, self.newest):
                yield
        except TinyganError as problem:
            with suppress(TinyganError):  # a full disk may be the problem
                self.output.log(f"{problem.mark}{problem}")
            raise

    def newest(self) -> Path | None:
        """The run's newest checkpoint, if there is one."""
        return self.run.newest() if self.run else None

    def facts(self, how: str) -> list[str]:
        """What is trained, where and how: a line each; `how`: a step is taken, in words."""
        settings, images, device = self.settings, self.images, self.device
        N, H, W, C = images.images.shape
        card = device.card()
        library = f"{'NumPy' if device.device == 'cpu' else 'CuPy'} {device.xp.__version__}"
        threads = f"{self.threads} thread{'s' * (self.threads != 1)} ({self.source})"
        where = f"{card['card']}, {device.precision}" if card else threads
        one = "note     --batch-size 1: batch normalisation of a single picture takes G's noise away"
        few = f"note     {N:,} pictures are few: D will learn them by heart, and G will repeat them"
        few += "" if settings.flip else "; --flip adds their mirror images"
        return [
            *images.notes,
            *([one] if settings.batch_size == 1 else []),
            *([few] if N < FEW * (1 + settings.flip) else []),
            f"data     {images.name}: {N:,} images {H}x{W}x{C} ({images.source})",
            f"device   {device.device}, {library}, engine {device.engine}, {where}",
            f"step     {how}",
            *([self.ranks.words] if self.ranks.words else []),
            f"recipe   {settings.recipe}: {settings.epochs} epochs of {self.schedule.steps_per_epoch} steps, "
            f"batch {settings.batch_size}, Adam lr {settings.lr:g} "
            + (f"(D {settings.lr_d:g}) " if settings.lr_d else "")
            + f"beta1 {settings.beta1:g} beta2 {settings.beta2:g}, "
            + (f"averaged with {settings.average:g}, " if settings.average else "")
            + f"seed {settings.seed}",
        ]

    def rehearse(self) -> None:
        """Check all that can be checked before a training, and say what it would be."""
        with self.failures():
            taking = StepByStep(self.state, self.images)
            if self.run is None and self.ranks.writes:
                RunFolder.try_out(self.start.out)
            self.output.progress.show("measuring a step")
            seconds = measure_step_seconds(self.settings, self.images, self.device)
        say = self.output.say
        say(*summary(self.state.G), "", *summary(self.state.D), "")
        say(*(f"conv     {plan}" for plan in taking.one.plans()), *self.facts(taking.how))
        say(f"images   {self.images.census()}")
        with by_product("picture of what the networks will see", self.output.warn):
            path = cache_folder() / "reals.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = spread(self.images.images, SHOWN)
            save_png(path, grid(shown))
            say(f"         {len(shown)} of them, as the networks will see them: {path}")
        steps = max(0, self.schedule.total_steps - self.state.step)
        say(f"time     about {duration(seconds * steps)}: {steps:,} steps of {seconds:.3g} s (measured)")

    def train(self, arguments: list[str]) -> None:
        self.output.progress.show("preparing the first step")
        with self.failures():  # on a card a trainer takes its memory, before there is a folder
            taking = trainer(self.state, self.images)
        evaluation = None  # of the pictures while training, where that was asked for
        if self.settings.metrics_every and self.ranks.writes:
            if why := unmeasurable():
                self.output.warn(f"warning: --metrics-every is left out. {why}")
            else:
                self.output.progress.show("preparing the evaluation")
                evaluation = Evaluation(self.settings, say=self.output.say)
        say, warn = self.output.say, self.output.warn

        def last() -> str:
            return f"Last checkpoint: {newest}." if (newest := self.newest()) else ""

        with signals(self.output.answer) as received:
            run = self.ranks.by_first(lambda: self._folder(arguments, taking.how))
            self.run = self.output.run = run
            self.output.progress.close(keep=False)
            done, total = self.state.step, self.schedule.total_steps
            progress = self.output.progress = Progress(sys.stdout, total, done, self.output.quiet)
            say(f"run      {run.path}", *self.facts(taking.how), *self._plans(run))
            try:
                with self.ranks.together(last), self.failures():  # the first may end this process
                    Training(
                        run, self.state, self.images, self.schedule, taking, progress, say, warn, evaluation
                    ).complete(received)
            finally:
                progress.close()
                taking.close()
            say(*self._leftovers(run))

    def _plans(self, run: RunFolder) -> Iterator[str]:
        """From where the training goes on, and where to watch it."""
        settings, step, total = self.settings, self.state.step, self.schedule.total_steps
        if self.start.run:
            where = self.start.file if self.start.arrays else "nothing was saved yet: starting again"
            yield f"resume   {where} at step {step:,} of {total:,}"
        if self.start.run and step >= total:
            yield "         That is complete: use a larger --epochs or --steps to go on."
        every, epochs = settings.sample_steps, settings.sample_every
        when = "after every epoch" if epochs == 1 else f"every {epochs} epochs"
        if step < self.schedule.steps_per_epoch:
            first = f"every {every} steps" if every else f"the first trained ones in about {EARLY:.0f} s"
            when = f"{first}; later {when}"
        yield f"watch    {run.samples_dir}: pictures, {when}"
        if not settings.no_report:
            yield f"         {run.report_path}: the report, soon after them"

    def _folder(self, arguments: list[str], how: str) -> RunFolder:
        """The run's folder, made or prepared for going on."""
        run, start = self.start.run, self.start
        config = configuration(arguments, self.settings, self.device, self.images, self.threads, how)
        if run is None:
            run = RunFolder.create(start.out, start.name or self.images.name)
            self.held.enter_context(run.locked())
            run.write_config(config)
            with by_product("list of the picture files", self.output.warn):
                run.write_files(self.images.files)
            return run
        before = run.read_config()
        if start.arrays:  # first: a resumption that fails here, or is killed, drops no rows
            run.go_on_from(start.file, start.arrays, start.meta)
        run.keep_stats_until(self.state.step)
        for line in reconfigure(run, before, config):  # last: a resumption that failed leaves no trace there
            self.output.warn(line)
        return run

    def _leftovers(self, run: RunFolder) -> list[str]:
        """What the training has left, and what may be done with it."""
        settings, state = self.settings, self.state
        lines = [
            f"done     {state.step:,} steps. Pictures: {run.samples_dir}, checkpoints: {run.checkpoints_dir}"
        ]
        if not settings.no_gif and run.gif_path.is_file():
            lines.append(f"         The training as a film: {run.gif_path}")
        if not settings.no_report and run.report_path.is_file():
            lines.append(f"         The report, to open in a browser: {run.report_path}")
        if run.best_path.is_file():
            lines.append(f"         The best FCD: {run.best_path}")
        lines.append(f"         More pictures: {python('-m', 'tinygan.sample', str(run.path))}")
        if state.step < settings.epochs * self.schedule.steps_per_epoch:
            lines.append(f"         Go on with: {run.resume_command}")
        return lines


if __name__ == "__main__":
    sys.exit(cli.run(main))
