"""``python -m tinygan.train``, in Python `tinygan.train`: train the DCGAN; save pictures and checkpoints."""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict, replace
from inspect import Parameter, Signature
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinygan import backend, cli, errors, gpu_errors
from tinygan.arrays import ARRAY, CPU
from tinygan.data.dataset import fingerprint, spread
from tinygan.data.download import cache_folder
from tinygan.data.sources import NAMES
from tinygan.errors import DataError, DeviceError, TinyganError, UsageError, filled, plural, printable
from tinygan.evaluation.evaluation import Evaluation, unmeasurable
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import started
from tinygan.runs import checkpoint
from tinygan.runs.config import configuration, reconfigure
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import EARLY, Signals, Training, signals
from tinygan.runs.progress import Progress, duration
from tinygan.runs.settings import DESCRIBED, Settings, add_options, new_settings, option, resumed_settings
from tinygan.runs.state import State, found, pictures_of, saved_settings, with_average
from tinygan.runs.trainer import StepByStep, check_images, images_of, measure_step_seconds, schedule, trainer
from tinygan.step import unfit
from tinygan.trained import Pictures, Run, verdict_of
from tinygan.views.inspection import summary
from tinygan.views.pictures import grid, save_png
from tinygan.views.webpage import MEASURED

SHOWN = 64  # images in the preview of a dry run
OWN = "out", "resume", "change", "name", "dry_run", "quiet"  # options that are not settings
EXAMPLES = {
    "--recipe best --epochs 3": "clear pictures soon",
    "--data my/photos --dry-run": "your own pictures",
    "--device gpu": "100 epochs on a GPU",
    "--resume": "continue the newest run",
}
FEW = 1000  # images: D memorises a smaller data set


def parser() -> cli.Parser:
    """Options of settings that were not given are absent from the result: defaults and recipes come later."""
    parser = cli.Parser("tinygan.train", "Train a DCGAN on small pictures.", **EXAMPLES)
    groups = add_options(parser)
    add = groups["runs"].add_argument
    how = {"nargs": "?", "const": False, "type": filled, "metavar": "RUN|FILE"}  # const: a text is converted
    add("--resume", help="resume a run or checkpoint (default: the newest run)", **how)
    add("--name", type=filled, help="name of the run's folder (default: the data's name)")
    add("--out", type=cli.path, default=Path("runs"), metavar="DIR", help="folder of runs (default: runs)")
    add("-n", "--dry-run", action="store_true", help="check everything, estimate the time, train nothing")
    add("--quiet", action="store_true", help="print errors only")
    names = "lr, lr-d, beta1, beta2, average, penalty, dropout or checkpoint-every"
    how = {"action": "append", "default": [], "metavar": "NAME=VALUE"}
    groups["more about runs"].add_argument("--change", help=f"with --resume: a new value for {names}", **how)
    parser.shorten(group for title, group in groups.items() if title.startswith("more "))
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Train as `arguments` say and return the exit code. Threads, signal handlers and NumPy's settings are
    restored afterwards. Signals stop the training in the main thread only. Raises: a `TinyganError`."""
    Job(cli.words(arguments)).complete()
    return 0


def from_python(data: Any, options: Mapping[str, Any]) -> Job:
    """The job for keyword arguments: ``batch_size=64`` becomes ``--batch-size=64``, and paths absolute."""
    array = None if data is None or isinstance(data, str | os.PathLike) else data
    words = []
    for name, value in {"data": data if array is None else ARRAY, **options}.items():
        if value is True:
            words.append(option(name))
        elif value is not None and value is not False:
            each = [f"{key}={one}" for key, one in value.items()] if isinstance(value, Mapping) else value
            words += [f"{option(name)}={one}" for one in (each if isinstance(each, list) else [each])]
    job = Job(words, array)
    if job.dry_run:
        raise UsageError("dry_run trains nothing and returns no run. Use tinygan.train.main('--dry-run').")
    job.out = job.out.absolute()
    if job.resume and os.path.exists(job.resume):
        job.resume = os.path.abspath(job.resume)
    return job


class Epoch(NamedTuple):
    """What `training` yields after each epoch."""

    number: int
    losses: dict[str, float]  # means over the epoch: g_loss, d_loss, real_score, fake_score
    verdict: str  # how the training is going, and what to try
    samples: Pictures  # from the same 16 noise vectors every time
    run: Run

    def __repr__(self) -> str:
        return f"Epoch {self.number} of {self.run}: {self.losses}, {self.verdict}"


def training(data: Any = None, **options: Any) -> Generator[Epoch, None, None]:
    """Train like `tinygan.train`, and yield an `Epoch` after each one. Leaving the loop, by ``break`` or an
    exception, saves everything and unlocks the run; ``resume=True`` continues it. Between epochs, threads and
    signal handlers are the caller's. Raises: as `tinygan.train`; UsageError under mpiexec."""
    job = from_python(data, options)
    if job.ranks.size > 1:
        raise UsageError("tinygan.training works in a single process. Use tinygan.train under mpiexec.")
    return _epochs(job)


