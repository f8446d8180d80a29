"""One process at a time writes into a run's folder; a lock does not outlive its process."""

from __future__ import annotations

import os
import platform
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tinygan import files
from tinygan.errors import CheckpointError
from tinygan.runs.folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from tinygan.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock of `folder`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(CheckpointError, match=f"is being written by process {process.pid} on"):
            with RunFolder(tmp_path).locked():
                pytest.fail("two hold the lock")
    finally:
        process.kill()
        process.communicate()


def test_a_lock_whose_process_was_killed_is_free(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / ".lock").exists()
    with RunFolder(tmp_path).locked():
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_lock_is_free_again_afterwards_and_one_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for _ in range(2):
        with RunFolder(tmp_path).locked(), RunFolder(tmp_path / "other").locked():
            pass


def test_the_lock_of_windows_holds_a_byte_behind_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its branch, on a stand-in for Windows' module that knows which byte of which file is locked."""
    locked: dict[int, int] = {}

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        file, at = os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        if locked.setdefault(file, at) == at and file in held:
            raise OSError(36, "Resource deadlock avoided")
        held.add(file)

    held: set[int] = set()
    windows = types.ModuleType("msvcrt")
    vars(windows).update(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    monkeypatch.delitem(sys.modules, "tinygan.files")
    namespace = runpy.run_path(str(Path(files.__file__)))
    path = tmp_path / ".lock"
    with namespace["locked"](path, pytest.fail):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
        (at,) = locked.values()
        assert at > (tmp_path / ".lock").stat().st_size

        def busy(holder: str) -> None:
            assert holder == f"process {os.getpid()} on {platform.node()}"
            raise InterruptedError

        with pytest.raises(InterruptedError), namespace["locked"](path, busy):
            pytest.fail("two hold the lock")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write into"):
        with RunFolder(tmp_path / "missing").locked():
            pass


def test_a_run_that_resumes_sweeps_up_what_a_killed_one_left(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run")
    left = [run.path / ".config.json.12-0a1b2c3d.tmp", run.checkpoints_dir / ".epoch_0001.npz.7-01234567.tmp"]
    kept = [run.path / ".notes.tmp", run.samples_dir / "epoch_0001.png", run.path / ".lock"]
    for path in left + kept:
        path.write_text("x")
    run.sweep()
    assert [path.exists() for path in left + kept] == [False] * 2 + [True] * 3
