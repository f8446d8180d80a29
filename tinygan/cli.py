"""What all commands share: a parser that complains in one line, and errors turned into exit codes."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tinygan import backend, gpu_errors
from tinygan.errors import CheckpointError, TinyganError, UsageError, one_line


def seed(text: str) -> int:
    """A seed from its text. Raises ValueError if it is not a whole number, UsageError if less than 0."""
    number = int(text)
    if number < 0:
        raise UsageError(f"--seed {number} is less than 0.")
    return number


# What commands that train nothing share.
OF_A_RUN = ("run", "--runs")
OPTIONS: dict[str, dict[str, Any]] = {
    "run": {
        "nargs": "?",
        "metavar": "RUN|FILE",
        "help": "run folder, or a checkpoint file; default: the newest run",
    },
    "--runs": {"type": Path, "default": Path("runs"), "help": "folder of runs; default: runs"},
    "--device": {"choices": backend.DEVICES, "default": "auto", "help": "default: auto"},
    "--data-dir": {"type": Path, "metavar": "DIR", "help": "where fashion-mnist/ lies"},
    # Of pictures that no training has shown.
    "--seed": {"type": seed, "help": "of the noise; default: one more than the run's own"},
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UsageError`s, and that takes no abbreviated options."""

    def __init__(self, module: str, description: str, *shared: str) -> None:
        """`shared`: which of `OPTIONS` it has."""
        super().__init__(prog=f"python -m {module}", description=description, allow_abbrev=False)
        for option in shared:
            self.add_argument(option, **OPTIONS[option])

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. {self.prog} --help lists the options.")


def warn(line: str) -> None:
    """Print a line on stderr, beside the answer."""
    print(line, file=sys.stderr, flush=True)


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run `command` and return its exit code; an error becomes one line on stderr and its code.

    Anything but a `TinyganError`, a full memory or a failing GPU is a bug and keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    if arguments is None:  # started as a file or in the package's folder, where NVIDIA's `cuda` would be ours
        here, arguments = os.path.dirname(os.path.realpath(__file__)), sys.argv[1:]
        sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    try:
        with gpu_errors.failures():
            code = command(arguments)
        sys.stdout.flush()  # a failure here can still be printed
        return code
    except TinyganError as problem:
        return _tell(f"{problem.mark}{problem}", problem.exit_code)
    except KeyboardInterrupt:
        return _tell("interrupted", 130)  # as a shell reports a process that SIGINT ended
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        return _tell("", 1)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EIO):  # those that write files raise their own
            raise
        return _tell(f"error: cannot write the output: {one_line(problem)}.", CheckpointError.exit_code)


def _tell(line: str, code: int) -> int:
    """Print the last line; where a stream has failed, as a terminal that has gone, do without."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line and line + "\n")):
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            with suppress(OSError):  # or the exit would try to flush it again
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code
