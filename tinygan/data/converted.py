"""Pictures brought to the model's size once, into a file that the next run finds.

    <name>.npy         the pictures
    <name>.npy.json    the sidecar: what they are made of, how many, and how far it had come seconds ago
    <name>.lock        held by the process that reads or writes there

A file is used if its sidecar fits the source as it is now, and some of the pictures. What is unused for
`DAYS` is deleted; above TINYGAN_CACHE_LIMIT gigabytes, the longest unused."""

import hashlib
import io
import json
import math
import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan.data.dataset import Mapped, Shape, fingerprint
from tinygan.data.download import cache_folder
from tinygan.errors import CheckpointError, DataError, Printer, UsageError, first_sentence, one_line
from tinygan.files import keep, locked, sweep, write_atomically

SAVE_SECONDS = 5.0  # between two notes of how far it has come
SAY_SECONDS = 30.0  # between two lines about it; the first comes with the first note
WAIT_SECONDS = 1.0  # until another process that converts the same is worth a line
NAMED = 5  # of the unreadable files; the others are counted
DAYS = 90
LIMIT = 10.0  # gigabytes, of 10^9 bytes


@dataclass
class Tally:
    """How far a conversion has come, and what a user should know of it."""

    done: int = 0  # pieces of the source: files, or images of an array
    images: int = 0  # that became of them, with their mirror images
    resized: int = 0
    transparent: int = 0
    coloured: int = 0  # that became grey
    small: int = 0  # with a side of less than half the one wanted
    area: int = 0  # of all pictures, in pixels
    square: int = 0  # of their centre squares
    unreadable: int = 0
    named: list[str] = field(default_factory=list)  # the first `NAMED` of the unreadable, and why
    scale: str = ""  # in which range an array's numbers were taken to be
    whole: bool = False  # nothing is left to convert


class Conversion(NamedTuple):
    source: Path
    state: str  # a digest that changes when the source does
    total: int  # pieces of the source that become at most one image each, and its mirror image
    shape: Shape
    pieces: Callable[[Tally], Iterator[np.ndarray]]  # (K, H, W, C) uint8 each, behind `Tally.done`; counts it
    limit: int | None = None  # where only the first images were asked for: how many


def converted(conversion: Conversion, is_large: bool, say: Printer) -> tuple[Any, Tally, list[str]]:
    """The converted images (N, H, W, C) uint8, their tally, and notes on where they lie: if `is_large`, in
    a file of the cache, made or completed first; in memory where that cannot be written."""
    notes = []
    if is_large:
        cache, limit = "a cache", cache_limit()
        try:
            cache = cache_folder() / "pictures"
            stored = Stored(cache, conversion, say)
            images, tally = stored.images()
            facts = f"{images.nbytes / 1e6:,.0f} MB in {stored.file}, converted; it may be deleted"
            taken = tidy(cache, limit, stored.name)
            return images, tally, [f"stored   {facts} (the cache takes {taken:.1f} of {limit:g} GB)"]
        except (OSError, CheckpointError) as problem:
            reason = first_sentence(one_line(problem.__cause__ or problem))
        why = f"in memory: {cache} cannot be written ({reason})"
        say(f"convert  {conversion.source} {why}")
        notes = [f"note     converted {why}"]
    count, tally = conversion.total * (1 + conversion.shape.flip), Tally()
    images = np.empty((count, *conversion.shape.image), np.uint8)
    for piece in map(conversion.shape.mirrored, conversion.pieces(tally)):
        images[tally.images : tally.images + len(piece)] = piece
        tally.images += len(piece)
    return images[: tally.images], tally, notes


