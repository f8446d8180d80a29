"""What all commands share: a parser that complains in one line, and errors turned into exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tinygan.errors import TinyganError, UsageError

INTERRUPTED = 130  # as a shell reports a process that SIGINT ended


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UsageError`s, and that takes no abbreviated options."""

    def __init__(self, module: str, description: str) -> None:
        super().__init__(prog=f"python -m {module}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. {self.prog} --help lists the options.")


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run `command` and return its exit code; an error becomes one line on stderr and its code.

    Anything that is not a `TinyganError` is a bug and keeps its traceback.
    """
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except TinyganError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.exit_code
    except MemoryError as problem:
        remedy = "Use a smaller --batch-size, --size or --width."
        print(f"error: out of memory ({problem}). {remedy}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would fail again
        return 1
