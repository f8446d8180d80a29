"""Power cuts during a run, on a disk that keeps an arbitrary part of unsynced writes.

The disk operations of `RunFolder.create`, its files and four checkpoints are recorded. Then the disk is
rebuilt as a power cut after any of them could leave it. Bytes that were not synced are there, missing, cut
short, zeros or garbage. Of the changes of names in an unsynced folder, the first few have happened, in each
folder independently. (The model is that of SQLite's test6.c and of ALICE, Pillai et al. 2014: a file's bytes
are safe after fsync of the file, a name after fsync of its folder.)
"""

import io
import os
import random
import shutil
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from tests.torture.kills import save, survived
from tinygan import files
from tinygan.errors import CheckpointError
from tinygan.runs.folder import RunFolder

OUT = "deep/runs"  # two folders that do not exist yet
DEEP = 0  # the number of the folder above, which exists


class Operation(NamedTuple):
    what: str  # mkdir, create, write, rename, unlink, fsync
    node: int  # the number of a file or folder; for changes of names, of the folder
    name: str = ""
    value: Any = None  # the number of the named file or folder, the bytes, the new name


class Recorder:
    """Records the disk operations of `runs.folder` below `root`, and performs them, except fsync."""

    def __init__(self, root: Path) -> None:
        self.operations: list[Operation] = []
        self.nodes = {str(root): DEEP}  # by path, of all that exist now
        self.open_files: dict[int, int] = {}  # nodes by descriptor
        self.count = 1

    def new(self, what: str, path: str) -> int:
        parent, name = os.path.split(path)
        if parent not in self.nodes:  # made by pathlib, which has private functions in Python 3.10
            self.new("mkdir", parent)
        self.nodes[path] = self.count
        self.count += 1
        self.operations.append(Operation(what, self.nodes[parent], name, self.nodes[path]))
        return self.nodes[path]

    def patched(self) -> ExitStack:
        """A context within which this recorder replaces the system's functions."""
        real = {name: getattr(os, name) for name in ("mkdir", "replace", "unlink", "open")}

        def mkdir(path: Any, *arguments: Any) -> None:
            real["mkdir"](path, *arguments)
            self.new("mkdir", str(path))

        def rename(source: Any, target: Any) -> None:
            real["replace"](source, target)
            (parent, old), (other, new) = os.path.split(str(source)), os.path.split(str(target))
            assert parent == other
            for path in [path for path in self.nodes if path == str(source) or path.startswith(f"{source}/")]:
                self.nodes[str(target) + path[len(str(source)) :]] = self.nodes.pop(path)
            self.operations.append(Operation("rename", self.nodes[parent], old, new))

        def unlink(path: Any) -> None:
            real["unlink"](path)
            parent, name = os.path.split(str(path))
            del self.nodes[str(path)]
            self.operations.append(Operation("unlink", self.nodes[parent], name))

        def open_folder(path: Any, *arguments: Any, **named: Any) -> int:
            descriptor = real["open"](path, *arguments, **named)
            self.open_files[descriptor] = self.nodes.get(str(path), -1)
            return descriptor

        stack = ExitStack()
        for name, function in {
            "mkdir": mkdir, "rmdir": None, "unlink": unlink,  # in a run without failures no folder is removed
            "rename": rename, "replace": rename, "open": open_folder, "fsync": self.fsync,
        }.items():  # fmt: skip
            stack.enter_context(patch.object(os, name, function))
        stack.enter_context(patch.object(files, "open", self.open, create=True))
        return stack

    def open(self, path: Path, mode: str) -> Any:
        assert mode in ("xb", "ab")
        recorder, node = self, self.nodes.get(str(path))
        number = self.new("create", str(path)) if node is None else node

        class Raw(io.FileIO):
            def write(self, data: Any) -> int | None:
                recorder.operations.append(Operation("write", number, "", bytes(data)))
                return super().write(data)

        raw = Raw(path, mode.replace("b", ""))
        self.open_files[raw.fileno()] = number
        return io.BufferedWriter(raw)

    def fsync(self, descriptor: int) -> None:
        self.operations.append(Operation("fsync", self.open_files[descriptor]))


