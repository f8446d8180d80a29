"""Ctrl-C, and another one at once, in the middle of each thing that a run writes: nothing is lost.

The signals of `tests.torture.signals` come at random; these come while pictures, statistics, checkpoints,
reports and the animation are being written, each of them in turn.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.torture.disk import LAST, SETTINGS, trained
from tinygan.runs.checkpoint import content_digest, read


@contextmanager
def interrupted(nth: int, times: int) -> Iterator[Callable[[], list[str]]]:
    """At the `nth` fsync this process gets so many SIGINTs; gives the names of what was synced until then."""
    sync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        if len(synced) == nth:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        sync(descriptor)

    # A shell that starts something in the background has it ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with patch.object(os, "fsync", fsync):
            yield lambda: synced
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt_once(out: Path, nth: int, times: int, expected: str) -> tuple[str, str, str | None]:
    """One run: what was being written ('' where there was no `nth` thing), how it ended, what is wrong."""
    with interrupted(nth, times) as synced:
        try:
            code, errors = trained(out, *SETTINGS)
        except SystemExit as stop:  # at the second signal
            code, errors = stop.code, ""
    if len(synced()) < nth:
        return "", "", None
    name = synced()[nth - 1]
    if code not in (0, 130) or len(errors.splitlines()) > 1:
        return name, "wrong", f"{name}: exit code {code}: {errors[-500:]}"
    if left := [str(path) for path in out.rglob("*.tmp")]:
        return name, "wrong", f"{name}: left {left}"
    files = list(out.glob("*/checkpoints/*"))
    for file in files:
        read(file)  # raises where it is damaged
    if not files:
        claimed = "saved" in errors or code == 0
        return name, "nothing was saved yet", f"{name}: {errors!r}, and nothing is" if claimed else None
    if code and times == 1 and "everything is saved" not in errors and not (out / LAST).exists():
        return name, "wrong", f"{name}: not saved at once: {errors!r}"
    (run,) = out.iterdir()
    code, errors = trained(out, "--resume", str(run))
    if code or content_digest(*read(out / LAST)) != expected:
        return name, "wrong", f"{name}: resuming: exit code {code}: {errors[-500:]}"
    if not ((run / "training.gif").exists() and (run / "report.html").exists()):
        return name, "wrong", f"{name}: no animation or no report"
    return name, "resumed", None


def interrupts(place: Path, every: int = 1) -> dict[str, Any]:
    """A run for each thing that a run writes, or for one in `every`: interrupted there, once and twice."""
    code, errors = trained(place / "whole", *SETTINGS)
    assert code == 0, errors
    expected = content_digest(*read(place / "whole" / LAST))
    tally: dict[str, int] = {}
    names: set[str] = set()
    wrong = []
    for times in (1, 2):
        nth, there_was = 1 + (times - 1) * every // 2, True  # other things than the first time, if not all
        while there_was:
            name, ending, problem = interrupt_once(place / f"{nth}-{times}", nth, times, expected)
            there_was = bool(name)
            if there_was:
                tally[ending] = tally.get(ending, 0) + 1
                stem, _, suffix = name.strip(".").partition(".")
                names.add(f"{stem.rstrip('_0123456789')}.{suffix.split('.')[0]}" if suffix else "a folder")
            if problem:
                wrong.append(f"operation {nth}: {problem}")
            nth += every
    return {
        "interruptions": sum(tally.values()),
        "while_writing": sorted(names),
        **tally,
        "wrong": len(wrong),
        "first": wrong[:5],
    }
