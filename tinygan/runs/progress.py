"""How far a command is, and how a training is going, in one line that moves; plain lines now and then, where
the output is no terminal or notebook (a file, a pipe) or one that cannot rewrite a line (``TERM=dumb``)."""

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TextIO

from tinygan.errors import put

_STEPS_BEFORE_ESTIMATE = 20  # the first steps are slow: caches, memory and GPU kernels are being set up
_STEPS_IN_ESTIMATE = 100  # a moving window: other programs come and go
_SECONDS_OF_SILENCE = 5  # of a command that trains nothing, where the output is no terminal


def duration(seconds: float) -> str:
    """A time in the units that matter: '45 s', '12 min', '3 h 20 min', '6 days'."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0))


class Progress:
    """The progress of `total_steps` training steps, `done_steps` of which an earlier process did. On a
    terminal one line is rewritten at most ten times a second, in a notebook once; fields that do not fit drop
    out of it. On any other `stream` a line is printed after 20 steps and every `seconds_per_line`; without
    one, nothing is. A stream that fails (its reader has gone, its disk is full) is not written to again: a
    run is worth more than what it prints."""

    def __init__(
        self, stream: TextIO | None, total_steps: int = 0, done_steps: int = 0, seconds_per_line: float = 30
    ) -> None:
        self._stream = None if getattr(stream, "closed", False) else stream
        self._total, self._done = total_steps, done_steps
        terminal = getattr(self._stream, "isatty", bool)() and os.environ.get("TERM") != "dumb"
        notebook = type(self._stream).__module__ == "ipykernel.iostream"
        self._moves = terminal or notebook
        self._interval = 1.0 if notebook else 0.1 if terminal else seconds_per_line
        self._shown = ""  # what stands on the terminal's last line
        self._fields: Sequence[str] = ()  # what should stand there
        self._steps = self._images = 0  # of this process
        self.paused = 0.0  # seconds spent on other things than steps
        self._last_time = monotonic()  # of the last line printed
        # (time without pauses, images so far) after each of the last steps; the first entry starts the window
        self._window: deque[tuple[float, int]] = deque(maxlen=_STEPS_IN_ESTIMATE + 1)

    def update(self, measured: Sequence[float], images: int, *place: str) -> None:
        """One step is done, at `place`, with `measured` (see `Trainer.steps`) and so many real `images`."""
        self._steps += 1
        self._done += 1
        self._images += images
        self._window.append((monotonic() - self.paused, self._images))
        left, speed = self._estimates()
        losses = "loss G {:.2f} D {:.2f}".format(*measured[:2])
        scores = "D(x) {:.2f} D(G(z)) {:.2f}".format(*measured[2:])
        percent = f"{100 * self._done // self._total} %"
        fields = [field for field in (left, percent, losses, speed, *place, scores) if field]
        self.show(*fields, now=self._steps == _STEPS_BEFORE_ESTIMATE)

    def show(self, *fields: str, now: bool = False) -> None:
        """Show `fields`, the most important first, if it is time for them, or `now`."""
        self._fields, waited = fields, monotonic() - self._last_time
        due = now or waited >= self._interval or (self._moves and not self._shown)
        if due:
            self._draw(fields) if self._moves else self._write("  ".join(fields) + "\n")
            self._last_time = monotonic()

    @contextmanager
    def pause(self, what: str) -> Iterator[None]:
        """Within this the moving line says `what`; the time it takes makes no step look slower."""
        start, fields = monotonic(), self._fields
        self._fields = (what, *fields[1:])
        self._draw(self._fields)
        try:
            yield
        finally:
            self.paused += monotonic() - start
            self._fields = fields

    def line(self, text: str) -> None:
        """Print `text` on a line of its own; on a terminal the moving line goes on below it."""
        self.around(self._write, text + "\n")

    def around(self, printing: Callable[..., object], *lines: str) -> None:
        """Let `printing` print `lines` elsewhere on the same terminal."""
        self._draw(())
        printing(*lines)
        self._draw(self._fields)

    def answer(self, text: str) -> None:
        """Print `text` on stderr, but through no stream: a signal may have interrupted a write into it."""
        begun, self._shown = "\n" * bool(self._shown), ""
        with suppress(OSError, ValueError, AttributeError):  # none, closed, or one without a descriptor
            os.write(sys.stderr.fileno(), f"{begun}{text}\n".encode())

    def close(self, keep: bool = True) -> None:
        """End the moving line, and `keep` its last state standing; `line` may still be called."""
        if self._moves and self._fields:
            self._draw(self._fields if keep else ())
            self._write("\n" * keep)
        self._shown, self._fields = "", ()

    def _estimates(self) -> tuple[str, str]:
        """The time left and the images a second, as far as they can be estimated yet."""
        (start, images_before), (now, images) = self._window[0], self._window[-1]
        seconds, steps = now - start, len(self._window) - 1
        if seconds <= 0:
            return "", ""
        rate = (images - images_before) / seconds
        speed = f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"
        if self._steps < _STEPS_BEFORE_ESTIMATE:
            return "", speed
        each = seconds / steps + self.paused / self._steps  # pauses are rare: as many are to come
        return f"{duration((self._total - self._done) * each)} left", speed

    def _draw(self, fields: Sequence[str]) -> None:
        """Put those of `fields` that fit in place of the moving line, and blanks over what it had more."""
        if not self._moves:
            return
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80  # pyright: ignore
        except (AttributeError, OSError, ValueError):  # a stream without a descriptor
            columns = shutil.get_terminal_size().columns
        text = ""
        for field in fields:
            longer = f"{text}  {field}" if text else field
            text = longer if len(longer) < columns else text  # the last column would wrap on some terminals
        if text != self._shown:
            # A terminal that was made narrower has wrapped the line: what is above goes as well.
            rows = max(0, len(self._shown) - 1) // columns
            begin, end = f"\x1b[{rows}A\r\x1b[J" if rows else "\r", "" if text else "\r"
            self._write(begin + text.ljust(min(len(self._shown), columns - 1)) + end)
            self._shown = text

    def _write(self, text: str) -> None:
        try:
            if text:
                put(text, self._stream)
        except (OSError, ValueError):  # ValueError: it was closed
            self._stream = None


@contextmanager
def working() -> Iterator[Progress]:
    """To `show` on stderr what a command is doing: in a moving line that goes in the end, or now and then."""
    progress = Progress(sys.stderr, seconds_per_line=_SECONDS_OF_SILENCE)
    try:
        yield progress
    finally:
        progress.close(keep=False)
