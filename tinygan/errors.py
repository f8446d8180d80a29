"""Every way tinygan refuses to go on, each with the exit code its command returns. An error's text is one
line: what was found, what was expected, what to do.

>>> UsageError("196 images < --batch-size 256. Use --batch-size 196 or less.").exit_code
2"""

import os
import re
import shlex
import shutil
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, TypeAlias

Printer: TypeAlias = Callable[[str], object]  # what a line is given to that somebody should see

UNFINISHED = 7  # the exit code of a command that was interrupted and has saved nothing


class TinyganError(Exception):
    """A failure the user can act on; commands print `mark` and its text, and exit with `exit_code`."""

    exit_code = 1
    mark = "error: "  # what the command's line begins with

    def __str__(self) -> str:
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line alone."""
        return [f"{self.mark}{self}"]


class UsageError(TinyganError):
    """The command line, or the arguments of a function, make no sense."""

    exit_code = 2


class ShapeError(UsageError, ValueError):
    """Arrays whose shapes cannot go together."""


class DeviceError(TinyganError):
    """The device asked for is missing, unusable or full."""

    exit_code = 3


class DataError(TinyganError):
    """The data set is missing, damaged or unfit for the model."""

    exit_code = 4


class CheckpointError(TinyganError):
    """A checkpoint or a run folder cannot be read, written or continued."""

    exit_code = 5


class FileError(CheckpointError, OSError):
    """A file cannot be written. An OSError as well, for those who can do without the file."""


class NonFiniteError(TinyganError):
    """A loss or a gradient stopped being a finite number."""

    exit_code = 6


def one_line(problem: BaseException) -> str:
    """The first line of an exception's text, or its kind where it has none."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__


def first_sentence(text: str) -> str:
    """`text` up to its first full stop.

    >>> first_sentence("Unable to allocate 400. GiB for an array. Use less.")
    'Unable to allocate 400. GiB for an array'"""
    return re.split(r"\. (?![KMGTPE]iB|bytes)", text, maxsplit=1)[0].rstrip(".")  # NumPy writes "400. GiB"


def pasted(*words: str) -> str:
    """A command line to paste into the shell of this system: ``sh``, or on Windows ``cmd.exe``."""
    if os.name != "nt":
        return shlex.join(words)
    # It knows double quotes alone, and no file name there holds one.
    return " ".join(word if re.fullmatch(r"[\w.:/\\=-]+", word) else f'"{word}"' for word in words)


def python(*words: str) -> str:
    """The command line, to paste, that runs the Python of this process with `words`."""
    own = sys.executable or "python"
    if shutil.which(name := os.path.basename(own)) == own:
        own = name
    with suppress(OSError):  # the current folder was deleted
        if own.startswith(os.getcwd() + os.sep):
            own = os.path.relpath(own)  # such as .venv/bin/python
    return pasted(own, *words)


def meant(word: str, known: Iterable[str], after: str = "") -> str:
    """Ask whether the one of `known` most like `word`, with `after` behind it, was meant; or nothing."""
    near = get_close_matches(word.lower(), [*known], 1, 0.7)
    return f" Did you mean {near[0]}{after}?" if near else ""


def pip(*words: str) -> str:
    """As `python`, the command that runs pip with `words`; that of uv, whose environments have none."""
    if find_spec("pip"):
        return python("-m", "pip", *words)
    return pasted("uv", "pip", words[0], "--python", sys.executable, *words[1:])


@contextmanager
def failing(what: str, remedy: str, kind: type[TinyganError] = CheckpointError) -> Iterator[None]:
    """Within this an OSError becomes an error of `kind`: `what`, a colon, the reason, `remedy`."""
    try:
        yield
    except OSError as problem:
        raise kind(f"{what}: {one_line(problem)}. {remedy}") from problem


@contextmanager
def by_product(what: str, warn: Printer) -> Iterator[None]:
    """Within this an exception becomes a warning, in a line: the result is worth more than `what`."""
    try:
        yield
    except Exception as problem:
        kind = "" if isinstance(problem, (TinyganError, OSError)) else f"{type(problem).__name__}: "
        warn(f"warning: no {what}: {kind}{one_line(problem)}")


def printable(text: str) -> str:
    r"""`text` with everything escaped that a file name may hold and no terminal or log should be sent.

    >>> printable("cat\nfalse alarm \x1b[31m \udcff é")
    'cat\\nfalse alarm \\x1b[31m \\udcff é'"""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def filled(text: str) -> str:
    """The text of an option that names something. Raises ArgumentTypeError where a shell left it empty."""
    if not text:
        raise ArgumentTypeError("it is empty: name something, or leave it out")
    return text


def say(line: str) -> None:
    """Print a line on stdout, with all escaped that a file name may hold and no terminal should be sent."""
    put(printable(line) + "\n", sys.stdout)


def put(text: str, stream: Any) -> None:
    """Write `text` at once, with what the stream's encoding lacks escaped; without a stream, do nothing. A
    program without a terminal has none, or an object in its place that can do nothing but write."""
    if stream is None or getattr(stream, "closed", False):
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    getattr(stream, "flush", bool)()