def _epochs(job: Job) -> Generator[Epoch, None, None]:
    def finish() -> None:
        try:
            with job.working():
                rows.close()
        except TinyganError as problem:  # no caller is left to catch it
            job.output.warn(f"{problem.mark}{problem}")

    def at_exit() -> None:
        job.threads = 1  # at exit, Python starts no new threads
        job.held.close()

    with job.held:
        with job.working():
            job.prepare()
        rows = job.epochs()
        job.held.callback(finish)
        job.held.callback(atexit.unregister, atexit.register(at_exit))
        while True:
            with job.working():
                if not (row := next(rows, None)):
                    return
                samples = pictures_of(job.state.shown_G, job.state.preview_noise).view(Pictures)
                losses = {name: row[name] for name in MEASURED}
            yield Epoch(row["epoch"], losses, verdict_of(row), samples, Run(job.run))


class Command(ModuleType):
    """The type of this module: it can be called to train. ``tinygan.train.main`` takes a command line."""

    __signature__: Signature

    def __call__(self, data: Any = None, **options: Any) -> Run:
        """Train, and return the run. `data` is the name of a data set, a path, or an array of pictures;
        `options` are those of ``python -m tinygan.train``, such as ``epochs=3, resume=True,
        change={"lr": 5e-5}``. Raises: a `TinyganError`; its `exit_code` is 130 after Ctrl-C, which saves."""
        job = from_python(data, options)
        job.complete()
        return Run(job.run)


class Output:
    """Prints lines on the terminal, unless `quiet`, and logs them in `run`, if there is one. Rank 0 only."""

    def __init__(self, ranks: Ranks, quiet: bool) -> None:
        self.writes, self.stream = ranks.writes, sys.stdout if ranks.writes and not quiet else None
        self.run: RunFolder | None = None
        self.early: list[str] = []  # lines printed before the log exists
        self.progress = Progress(self.stream)  # replaced once the number of steps is known

    def log(self, *lines: str) -> None:
        self.early += map(printable, lines)
        if self.run and self.writes and self.early:
            self.run.log(*self.early)
            self.early = []

    def say(self, *lines: str) -> None:
        self.log(*lines)
        for line in lines:
            self.progress.line(printable(line))

    def answer(self, line: str) -> None:
        if self.writes:
            self.progress.answer(line)

    def warn(self, line: str) -> None:
        self.log(line)
        if self.writes:
            self.progress.around(cli.warn, line)


