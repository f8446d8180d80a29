"""The loop over epochs: batches in, pictures, statistics and checkpoints out."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from tinygan.data import Dataset, normalise
from tinygan.errors import NonFiniteError, TinyganError
from tinygan.layers import Network
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import PREVIEWS, State, pictures_of
from tinygan.runs.trainer import Trainer, schedule
from tinygan.views.animation import frame_indices, load_frames, write_gif
from tinygan.views.health import MEASURED_ON, Health, measure, verdict
from tinygan.views.pictures import grid, save_png, to_uint8
from tinygan.views.webpage import write_report


class StoppedError(TinyganError):
    """A signal ended the run after its step was finished and saved."""

    mark = ""  # it was asked for

    def __init__(self, signal_number: int, remedy: str) -> None:
        super().__init__(f"interrupted; everything is saved. Go on with: {remedy}")
        self.exit_code = 128 + signal_number


def train(
    run: RunFolder,
    state: State,
    data: Dataset,
    settings: Settings,
    taking: Trainer,
    progress: Progress,
    say: Callable[..., object],
    evaluation: Callable[[Network], dict[str, float]] | None = None,
) -> None:
    """Train `state` to the end of its plan and leave everything in the run folder.

    `taking` is its `trainer`; `say` prints lines and logs them; `progress` shows the moving one;
    `evaluation` measures the generator for the statistics every `settings.metrics_every` epochs. Where
    several ranks train, all of them must call this, and the first alone writes.

    Raises:
        StoppedError: SIGINT, SIGTERM or SIGHUP arrived; the run was saved and can be resumed.
        NonFiniteError: a loss or a weight is NaN or infinite; no checkpoint holds it.
        CheckpointError: the run folder cannot be written.
    """
    ranks = state.G.backend.ranks
    steps_per_epoch, total_steps = schedule(settings, len(data.images), ranks.size)
    if state.step == 0 and ranks.writes:
        _save_previews(run, state, 0)
        save_png(run.reals_path, grid(data.images[:PREVIEWS]))

    def write_page() -> None:
        if not settings.no_report:
            try:
                write_report(run, state)
            except Exception as problem:  # whatever it is: the training is worth more than its report
                say(f"warning: no report: {str(problem) or type(problem).__name__}")

    def save() -> None:
        if ranks.writes:
            path = _save_checkpoint(run, state, data, settings, steps_per_epoch)
            if ranks.size > 1:  # a rank that is killed ends all of them: none can say it then
                say(f"saved    {path}")
            write_page()
        # Nobody goes on, or stops, before it is written; and all have taken the same steps.
        digest = checkpoint.content_digest(state.arrays(), {}) if ranks.size > 1 else ""
        if others := ranks.others(digest):
            say(f"warning: {', '.join(others)} came to other weights: is every host's NumPy the same?")

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
                        run, state, settings, steps_per_epoch, trained, seconds, look(), evaluation, say
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
    say: Callable[..., object],
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
    evaluated = evaluation(state.shown_G) if evaluation and due else None
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
    lines = [
        f"epoch {epoch}/{settings.epochs} done  mean loss G {g_loss:.3f} D {d_loss:.3f}  "
        f"D(x) {real_score:.2f} D(G(z)) {fake_score:.2f}  {seconds:.3g} s  {speed:,.0f} images/s",
        f"         {verdict(health)}",
    ]
    if evaluated:
        lines.append(
            "         FCD {fcd:.2f} +- {error:.2f} (real images {floor:.2f}, noise {ceiling:.0f}, "
            "{samples:,} of each)  precision {precision:.2f} recall {recall:.2f} "
            "coverage {coverage:.2f}".format(**evaluated)
        )
    say(*lines)
    if epoch % settings.sample_every == 0 or epoch == settings.epochs:
        _save_previews(run, state, epoch)


def _onlooker(state: State, data: Dataset, settings: Settings) -> Callable[[], Health]:
    """A function that measures how the training is going, always on the same images and noise."""
    backend = state.G.backend
    images = normalise(backend.xp, backend.array(data.images[:MEASURED_ON]), np.float32)
    noise = stream(settings.seed, "samples").at(1).normal((MEASURED_ON, settings.noise_dim))
    return lambda: measure(state.G, state.D, images, backend.array(noise))


def _save_previews(run: RunFolder, state: State, epoch: int) -> None:
    """The grid of pictures for the fixed noise."""
    save_png(run.sample_path(epoch), grid(to_uint8(pictures_of(state.shown_G, state.preview_noise))))


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
