"""Files that a crash leaves whole: replaced at once, appended to durably, locked by one process at a time."""

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
    import msvcrt  # Windows alone has it

    fcntl = None
except ImportError:
    import fcntl


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Replace `path` by `content`, or by what it writes into the open file it gets: all of it, or nothing. On
    return file and name are on the disk (fsync), and outlive a power cut; on failure the old file stays
    alone. Raises FileError, CheckpointError where `path` is no regular file, and what `content` raises."""
    if not path.name or (os.path.exists(path) and not os.path.isfile(path)):
        raise CheckpointError(f"{path} is no regular file. Choose the name of a file.")
    # The name is new each time: two writers of one path never share a half-written file.
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
    """Add `data` to the end of `path`, and hand it to the disk. Raises FileError."""
    with failing(f"cannot write {path}", REMEDY, FileError):
        new = not path.exists()
        with open(path, "ab") as file:
            file.write(data)
            keep(file)
        if new:
            sync_folder(path.parent)


def sweep(folder: Path, name: str = "") -> None:
    """Delete what a killed `write_atomically` left in `folder` of files `name`*, locked by the caller."""
    for path in folder.glob(f".{name}*.[0-9]*-{8 * '[0-9a-f]'}.tmp"):
        with suppress(OSError):  # it is only in the way
            path.unlink()


def keep(file: IO[Any]) -> None:
    """Hand what was written to the open `file` to the disk. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Hand the names in `folder` to the disk; without it a power cut may undo a rename. Raises OSError."""
    if os.name != "posix":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not know the request
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, busy: Callable[[str], object]) -> Iterator[None]:
    """Hold the lock `path`, a file whose text says which process took it last. A process that was killed
    leaves the file behind, but not the lock. While another one holds it, `busy` is called with that text,
    again and again, and may raise. Raises OSError where the file cannot be written."""
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
    """Try to lock the open file until it is closed."""
    try:
        if fcntl:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            os.lseek(file.fileno(), 1 << 30, os.SEEK_SET)  # far behind the text: a locked byte cannot be read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore
    except OSError as problem:
        # Some network file systems know no locks: the work is worth more than its lock.
        return bool(fcntl) and problem.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True