class Job:
    """A training with everything it needs: prepared once, then rehearsed or trained. `held` keeps the run
    locked as long as the job lasts. Inside `working` the job may change threads and signal handlers."""

    def __init__(self, words: list[str], array: Any = None) -> None:
        """`array`: the pictures, if a program passed them. Raises: UsageError for bad options."""
        self.words, self.array, self.ranks, self.held = words, array, started(), ExitStack()
        self.threads, self.received = 0, None  # neither is set yet; signals arrive during training
        with self.ranks.together(), nullcontext() if self.ranks.writes else redirect_stdout(io.StringIO()):
            self.given = vars(parser().parse_args(words))
        self.out, self.resume, self.change, self.name, self.dry_run, quiet = map(self.given.pop, OWN)
        self.output = Output(self.ranks, quiet)
        # When resuming: the run's folder, the checkpoint and its contents, what --change changes.
        self.run: Any = None
        self.file, self.arrays, self.meta = Path(), None, dict[str, Any]()
        self.changed: dict[str, list[Any]] = {}

    @contextmanager
    def working(self) -> Iterator[None]:
        """Inside, the process has the training's threads and signal handlers."""
        with self.ranks.together(self.last), ExitStack() as self.process:
            # Remove the moving line, so that errors and the caller's output start on a new line.
            self.process.callback(lambda: self.output.progress.close(keep=False))
            if self.threads:
                self.process.enter_context(backend.use_threads(self.threads))
            if self.received:
                self.process.enter_context(signals(self.output.answer, self.received))
            yield

    def complete(self) -> None:
        """Run the whole job: the training, or with --dry-run the rehearsal."""
        with self.held, self.working():
            self.prepare()
            if self.dry_run:
                self.rehearse()
            else:
                deque(self.epochs(), maxlen=0)

    def prepare(self) -> None:
        """Choose the settings and the device, load the images, create the networks."""
        if (data := self.given.get("data")) and data not in NAMES and os.path.exists(data):
            self.given["data"] = os.path.abspath(data)  # the run may be resumed from another directory
        self.settings = self._new_settings() if self.resume is None else self._resumed_settings()
        self._choose_device()
        self._load_images()
        if self.settings.data == "auto":  # a resumed run must use the same data
            self.settings = replace(self.settings, data=self.images.name)
        self.schedule = schedule(self.settings, len(self.images.images), self.ranks.size)
        with self.failures():
            self.state = State(self.settings, self.device)
            if self.arrays:
                self.state.restore(self.arrays, self.file)
            elif where := self.settings.start_from:
                warn = self.output.warn
                weights = self.ranks.by_first(lambda: found(where, self.out, CPU, warn)[0].weights())
                self.state.set_weights(with_average(weights, self.settings.average > 0))

    def _new_settings(self) -> Settings:
        if self.change:
            raise UsageError("--change works only with --resume. Add --resume, or use the option itself.")
        if "start_from" not in self.given:
            return new_settings(self.given)

        def of_start() -> tuple[Settings, str]:
            state, file = found(self.given["start_from"], self.out, CPU, self.output.warn)
            return state.settings, os.path.abspath(file)

        start, file = self.ranks.by_first(of_start)
        return new_settings(self.given | {"start_from": file}, start)

    def _resumed_settings(self) -> Settings:
        """Find, lock and read the run to resume; returns its settings."""
        if self.name:
            raise UsageError(f"--name {self.name}: a resumed run keeps its name. Leave it out.")
        settings_only = cli.Parser("tinygan.train", "")
        add_options(settings_only)
        if wrong := [text for text in self.change if "=" not in text]:
            raise UsageError(f"--change {wrong[0]} has no value. Write --change {wrong[0]}=VALUE.")
        parts = (text.partition("=") for text in self.change)
        changes = vars(settings_only.parse_args([f"{option(name)}={value}" for name, _, value in parts]))

        def on_disk() -> tuple[RunFolder, Path, dict[str, np.ndarray] | None, dict[str, Any]]:
            run, file = RunFolder.find(self.resume or None, self.out)
            if not self.dry_run:
                self.held.enter_context(run.locked())
            files = [file] if file else run.checkpoints()
            if not files and len(run.read_stats()) < 2:  # stopped in its first epoch; else they were deleted
                config = run.read_config()
                meta = {"settings": config["settings"], "data_sha256": config["data"].get("sha256")}
                return run, Path(), None, meta
            return run, *checkpoint.newest_intact(files, self.output.warn)

        self.run, self.file, self.arrays, self.meta = self.ranks.by_first(on_disk)
        if self.given.get("data") == "auto":  # use what "auto" found at first
            del self.given["data"]
        saved = saved_settings(self.meta, self.file if self.arrays else self.run.config_path, self.arrays)
        settings = resumed_settings(asdict(saved), self.given, str(self.run), changes)
        pairs = {name: [getattr(saved, name), getattr(settings, name)] for name in changes}
        self.changed = {name: both for name, both in pairs.items() if both[0] != both[1]}
        if self.arrays and "average" in changes:
            self.arrays = with_average(self.arrays, settings.average > 0)
        return settings

    def _choose_device(self) -> None:
        """Choose the device, the same for all ranks, and the number of threads of this rank."""
        settings, ranks, output = self.settings, self.ranks, self.output
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
            raise DeviceError(f"rank 0 computes {first}, unlike {', '.join(others)}. Use --device cpu.")
        self.device = backend.shared_by(device, ranks)
        asked = settings.threads and (settings.threads, "--threads")
        self.threads, self.source = asked or backend.default_threads(ranks.sharing)
        if not self.process.enter_context(backend.use_threads(self.threads)) and settings.threads:
            why = "this NumPy's BLAS does not let its number of threads be set"
            output.warn(f"warning: --threads has no effect: {why}.")
        self.ranks = self.device.ranks

    def _load_images(self) -> None:
        """Load the images, and check that all ranks, and a resumed run, have the same ones."""
        self.output.progress.show("loading the images")
        with self.ranks.first_alone():  # the others find its download in the cache
            self.images = images = images_of(self.settings, self.output.say, array=self.array)
        if others := self.ranks.others(fingerprint(images.images)):
            problem = f"{', '.join(others)}: {images.source} differs from the images of rank 0"
            raise DataError(f"{problem}. Give every host the same data.")
        digest = self.ranks.by_first(lambda: images.sha256)  # reads every image: once is enough
        if self.run:
            check_images(images, digest, self.meta.get("data_sha256"), self.run.path, self.run)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn a full memory or a failing GPU into one line with the last checkpoint; log every error."""
        try:
            with gpu_errors.failures(self.settings.batch_size, lambda: self.run and self.run.newest()):
                yield
        except TinyganError as problem:
            with suppress(TinyganError):  # a full disk may be the problem
                self.output.log(f"{problem.mark}{problem}")
            raise

    def last(self) -> str:
        """A sentence that names the newest checkpoint; empty before the training starts or without one."""
        newest = self.run.newest() if self.received and self.run else None
        return f"Last checkpoint: {newest}." if newest else ""

    def facts(self, how: str) -> Iterator[str]:
        """Lines that describe the data, device and settings; `how` says how a step is taken."""
        settings, images, device = self.settings, self.images, self.device
        N, H, W, C = images.images.shape
        yield from images.notes
        if settings.batch_size == 1:
            yield "note     --batch-size 1: batch normalisation over a single picture cancels G's noise"
        if N < FEW * (1 + settings.flip):
            more = "" if settings.flip else "; --flip adds mirror images"
            yield f"note     only {plural(N, 'picture')}: D will memorise the data, G will repeat it{more}"
        yield f"data     {images.name}: {plural(N, 'image')} {H}x{W}x{C} ({images.source})"
        library = f"{'NumPy' if device.device == 'cpu' else 'CuPy'} {device.xp.__version__}"
        threads = f"{plural(self.threads, 'thread')} ({self.source})"
        where = f"{card['card']}, {device.precision}" if (card := device.card()) else threads
        yield f"device   {device.device}, {library}, engine {device.engine}, {where}"
        yield f"step     {how}"
        if self.ranks.words:
            yield self.ranks.words
        own_rate = f"(D {settings.lr_d:g}) " if settings.lr_d else ""
        average = f"average {settings.average:g}, " if settings.average else ""
        length = f"{plural(settings.epochs, 'epoch')} of {plural(self.schedule.steps_per_epoch, 'step')}"
        yield (
            f"recipe   {settings.recipe}: {length}, batch {settings.batch_size}, "
            f"Adam lr {settings.lr:g} {own_rate}beta1 {settings.beta1:g} beta2 {settings.beta2:g}, "
            f"{average}penalty {settings.penalty:g}, dropout {settings.dropout:g}, seed {settings.seed}"
        )

    def rehearse(self) -> None:
        """Check everything that can be checked without training, and describe the training."""
        with self.failures():
            taking = StepByStep(self.state, self.images)
            if self.run is None and self.ranks.writes:
                RunFolder.try_out(self.out)
            self.output.progress.show("measuring a step")
            seconds = measure_step_seconds(self.settings, self.images, self.device)
        say = self.output.say
        say(*summary(self.state.G), "", *summary(self.state.D), "")
        say(*(f"conv     {plan}" for plan in taking.one.plans()), *self.facts(taking.how))
        say(f"images   {self.images.census()}")
        with errors.by_product("picture of what the networks see", self.output.warn):
            path = cache_folder() / "reals.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shown = spread(self.images.images, SHOWN)
            save_png(path, grid(shown))
            say(f"         {len(shown)} of them, as the networks see them: {path}")
        n = max(0, self.schedule.total_steps - self.state.step)
        say(f"time     about {duration(n * seconds)}: {plural(n, 'step')} of {seconds:.3g} s (measured)")

    def epochs(self) -> Generator[dict[str, Any], None, None]:
        """Train, and yield the statistics of each epoch. Every `next` must happen inside `working`."""
        say, warn = self.output.say, self.output.warn
        self.output.progress.show("preparing the first step")
        with self.failures():  # before there is a folder: on a GPU it allocates all memory
            taking = trainer(self.state, self.images)
        evaluation = None  # measures FCD during training, with --metrics-every
        if self.settings.metrics_every and self.ranks.writes:
            if why := unmeasurable():
                warn(f"warning: --metrics-every is ignored. {why}")
            else:
                self.output.progress.show("preparing the evaluation")
                evaluation = Evaluation(self.settings, say=say)
        self.received = Signals()
        self.process.enter_context(signals(self.output.answer, self.received))
        run = self.run = self.output.run = self.ranks.by_first(lambda: self._folder(taking.how))
        self.output.progress.close(keep=False)
        steps = self.schedule.total_steps, self.state.step
        progress = self.output.progress = Progress(self.output.stream, *steps)
        say(f"run      {run.path}", *self.facts(taking.how), *self._plans(run))
        try:
            with self.failures():
                yield from Training(
                    run, self.state, self.images, self.schedule, taking, progress, say, warn, evaluation
                ).epochs(self.received)
        finally:
            progress.close()
            taking.close()
        say(*self._leftovers(run))

    def _plans(self, run: RunFolder) -> Iterator[str]:
        """Lines that say where the training starts and how to watch it."""
        settings, step, total = self.settings, self.state.step, self.schedule.total_steps
        if self.meta:
            where = self.file if self.arrays else "nothing was saved: starting over"
            yield f"resume   {where} at step {step:,} of {total:,}"
        elif settings.start_from:
            yield f"start    from the weights of {settings.start_from}"
        for name, (was, now) in self.changed.items():
            yield f"change   {option(name)} {was} -> {now}, from step {step + 1:,} on"
        if self.meta and step >= total:
            yield "         The run is complete. Use a larger --epochs or --steps to continue it."
            return
        every, epochs = settings.sample_steps, settings.sample_every
        when = "after every epoch" if epochs == 1 else f"every {epochs} epochs"
        if step < self.schedule.steps_per_epoch:
            often = "every step" if every == 1 else f"every {every} steps"
            first = often if every else f"the first trained ones after about {EARLY:.0f} s"
            when = f"{first}, then {when}"
        yield f"watch    {run.samples_dir}: pictures, {when}"
        if not settings.no_report:
            yield f"         {run.report_path}: the report, updated as the training proceeds"

    def _folder(self, how: str) -> RunFolder:
        """The run's folder, new or made ready to be resumed."""
        run = self.run
        config = configuration(self.words, self.settings, self.device, self.images, self.threads, how)
        if run is None:
            run = RunFolder.create(self.out, self.name or self.images.name)
            self.held.enter_context(run.locked())
            run.write_config(config)
            with errors.by_product("list of the picture files", self.output.warn):
                run.write_files(self.images.files)
            return run
        before = run.read_config()
        if self.arrays:  # first: if this fails or is killed, no rows are lost
            run.go_on_from(self.file, self.arrays, self.meta)
        run.keep_stats_until(self.state.step)
        # Last: a failed attempt to resume leaves no trace in the configuration.
        for line in reconfigure(run, before, config, self.changed, self.state.step):
            self.output.warn(line)
        if self.arrays and self.changed:  # it lasts even if the next step fails
            run.save(self.arrays, self.meta | {"settings": asdict(self.settings)})
        return run

    def _leftovers(self, run: RunFolder) -> Iterator[str]:
        """Lines that say what the training wrote, and what to do next."""
        settings, step, done = self.settings, self.state.step, plural(self.state.step, "step")
        yield f"done     {done}. Pictures: {run.samples_dir}, checkpoints: {run.checkpoints_dir}"
        if not settings.no_gif and run.gif_path.is_file():
            yield f"         Film of the training: {run.gif_path}"
        if not settings.no_report and run.report_path.is_file():
            yield f"         Report, to open in a browser: {run.report_path}"
        if run.best_path.is_file():
            yield f"         Checkpoint with the best FCD: {run.best_path}"
        yield f"         More pictures: {errors.python('-m', 'tinygan.sample', str(run.path))}"
        if step < settings.epochs * self.schedule.steps_per_epoch:
            yield f"         Resume with: {run.resume_command(settings.data)}"


sys.modules[__name__].__class__ = Command
# The signatures list all options, for help() and completion.
_first = Parameter("data", Parameter.POSITIONAL_OR_KEYWORD, default=None)
_all = {name: known.default for name, known in DESCRIBED.items()} | dict.fromkeys(OWN)
_others = [Parameter(name, Parameter.KEYWORD_ONLY, default=value) for name, value in _all.items()]
Command.__signature__ = Signature([_first, *(one for one in _others if one.name not in ("data", "dry_run"))])
training.__signature__ = Command.__signature__  # pyright: ignore[reportFunctionMemberAccess]

if __name__ == "__main__":
    sys.exit(cli.run(main))
