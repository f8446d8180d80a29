"""The loop over epochs: batches in, pictures, statistics and checkpoints out."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from tinygan.backend import Backend
from tinygan.data import Dataset, normalise
from tinygan.errors import DataError, NonFiniteError, TinyganError
from tinygan.gan import Step
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.animation import frame_indices, load_frames, write_gif
from tinygan.runs.folder import RunFolder
from tinygan.runs.pictures import grid, save_png, to_uint8
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import PREVIEWS, State, paint


class StoppedError(TinyganError):
    """A signal ended the run after its step was finished and saved."""

    def __init__(self, signal_number: int, remedy: str) -> None:
        super().__init__(f"interrupted; everything is saved. Go on with: {remedy}")
        self.exit_code = 128 + signal_number


class Plan(NamedTuple):
    """How many steps a run has."""

    steps_per_epoch: int  # the last batch of an epoch may be partial, and counts
    total_steps: int


def plan(settings: Settings, images: int) -> Plan:
    """The `Plan` for a data set of `images`.

    Raises:
        DataError: there are fewer images than a batch takes.
    """
    if images < settings.batch_size:
        raise DataError(
            f"{images} images < --batch-size {settings.batch_size}. Use --batch-size {images} or less."
        )
    steps_per_epoch = math.ceil(images / settings.batch_size)
    total = settings.epochs * steps_per_epoch
    return Plan(steps_per_epoch, total if settings.steps is None else min(total, settings.steps))


def take_step(state: State, data: Dataset, settings: Settings, backend: Backend, batch: np.ndarray) -> Step:
    """Train on the images whose numbers `batch` holds, with the random numbers of this very step."""
    images = normalise(backend.xp, backend.array(data.images[batch]), np.float32)  # (N, H, W, C)
    noise = stream(settings.seed, "noise").at(state.step).normal((settings.batch_size, settings.noise_dim))
    dropout = stream(settings.seed, "dropout").at(state.step)
    return backend.train_step(
        state.G,
        state.D,
        state.adam_G,
        state.adam_D,
        images,
        backend.array(noise),
        dropout.at(0).split(),
        dropout.at(1).split(),
    )


def measure_step_seconds(settings: Settings, data: Dataset, backend: Backend) -> float:
    """Seconds one full step takes, on networks that are thrown away; the first step warms up."""
    state, batch = State(settings, backend), np.arange(settings.batch_size)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        float(take_step(state, data, settings, backend, batch).generator_loss)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def train(
    run: RunFolder,
    state: State,
    data: Dataset,
    settings: Settings,
    backend: Backend,
    progress: Progress,
    report: Callable[[str], object],
) -> None:
    """Train `state` to the end of its plan and leave everything in the run folder.

    `report` prints a line and logs it; `progress` shows the moving one.

    Raises:
        StoppedError: SIGINT or SIGTERM arrived; the run was saved and can be resumed.
        NonFiniteError: a loss or a weight is NaN or infinite; no checkpoint holds it.
        CheckpointError: the run folder cannot be written.
    """
    steps_per_epoch, total_steps = plan(settings, len(data.images))
    if state.step == 0:
        _save_previews(run, state, 0)
        save_png(run.reals_path, grid(data.images[:PREVIEWS]))
    # Numbers that overflow are looked for in the results; NumPy's warnings would say it twice.
    with _signals() as received, np.errstate(over="ignore", invalid="ignore"):
        while state.step < total_steps:
            epoch, first = divmod(state.step, steps_per_epoch)
            order = stream(settings.seed, "shuffle").at(epoch).permutation(len(data.images))
            last = min(steps_per_epoch, first + total_steps - state.step)
            start, trained = time.perf_counter(), 0
            for place in range(first, last):
                batch = order[place * settings.batch_size : (place + 1) * settings.batch_size]
                measured = np.array([float(x) for x in take_step(state, data, settings, backend, batch)])
                state.step += 1
                if not np.isfinite(measured).all():
                    good = next(iter(run.checkpoints()), "none yet")
                    raise NonFiniteError(
                        f"epoch {epoch + 1}, step {state.step}: losses G {measured[0]}, D {measured[1]}. "
                        f"Last good checkpoint: {good}. Start a new run with a smaller --lr."
                    )
                state.sums += measured
                trained += len(batch)
                at = (epoch + 1, settings.epochs, place + 1, steps_per_epoch)
                progress.update(*at, *measured, images=len(batch))
                if received and place + 1 < steps_per_epoch:  # an epoch that is complete is closed first
                    break
            if state.step % steps_per_epoch:
                _save_checkpoint(run, state, data, settings, steps_per_epoch)
            else:
                seconds = time.perf_counter() - start
                _close_epoch(run, state, settings, steps_per_epoch, trained, seconds, report)
                due = (epoch + 1) % settings.checkpoint_every == 0
                if due or received or state.step == total_steps:
                    _save_checkpoint(run, state, data, settings, steps_per_epoch)
            if received and state.step < total_steps:
                raise StoppedError(received[0], run.resume_command)
        if total_steps == 0:
            _save_checkpoint(run, state, data, settings, steps_per_epoch)
    if not settings.no_gif:
        epochs = state.step // steps_per_epoch
        frames = [path for path in map(run.sample_path, range(epochs + 1)) if path.exists()]
        write_gif(run.gif_path, load_frames([frames[i] for i in frame_indices(len(frames))]))


def _close_epoch(
    run: RunFolder,
    state: State,
    settings: Settings,
    steps_per_epoch: int,
    images: int,
    seconds: float,
    report: Callable[[str], object],
) -> None:
    """Statistics, a line and pictures for the epoch that has just been completed."""
    epoch = state.step // steps_per_epoch
    means = state.sums / steps_per_epoch
    g_loss, d_loss, real_score, fake_score = (float(mean) for mean in means)
    state.sums = np.zeros_like(state.sums)
    speed = images / seconds
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
        }
    )
    report(
        f"epoch {epoch}/{settings.epochs} done  mean loss G {g_loss:.3f} D {d_loss:.3f}  "
        f"D(x) {real_score:.2f} D(G(z)) {fake_score:.2f}  {seconds:.1f} s  {speed:,.0f} images/s"
    )
    if epoch % settings.sample_every == 0 or epoch == settings.epochs:
        _save_previews(run, state, epoch)


def _save_previews(run: RunFolder, state: State, epoch: int) -> None:
    """The grid of pictures for the fixed noise."""
    save_png(run.sample_path(epoch), grid(to_uint8(paint(state.G, state.preview_noise))))


def _save_checkpoint(
    run: RunFolder, state: State, data: Dataset, settings: Settings, steps_per_epoch: int
) -> None:
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


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list this yields; a second one stops the process at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)

    before: dict[int, Any] = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
