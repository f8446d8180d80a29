"""Locks on files: the operating system keeps one for as long as the process lives that took it."""

from __future__ import annotations

import errno
import os
from typing import IO, Any

_BYTE = 1 << 30  # on Windows a locked byte cannot be read, so it is one far behind the text


try:
    import msvcrt  # Windows alone has it
except ImportError:
    import fcntl

    def taken(file: IO[Any]) -> bool:
        """Try to lock the open file until it is closed."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            # Some network file systems know no locks: the work is worth more than its lock.
            return problem.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
        return True

else:

    def taken(file: IO[Any]) -> bool:
        """Try to lock the open file until it is closed."""
        os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        except OSError:
            return False
        return True
