"""The progress of a command or a training in one line that is rewritten in place; in a file, a pipe or a
terminal that cannot rewrite a line (``TERM=dumb``), plain lines that are printed now and then."""

import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TextIO

from tinygan.errors import put

_STEPS_BEFORE_ESTIMATE = 20  # the first steps are slow: they set up caches, memory and GPU kernels
_STEPS_IN_ESTIMATE = 100  # a moving window, because other programs start and stop
_SECONDS_OF_SILENCE = 5  # between the lines of a command that trains nothing, without a terminal


def duration(seconds: float) -> str:
    """A time in the units that matter: '45 s', '12 min', '3 h 20 min', '6 days'."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0))


class Progress:
    """The progress of `total_steps` training steps, of which an earlier process took `done_steps`. On a
    terminal one line is rewritten at most ten times a second, in a notebook once a second; fields that do not
    fit are dropped. On any other `stream` a line is printed after 20 steps and every `seconds_per_line`.
    Without a stream nothing is printed. A stream that fails (its reader has gone, its disk is full) is not
    used again: the run matters more than its output."""

    def __init__(
        self, stream: TextIO | None, total_steps: int = 0, done_steps: int = 0, seconds_per_line: float = 30
    ) -> None:
        self._stream = None if getattr(stream, "closed", False) else stream
        self._total, self._done = total_steps, done_steps
        terminal = getattr(self._stream, "isatty", bool)() and os.environ.get("TERM") != "dumb"
        notebook = type(self._stream).__module__ == "ipykernel.iostream"
        self._moves = terminal or notebook
        self._interval = 1.0 if notebook else 0.1 if terminal else seconds_per_line
        self._shown = ""  # the text on the terminal's last line
        self._fields: Sequence[str] = ()  # the fields that belong there
        self._steps = self._images = 0  # of this process
        self.paused = 0.0  # seconds spent on anything but steps
        self._last_time = monotonic()  # when the last line was printed
        # (time without pauses, images so far) after each of the last steps; the first entry opens the window
        self._window: deque[tuple[float, int]] = deque(maxlen=_STEPS_IN_ESTIMATE + 1)

    def update(self, measured: Sequence[float], images: int, *place: str) -> None:
        """Count one step, at `place`, with `images` real images; `measured` is a row of `Trainer.steps`."""
        self._steps += 1
        self._done += 1
        self._images += images
        self._window.append((monotonic() - self.paused, self._images))
        left, speed = self._estimates()
        losses = "loss G {:.2f} D {:.2f}".format(*measured[:2])
        scores = "D(x) {:.2f} D(G(z)) {:.2f}".format(*measured[2:])
        percent = f"{100 * self._done // self._total}%"
        fields = [field for field in (left, percent, losses, speed, *place, scores) if field]
        self.show(*fields, now=self._steps == _STEPS_BEFORE_ESTIMATE)

    def show(self, *fields: str, now: bool = False) -> None:
        """Show `fields`, the most important first, if a line is due or `now` is set."""
        self._fields, waited = fields, monotonic() - self._last_time
        if now or waited >= self._interval or (self._moves and not self._shown):
            self._draw(fields) if self._moves else self._write("  ".join(fields) + "\n")
            self._last_time = monotonic()

    @contextmanager
    def pause(self, what: str) -> Iterator[None]:
        """Within this the moving line shows `what`, and the time does not count as time for steps."""
        start, fields = monotonic(), self._fields
        self._fields = (what, *fields[1:])
        self._draw(self._fields)
        try:
            yield
        finally:
            self.paused += monotonic() - start
            self._fields = fields

    def line(self, text: str) -> None:
        """Print `text` on a separate line. On a terminal the moving line continues below it."""
        self.around(self._write, text + "\n")

    def around(self, printing: Callable[..., object], *lines: str) -> None:
        """Call `printing` with `lines`, which it prints on the same terminal, above the moving line."""
        self._draw(())
        printing(*lines)
        self._draw(self._fields)

    def answer(self, text: str) -> None:
        """Print `text` on stderr but bypass its stream, as a signal can interrupt a write to it."""
        begun, self._shown = "\n" * bool(self._shown), ""
        with suppress(OSError, ValueError, AttributeError):  # no stderr, a closed one, no descriptor
            os.write(sys.stderr.fileno(), f"{begun}{text}\n".encode())

    def close(self, keep: bool = True) -> None:
        """End the moving line, and `keep` or erase its last state. `line` can still be called."""
        if self._moves and self._fields:
            self._draw(self._fields if keep else ())
            self._write("\n" * keep)
        self._shown, self._fields = "", ()

    def _estimates(self) -> tuple[str, str]:
        """The time left and the images per second, or '' for one that cannot be estimated yet."""
        (start, images_before), (now, images) = self._window[0], self._window[-1]
        seconds, steps = now - start, len(self._window) - 1
        if seconds <= 0:
            return "", ""
        rate = (images - images_before) / seconds
        speed = f"{rate:,.0f} images/s" if rate >= 10 else f"{rate:.1f} images/s"
        if self._steps < _STEPS_BEFORE_ESTIMATE:
            return "", speed
        each = seconds / steps + self.paused / self._steps  # pauses are rare; assume they continue
        return f"{duration((self._total - self._done) * each)} left", speed

    def _draw(self, fields: Sequence[str]) -> None:
        """Replace the moving line by the `fields` that fit, and blank out the rest of the old line."""
        if not self._moves:
            return
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80  # pyright: ignore
        except (AttributeError, OSError, ValueError):  # a stream without a descriptor
            columns = shutil.get_terminal_size().columns
        text = ""
        for field in fields:
            longer = f"{text}  {field}" if text else field
            text = longer if len(longer) < columns else text  # some terminals wrap at the last column
        if text != self._shown:
            # A terminal that was made narrower has wrapped the line: erase the rows above as well.
            rows = max(0, len(self._shown) - 1) // columns
            begin, end = f"\x1b[{rows}A\r\x1b[J" if rows else "\r", "" if text else "\r"
            self._write(begin + text.ljust(min(len(self._shown), columns - 1)) + end)
            self._shown = text

    def _write(self, text: str) -> None:
        try:
            put(text, self._stream)
        except (OSError, ValueError):  # ValueError: it was closed
            self._stream = None


@contextmanager
def working() -> Iterator[Progress]:
    """A `Progress` that shows on stderr what a command is doing, and erases its line at the end."""
    progress = Progress(sys.stderr, seconds_per_line=_SECONDS_OF_SILENCE)
    try:
        yield progress
    finally:
        progress.close(keep=False)