class Stored:
    """The files of one conversion in a cache."""

    def __init__(self, cache: Path, conversion: Conversion, say: Printer) -> None:
        self.cache, self.conversion, self.say = cache, conversion, say
        # One name for each source, shape and limit.
        source, self.shape = conversion.source, conversion.shape.image
        where = os.fsencode(os.path.abspath(source)) + f" {conversion.shape} {conversion.limit}".encode()
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", source.name)[:40]
        sides = "x".join(map(str, self.shape))
        self.name = f"{plain}-{sides}-{hashlib.sha256(where).hexdigest()[:16]}"
        path = cache / self.name
        self.file, self.sidecar, self.lock = (Path(f"{path}.{end}") for end in ("npy", "npy.json", "lock"))
        self.patient_until = time.monotonic() + WAIT_SECONDS

    def images(self) -> tuple[Any, Tally]:
        """The images, from the file that is there already if it is good. Raises OSError."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(self.lock, self._waiting):
                images, tally = self._found()
                try:
                    return (images, tally) if tally.whole else self.convert(tally)
                except (OSError, DataError):  # a full disk, perhaps, and the run will need it
                    self.file.unlink(missing_ok=True)
                    raise
        except (OSError, CheckpointError):
            images, tally = self._found()
            if tally.whole:  # a cache that can be read and not written is a cache
                return images, tally
            raise

    def _waiting(self, holder: str) -> None:
        if time.monotonic() > self.patient_until:
            self.say(f"convert  waiting for {holder}: {self.lock}")
            self.patient_until = float("inf")

    def _found(self) -> tuple[Any, Tally]:
        """The images in the file, none if it is missing, damaged, or made of the source as it was."""
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            with self.sidecar.open(encoding="utf-8") as file:
                found = json.loads(file.read(1 << 20))
            facts = found["facts"]
            if found["crc"] == _checksum(facts) and facts["state"] == self.conversion.state:
                tally = Tally(**facts["tally"])
                images = self._mapped(tally.images)
                if fingerprint(images) == facts["fingerprint"]:
                    return images, tally
        return None, Tally()

    def _mapped(self, count: int) -> Any:
        """The first `count` images. Raises OSError, and ValueError where there are fewer."""
        shape = (count, *self.shape)
        with self.file.open("rb") as file:
            file.seek(len(header(shape)))
            return Mapped(file, shape, np.dtype(np.uint8)) if count else np.empty(shape, np.uint8)

    def convert(self, tally: Tally) -> tuple[Any, Tally]:
        """Write the file, from where a process before this one has left off, and read it. Raises OSError."""
        shape, total = self.shape, self.conversion.total
        sweep(self.cache, self.name)
        if not tally.done:
            self.sidecar.unlink(missing_ok=True)  # at no time may an old one lie beside a new file
            self.file.unlink(missing_ok=True)  # who uses the old one goes on with it
        start = len(header((0, *shape)))
        left = (total - tally.done) * math.prod(shape) * (1 + self.conversion.shape.flip)
        if shutil.disk_usage(self.cache).free < left:
            raise OSError(f"the disk has less than {left / 1e9:.1f} GB left")
        before = f", from number {tally.done + 1:,} on" if tally.done else ""
        self.say(f"convert  {self.conversion.source}: {total:,} pictures, once, to {self.file}{before}")
        with self.file.open("r+b" if tally.done else "w+b") as file:
            file.seek(start + tally.images * math.prod(shape))
            saved = time.monotonic()
            said, begun, did = saved - SAY_SECONDS + SAVE_SECONDS, saved, -1
            for piece in map(self.conversion.shape.mirrored, self.conversion.pieces(tally)):
                file.write(piece.tobytes())
                tally.images += len(piece)
                now = time.monotonic()
                if did < 0:  # before the first piece the range of an array's numbers was found
                    begun, did = now, tally.done
                if now >= saved + SAVE_SECONDS:
                    keep(file)
                    self._note(tally)
                    saved = now
                if now >= said + SAY_SECONDS and tally.done > did:
                    seconds = (now - begun) / (tally.done - did) * max(0, total - tally.done)
                    ahead = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
                    self.say(f"convert  {tally.done:,} of {total:,}, {ahead} left")
                    said = now
            file.truncate()
            file.seek(0)
            file.write(header((tally.images, *shape)))
            keep(file)
        self._note(replace(tally, whole=True))
        images, tally = self._found()
        if not tally.whole:
            raise OSError("what was written there is something else when it is read")
        return images, tally

    def _note(self, tally: Tally) -> None:
        """Write the sidecar, all at once: JSON with a checksum. Raises OSError."""
        about = {"source": str(self.conversion.source), "state": self.conversion.state}
        facts = about | {"tally": asdict(tally), "fingerprint": fingerprint(self._mapped(tally.images))}
        content = json.dumps({"facts": facts, "crc": _checksum(facts)}, indent=1)
        write_atomically(self.sidecar, content.encode())


def cache_limit() -> float:
    """How much converted pictures may take together, in gigabytes: TINYGAN_CACHE_LIMIT. Raises UsageError."""
    text = os.environ.get("TINYGAN_CACHE_LIMIT") or str(LIMIT)
    with suppress(ValueError):
        if float(text) >= 0:
            return float(text)
    raise UsageError(f"TINYGAN_CACHE_LIMIT {text!r:.40} is not a number of gigabytes, such as 10.")


def tidy(cache: Path, limit: float, used: str) -> float:
    """Delete what is old, or more than `limit` gigabytes, but for the set `used`; returns the gigabytes left.
    Who uses a set writes its lock; who still uses a deleted one goes on with it. Raises OSError."""

    def busy(holder: str) -> None:
        raise CheckpointError(f"{holder} uses it.")

    sets: dict[str, list[os.stat_result]] = {}
    for path in cache.iterdir():
        with suppress(OSError):  # deleted meanwhile
            sets.setdefault(path.name.partition(".")[0], []).append(path.stat())
    taken = sum(facts.st_size for files in sets.values() for facts in files)
    last_used = {name: max(facts.st_mtime for facts in files) for name, files in sets.items()}
    for name in sorted(sets.keys() - {used, ""}, key=last_used.__getitem__):
        if taken > limit * 1e9 or last_used[name] < time.time() - DAYS * 86400:
            with suppress(OSError, CheckpointError), locked(cache / f"{name}.lock", busy):
                for path in set(cache.glob(f"{name}.*")) - {cache / f"{name}.lock"}:
                    path.unlink()
                taken -= sum(facts.st_size for facts in sets[name])
    return taken / 1e9


def header(shape: tuple[int, ...]) -> bytes:
    """What an .npy file of uint8 begins with: as many bytes for every number of images."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _checksum(facts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())
