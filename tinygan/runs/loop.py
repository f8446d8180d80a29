"""The loop over epochs: batches in, pictures, statistics and checkpoints out."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

import numpy as np

from tinygan.data import Dataset, normalise
from tinygan.data.dataset import spread
from tinygan.errors import UNFINISHED, NonFiniteError, Printer, TinyganError, by_product
from tinygan.evaluation.directions import for_report
from tinygan.layers import Network
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import Progress
from tinygan.runs.state import PREVIEWS, State, pictures_of
from tinygan.runs.trainer import Schedule, Trainer
from tinygan.views.animation import film_frames, write_film
from tinygan.views.health import MEASURED_ON, measure, verdict
from tinygan.views.pictures import grid, save_png, to_uint8
from tinygan.views.webpage import MEASURED, write_report

SAVE = 1  # what a rank may ask all of them for: to save and go on; or else to stop with an exit code
STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # signals; Windows lacks some
STOPPED = 128  # by the signal whose number is added, as shells report it
OFFERED = 1.0  # seconds: until then a second signal is no more than an impatient first one
EARLY = 10.0  # seconds until the first save and picture of a run; each of the next ones after twice as many
REPORTS = 0.02  # of the time may go into reports before the last
SECONDS_ON_A_CARD = 15.0  # between saves: an epoch takes a second or two there, a save a tenth of one


class StoppedError(TinyganError):
    """A signal ended the run after its step was finished and saved."""

    mark = ""  # it was asked for

    def __init__(self, exit_code: int, remedy: str) -> None:
        super().__init__(f"interrupted; everything is saved. Go on with: {remedy}")
        self.exit_code = exit_code


class Signals:
    """Which signal to stop has arrived, if any."""

    number, time = 0, 0.0  # of the first one, and when it came
    saved = False  # whether all is saved since, and only by-products are to come
    breaks = False  # whether it may abort the current work, whose result can be spared


class Training:
    """The training of `state` to the end of its schedule, which leaves everything in the folder of `run`.
    `say` and `warn` print lines and log them; `progress` shows the moving one; `evaluation` measures the
    generator every `settings.metrics_every` epochs. All ranks must train, and the first alone writes."""

    def __init__(
        self, run: RunFolder, state: State, data: Dataset, schedule: Schedule, taking: Trainer,
        progress: Progress, say: Callable[..., object], warn: Printer,
        evaluation: Callable[[Network], dict[str, float]] | None = None,
    ) -> None:  # fmt: skip
        self.run, self.state, self.data, self.settings, self.taking = run, state, data, state.settings, taking
        self.progress, self.say, self.warn, self.evaluation = progress, say, warn, evaluation
        self.steps_per_epoch, self.total_steps = schedule
        self.ranks = state.backend.ranks
        self.began = self.saved = time.monotonic()  # saved: when it last happened
        self.early, self.next_report = EARLY, 0.0  # the first epoch's next save, after it began; no sooner
        self.unsaved, self.best = True, False  # nothing saved by this process; the best FCD so far, unsaved
        self.rarely = SECONDS_ON_A_CARD if state.backend.device == "gpu" else 0.0
        self.images = normalise(state.backend.array(data.images[:MEASURED_ON]))  # for health: always these
        noise = stream(self.settings.seed, "samples").at(1).normal((len(self.images), *state.G.input_shape))
        self.noise = state.backend.array(noise)
        self.rows = run.read_stats() if self.ranks.writes else []  # the verdict is on all epochs

    def epochs(self, received: Signals) -> Iterator[dict[str, Any]]:
        """Train to the end, and give the first rank the statistics of each epoch; who closes this saves what
        was reached. Raises StoppedError where a signal was `received` (all is saved), NonFiniteError where a
        loss or a weight is not finite (none is saved), CheckpointError where nothing can be written."""
        if self.state.step == 0 and self.ranks.writes:
            self._save_previews(0)
            with by_product("picture of the training images", self.warn):
                save_png(self.run.reals_path, grid(spread(self.data.images, PREVIEWS)))
        stop = 0  # the exit code with which to do so
        if self.total_steps == 0 or (self.state.step == 0 and self.settings.start_from):
            self.save()  # what it starts from may change, and without steps no epoch will save it
        try:
            while self.state.step < self.total_steps and not stop:
                known = len(self.rows)
                # Numbers that overflow are looked for in the results; NumPy's warnings would say it twice.
                with np.errstate(over="ignore", invalid="ignore"):
                    stop = self._epoch(received)
                if len(self.rows) > known:
                    left = time.monotonic()
                    yield self.rows[-1]
                    self.progress.paused += time.monotonic() - left
        except GeneratorExit:  # of who has seen enough epochs
            stop = 0
            if self.rarely:
                self.save()
        received.saved = True
        self._write_report()
        if self.ranks.writes and not self.settings.no_gif:
            with by_product("animation", self.warn), self.progress.pause("making the animation"):
                write_film(self.run.gif_path, film_frames(self.run), self.warn)
        if stop and self.state.step < self.total_steps:
            raise StoppedError(stop, self.run.resume_command(self.settings.data))

    def _epoch(self, received: Signals) -> int:
        """Train to the end of an epoch, or of all steps; returns the exit code with which to stop, or 0."""
        state, start, paused = self.state, time.perf_counter(), self.progress.paused
        epoch, first = divmod(state.step, self.steps_per_epoch)
        end, asked = min((epoch + 1) * self.steps_per_epoch, self.total_steps), 0
        # An epoch that is complete is closed before a signal stops the run.
        while state.step < end and asked <= STOPPED:
            if asked == SAVE:
                self.save()
                if epoch == 0 and self.ranks.writes:
                    self._save_previews(0, state.step)
                    self._write_report(rarely=True)
                    self.early *= 2
            asked = self._steps(end, received)
        if state.step % self.steps_per_epoch == 0:
            if self.ranks.writes:
                images = len(self.data.images) - first * self.settings.batch_size
                seconds = time.perf_counter() - start - (self.progress.paused - paused)
                self._close_epoch(epoch + 1, images, seconds, received)
            state.sums = np.zeros_like(state.sums)
        asked = self.ranks.heard(self._wish(received, self.rarely))
        if asked or not self.rarely or self.unsaved or self._stays():
            self.save()
        inside = state.step % self.steps_per_epoch > 0 and self.ranks.writes
        if inside and (epoch == 0 or state.step == self.total_steps):
            self._save_previews(epoch, state.step)
        if asked <= STOPPED and state.step < self.total_steps:  # else it is written last
            self._write_report(rarely=True)
        return asked if asked > STOPPED else 0

    def _wish(self, received: Signals, seconds: float) -> int:
        """What this rank asks for: to stop; to save, if `seconds` have gone by since the last save, if FCD is
        the best so far, or if a picture of the first epoch is due; or 0."""
        if received.number:
            return STOPPED + received.number
        step, every, now = self.state.step, self.settings.sample_steps, time.monotonic()
        due = step % every == 0 if every else now - self.began >= self.early
        save = self.best or now - self.saved >= seconds > 0 or (due and step < self.steps_per_epoch)
        return SAVE if save and self.ranks.writes else 0

    def _stays(self) -> bool:
        """Whether the checkpoint of the step that was reached is one to keep."""
        regular = self.state.step % (self.steps_per_epoch * self.settings.checkpoint_every) == 0
        return regular or self.state.step == self.total_steps

    def _steps(self, end: int, received: Signals) -> int:
        """Take the steps up to number `end`, or until a rank asks for something, which is returned."""
        state, size, images = self.state, self.settings.batch_size, len(self.data.images)
        asked, losses = 0, []
        while state.step < end and not asked:
            every = (end <= self.steps_per_epoch and self.settings.sample_steps) or end  # of the first epoch
            count = min(self.taking.stride, end - state.step, every - state.step % every)
            for measured in self.taking.steps(count):
                epoch, place = state.step // self.steps_per_epoch, state.step % self.steps_per_epoch + 1
                state.step += 1
                if not np.isfinite(measured).all():
                    raise self._spoilt(self.taking.trouble)
                state.sums += measured
                losses.append(measured)
                at = f"epoch {epoch + 1}/{self.settings.epochs}", f"step {place}/{self.steps_per_epoch}"
                self.progress.update(measured, min(size, images - (place - 1) * size), *at)
            asked = self.ranks.heard(self._wish(received, 60 * self.settings.save_minutes))
        if self.ranks.writes:
            self.run.append_losses(np.array(losses))
        return asked

    def save(self) -> None:
        """Write the checkpoint; on all ranks, which must have come to the same weights."""
        arrays = self.state.arrays()
        if self.ranks.writes:
            epoch, place = divmod(self.state.step, self.steps_per_epoch)
            for name, array in arrays.items():
                if not np.isfinite(array).all():
                    raise self._spoilt(f"{name} is not finite any more")
            path = self.run.checkpoint_path(epoch, self.state.step if place else None)
            meta = {"name": path.stem, "settings": asdict(self.settings), "data_sha256": self.data.sha256}
            kept = [path] * self._stays() + [self.run.best_path] * self.best
            with self.progress.pause("saving"):
                self.run.save(arrays, meta, *kept)
            if self.settings.keep:
                with by_product("deletion of older checkpoints", self.warn):
                    self.run.prune(self.settings.keep)
        # Nobody goes on, or stops, before it is written; and all have taken the same steps.
        digest = checkpoint.content_digest(arrays, {}) if self.ranks.size > 1 else ""
        if others := self.ranks.others(digest):
            self.warn(f"warning: {', '.join(others)} came to other weights: is every host's NumPy the same?")
        self.saved, self.unsaved, self.best = time.monotonic(), False, False

    def _spoilt(self, what: str) -> NonFiniteError:
        """The error for numbers that the last step spoilt: those that it measured, or by its update."""
        where = f"epoch {(self.state.step - 1) // self.steps_per_epoch + 1}, step {self.state.step}"
        last = f"Last good checkpoint: {self.run.newest() or 'none yet'}"
        remedy = "Start a new run with a smaller --lr, or go on from there with --resume --change lr=LESS"
        return NonFiniteError(f"{where}: {what}. {last}. {remedy}.")

    def _write_report(self, rarely: bool = False) -> None:
        """The report; `rarely`: without what takes longest, and only if the last one, and all
        before, took no more than `REPORTS` of the time."""
        start = time.monotonic()
        soon = rarely and start < self.next_report
        if self.ranks.writes and not self.settings.no_report and not soon:
            with by_product("report", self.warn), self.progress.pause("writing the report"):
                measured = None if rarely else for_report(self.state, self.data.images)
                write_report(self.run, self.state, measured)
            end = time.monotonic()
            self.next_report = end + (end - start) / REPORTS

    def _save_previews(self, epoch: int, step: int | None = None) -> None:
        pictures = pictures_of(self.state.shown_G, self.state.preview_noise)
        with by_product("picture of the samples", self.warn):
            self.run.samples_dir.mkdir(exist_ok=True)
            save_png(self.run.sample_path(epoch, step), grid(to_uint8(pictures)))

    def _close_epoch(self, epoch: int, images: int, seconds: float, received: Signals) -> None:
        """Statistics, two lines and pictures for the epoch that has just been completed."""
        settings, state = self.settings, self.state
        health = measure(state.G, state.D, self.images, self.noise)
        if not np.isfinite(health).all():
            raise self._spoilt("what the networks make is not finite any more")
        means = dict(zip(MEASURED, (state.sums / self.steps_per_epoch).tolist(), strict=True))
        speed = images / seconds
        due = settings.metrics_every and epoch % settings.metrics_every == 0
        evaluated = None
        if self.evaluation and due and not received.number:
            with by_product("evaluation", self.warn), self.progress.pause("evaluating"):
                try:  # it may take longer than a signal leaves us
                    received.breaks = True
                    evaluated = self.evaluation(state.shown_G)
                finally:
                    received.breaks = False
        row = {
            "epoch": epoch, "step": state.step, **means,
            "seconds": round(seconds, 3),  # of this process; less than the epoch's after a resumption
            "images_per_second": round(speed, 1),
            "health": {name: round(number, 4) for name, number in health._asdict().items()},
        }  # fmt: skip
        found = verdict([*self.rows, row], settings)
        known = bool(self.rows) and self.rows[-1].get("advice") == found.advice  # advice is given once
        row |= {"verdict": found.words, "advice": found.advice}
        if evaluated:
            row |= {"evaluation": evaluated}
            before = [one["evaluation"]["fcd"] for one in self.rows if "evaluation" in one]
            best = all(evaluated["fcd"] <= fcd for fcd in before) or not self.run.best_path.exists()
            self.best = settings.keep_best and best
        self.rows.append(row)
        self.run.append_stats(row)
        shown = "mean loss G {g_loss:.3f} D {d_loss:.3f}  D(x) {real_score:.2f} D(G(z)) {fake_score:.2f}"
        done = f"epoch {epoch}/{settings.epochs} done  {shown.format(**means)}"
        self.say(f"{done}  {seconds:.3g} s  {speed:,.0f} images/s")
        self.say(f"         {found.words if known else found}")
        if evaluated:
            self.say(
                "         FCD {fcd:.2f} +- {error:.2f} (real images {floor:.2f}, noise {ceiling:.0f}, "
                "{samples:,} of each)  precision {precision:.2f} recall {recall:.2f} "
                "coverage {coverage:.2f}".format(**evaluated)
            )
        if epoch % settings.sample_every == 0 or epoch == settings.epochs:
            self._save_previews(epoch)


@contextmanager
def signals(answer: Printer, received: Signals) -> Iterator[None]:
    """Note in `received` the first signal to stop; a second one stops the process at once, unless it comes
    within `OFFERED` seconds. What happens is said through `answer`. Those are Ctrl-C; SIGTERM (of Kubernetes)
    and SIGUSR1 (of Slurm); and SIGHUP, when the terminal has gone, unless it is ignored, as under nohup. Only
    the main thread gets signals: in others nothing is changed."""

    def note(number: int, frame: FrameType | None) -> None:
        if received.number:
            if time.monotonic() - received.time < OFFERED:
                return
            if received.saved:
                answer("stopped at once; everything is saved, the report or the animation may be older")
                raise SystemExit(STOPPED + received.number)
            answer("stopped at once: what came after the last checkpoint is lost")
            raise SystemExit(UNFINISHED)
        received.number, received.time = number, time.monotonic()
        again = "press Ctrl-C again" if number == signal.SIGINT else "send another signal"
        answer(f"{'finishing report and animation' if received.saved else 'saving'}, {again} to stop at once")
        if received.breaks:
            raise TinyganError("a signal to stop arrived")

    with ExitStack() as restored:
        for number in signal.Signals if threading.current_thread() is threading.main_thread() else ():
            before = signal.getsignal(number) if number.name in STOPPING else None
            # One that Python did not install (None) it could not bring back.
            if before is not None and (number.name, before) != ("SIGHUP", signal.SIG_IGN):
                restored.callback(signal.signal, number, before)
                signal.signal(number, note)
        yield
