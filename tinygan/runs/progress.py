"""How far the training is, how it is going and how long it will take, in one line that moves.

Where the output is no terminal (a file, a pipe, a notebook) plain lines appear now and then instead.
"""

import os
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TextIO

from tinygan.errors import put

_STEPS_BEFORE_ESTIMATE = 20  # the first steps are slow: caches, memory and GPU kernels are being set up
_STEPS_IN_ESTIMATE = 100  # a moving window: other programs come and go
_SECONDS_PER_REDRAW = 0.1
_SECONDS_PER_LINE = 30  # where the output is no terminal


def duration(seconds: float) -> str:
    """A time in the units that matter: '45 s', '12 min', '3 h 20 min', '6 days'."""
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    if not hours:
        return f"{minutes} min"
    if hours >= 48:
        return f"{round(hours / 24)} days"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


class Progress:
    """The progress of `total_steps` training steps, `done_steps` of which an earlier process did.

    On a terminal one line is rewritten at most ten times a second; on any other `stream` a line is printed
    after 20 steps and every 30 seconds; without a stream, nothing is. `quiet` turns that off, but not `line`.
    A stream that fails, because its reader has gone or its disk is full, is not written to again: a run is
    worth more than what it prints.
    """

    def __init__(
        self, stream: TextIO | None, total_steps: int, done_steps: int = 0, quiet: bool = False
    ) -> None:
        self._stream = stream
        self._left = total_steps - done_steps
        self._quiet = quiet
        self._fails = getattr(stream, "closed", False)
        self._moves = not self._fails and getattr(stream, "isatty", bool)()
        self._shown = ""  # what stands on the terminal's last line
        self._status = ""  # what should stand there
        self._steps = 0  # of this process
        self._images = 0
        self._last_time = monotonic()  # of the last line printed
        # (time, images so far) after each of the last steps; the first entry starts the window
        self._window: deque[tuple[float, int]] = deque(maxlen=_STEPS_IN_ESTIMATE + 1)

    def update(self, place: str, measured: Sequence[float], images: int) -> None:
        """One step is done: at `place`, with `measured` (see `Trainer.steps`) and so many real `images`."""
        now = monotonic()
        self._steps += 1
        self._left -= 1
        self._images += images
        self._window.append((now, self._images))
        if self._quiet:
            return
        scores = "loss G {:.2f} D {:.2f}  D(x) {:.2f} D(G(z)) {:.2f}".format(*measured)
        self._status = f"{place}  {scores}{self._speed()}"
        if self._moves:
            if not self._shown or now - self._last_time >= _SECONDS_PER_REDRAW:
                self._draw(self._status)
                self._last_time = now
        elif self._steps == _STEPS_BEFORE_ESTIMATE or now - self._last_time >= _SECONDS_PER_LINE:
            self._write(self._status + "\n")
            self._last_time = now

    def line(self, text: str) -> None:
        """Print `text` on a line of its own; on a terminal the moving line goes on below it."""
        self.around(lambda: self._write(text + "\n"))

    def around(self, printing: Callable[[], object]) -> None:
        """Do what prints lines elsewhere on the same terminal."""
        self._draw("")
        printing()
        self._draw(self._status)

    def close(self) -> None:
        """Leave the last state of the moving line standing and end it; `line` may still be called."""
        if self._moves and self._status:
            self._draw(self._status)
            self._write("\n")
        self._shown = self._status = ""

    def _speed(self) -> str:
        """Images a second and the time left, as far as they can be estimated yet."""
        (start, images_before), (now, images) = self._window[0], self._window[-1]
        seconds, steps = now - start, len(self._window) - 1
        if seconds <= 0:
            return ""
        rate = (images - images_before) / seconds
        text = f"  {rate:,.0f} images/s" if rate >= 10 else f"  {rate:.1f} images/s"
        if self._steps >= _STEPS_BEFORE_ESTIMATE:
            text += f"  {duration(self._left * seconds / steps)} left"
        return text

    def _draw(self, text: str) -> None:
        """Put `text` in place of the moving line, blanks over what is left of the longer one before."""
        if not self._moves:
            return
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns or 80  # pyright: ignore
        except (AttributeError, OSError, ValueError):  # a stream without a descriptor
            columns = shutil.get_terminal_size().columns
        text = text[: columns - 1]  # the last column would wrap on some terminals
        if text != self._shown:
            self._write("\r" + text.ljust(len(self._shown)) + ("" if text else "\r"))
            self._shown = text

    def _write(self, text: str) -> None:
        try:
            if not self._fails:
                put(text, self._stream)
        except (OSError, ValueError):  # ValueError: it was closed
            self._fails = True
