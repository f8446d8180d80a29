"""The loop over epochs. It takes batches and produces pictures, statistics and checkpoints."""

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

SAVE = 1  # one rank's request to all: save and continue; a larger one is an exit code to stop with
STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # signals; Windows lacks some
STOPPED = 128  # plus the signal's number: the exit code, as in shells
OFFERED = 1.0  # seconds in which a second signal only repeats the first, impatiently
EARLY = 10.0  # seconds after the start of the first save and picture; the next come after 20, 40, 80 ...
REPORTS = 0.02  # the largest share of the time for reports, not counting the last one
SECONDS_ON_A_CARD = 15.0  # between saves: there an epoch takes a second or two, and a save a tenth of one


class StoppedError(TinyganError):
    """A signal stopped the run, after its step was finished and saved."""

    mark = ""  # the user asked for it

    def __init__(self, exit_code: int, remedy: str) -> None:
        super().__init__(f"interrupted; everything is saved. Resume with: {remedy}")
        self.exit_code = exit_code


class Signals:
    """The signal to stop that has arrived, if any."""

    number, time = 0, 0.0  # of the first signal, and when it came
    saved = False  # whether everything is saved, and only by-products are missing
    breaks = False  # whether a signal may abort the current work, whose result is not essential


class Training:
    """The training of `state` to the end of its schedule. Everything it makes goes into the folder of `run`.
    `say` and `warn` print and log lines, `progress` shows the moving line, and `evaluation` measures the
    generator every `settings.metrics_every` epochs. All ranks must train; only rank 0 writes."""

    def __init__(
        self, run: RunFolder, state: State, data: Dataset, schedule: Schedule, taking: Trainer,
        progress: Progress, say: Callable[..., object], warn: Printer,
        evaluation: Callable[[Network], dict[str, float]] | None = None,
    ) -> None:  # fmt: skip
        self.run, self.state, self.data, self.settings, self.taking = run, state, data, state.settings, taking
        self.progress, self.say, self.warn, self.evaluation = progress, say, warn, evaluation
        self.steps_per_epoch, self.total_steps = schedule
        self.ranks = state.backend.ranks
        self.began = self.saved = time.monotonic()  # saved: at the last save
        self.early, self.next_report = EARLY, 0.0  # seconds from `began` to the next save; a time
        self.unsaved, self.best = True, False  # no save by this process yet; no new best FCD to save
        self.rarely = SECONDS_ON_A_CARD if state.backend.device == "gpu" else 0.0
        self.images = normalise(state.backend.array(data.images[:MEASURED_ON]))  # for health: always these
        noise = stream(self.settings.seed, "samples").at(1).normal((len(self.images), *state.G.input_shape))
        self.noise = state.backend.array(noise)
        self.rows = run.read_stats() if self.ranks.writes else []  # the verdict needs all epochs

    def epochs(self, received: Signals) -> Iterator[dict[str, Any]]:
        """Train to the end, and yield each epoch's statistics on rank 0. Closing the generator saves the run.
        Raises: StoppedError if a signal was `received` (everything is saved); NonFiniteError if a loss or a
        weight is not finite (it is not saved); CheckpointError if a file cannot be written."""
        if self.state.step == 0 and self.ranks.writes:
            self._save_previews(0)
            with by_product("picture of the training images", self.warn):
                save_png(self.run.reals_path, grid(spread(self.data.images, PREVIEWS)))
        stop = 0  # or the exit code to stop with
        if self.total_steps == 0 or (self.state.step == 0 and self.settings.start_from):
            self.save()  # its start can change on disk, and without steps no epoch saves it
        try:
            while self.state.step < self.total_steps and not stop:
                known = len(self.rows)
                # The results are checked for overflow; NumPy's warnings would report it twice.
                with np.errstate(over="ignore", invalid="ignore"):
                    stop = self._epoch(received)
                if len(self.rows) > known:
                    left = time.monotonic()
                    yield self.rows[-1]
                    self.progress.paused += time.monotonic() - left
        except GeneratorExit:  # the caller has seen enough epochs
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
        """Train to the end of an epoch, or of all steps. Returns the exit code to stop with, or 0."""
        state, start, paused = self.state, time.perf_counter(), self.progress.paused
        epoch, first = divmod(state.step, self.steps_per_epoch)
        end, asked = min((epoch + 1) * self.steps_per_epoch, self.total_steps), 0
        # If a signal arrives as an epoch completes, the epoch is closed before the run stops.
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
        asked = self.ranks.heard(self._request(received, self.rarely))
        if asked or not self.rarely or self.unsaved or self._is_kept():
            self.save()
        inside = state.step % self.steps_per_epoch > 0 and self.ranks.writes
        if inside and (epoch == 0 or state.step == self.total_steps):
            self._save_previews(epoch, state.step)
        if asked <= STOPPED and state.step < self.total_steps:  # otherwise it is written at the end
            self._write_report(rarely=True)
        return asked if asked > STOPPED else 0

    def _request(self, received: Signals, seconds: float) -> int:
        """This rank's request: to stop; or to save, if the last save was `seconds` ago, if FCD is the best so
        far, or if a picture of the first epoch is due; or 0."""
        if received.number:
            return STOPPED + received.number
        step, every, now = self.state.step, self.settings.sample_steps, time.monotonic()
        due = step % every == 0 if every else now - self.began >= self.early
        save = self.best or now - self.saved >= seconds > 0 or (due and step < self.steps_per_epoch)
        return SAVE if save and self.ranks.writes else 0

    def _is_kept(self) -> bool:
        """Whether to keep the checkpoint of the current step."""
        regular = self.state.step % (self.steps_per_epoch * self.settings.checkpoint_every) == 0
        return regular or self.state.step == self.total_steps

    def _steps(self, end: int, received: Signals) -> int:
        """Take the steps up to number `end`, or until a rank makes a request. Returns the request, or 0."""
        state, size, images = self.state, self.settings.batch_size, len(self.data.images)
        asked, losses = 0, []
        while state.step < end and not asked:
            every = (end <= self.steps_per_epoch and self.settings.sample_steps) or end  # epoch 1
            count = min(self.taking.stride, end - state.step, every - state.step % every)
            for measured in self.taking.steps(count):
                epoch, place = state.step // self.steps_per_epoch, state.step % self.steps_per_epoch + 1
                state.step += 1
                if not np.isfinite(measured).all():
                    raise self._not_finite(self.taking.trouble)
                state.sums += measured
                losses.append(measured)
                at = f"epoch {epoch + 1}/{self.settings.epochs}", f"step {place}/{self.steps_per_epoch}"
                self.progress.update(measured, min(size, images - (place - 1) * size), *at)
            asked = self.ranks.heard(self._request(received, 60 * self.settings.save_minutes))
        if self.ranks.writes:
            self.run.append_losses(np.array(losses))
        return asked

    def save(self) -> None:
        """Write the checkpoint. All ranks must call this, and all must have the same weights."""
        arrays = self.state.arrays()
        if self.ranks.writes:
            epoch, place = divmod(self.state.step, self.steps_per_epoch)
            if odd := [name for name, array in arrays.items() if not np.isfinite(array).all()]:
                raise self._not_finite(f"{odd[0]} is no longer finite")
            path = self.run.checkpoint_path(epoch, self.state.step if place else None)
            meta = {"name": path.stem, "settings": asdict(self.settings), "data_sha256": self.data.sha256}
            kept = [path] * self._is_kept() + [self.run.best_path] * self.best
            with self.progress.pause("saving"):
                self.run.save(arrays, meta, *kept)
            if self.settings.keep:
                with by_product("deletion of older checkpoints", self.warn):
                    self.run.prune(self.settings.keep)
        # No rank continues or stops before the file is written, and all have taken the same steps.
        digest = checkpoint.content_digest(arrays, {}) if self.ranks.size > 1 else ""
        if others := self.ranks.others(digest):
            self.warn(f"warning: {', '.join(others)} computed other weights: is NumPy the same on all hosts?")
        self.saved, self.unsaved, self.best = time.monotonic(), False, False

    def _not_finite(self, what: str) -> NonFiniteError:
        """The error for numbers that the last step measured, or computed in its update."""
        where = f"epoch {(self.state.step - 1) // self.steps_per_epoch + 1}, step {self.state.step}"
        last = f"Last good checkpoint: {self.run.newest() or 'none yet'}"
        remedy = "Start a new run with a smaller --lr, or continue with --resume --change lr=SMALLER"
        return NonFiniteError(f"{where}: {what}. {last}. {remedy}.")

    def _write_report(self, rarely: bool = False) -> None:
        """Write the report. `rarely`: without its slowest part, and only if reports have so far taken at most
        `REPORTS` of the time."""
        start = time.monotonic()
        if self.ranks.writes and not self.settings.no_report and not (rarely and start < self.next_report):
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
        """Write statistics, print two lines and draw pictures for the epoch that has just ended."""
        settings, state = self.settings, self.state
        health = measure(state.G, state.D, self.images, self.noise)
        if not np.isfinite(health).all():
            raise self._not_finite("the output of the networks is no longer finite")
        means = dict(zip(MEASURED, (state.sums / self.steps_per_epoch).tolist(), strict=True))
        speed = images / seconds
        due = settings.metrics_every and epoch % settings.metrics_every == 0
        evaluated = None
        if self.evaluation and due and not received.number:
            with by_product("evaluation", self.warn), self.progress.pause("evaluating"):
                try:  # it can take longer than a signal gives us
                    received.breaks = True
                    evaluated = self.evaluation(state.shown_G)
                finally:
                    received.breaks = False
        row = {
            "epoch": epoch, "step": state.step, **means,
            "seconds": round(seconds, 3),  # of this process: less than the whole epoch after a resume
            "images_per_second": round(speed, 1),
            "health": {name: round(number, 4) for name, number in health._asdict().items()},
        }  # fmt: skip
        found = verdict([*self.rows, row], settings)
        known = bool(self.rows) and self.rows[-1].get("advice") == found.advice  # advice is printed once
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
    """Record the first signal to stop in `received`. A second one stops the process at once, unless it comes
    within `OFFERED` seconds. `answer` gets a line for each. These signals are Ctrl-C, SIGTERM (Kubernetes),
    SIGUSR1 (Slurm), and SIGHUP (the terminal has gone) unless it is ignored, as under nohup. Only the main
    thread receives signals; in any other thread this does nothing."""

    def note(number: int, frame: FrameType | None) -> None:
        if received.number:
            if time.monotonic() - received.time < OFFERED:
                return
            if received.saved:
                answer("stopped at once; everything is saved, but the report or the animation might be old")
                raise SystemExit(STOPPED + received.number)
            answer("stopped at once: everything after the last checkpoint is lost")
            raise SystemExit(UNFINISHED)
        received.number, received.time = number, time.monotonic()
        again = "press Ctrl-C again" if number == signal.SIGINT else "send another signal"
        answer(f"{'finishing report and animation' if received.saved else 'saving'}; {again} to stop at once")
        if received.breaks:
            raise TinyganError("interrupted by a signal")

    with ExitStack() as restored:
        for number in signal.Signals if threading.current_thread() is threading.main_thread() else ():
            before = signal.getsignal(number) if number.name in STOPPING else None
            # Python cannot restore a handler that it did not install (None).
            if before is not None and (number.name, before) != ("SIGHUP", signal.SIG_IGN):
                restored.callback(signal.signal, number, before)
                signal.signal(number, note)
        yield
