"""Find the pictures in a folder, a zip or a tar archive, and say why other files are left out.

Nothing from an archive is ever written to disk, and its headers are never trusted."""

import bz2
import gzip
import hashlib
import io
import math
import os
import posixpath
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from tinygan.errors import DataError

SUFFIXES = tuple(".png .apng .jpg .jpeg .jpe .jfif .webp .bmp .dib .gif .tif .tiff".split())
STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")  # without a suffix
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can take unbounded memory
LARGEST = 256 << 20  # bytes in one file
EXPANSION, SPARE = 200, 1 << 30  # an archive may unpack to EXPANSION times its size plus SPARE bytes
OTHERS = "of other types"  # the one reason that is printed with the files' suffixes


class Entry(NamedTuple):
    name: str  # the path within the collection, with slashes
    problem: str  # why the file is left out, if known
    size: int  # bytes in memory when read
    open: Callable[[], IO[bytes]]  # from any thread; damaged files can raise any error of their reader


class Collection(NamedTuple):
    """The pictures in `source`, a folder or an archive."""

    source: Path
    names: list[str]  # in reading order
    left_out: dict[str, list[str]]  # the names of the other files, by reason
    state: str  # changes when the files do
    size: int  # bytes of the files, or of the archive
    entries: Callable[[int], Iterator[Entry]]  # the pictures from an index on


def collected(path: Path) -> Collection:
    """List the pictures in a folder, a zip or a tar archive. Raises: as `folder`, `in_zip` and `in_tar`."""
    if path.is_dir():
        return folder(path.resolve())
    facts = path.stat()
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    files = partial(in_zip if zipped else in_tar, path)
    found, left_out = sorted_out(files(), EXPANSION * facts.st_size + SPARE)

    def entries(first: int) -> Iterator[Entry]:
        wanted = {number for number, _ in found[first:]}
        for number, entry in enumerate(files()):
            if number in wanted:
                yield entry if zipped else entry._replace(open=partial(io.BytesIO, entry.open().read()))

    return Collection(path, [name for _, name in found], left_out, state_of(facts), facts.st_size, entries)


def state_of(facts: os.stat_result) -> str:
    """Return a file's size and modification time, which change when it does."""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def folder(root: Path) -> Collection:
    """List the pictures below the folder `root`, following links. Raises: DataError if it is in a run."""
    for place in (root, *root.parents):
        if is_config(partial(opened, place / "config.json")):
            raise DataError(f"{root} belongs to a run of tinygan ({place}). Use real images.")
    found, left_out = sorted_out(in_folder(root), math.inf)
    names = sorted((name for _, name in found), key=lambda name: name.split("/"))
    digest, sizes = hashlib.sha256(), [0] * len(names)
    for number, name in enumerate(names):
        with suppress(OSError):  # deleted in the meantime
            facts = os.stat(root / name)
            sizes[number] = facts.st_size
            digest.update(os.fsencode(name) + f"\0{state_of(facts)}\n".encode())

    def entries(first: int) -> Iterator[Entry]:
        for name, size in zip(names[first:], sizes[first:], strict=True):
            yield Entry(name, "", size, partial(opened, root / name))

    return Collection(root, names, left_out, digest.hexdigest(), sum(sizes), entries)


def sorted_out(files: Iterable[Entry], most: float) -> tuple[list[tuple[int, str]], dict[str, list[str]]]:
    """Split `files`: pictures, with index, and others, by reason. Raises: ValueError above `most` bytes."""
    seen, runs, total = [], set(), 0
    for entry in files:
        total += entry.size
        if total > most:
            raise ValueError(f"it unpacks to more than {most:,} bytes")
        entry = entry._replace(name=posixpath.normpath(entry.name))
        if posixpath.basename(entry.name) == "config.json" and is_config(entry.open):
            runs.add(posixpath.dirname(entry.name) or ".")
        seen.append((entry.name, entry.problem or why_not(entry)))
    found, left_out = [], {}
    for number, (name, reason) in enumerate(seen):
        if runs and any(str(folder) in runs for folder in PurePosixPath(name).parents):
            reason = "in runs of tinygan"
        if reason:
            left_out.setdefault(reason, []).append(name)
        else:
            found.append((number, name))
    return found, left_out


def why_not(entry: Entry) -> str:
    """Return why a file is left out, from its name or, without a suffix, its first bytes; "" if it is not."""
    if entry.name.startswith(("/", "../")):
        return "with paths outside the archive"
    if any(part.startswith(".") for part in entry.name.split("/")):
        return "hidden"
    if entry.size > LARGEST:
        return f"larger than {LARGEST >> 20} MiB"
    ending, head = posixpath.splitext(entry.name)[1].lower(), b""
    if ending:
        return "" if ending in SUFFIXES or is_batch(entry.name) else OTHERS
    with suppress(Exception), entry.open() as file:
        head = file.read(8)
    if head.startswith(b"\x80"):
        return "pickles, which can run code (for CIFAR-10, use the binary version)"
    return "" if head.startswith(STARTS) else OTHERS


