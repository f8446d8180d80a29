"""The loop over epochs: batches in, pictures, statistics and checkpoints out."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinygan.arrays import CPU, Array, Backend
from tinygan.data import Dataset, normalise
from tinygan.errors import DataError, NonFiniteError, TinyganError, UsageError
from tinygan.layers import Network
from tinygan.rng import Stream, stream
from tinygan.runs import checkpoint
from tinygan.runs.animation import frame_indices, load_frames, write_gif
from tinygan.runs.folder import RunFolder
from tinygan.runs.health import LOOKED_AT, Health, measure, verdict
from tinygan.runs.pictures import grid, save_png, to_uint8
from tinygan.runs.progress import Progress
from tinygan.runs.report import write_report
from tinygan.runs.settings import Settings
from tinygan.runs.state import PREVIEWS, State, paint
from tinygan.step import ON_A_CARD, Measured, Step, unfit


class StoppedError(TinyganError):
    """A signal ended the run after its step was finished and saved."""

    mark = ""  # it was asked for

    def __init__(self, signal_number: int, remedy: str) -> None:
        super().__init__(f"interrupted; everything is saved. Go on with: {remedy}")
        self.exit_code = 128 + signal_number


class Plan(NamedTuple):
    """How many steps a run has."""

    steps_per_epoch: int  # the last batch of an epoch may be partial, and counts
    total_steps: int


def plan(settings: Settings, images: int, ranks: int = 1) -> Plan:
    """The `Plan` for a data set of `images`, trained by so many ranks.

    Raises:
        UsageError: there are more ranks than a batch has images.
        DataError: there are fewer images than a batch takes.
    """
    if settings.batch_size < ranks:
        raise UsageError(
            f"{ranks} ranks share a batch of {settings.batch_size}. Use --batch-size {ranks} or more."
        )
    if images < settings.batch_size:
        raise DataError(
            f"{images} images < --batch-size {settings.batch_size}. Use --batch-size {images} or less."
        )
    steps_per_epoch = math.ceil(images / settings.batch_size)
    total = settings.epochs * steps_per_epoch
    return Plan(steps_per_epoch, total if settings.steps is None else min(total, settings.steps))


class Trainer(Protocol):
    """What takes the steps of a run, from the one that `State` has reached.

    Which images a step sees, its noise and its masks are functions of the seed and the step's number:
    the same ones for every trainer, on every device.
    """

    how: str  # how it takes a step, in words
    stride: int  # steps that are worth taking before one looks
    trouble: str  # what was not finite, once anything was

    def steps(self, count: int) -> np.ndarray:
        """Take `count` steps; (count, 4) float64: the losses of G and D, the mean scores of real and fake.

        NaN from a step on that had a number that was not finite; no weight has moved since.
        """
        ...

    def close(self) -> object:
        """Give back what it holds on its device."""
        ...


def trainer(state: State, data: Dataset, settings: Settings, backend: Backend) -> Trainer:
    """What takes the steps of a run: on a graphics card the fast engine keeps the whole run there.

    Raises:
        UsageError: a function was changed that the engine asked for, or several ranks, have a version of.
    """
    step_by_step = StepByStep(state, data, settings, backend)
    if step_by_step.how != ON_A_CARD:
        return step_by_step
    from tinygan.fast.cuda.trainer import Trainer as OnCard  # not needed, and not loaded, on a processor

    networks = state.G, state.D, state.adam_G, state.adam_D
    found = OnCard(
        *networks, data.images, settings.batch_size, settings.seed, state.step, average=state.average
    )
    found.how = ON_A_CARD
    return found


def unsuited(settings: Settings, backend: Backend) -> str:
    """Why the fast engine of a graphics card cannot train these networks; nothing if it can, or need not."""
    if (backend.device, backend.engine) != ("gpu", "fast"):
        return ""
    state = State(settings, CPU)
    return unfit(state.G, state.D, "gpu")


class Batch(NamedTuple):
    """The arguments of `gan.train_step` after the networks and their Adams; or one rank's part of them."""

    images: Array  # (N, H, W, C) float32 in [-1, 1]
    noise: Array  # (M, noise_dim)
    real_masks: Iterator[Stream]
    fake_masks: Iterator[Stream]


