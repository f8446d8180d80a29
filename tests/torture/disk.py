"""A disk that fails at the Nth operation, for every N: saved files stay intact, and one line says why."""

import builtins
import errno
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.commands import digest, tinygan, works
from tests.torture.signals import TRAIN
from tinygan.runs.checkpoint import read

SETTINGS = (*TRAIN, "--engine", "fast", "--device", "cpu", "--epochs", "2")
LAST = "0001-strokes/checkpoints/epoch_0002.npz"


@contextmanager
def asked(names: Sequence[str], take: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """Within this `take` gets each operation on the disk, as a function that performs it.

    The operations are: opening a file for writing, writing to it, and the functions of `os` in `names`.
    """
    opened = builtins.open

    def taken(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: take(lambda: function(*arguments, **named))

    class Raw(io.FileIO):
        def write(self, data: Any) -> int | None:
            return take(lambda: io.FileIO.write(self, data))

    def open_taken(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wxa+"):
            return opened(file, mode, *arguments, **named)
        raw = take(lambda: Raw(file, mode.replace("b", "")))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments, **named)

    with ExitStack() as patched:
        for name in names:
            patched.enter_context(patch.object(os, name, taken(getattr(os, name))))
        for module in (builtins, io):
            patched.enter_context(patch.object(module, "open", open_taken))
        yield


@contextmanager
def failing(nth: int, for_good: bool) -> Iterator[Callable[[], int]]:
    """The `nth` open, write, fsync, rename or mkdir fails, and all later ones if `for_good`.

    Yields a function that returns how many of these operations there were.
    """
    counted = 0

    def take(do: Callable[[], Any]) -> Any:
        nonlocal counted
        counted += 1
        if counted == nth or (for_good and counted > nth):
            raise OSError(errno.ENOSPC if for_good else errno.EIO, "the disk of this test")
        return do()

    with asked(("fsync", "replace", "rename", "mkdir"), take):
        yield lambda: counted


def whole(out: Path) -> str:
    """Train into `out` undisturbed. Returns the digest of the last checkpoint."""
    works("train", *SETTINGS, "--out", out, cwd=out.parent)
    return digest(out / LAST)


def damage(out: Path) -> str | None:
    """The half-written files in `out`, or None. Raises: CheckpointError if a checkpoint is damaged."""
    for file in out.glob("*/checkpoints/*"):
        read(file)
    left = [str(path) for path in out.rglob("*.tmp")]
    return f"left {left}" if left else None


def resume(out: Path, expected: str) -> str | None:
    """Resume the run in `out`. Returns what is wrong with its end, or None."""
    (run,) = out.iterdir()
    done = tinygan("train", "--resume", run, "--out", out, cwd=out.parent)
    if done.returncode or digest(out / LAST) != expected:
        return f"resuming: exit code {done.returncode}: {done.stderr[-500:]}"
    return None


def fail_once(out: Path, nth: int, for_good: bool, expected: str) -> tuple[str, str | None]:
    """One run on a failing disk: how it ended ('' if there was no `nth` operation), and what is wrong.

    A picture, a report or an animation that cannot be written must not end the run.
    """
    with failing(nth, for_good) as counted:
        done = tinygan("train", *SETTINGS, "--out", out, cwd=out.parent)
    if counted() < nth:
        return "", None
    code, lines = done.returncode, done.stderr.splitlines()
    if code not in (0, 5) or (code and len([line for line in lines if line.startswith("error: ")]) != 1):
        return "wrong", f"exit code {code}: {done.stderr[-500:]}"
    if problem := damage(out):
        return "wrong", problem
    if code and not list(out.glob("*/config.json")):
        return "had not begun", None
    if problem := resume(out, expected):
        return "wrong", problem
    return "resumed" if code else "complete", None


def failures(place: Path, every: int = 1) -> dict[str, Any]:
    """Each operation of a run (or one in `every`) fails: once alone, once with all that follow."""
    expected = whole(place / "whole")
    tally: Counter[str] = Counter()
    wrong = []
    for for_good in (False, True):
        for nth in count(1, every):
            ending, problem = fail_once(place / f"{nth}-{for_good}", nth, for_good, expected)
            if not ending:
                break
            tally[ending] += 1
            if problem:
                wrong.append(f"operation {nth}: {problem}")
    return {"failures": tally.total(), **tally, "wrong": len(wrong), "first": wrong[:5]}
