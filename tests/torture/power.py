"""Saving while the power fails, on a disk that keeps of unsynced writes what it likes.

The operations of `runs.folder.write_atomically` are recorded. Then the disk is rebuilt as a power cut
after any of them may leave it: bytes that were not synced may be there, missing, cut short or garbage;
a name that was not synced may be there or not. (The model is that of SQLite's test6.c and of ALICE,
Pillai et al. 2014: a file's bytes are safe after fsync of the file, a name after fsync of its folder.)
"""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.torture.kills import state, survived
from tinygan.runs import checkpoint, folder
from tinygan.runs.folder import RunFolder

Operation = tuple[str, Any, Any]  # what, on which file (a number) or name, with what


class Recorder:
    """Stands in for the file functions of `runs.folder`; nothing reaches a disk."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.files = 0
        self.os = SimpleNamespace(
            **{name: getattr(os, name) for name in ("getpid", "name", "path", "O_RDONLY")},
            fsync=self.fsync,
            replace=self.replace,
            open=lambda path, flags: ("folder", path),
            close=lambda descriptor: None,
        )

    def open(self, path: Path, mode: str) -> io.BytesIO:
        assert mode == "xb"
        number = self.files
        self.files += 1
        self.operations.append(("create", path.name, number))
        recorder = self

        class File(io.BytesIO):
            def write(self, data: Any) -> int:
                recorder.operations.append(("write", number, bytes(data)))
                return len(data)

            def writelines(self, lines: Any) -> None:
                for line in lines:
                    self.write(line)

            def fileno(self) -> Any:
                return ("file", number)

        return File()

    def fsync(self, descriptor: tuple[str, Any]) -> None:
        kind, which = descriptor
        self.operations.append((f"fsync {kind}", which, None))

    def replace(self, source: Path, target: Path) -> None:
        self.operations.append(("rename", source.name, target.name))


def recorded(saves: int) -> tuple[list[Operation], list[int]]:
    """The operations of so many saves, and how many operations there were when each was over."""
    recorder, ends = Recorder(), []
    run = RunFolder(Path("nowhere"))
    with patch.object(folder, "os", recorder.os), patch.object(folder, "open", recorder.open, create=True):
        for number in range(1, saves + 1):
            checkpoint.save(run.checkpoint_path(number, None), state(number), {})
            ends.append(len(recorder.operations))
    return recorder.operations, ends


def after_the_cut(operations: list[Operation], chance: random.Random) -> dict[str, bytes]:
    """The files of a disk, by name, that these operations may have left."""
    safe: dict[int, bytes] = {}  # synced bytes of each file
    loose: dict[int, list[bytes]] = {}  # written since
    names: dict[str, int] = {}  # as they are on disk for certain
    changes: list[tuple[str, Any, Any]] = []  # of names, not synced; they happen in order, or not at all
    for what, which, value in operations:
        if what == "write":
            loose.setdefault(which, []).append(value)
        elif what == "fsync file":
            safe[which] = safe.get(which, b"") + b"".join(loose.pop(which, []))
        elif what == "fsync folder":
            for change in changes:
                _apply(names, change)
            changes.clear()
        else:
            changes.append((what, which, value))
    for change in changes[: chance.randrange(len(changes) + 1)]:
        _apply(names, change)
    return {name: safe.get(file, b"") + _kept(loose.get(file, []), chance) for name, file in names.items()}


def _apply(names: dict[str, int], change: tuple[str, Any, Any]) -> None:
    what, which, value = change
    if what == "create":
        names[which] = value
    elif which in names:
        names[value] = names.pop(which)


def _kept(pieces: list[bytes], chance: random.Random) -> bytes:
    """What a disk may hold of pieces that were written and not synced."""
    whole = b"".join(pieces)
    how = chance.choice(("all", "none", "some", "zeros", "garbage"))
    if how == "all":
        return whole
    if how == "none":
        return b""
    if how == "some":
        return whole[: chance.randrange(len(whole) + 1)]
    at = chance.randrange(len(whole) + 1)
    tail = bytes(len(whole) - at) if how == "zeros" else chance.randbytes(len(whole) - at)
    return whole[:at] + tail


def power_cuts(place: Path, count: int, seed: int, saves: int = 3) -> dict[str, Any]:
    """So many states of a disk after a power cut, spread evenly over the operations."""
    operations, ends = recorded(saves)
    chance, wrong = random.Random(seed), []
    run = RunFolder(place)
    run.checkpoints_dir.mkdir(parents=True)
    for number in range(count):
        cut = number % (len(operations) + 1)
        for old in run.checkpoints_dir.iterdir():
            old.unlink()
        for name, content in after_the_cut(operations[:cut], chance).items():
            (run.checkpoints_dir / name).write_bytes(content)
        finished = sum(end <= cut for end in ends)
        if problem := survived(run, finished):
            wrong.append(f"after operation {cut}: {problem}")
    return {
        "states": count,
        "seed": seed,
        "operations": len(operations),
        "bad": len(wrong),
        "first": wrong[:5],
    }
