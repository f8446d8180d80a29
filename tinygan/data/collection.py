"""Which files of a folder, a zip or a tar archive are pictures, and why the others are left out.

Nothing in an archive is ever written to the disk, and what its headers say is not believed."""

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
STARTS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8", b"II*\0", b"MM\0*")  # where there is none
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can take memory without bounds
LARGEST = 256 << 20  # bytes of one file
EXPANSION, SPARE = 200, 1 << 30  # an archive may unpack to so many times its own size, and so many bytes more
OTHERS = "not pictures"  # the reason that is told with the endings


class Entry(NamedTuple):
    name: str  # its path there, with slashes
    problem: str  # why it is left out, if that is known
    size: int  # bytes that it takes in memory when it is read
    open: Callable[[], IO[bytes]]  # in any thread; raises whatever damaged files make readers raise


class Collection(NamedTuple):
    """The pictures among the files of `source`: a folder or an archive."""

    source: Path
    names: list[str]  # in the order in which they are read
    left_out: dict[str, list[str]]  # for each reason the names of others
    state: str  # it changes when the files do
    size: int  # bytes of the files
    entries: Callable[[int], Iterator[Entry]]  # the pictures from a number on


def collected(path: Path) -> Collection:
    """What a folder, a zip or a tar archive holds. Raises DataError for a run's folder, and as readers do."""
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
    """What changes when a file does."""
    return f"{facts.st_size} {facts.st_mtime_ns}"


def folder(root: Path) -> Collection:
    """The collection below the folder `root`; links are followed. Raises DataError if it belongs to a run."""
    for place in (root, *root.parents):
        if is_config(partial(opened, place / "config.json")):
            raise DataError(f"{root} belongs to a run of tinygan, {place}. Name real pictures.")
    found, left_out = sorted_out(in_folder(root), math.inf)
    names = sorted((name for _, name in found), key=lambda name: name.split("/"))
    digest, sizes = hashlib.sha256(), [0] * len(names)
    for number, name in enumerate(names):
        with suppress(OSError):  # deleted meanwhile
            facts = os.stat(root / name)
            sizes[number] = facts.st_size
            digest.update(os.fsencode(name) + f"\0{state_of(facts)}\n".encode())

    def entries(first: int) -> Iterator[Entry]:
        for name, size in zip(names[first:], sizes[first:], strict=True):
            yield Entry(name, "", size, partial(opened, root / name))

    return Collection(root, names, left_out, digest.hexdigest(), sum(sizes), entries)


def sorted_out(files: Iterable[Entry], most: float) -> tuple[list[tuple[int, str]], dict[str, list[str]]]:
    """Pictures, numbered as in `files`; the others by reason. Raises ValueError above `most` bytes."""
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
    """Why a file is left out, by its name, or its first bytes where that has no ending; or nothing."""
    if entry.name.startswith(("/", "../")):
        return "with paths that lead out of it"
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
        return "pickles, which can run code (of CIFAR-10 the binary version is read)"
    return "" if head.startswith(STARTS) else OTHERS


def is_batch(name: str) -> bool:
    """Whether a file of this name is a batch of CIFAR-10's binary version."""
    return posixpath.basename(name).startswith("data_batch_") and name.endswith(".bin")


def is_config(opened: Callable[[], IO[bytes]]) -> bool:
    """Whether this is the config.json of a run, damaged or not."""
    with suppress(Exception), opened() as file:  # what cannot be read is none
        content = file.read(1 << 20)
        return b'"commands"' in content and b'"tinygan"' in content
    return False


def in_words(left_out: dict[str, list[str]]) -> list[str]:
    """How many files are left out for each reason.

    >>> in_words({"hidden": [".a.png"], OTHERS: ["a.txt", "b.txt", "LICENSE"]})
    ['1 hidden', '3 not pictures (.txt, LICENSE)']"""
    kinds = list(dict.fromkeys(posixpath.splitext(name)[1] or name for name in left_out.get(OTHERS, ())))
    which = {OTHERS: f" ({', '.join(kinds[:5] + ['...'] * (len(kinds) > 5))})"}
    return [f"{len(names):,} {reason}{which.get(reason, '')}" for reason, names in left_out.items()]


def in_folder(root: Path) -> Iterator[Entry]:
    """The files below the folder `root`; a folder to which several paths lead is entered once."""
    seen, closed = set(), []
    for parent, folders, names in os.walk(root, followlinks=True, onerror=closed.append):
        folders.sort()
        facts, below = os.stat(parent), os.path.relpath(parent, root).replace(os.sep, "/")
        if (facts.st_dev, facts.st_ino) in seen:
            folders.clear()
            yield Entry(below, "links to folders that are read already", 0, io.BytesIO)
            continue
        seen.add((facts.st_dev, facts.st_ino))
        for name in names:
            path = Path(parent, name)
            other = "pipes or devices" if os.path.exists(path) else "dead links"
            yield Entry(f"{below}/{name}", "" if os.path.isfile(path) else other, 0, partial(opened, path))
    for problem in closed:
        yield Entry(str(problem.filename), "folders that cannot be opened", 0, io.BytesIO)


def opened(path: Path) -> IO[bytes]:
    """The file `path`, open. Raises DataError, OSError."""
    if os.path.exists(path) and not path.is_file():  # to open a named pipe would be to wait for ever
        raise DataError("a folder" if path.is_dir() else "a pipe or device")
    if path.stat().st_size > LARGEST:
        raise DataError(f"larger than {LARGEST >> 20} MiB")
    return path.open("rb")


def in_zip(path: Path) -> Iterator[Entry]:
    """The files in a zip archive. Raises DataError, and as `zipfile` does."""
    archive = zipfile.ZipFile(path)

    def unpacked(info: zipfile.ZipInfo) -> IO[bytes]:
        with archive.open(info) as file:
            return io.BytesIO(file.read(LARGEST))

    for info in archive.infolist():
        if not info.is_dir():
            readable = info.compress_type in METHODS and not info.flag_bits & 1
            problem = "" if readable else "encrypted or packed in an unknown way"
            if info.external_attr >> 28 == 0xA:  # a file type of Unix
                problem = "links"
            yield Entry(info.filename, problem, info.file_size, partial(unpacked, info))


def in_tar(path: Path) -> Iterator[Entry]:
    """The files in a tar archive, packed with gzip, bzip2 or not. Raises DataError, and as `tarfile` does."""
    with path.open("rb") as file:
        unpack: Any = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}.get(file.read(2), open)
    with unpack(path, "rb") as file, tarfile.open(fileobj=Sparing(file), mode="r:") as archive:  # pyright: ignore
        while member := archive.next():
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - or it would keep all of them
            if not member.isdir():
                problem = "" if member.isreg() and not member.issparse() else "links or devices"
                yield Entry(member.name, problem, member.size, partial(archive.extractfile, member))  # pyright: ignore
        if archive.fileobj.last.strip(b"\0"):  # pyright: ignore - where an archive ends there are zeros, or nothing
            raise DataError(f"{path} is damaged in the middle. Get it again.")


class Sparing:
    """An open file of which nobody reads much at once: a tar may ask for anything. `last`: what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell, self.last = file, file.seek, file.tell, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST:
            raise ValueError(f"a header declares {size:,} bytes")
        self.last = self.file.read(size)
        return self.last