class StepByStep:
    """The trainer for any backend: batches are put together and measured here, a step at a time.

    Each rank takes its part of every batch: the images, noise and masks that one process alone would use.
    """

    stride = 1
    trouble = ""

    def __init__(self, state: State, data: Dataset, settings: Settings, backend: Backend) -> None:
        self.state, self.data, self.settings, self.backend = state, data, settings, backend
        self.step, self.epoch, self.order = state.step, -1, np.zeros(0, int)
        size = settings.batch_size
        batches = {(self._share(N), self._share(size)) for N in (size, len(data.images) % size or size)}
        self.one = Step(
            state.G, state.D, state.adam_G, state.adam_D, batches, strict=settings.engine == "fast"
        )
        self.how = self.one.how

    def steps(self, count: int) -> np.ndarray:
        measured = np.full((count, 4), np.nan)
        try:
            for row in measured:
                row[:] = [float(number) for number in self._step()]
        except NonFiniteError as problem:
            self.trouble = str(problem)
        return measured

    def _step(self) -> Measured:
        batch = self.batch()
        self.step += 1
        measured = self.one.take(*batch)
        if self.state.average:
            self.state.average.update(self.step)
        return measured

    def _share(self, count: int) -> int:
        """How many of `count` examples are this rank's."""
        part = self.backend.ranks.part(count)
        return part.stop - part.start

    def batch(self) -> Batch:
        """What the next step sees."""
        settings, backend, ranks = self.settings, self.backend, self.backend.ranks
        images, size = self.data.images, settings.batch_size
        epoch, place = divmod(self.step, math.ceil(len(images) / size))
        if epoch != self.epoch:
            self.order = stream(settings.seed, "shuffle").at(epoch).permutation(len(images))
            self.epoch = epoch
        numbers = self.order[place * size : (place + 1) * size]
        real, fake = ranks.part(len(numbers)), ranks.part(size)
        noise = stream(settings.seed, "noise").at(self.step).normal((size, settings.noise_dim))
        dropout = stream(settings.seed, "dropout").at(self.step)
        return Batch(
            normalise(backend.xp, backend.array(images[numbers[real]]), np.float32),
            backend.array(noise[fake]),
            dropout.at(0).of_examples_from(real.start).split(),
            dropout.at(1).of_examples_from(fake.start).split(),
        )

    def close(self) -> None:
        """Nothing to give back."""


def measure_step_seconds(settings: Settings, data: Dataset, backend: Backend) -> float:
    """Seconds one full step takes, on networks that are thrown away; the first steps warm up."""
    images = data.images[: settings.batch_size]
    taking = trainer(State(settings, backend), replace(data, images=images), settings, backend)
    seconds = []
    for _ in range(4):
        count, start = taking.stride, time.perf_counter()
        taking.steps(count)
        seconds.append((time.perf_counter() - start) / count)
    taking.close()
    return min(seconds[1:])


def train(
    run: RunFolder,
    state: State,
    data: Dataset,
    settings: Settings,
    taking: Trainer,
    progress: Progress,
    report: Callable[[str], object],
    evaluation: Callable[[Network], dict[str, float]] | None = None,
) -> None:
    """Train `state` to the end of its plan and leave everything in the run folder.

    `taking` is its `trainer`; `report` prints a line and logs it; `progress` shows the moving one;
    `evaluation` measures the generator for the statistics every `settings.metrics_every` epochs. Where
    several ranks train, all of them must call this, and the first alone writes.

    Raises:
        StoppedError: SIGINT, SIGTERM or SIGHUP arrived; the run was saved and can be resumed.
        NonFiniteError: a loss or a weight is NaN or infinite; no checkpoint holds it.
        CheckpointError: the run folder cannot be written.
    """
    ranks = state.G.backend.ranks
    steps_per_epoch, total_steps = plan(settings, len(data.images), ranks.size)
    if state.step == 0 and ranks.writes:
        _save_previews(run, state, 0)
        save_png(run.reals_path, grid(data.images[:PREVIEWS]))

    def write_page() -> None:
        if not settings.no_report:
            try:
                write_report(run, state)
            except Exception as problem:  # whatever it is: the training is worth more than its report
                report(f"warning: no report: {str(problem) or type(problem).__name__}")

    def save() -> None:
        if ranks.writes:
            path = _save_checkpoint(run, state, data, settings, steps_per_epoch)
            if ranks.size > 1:  # a rank that is killed ends all of them: none can say it then
                report(f"saved    {path}")
            write_page()
        # Nobody goes on, or stops, before it is written; and all have taken the same steps.
        digest = checkpoint.content_digest(state.arrays(), {}) if ranks.size > 1 else ""
        if others := ranks.others(digest):
            report(f"warning: {', '.join(others)} came to other weights: is every host's NumPy the same?")

    complete, stop = state.step >= total_steps, 0  # already: nothing to train

    # Numbers that overflow are looked for in the results; NumPy's warnings would say it twice.
    look = _onlooker(state, data, settings)
    with _signals() as received, np.errstate(over="ignore", invalid="ignore"):
        while state.step < total_steps:
            epoch, first = divmod(state.step, steps_per_epoch)
            last = min(steps_per_epoch, first + total_steps - state.step)
            start, place, size = time.perf_counter(), first, settings.batch_size
            losses = []
            while place < last:
                for measured in taking.steps(min(taking.stride, last - place)):
                    place += 1
                    state.step += 1
                    if not np.isfinite(measured).all():
                        good = next(iter(run.checkpoints()), "none yet")
                        raise NonFiniteError(
                            f"epoch {epoch + 1}, step {state.step}: {taking.trouble}. "
                            f"Last good checkpoint: {good}. Start a new run with a smaller --lr."
                        )
                    state.sums += measured
                    losses.append(measured)
                    at = (epoch + 1, settings.epochs, place, steps_per_epoch)
                    progress.update(*at, *measured, images=min(size, len(data.images) - (place - 1) * size))
                stop = ranks.heard(received[0] if received else 0)
                if stop and place < steps_per_epoch:  # an epoch that is complete is closed first
                    break
            if ranks.writes:
                run.append_losses(np.array(losses))
            trained = min(place * size, len(data.images)) - first * size
            if state.step % steps_per_epoch:
                save()
            else:
                seconds = time.perf_counter() - start
                if ranks.writes:
                    _close_epoch(
                        run, state, settings, steps_per_epoch, trained, seconds, look(), evaluation, report
                    )
                state.sums = np.zeros_like(state.sums)
                stop = ranks.heard(received[0] if received else 0)
                due = (epoch + 1) % settings.checkpoint_every == 0
                if due or stop or state.step == total_steps:
                    save()
            if stop and state.step < total_steps:
                raise StoppedError(stop, run.resume_command)
        if total_steps == 0:
            save()
        elif complete and ranks.writes:
            write_page()
    if ranks.writes and not settings.no_gif:
        epochs = state.step // steps_per_epoch
        frames = [run.sample_path(epoch) for epoch in run.sampled_epochs() if epoch <= epochs]
        write_gif(run.gif_path, load_frames([frames[i] for i in frame_indices(len(frames))]))


