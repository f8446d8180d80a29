"""Download a file of known size and SHA-256: the right one or none, even if a mirror or the cache is bad."""

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

from tinygan.errors import DataError, FileError, Printer, failing, one_line
from tinygan.files import write_atomically

CHUNK = 1 << 18
CONNECT_SECONDS = 4  # limit for a server's first answer, and for any pause within an answer
TOTAL_SECONDS = 600  # limit for a file, all mirrors and retries included
PAUSES = (1, 5)  # seconds before each retry of all mirrors, if a download broke off


class Pinned(NamedTuple):
    """A file on the network: its name, the URLs of folders that contain it, its size in bytes, its digest."""

    name: str
    mirrors: Sequence[str]
    size: int
    sha256: str


def cache_folder() -> Path:
    """Return the folder of downloads and conversions, TINYGAN_CACHE or the default. Raises: FileError."""
    if os.environ.get("TINYGAN_CACHE"):
        return Path(os.environ["TINYGAN_CACHE"])
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "tinygan"
    except RuntimeError:  # users have no home in some containers
        raise FileError("there is no home folder. Set TINYGAN_CACHE to a folder.") from None


def is_intact(path: Path, file: Pinned) -> bool:
    """Whether `path` holds exactly the pinned bytes."""
    return path.stat().st_size == file.size and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def fetch(file: Pinned, folder: Path, say: Printer) -> Path:
    """Return the path of `file` in `folder`, downloaded if missing or damaged; it gets its name only when
    complete and verified. Raises: DataError, with the last mirror's reason; as `write_atomically`."""
    target = folder / file.name
    with failing(f"cannot use the cache {folder}", "Set TINYGAN_CACHE to another one.", DataError):
        if target.exists():
            if is_intact(target, file):
                return target
            say(f"{target} is damaged; downloading it again.")
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(target, downloaded(file, say))
    return target


def downloaded(file: Pinned, say: Printer) -> bytes:
    """Return the bytes of `file` from the first good mirror. Raises: DataError."""
    deadline = time.monotonic() + TOTAL_SECONDS
    reason = "no mirror"
    for pause in (*PAUSES, None):
        broken = False  # whether a download broke off; a server that never answers gets no retry
        for mirror in file.mirrors:
            answer = None
            try:
                answer = opened_in_time(mirror + file.name)
                return received(answer, mirror + file.name, file, deadline, say)
            except (DataError, OSError, HTTPException, ValueError) as problem:
                if isinstance(problem, HTTPError):
                    problem.close()  # it keeps the connection open
                reason = one_line(getattr(problem, "reason", None) or problem)
                broken = broken or not (answer is None or isinstance(problem, DataError))
        if pause is None or not broken or time.monotonic() + pause > deadline:
            break
        say(f"download {file.name}: {reason}; trying again in {pause} s")
        time.sleep(pause)
    raise DataError(f"cannot download {file.name}: {reason}.")


def opened_in_time(address: str) -> Any:
    """Open the URL `address`. Raises: TimeoutError after `CONNECT_SECONDS`; as `urlopen`. A socket's timeout
    restarts for each address of a host and does not cover the DNS query, which can take minutes without a
    network. So a thread makes the request, and is abandoned if it is late."""
    answer: Future[Any] = Future()

    def ask() -> None:
        try:
            answer.set_result(urlopen(address, timeout=CONNECT_SECONDS))
        except BaseException as problem:
            answer.set_exception(problem)

    threading.Thread(target=ask, daemon=True).start()
    if wait([answer], CONNECT_SECONDS).not_done:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS:g} seconds")
    return answer.result()


def received(answer: Any, address: str, file: Pinned, deadline: float, say: Printer) -> bytes:
    """Read the bytes of `answer`, opened from `address`, at most one more than expected. Raises: DataError if
    the file is wrong or too slow; OSError, HTTPException or ValueError if the connection fails."""
    content, said = bytearray(), 0.0
    with answer:
        # read1 returns what has arrived; read would wait for all of it, even past the deadline.
        while len(content) <= file.size and (part := answer.read1(min(CHUNK, file.size + 1 - len(content)))):
            content += part
            size = len(content)
            if time.monotonic() > deadline:
                raise DataError(f"{address} was too slow: {size:,} of {file.size:,} bytes arrived in time")
            if size >= said + file.size / 4:  # every quarter
                said = size
                say(f"download {file.name}: {size / 1e6:.1f} of {file.size / 1e6:.1f} MB")
    if len(content) < file.size:
        raise ConnectionError(f"{address} sent {len(content):,} bytes, not {file.size:,}")
    if len(content) > file.size:
        raise DataError(f"{address} sent more than {file.size:,} bytes")
    if (digest := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise DataError(f"{address} sent a different file: its SHA-256 is {digest[:16]}...")
    return bytes(content)
