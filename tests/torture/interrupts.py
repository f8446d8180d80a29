"""Ctrl-C, once or twice, in the middle of each thing that a run writes: nothing is lost.

The signals of `tests.torture.signals` come at random; these come while pictures, statistics, checkpoints,
reports and the animation are being written, each of them in turn.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.commands import tinygan
from tests.torture.disk import SETTINGS, damage, resume, whole


@contextmanager
def interrupted(nth: int, times: int) -> Iterator[Callable[[], list[str]]]:
    """At the `nth` fsync this process gets SIGINT `times` times. Yields a function: all synced names."""
    sync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        if len(synced) == nth:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        sync(descriptor)

    # A shell makes the processes that it starts in the background ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with patch.object(os, "fsync", fsync):
            yield lambda: synced
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_once(out: Path, nth: int, times: int, expected: str) -> tuple[str, str, str | None]:
    """One run: what was being written ('' if there was no `nth` fsync), how it ended, what is wrong."""
    with interrupted(nth, times) as synced:
        done = tinygan("train", *SETTINGS, "--out", out, cwd=out.parent)
    if len(synced()) < nth:
        return "", "", None
    name, code, errors = synced()[nth - 1], done.returncode, done.stderr
    saved = "everything is saved" in errors
    if code not in (0, 7, 130) or len(errors.splitlines()) > 2 or (code == 130) != saved:
        return name, "wrong", f"exit code {code}: {errors[-500:]}"
    if problem := damage(out):
        return name, "wrong", problem
    if not list(out.glob("*/config.json")):
        return name, "had not begun", f"{errors!r}, and nothing is saved" if code != 7 else None
    if code == 7 and any(out.glob("*/losses.f32")):
        return name, "wrong", f"not saved at once: {errors!r}"
    if problem := resume(out, expected):
        return name, "wrong", problem
    if len([*out.glob("*/training.gif"), *out.glob("*/report.html")]) < 2:
        return name, "wrong", "no animation or no report"
    return name, "resumed", None


def interrupts(place: Path, every: int = 1) -> dict[str, Any]:
    """For each thing that a run writes (or one in `every`) a run that is interrupted there, once or twice."""
    expected = whole(place / "whole")
    tally: Counter[str] = Counter()
    names: set[str] = set()
    wrong = []
    for times in (1, 2):
        for nth in count(1 + (times - 1) * every // 2, every):  # not those of the first time, if not all
            name, ending, problem = interrupt_once(place / f"{nth}-{times}", nth, times, expected)
            if not name:
                break
            tally[ending] += 1
            stem, _, suffix = name.strip(".").partition(".")
            names.add(f"{stem.rstrip('_0123456789')}.{suffix.split('.')[0]}" if suffix else "a folder")
            if problem:
                wrong.append(f"operation {nth}, {name}: {problem}")
    found = {"interruptions": tally.total(), "while_writing": sorted(names), **tally}
    return found | {"wrong": len(wrong), "first": wrong[:5]}