def is_batch(name: str) -> bool:
    """Whether a file of this name is a batch of CIFAR-10's binary version."""
    return posixpath.basename(name).startswith("data_batch_") and name.endswith(".bin")


def is_config(opened: Callable[[], IO[bytes]]) -> bool:
    """Whether this is the config.json of a run, damaged or not."""
    with suppress(Exception), opened() as file:  # an unreadable file is not one
        content = file.read(1 << 20)
        return b'"commands"' in content and b'"tinygan"' in content
    return False


def in_words(left_out: dict[str, list[str]]) -> list[str]:
    """Count the files left out, by reason.

    >>> in_words({"hidden": [".a.png"], OTHERS: ["a.txt", "b.txt", "LICENSE"]})
    ['1 hidden', '3 of other types (.txt, LICENSE)']"""
    kinds = list(dict.fromkeys(posixpath.splitext(name)[1] or name for name in left_out.get(OTHERS, ())))
    which = {OTHERS: f" ({', '.join(kinds[:5] + ['...'] * (len(kinds) > 5))})"}
    return [f"{len(names):,} {reason}{which.get(reason, '')}" for reason, names in left_out.items()]


def in_folder(root: Path) -> Iterator[Entry]:
    """Yield the files below the folder `root`. A folder that several paths lead to is entered once."""
    seen, closed = set(), []
    for parent, folders, names in os.walk(root, followlinks=True, onerror=closed.append):
        folders.sort()
        facts, below = os.stat(parent), os.path.relpath(parent, root).replace(os.sep, "/")
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            yield Entry(below, "links to folders already read", 0, io.BytesIO)
            continue
        seen.add((facts.st_dev, facts.st_ino))
        for name in names:
            path = Path(parent, name)
            other = "pipes or devices" if os.path.exists(path) else "broken links"
            yield Entry(f"{below}/{name}", "" if os.path.isfile(path) else other, 0, partial(opened, path))
    for problem in closed:
        yield Entry(str(problem.filename), "folders that cannot be opened", 0, io.BytesIO)


def opened(path: Path) -> IO[bytes]:
    """Open the file `path`. Raises: DataError, OSError."""
    if os.path.exists(path) and not path.is_file():  # opening a named pipe would wait for ever
        raise DataError("a folder" if path.is_dir() else "a pipe or device")
    if path.stat().st_size > LARGEST:
        raise DataError(f"larger than {LARGEST >> 20} MiB")
    return path.open("rb")


def in_zip(path: Path) -> Iterator[Entry]:
    """Yield the files in a zip archive. Raises: as `zipfile`."""
    archive = zipfile.ZipFile(path)

    def unpacked(info: zipfile.ZipInfo) -> IO[bytes]:
        with archive.open(info) as file:
            return io.BytesIO(file.read(LARGEST))

    for info in archive.infolist():
        if not info.is_dir():
            readable = info.compress_type in METHODS and not info.flag_bits & 1
            problem = "" if readable else "encrypted or compressed in an unknown way"
            if info.external_attr >> 28 == 0xA:  # Unix's file type of a symbolic link
                problem = "links"
            yield Entry(info.filename, problem, info.file_size, partial(unpacked, info))


def in_tar(path: Path) -> Iterator[Entry]:
    """Yield the files in a tar archive, plain, gzip or bzip2. Raises: DataError if damaged; as `tarfile`."""
    with path.open("rb") as file:
        unpack: Any = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}.get(file.read(2), open)
    with unpack(path, "rb") as file, tarfile.open(fileobj=Sparing(file), mode="r:") as archive:  # pyright: ignore
        while member := archive.next():
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - or it keeps every member
            if not member.isdir():
                problem = "" if member.isreg() and not member.issparse() else "links or devices"
                yield Entry(member.name, problem, member.size, partial(archive.extractfile, member))  # pyright: ignore
        if archive.fileobj.last.strip(b"\0"):  # pyright: ignore - an archive ends with zeros, or nothing
            raise DataError(f"{path} is damaged in the middle. Get a fresh copy.")


class Sparing:
    """An open file that refuses huge reads, which a tar header can ask for. `last`: the bytes last read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell, self.last = file, file.seek, file.tell, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST:
            raise ValueError(f"a header declares {size:,} bytes")
        self.last = self.file.read(size)
        return self.last
