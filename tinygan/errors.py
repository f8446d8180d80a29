"""Every way tinygan refuses to go on, each with the exit code its command returns.

An error's text is one line: what was found, what was expected, what to do.

>>> UsageError("196 images < --batch-size 256. Use --batch-size 196 or less.").exit_code
2
"""


class TinyganError(Exception):
    """A failure the user can act on; commands print it as ``error: ...`` and exit with `exit_code`."""

    exit_code = 1


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


class NonFiniteError(TinyganError):
    """A loss or a gradient stopped being a finite number."""

    exit_code = 6
