"""The lock of a run: one process at a time writes into its folder."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinygan.errors import CheckpointError, one_line
from tinygan.locks import taken

NAME = ".lock"


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
        if not taken(file):
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise CheckpointError(f"{folder} is being written by {holder}. Wait for it, or stop it first.")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield
