"""Files are whole or absent; one process at a time writes into a run, and its lock dies with it."""

import errno
import os
import platform
import runpy
import sys
import types
from pathlib import Path

import pytest

from tests.commands import start
from tinygan import files
from tinygan.errors import CheckpointError
from tinygan.files import append, sync_folder, write_atomically
from tinygan.runs.folder import RunFolder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Writing all or nothing.


def test_a_written_file_replaces_the_one_before_and_has_the_usual_permissions(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    for content in (b"first", b"second"):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    other.write_bytes(b"")
    assert path.stat().st_mode == other.stat().st_mode
    assert names(tmp_path) == ["file", "other"]


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        *[(OSError(code, os.strerror(code)), f"{os.strerror(code)}. ") for code in (28, 13, 5)],
        (KeyboardInterrupt("by hand"), "by hand"),
        (ValueError("of the content"), "of the content"),
    ],
)
def test_a_write_that_fails_half_way_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, problem: BaseException, words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file) -> None:
        file.write(b"new" * 10_000)
        raise problem

    kind = CheckpointError if isinstance(problem, OSError) else type(problem)
    with pytest.raises(kind) as caught:
        write_atomically(path, fail)
    assert str(caught.value).startswith(f"cannot write {path}: {words}" if kind is CheckpointError else words)
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_end_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_the_file_is_synced_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fsync, replace = [], os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomically(tmp_path / "file", b"x")
    assert calls == ["file", "rename", "folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_noticed_only_at_the_flush_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="cannot write /dev/full: No space left on device"):
        append(Path("/dev/full"), b"row")


def test_a_file_system_that_cannot_sync_folders_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if os.path.isdir(f"/dev/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_atomically(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_folders_are_not_synced_if_they_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as windows:
        windows.setattr(os, "open", lambda *_: pytest.fail("opened a folder"))
        windows.setattr(os, "name", "nt")
        sync_folder(tmp_path)


def test_a_run_that_resumes_sweeps_up_what_a_killed_one_left(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run")
    left = [run.path / ".config.json.12-0a1b2c3d.tmp", run.checkpoints_dir / ".epoch_0001.npz.7-01234567.tmp"]
    kept = [run.path / ".notes.tmp", run.samples_dir / "epoch_0001.png", run.path / ".lock"]
    for path in left + kept:
        path.write_text("x")
    with run.locked():
        pass
    assert [path.exists() for path in left + kept] == [False] * 2 + [True] * 3


# Locks.


HOLD = """
import sys, time
from pathlib import Path
from tinygan.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_learns_who_holds_the_lock_until_that_one_dies(tmp_path: Path) -> None:
    process = start("-c", HOLD, tmp_path, cwd=tmp_path)
    try:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(CheckpointError, match=f"is being written by process {process.pid} on"):
            with RunFolder(tmp_path).locked():
                pytest.fail("two processes hold the lock")
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / ".lock").exists()
    with RunFolder(tmp_path).locked():
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_the_lock_on_windows_is_a_byte_past_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Windows branch, on a stand-in for its module that knows which byte of which file is locked."""
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
            pytest.fail("two processes hold the lock")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot write to"):
        with RunFolder(tmp_path / "missing").locked():
            pass
