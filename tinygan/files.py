"""Files that survive a crash: atomic replacement, durable appends, a lock for one process at a time."""

import errno
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

from tinygan.errors import CheckpointError, FileError, failing

REMEDY = "Free some space or choose another folder."

try:
    import msvcrt  # Windows only

    fcntl = None
except ImportError:
    import fcntl


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace `path` with `content`, or with what the function `content` writes to an open file: all or
    nothing. On return, file and name are on disk (fsync) and survive a power cut; on failure, only the old
    file remains. Raises: FileError; CheckpointError if `path` is not a regular file; as `content`."""
    if not path.name or (os.path.exists(path) and not os.path.isfile(path)):
        raise CheckpointError(f"{path} is not a regular file. Choose another file name.")
    # A new name each time, so that two writers of one path never share a half-written file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    with failing(f"cannot write {path}", REMEDY, FileError):
        try:
            with open(temporary, "xb") as file:
                file.write(content) if isinstance(content, bytes) else content(file)
                keep(file)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append `data` to `path` and flush it to disk. Raises: FileError."""
    with failing(f"cannot write {path}", REMEDY, FileError):
        new = not path.exists()
        with open(path, "ab") as file:
            file.write(data)
            keep(file)
        if new:
            sync_folder(path.parent)


def sweep(folder: Path, name: str = "") -> None:
    """Delete what a killed `write_atomically` of files `name`* left in `folder`, locked by the caller."""
    for path in folder.glob(f".{name}*.[0-9]*-{8 * '[0-9a-f]'}.tmp"):
        with suppress(OSError):  # a leftover is harmless
            path.unlink()


def keep(file: IO[Any]) -> None:
    """Flush the open `file` to disk. Raises: OSError."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to disk; otherwise a power cut can undo a rename. Raises: OSError."""
    if os.name != "posix":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not support it
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, busy: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock `path`, a file whose text names the process that took it last. A killed process leaves
    the file but not the lock. While another process holds it, `busy` is called with that text, again and
    again; it can raise an error to stop waiting. Raises: OSError if the file cannot be written; as `busy`."""
    with open(path, "a+", encoding="utf-8") as file:
        while not _taken(file):
            file.seek(0)
            busy(file.read(200).strip() or "another process")
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _taken(file: IO[Any]) -> bool:
    """Try to lock the open `file`, until it is closed; return whether it is locked."""
    try:
        if fcntl:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(file.fileno(), 1 << 30, os.SEEK_SET)  # far past the text: a locked byte cannot be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore
    except OSError as problem:
        # Some network file systems have no locks; work without one.
        return bool(fcntl) and problem.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True
