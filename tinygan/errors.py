"""Every way tinygan refuses to go on, each with the exit code its command returns.

An error's text is one line: what was found, what was expected, what to do.

>>> UsageError("196 images < --batch-size 256. Use --batch-size 196 or less.").exit_code
2
"""

from collections.abc import Iterator
from contextlib import contextmanager


class TinyganError(Exception):
    """A failure the user can act on; commands print `mark` and its text, and exit with `exit_code`."""

    exit_code = 1
    mark = "error: "  # what the command's line begins with


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


@contextmanager
def failing(what: str, remedy: str, kind: type[TinyganError] = CheckpointError) -> Iterator[None]:
    """Within this an OSError becomes an error of `kind`: `what`, a colon, the reason, `remedy`."""
    try:
        yield
    except OSError as problem:
        raise kind(f"{what}: {one_line(problem)}. {remedy}") from problem


def printable(text: str) -> str:
    r"""`text` with everything escaped that a file name may hold and no terminal or log should be sent.

    >>> printable("cat\nfalse alarm \x1b[31m \udcff é")
    'cat\\nfalse alarm \\x1b[31m \\udcff é'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
