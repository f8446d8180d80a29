"""The lock of a run: one process at a time writes into its folder."""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tinygan.errors import CheckpointError, one_line

NAME = ".lock"
_BYTE = 1 << 30  # on Windows a locked byte cannot be read, so it is one far behind the text


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in `folder`.

    The operating system keeps it, for as long as the process lives: one that was killed leaves the file
    behind, but not the lock. The file's text says who took it last.

    Raises:
        CheckpointError: another process holds it, or the folder cannot be written.
    """
    try:
        file = open(folder / NAME, "a+", encoding="utf-8")  # noqa: SIM115 (closed below)
    except OSError as problem:
        raise CheckpointError(f"cannot write into {folder}: {one_line(problem)}. Copy the run.") from problem
    with file:
        if not _taken(file):
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise CheckpointError(f"{folder} is being written by {holder}. Wait for it, or stop it first.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


try:
    import msvcrt  # Windows alone has it
except ImportError:
    import fcntl

    def _taken(file: IO[str]) -> bool:
        """Try to lock the open file until it is closed."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            # Some network file systems know no locks: a run there is worth more than its lock.
            return problem.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        return True

else:

    def _taken(file: IO[str]) -> bool:
        """Try to lock the open file until it is closed."""
        os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return False
        return True
