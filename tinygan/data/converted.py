"""Convert pictures to the model's size once, into a file that later runs reuse.

    <name>.npy         the pictures
    <name>.npy.json    the sidecar: their source, their number, and the progress as of seconds ago
    <name>.lock        locked by the process that checks or writes the file

A file is reused if its sidecar matches the source's current state and a sample of the pictures. Files unused
for `DAYS` are deleted; above TINYGAN_CACHE_LIMIT gigabytes, so are the least recently used."""

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

SAVE_SECONDS = 5.0  # between two saves of the progress
SAY_SECONDS = 30.0  # between two lines of progress; the first comes with the first save
WAIT_SECONDS = 1.0  # before a line says that another process is converting the same pictures
NAMED = 5  # unreadable files to name; the others are counted
DAYS = 90
LIMIT = 10.0  # gigabytes, of 10^9 bytes


@dataclass
class Tally:
    """The progress of a conversion, and what to report about it."""

    done: int = 0  # files, or images of an array, processed so far
    images: int = 0  # made from them, mirror images included
    resized: int = 0
    transparent: int = 0
    coloured: int = 0  # turned from colour to grey
    small: int = 0  # with a side of less than half the target size
    area: int = 0  # of all pictures together, in pixels
    square: int = 0  # of their centre squares
    unreadable: int = 0
    named: list[str] = field(default_factory=list)  # the first `NAMED` unreadable files, with the reasons
    scale: str = ""  # the assumed range of an array's numbers
    whole: bool = False  # nothing is left to convert


class Conversion(NamedTuple):
    source: Path
    state: str  # a digest that changes when the source does
    total: int  # files, or images of an array; each gives at most one image and its mirror image
    shape: Shape
    pieces: Callable[[Tally], Iterator[np.ndarray]]  # yields (K, H, W, C) uint8 and updates the tally
    limit: int | None = None  # how many, if only the first images are wanted


def converted(conversion: Conversion, is_large: bool, say: Printer) -> tuple[Any, Tally, list[str]]:
    """Return the images (N, H, W, C) uint8, their tally, and notes on where they are stored. If `is_large`,
    that is a file in the cache, made or completed first, or memory if the cache cannot be written."""
    notes = []
    if is_large:
        cache, limit = "the cache", cache_limit()
        try:
            cache = cache_folder() / "pictures"
            stored = Stored(cache, conversion, say)
            images, tally = stored.images()
            facts = f"{images.nbytes / 1e6:,.0f} MB of converted pictures in {stored.file}, safe to delete"
            taken = tidy(cache, limit, stored.name)
            return images, tally, [f"stored   {facts} (the cache uses {taken:.1f} of {limit:g} GB)"]
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
    """The cache files of one conversion."""

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
        """Return the images, from an existing file if good. Raises: OSError; as `Conversion.pieces`."""
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            with locked(self.lock, self._waiting):
                images, tally = self._found()
                try:
                    return (images, tally) if tally.whole else self.convert(tally)
                except (OSError, DataError):  # perhaps the disk is full, and the run needs space
                    self.file.unlink(missing_ok=True)
                    raise
        except (OSError, CheckpointError):
            images, tally = self._found()
            if tally.whole:  # a read-only cache is still useful
                return images, tally
            raise

    def _waiting(self, holder: str) -> None:
        if time.monotonic() > self.patient_until:
            self.say(f"convert  waiting for {holder}: {self.lock}")
            self.patient_until = float("inf")

    def _found(self) -> tuple[Any, Tally]:
        """Return the file's images, or None if it is missing, damaged or made from an older source."""
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
        """Map the first `count` images. Raises: OSError; ValueError if there are fewer."""
        shape = (count, *self.shape)
        with self.file.open("rb") as file:
            file.seek(len(header(shape)))
            return Mapped(file, shape, np.dtype(np.uint8)) if count else np.empty(shape, np.uint8)

    def convert(self, tally: Tally) -> tuple[Any, Tally]:
        """Write the file, resuming where another process stopped, and read it. Raises: as `images`."""
        shape, total = self.shape, self.conversion.total
        sweep(self.cache, self.name)
        if not tally.done:
            self.sidecar.unlink(missing_ok=True)  # an old sidecar must never accompany a new file
            self.file.unlink(missing_ok=True)  # processes that have mapped the old file keep it
        start = len(header((0, *shape)))
        left = (total - tally.done) * math.prod(shape) * (1 + self.conversion.shape.flip)
        if shutil.disk_usage(self.cache).free < left:
            raise OSError(f"the disk has less than {left / 1e9:.1f} GB free")
        before = f", resuming at number {tally.done + 1:,}" if tally.done else ""
        self.say(f"convert  {self.conversion.source}: {total:,} pictures, once, into {self.file}{before}")
        with self.file.open("r+b" if tally.done else "w+b") as file:
            file.seek(start + tally.images * math.prod(shape))
            saved = time.monotonic()
            said, begun, did = saved - SAY_SECONDS + SAVE_SECONDS, saved, -1
            for piece in map(self.conversion.shape.mirrored, self.conversion.pieces(tally)):
                file.write(piece.tobytes())
                tally.images += len(piece)
                now = time.monotonic()
                if did < 0:  # do not count the search for the range of an array's numbers
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
            raise OSError("the file reads back differently than it was written")
        return images, tally

    def _note(self, tally: Tally) -> None:
        """Replace the sidecar atomically: JSON with a checksum. Raises: OSError."""
        about = {"source": str(self.conversion.source), "state": self.conversion.state}
        facts = about | {"tally": asdict(tally), "fingerprint": fingerprint(self._mapped(tally.images))}
        content = json.dumps({"facts": facts, "crc": _checksum(facts)}, indent=1)
        write_atomically(self.sidecar, content.encode())


def cache_limit() -> float:
    """Read TINYGAN_CACHE_LIMIT, the most gigabytes that all conversions may take. Raises: UsageError."""
    text = os.environ.get("TINYGAN_CACHE_LIMIT") or str(LIMIT)
    with suppress(ValueError):
        if float(text) >= 0:
            return float(text)
    raise UsageError(f"TINYGAN_CACHE_LIMIT {text!r:.40} is not a size in gigabytes. Use a number such as 10.")


def tidy(cache: Path, limit: float, used: str) -> float:
    """Delete sets that are old or above `limit` gigabytes, but not `used`; return the gigabytes left. A set's
    lock file dates its last use; a process that has mapped a deleted set keeps it. Raises: OSError."""

    def busy(holder: str) -> None:
        raise CheckpointError(f"{holder} is using it.")

    sets: dict[str, list[os.stat_result]] = {}
    for path in cache.iterdir():
        with suppress(OSError):  # deleted in the meantime
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
    """Return the header of a uint8 .npy file; it is as long for any number of images."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _checksum(facts: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())
