"""The errors of tinygan, each with the exit code of its command. An error's text is one line: what was found,
what was expected, what to do.

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

Printer: TypeAlias = Callable[[str], object]  # prints a line for the user

UNFINISHED = 7  # exit code of a command that was interrupted and saved nothing


class TinyganError(Exception):
    """A failure that the user can act on. Commands print `mark` and the text, and exit with `exit_code`."""

    exit_code = 1
    mark = "error: "  # printed before the text

    def __str__(self) -> str:
        return printable(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the line, without a traceback."""
        return [f"{self.mark}{self}"]


class UsageError(TinyganError):
    """An option, or an argument of a function, is invalid."""

    exit_code = 2


class ShapeError(UsageError, ValueError):
    """The shapes of arrays do not match."""


class DeviceError(TinyganError):
    """The requested device is missing, unusable or out of memory."""

    exit_code = 3


class DataError(TinyganError):
    """The data set is missing, damaged or unsuitable for the model."""

    exit_code = 4


class CheckpointError(TinyganError):
    """A checkpoint or a run folder cannot be read, written or continued."""

    exit_code = 5


class FileError(CheckpointError, OSError):
    """A file cannot be written. It is also an OSError, for callers that can continue without the file."""


class NonFiniteError(TinyganError):
    """A loss, a gradient or a weight is not finite."""

    exit_code = 6


def one_line(problem: BaseException) -> str:
    """The first line of an exception's text, or the name of its type if it has no text."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__


def first_sentence(text: str) -> str:
    """`text` up to its first full stop.

    >>> first_sentence("Unable to allocate 400. GiB for an array. Use less.")
    'Unable to allocate 400. GiB for an array'"""
    return re.split(r"\. (?![KMGTPE]iB|bytes)", text, maxsplit=1)[0].rstrip(".")  # NumPy writes "400. GiB"


def plural(count: int, noun: str) -> str:
    """``1 epoch``, ``1,000 epochs``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def pasted(*words: str) -> str:
    """A command line, quoted for the shell of this system: ``sh``, or ``cmd.exe`` on Windows."""
    if os.name != "nt":
        return shlex.join(words)
    # cmd.exe knows double quotes only, and Windows allows none in file names.
    return " ".join(word if re.fullmatch(r"[\w.:/\\=-]+", word) else f'"{word}"' for word in words)


def python(*words: str) -> str:
    """The command line that runs the Python of this process with `words`, quoted for the shell."""
    own = sys.executable or "python"
    if shutil.which(name := os.path.basename(own)) == own:
        own = name
    with suppress(OSError):  # the current folder was deleted
        if own.startswith(os.getcwd() + os.sep):
            own = os.path.relpath(own)  # such as .venv/bin/python
    return pasted(own, *words)


def meant(word: str, known: Iterable[str], after: str = "") -> str:
    """Ask "Did you mean X?", with X the word in `known` closest to `word`, plus `after`; or an empty text."""
    near = get_close_matches(word.lower(), [*known], 1, 0.7)
    return f" Did you mean {near[0]}{after}?" if near else ""


def pip(*words: str) -> str:
    """As `python`, the command that runs pip with `words`, or uv in an environment without pip."""
    if find_spec("pip"):
        return python("-m", "pip", *words)
    return pasted("uv", "pip", words[0], "--python", sys.executable, *words[1:])


@contextmanager
def failing(what: str, remedy: str, kind: type[TinyganError] = CheckpointError) -> Iterator[None]:
    """Inside, an OSError becomes an error of `kind`: `what`, a colon, the reason, `remedy`."""
    try:
        yield
    except OSError as problem:
        raise kind(f"{what}: {one_line(problem)}. {remedy}") from problem


@contextmanager
def by_product(what: str, warn: Printer) -> Iterator[None]:
    """Inside, an exception becomes a warning: a command must not fail because of a by-product."""
    try:
        yield
    except Exception as problem:
        kind = "" if isinstance(problem, (TinyganError, OSError)) else f"{type(problem).__name__}: "
        warn(f"warning: no {what}: {kind}{one_line(problem)}")


def printable(text: str) -> str:
    r"""`text` with control characters and broken Unicode, which file names can contain, escaped.

    >>> printable("cat\nfalse alarm \x1b[31m \udcff é")
    'cat\\nfalse alarm \\x1b[31m \\udcff é'"""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def filled(text: str) -> str:
    """The text of an option that names something. Raises: ArgumentTypeError if it is empty."""
    if not text:
        raise ArgumentTypeError("it is empty: name something, or leave the option out")
    return text


def say(line: str) -> None:
    """Print a line on stdout, escaped as by `printable`."""
    put(printable(line) + "\n", sys.stdout)


def put(text: str, stream: Any) -> None:
    """Write `text` and flush, escaping what the stream's encoding lacks. With `stream` None, do nothing."""
    if stream is None or getattr(stream, "closed", False):
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    getattr(stream, "flush", bool)()