def recorded(place: Path, saves: int) -> tuple[list[Operation], list[int]]:
    """The operations of a run at `place` with that number of `saves`, and how many there were after writing
    the configuration and after each save."""
    recorder = Recorder(place)
    with recorder.patched():
        run = RunFolder.create(place / OUT, "run")
        run.write_config({"settings": {}})
        stages = [len(recorder.operations)]
        for number in range(1, saves + 1):
            run.append_losses(np.full((2, 4), number))
            run.append_stats({"epoch": number, "step": 2 * number})
            save(run, number)
            stages.append(len(recorder.operations))
    return recorder.operations, stages


def after_the_cut(operations: list[Operation], chance: random.Random, place: Path) -> None:
    """Make files below `place` that a disk could hold if power fails after these operations."""
    folders: dict[int, dict[str, int]] = defaultdict(dict)  # names that are on disk for certain
    changes: dict[int, list[Operation]] = defaultdict(list)  # of names in each folder, not synced
    safe: dict[int, bytes] = defaultdict(bytes)  # synced bytes of each file
    loose: dict[int, bytes] = defaultdict(bytes)  # written since
    made = {DEEP}
    for operation in operations:
        if operation.what == "write":
            loose[operation.node] += operation.value
        elif operation.what == "fsync":
            safe[operation.node] += loose.pop(operation.node, b"")
            for change in changes.pop(operation.node, []):
                _apply(folders[operation.node], change)
        else:
            changes[operation.node].append(operation)
            if operation.what == "mkdir":
                made.add(operation.value)
    for node, waiting in changes.items():
        for change in waiting[: chance.randrange(len(waiting) + 1)]:
            _apply(folders[node], change)

    def build(path: Path, node: int) -> None:
        if node in made:
            path.mkdir(exist_ok=True)
            for name, child in folders[node].items():
                build(path / name, child)
        else:
            path.write_bytes(safe[node] + _kept(loose[node], chance))

    build(place, DEEP)


def _apply(names: dict[str, int], change: Operation) -> None:
    if change.what in ("mkdir", "create"):
        names[change.name] = change.value
    elif change.name in names:
        node = names.pop(change.name)
        if change.what == "rename":
            names[change.value] = node


def _kept(whole: bytes, chance: random.Random) -> bytes:
    """The bytes that a disk could hold of `whole`, which was written but not synced."""
    how = chance.choice(("all", "none", "some", "zeros", "garbage"))
    if how == "all":
        return whole
    if how == "none":
        return b""
    at = chance.randrange(len(whole) + 1)
    if how == "some":
        return whole[:at]
    return whole[:at] + (bytes(len(whole) - at) if how == "zeros" else chance.randbytes(len(whole) - at))


def problem_with(out: Path, saves: int | None) -> str | None:
    """What is wrong, or None if the run in `out` holds its `saves` (if promised) and a new run can begin."""
    try:
        run, _ = RunFolder.find(None, out)
        run.read_config()
        if saves is not None:
            if problem := survived(run, saves):
                return problem
            rows, losses = run.read_stats(), run.read_losses()
            if [row["epoch"] for row in rows][:saves] != list(range(1, saves + 1)):
                return f"save {saves} was complete, but the statistics are {rows}"
            if not np.array_equal(losses[: 2 * saves, 0], np.repeat(range(1, saves + 1), 2)):
                return f"save {saves} was complete, but the losses are {losses[:, 0]}"
            run.keep_stats_until(2 * saves)
    except CheckpointError as problem:
        if saves is not None:
            return f"save {saves} was complete, but: {problem}"
    try:
        RunFolder.create(out, "next")
    except CheckpointError as problem:
        return f"no new run can begin: {problem}"
    return None


def power_cuts(place: Path, count: int, seed: int, saves: int = 4) -> dict[str, Any]:
    """`count` states of a disk after a power cut, spread evenly over the operations."""
    whole = place / "whole"
    whole.mkdir()
    operations, stages = recorded(whole, saves)
    chance, wrong = random.Random(seed), []
    for number in range(count):
        cut, disk = number % (len(operations) + 1), place / "disk"
        shutil.rmtree(disk, ignore_errors=True)
        after_the_cut(operations[:cut], chance, disk)
        passed = sum(stage <= cut for stage in stages)
        if problem := problem_with(disk / OUT, passed - 1 if passed else None):
            wrong.append(f"after operation {cut}: {problem}")
    found = {"states": count, "seed": seed, "operations": len(operations)}
    return found | {"bad": len(wrong), "first": wrong[:5]}