def _close_epoch(
    run: RunFolder,
    state: State,
    settings: Settings,
    steps_per_epoch: int,
    images: int,
    seconds: float,
    health: Health,
    evaluation: Callable[[Network], dict[str, float]] | None,
    report: Callable[[str], object],
) -> None:
    """Statistics, two lines and pictures for the epoch that has just been completed."""
    epoch = state.step // steps_per_epoch
    if not np.isfinite(health).all():  # the losses were measured before the update that spoilt it
        raise NonFiniteError(
            f"epoch {epoch}, step {state.step}: what the networks make is not finite any more; not saved. "
            "Start a new run with a smaller --lr."
        )
    means = state.sums / steps_per_epoch
    g_loss, d_loss, real_score, fake_score = (float(mean) for mean in means)
    speed = images / seconds
    due = settings.metrics_every and epoch % settings.metrics_every == 0
    evaluated = evaluation(state.painter) if evaluation and due else None
    run.append_stats(
        {
            "epoch": epoch,
            "step": state.step,
            "g_loss": g_loss,
            "d_loss": d_loss,
            "real_score": real_score,
            "fake_score": fake_score,
            "seconds": round(seconds, 3),  # of this process; less than the epoch's after a resumption
            "images_per_second": round(speed, 1),
            "health": {name: round(number, 4) for name, number in health._asdict().items()},
            "verdict": verdict(health).words,
            "advice": verdict(health).advice,
            **({"evaluation": evaluated} if evaluated else {}),
        }
    )
    report(
        f"epoch {epoch}/{settings.epochs} done  mean loss G {g_loss:.3f} D {d_loss:.3f}  "
        f"D(x) {real_score:.2f} D(G(z)) {fake_score:.2f}  {seconds:.3g} s  {speed:,.0f} images/s"
    )
    report(f"         {verdict(health)}")
    if evaluated:
        report(
            "         FCD {fcd:.2f} +- {error:.2f} (real images {floor:.2f}, noise {ceiling:.0f}, "
            "{samples:,} of each)  precision {precision:.2f} recall {recall:.2f} "
            "coverage {coverage:.2f}".format(**evaluated)
        )
    if epoch % settings.sample_every == 0 or epoch == settings.epochs:
        _save_previews(run, state, epoch)


def _onlooker(state: State, data: Dataset, settings: Settings) -> Callable[[], Health]:
    """A function that measures how the training is going, always on the same images and noise."""
    backend = state.G.backend
    images = normalise(backend.xp, backend.array(data.images[:LOOKED_AT]), np.float32)
    noise = stream(settings.seed, "samples").at(1).normal((LOOKED_AT, settings.noise_dim))
    return lambda: measure(state.G, state.D, images, backend.array(noise))


def _save_previews(run: RunFolder, state: State, epoch: int) -> None:
    """The grid of pictures for the fixed noise."""
    save_png(run.sample_path(epoch), grid(to_uint8(paint(state.painter, state.preview_noise))))


def _save_checkpoint(
    run: RunFolder, state: State, data: Dataset, settings: Settings, steps_per_epoch: int
) -> Path:
    epoch, place = divmod(state.step, steps_per_epoch)
    path = run.checkpoint_path(epoch, state.step if place else None)
    arrays = state.arrays()
    bad = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if bad:  # the losses were measured before the update that spoilt it
        raise NonFiniteError(
            f"epoch {epoch + 1}, step {state.step}: {bad} is not finite any more; not saved. "
            "Start a new run with a smaller --lr."
        )
    meta = {"settings": asdict(settings), "data_sha256": data.sha256}
    checkpoint.save(path, arrays, meta)
    return path


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals to stop in the list this yields; a second one stops the process at once.

    SIGHUP says that the terminal has gone; where it is ignored already, as under nohup, it stays so.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    if hang_up and signal.getsignal(hang_up) is not signal.SIG_IGN:
        numbers.append(hang_up)
    before: dict[int, Any] = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
