"""A disk that fails at the Nth thing asked of it, for every N: what was saved stays, and one line tells."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.torture.signals import TRAIN
from tinygan import cli, train
from tinygan.runs.checkpoint import content_digest, read

SETTINGS = (*TRAIN, "--engine", "fast", "--device", "cpu", "--epochs", "2")
LAST = "0001-strokes/checkpoints/epoch_0002.npz"


@contextmanager
def failing(nth: int, for_good: bool) -> Iterator[Callable[[], int]]:
    """Every open, write, fsync, rename and mkdir counts; the `nth` fails, and all later ones if `for_good`.

    Gives a function that tells how many there were.
    """
    counted = 0

    def count() -> None:
        nonlocal counted
        counted += 1
        if counted == nth or (for_good and counted > nth):
            raise OSError(errno.ENOSPC if for_good else errno.EIO, "the disk of this test")

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            count()
            return function(*arguments, **named)

        return call

    class Raw(io.FileIO):
        def write(self, data: Any) -> int | None:
            count()
            return super().write(data)

    opened = builtins.open

    def open_counting(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wxa+"):
            return opened(file, mode, *arguments, **named)
        count()
        raw = Raw(file, mode.replace("b", ""))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments, **named)

    with ExitStack() as patched:
        for name in ("fsync", "replace", "rename", "mkdir"):
            patched.enter_context(patch.object(os, name, counting(getattr(os, name))))
        for module in (builtins, io):
            patched.enter_context(patch.object(module, "open", open_counting))
        yield lambda: counted


def trained(out: Path, *arguments: str) -> tuple[int, str]:
    """Train in this process, into `out`: the exit code and what stood on stderr."""
    errors = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(errors):
        code = cli.run(train.main, [*arguments, "--out", str(out)])
    return code, errors.getvalue()


def fail_once(out: Path, nth: int, for_good: bool, expected: str) -> tuple[bool, str, str | None]:
    """One run on a failing disk: whether there was an `nth`, how it ended, and what is wrong, if anything."""
    with failing(nth, for_good) as counted:
        code, errors = trained(out, *SETTINGS)
    if counted() < nth:
        return False, "", None
    lines = errors.splitlines()
    if code not in (0, 5) or (code and len([line for line in lines if line.startswith("error: ")]) != 1):
        return True, "wrong", f"operation {nth}: exit code {code}: {errors[-500:]}"
    left = [str(path) for path in out.rglob("*.tmp")]
    if left:
        return True, "wrong", f"operation {nth}: left {left}"
    runs = list(out.iterdir()) if out.exists() else []
    files = list(out.glob("*/checkpoints/*"))
    for file in files:
        read(file)  # raises where it is damaged
    if code and not files:
        return True, "nothing was saved yet", None
    code, errors = trained(out, "--resume", str(runs[0]))
    if code or content_digest(*read(out / LAST)) != expected:
        return True, "wrong", f"operation {nth}: resuming: exit code {code}: {errors[-500:]}"
    return True, "resumed", None


def failures(place: Path, every: int = 1) -> dict[str, Any]:
    """Each operation of a run fails, or one in `every`: once alone, once with all that follow."""
    code, errors = trained(place / "whole", *SETTINGS)
    assert code == 0, errors
    expected = content_digest(*read(place / "whole" / LAST))
    tally: dict[str, int] = {}
    wrong = []
    for for_good in (False, True):
        nth, there_was = 1, True
        while there_was:
            there_was, ending, problem = fail_once(place / f"{nth}-{for_good}", nth, for_good, expected)
            if there_was:
                tally[ending] = tally.get(ending, 0) + 1
            if problem:
                wrong.append(problem)
            nth += every
    return {"failures": sum(tally.values()), **tally, "wrong": len(wrong), "first": wrong[:5]}
