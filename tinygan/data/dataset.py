"""What a data set is: pictures as bytes, in memory or in a file, their shape, and where they came from."""

import hashlib
import logging
import math
import mmap
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from tinygan.errors import DataError, TinyganError, one_line, plural

FINGERPRINTED = 64  # images that a fingerprint is made of
CHUNK = 16 << 20  # bytes taken at once by who goes through all of an array
WAYS = {
    "crop": "from their centre squares",
    "pad": "whole, between black bars where they are not square",
    "stretch": "stretched to squares where they are none",
}


class Shape(NamedTuple):
    """What pictures are brought to, and how: `resize` is one of `WAYS`; `flip` adds their mirror images."""

    size: int
    channels: int  # 1 or 3
    resize: str = "crop"
    flip: bool = False

    @property
    def image(self) -> tuple[int, int, int]:
        return self.size, self.size, self.channels

    def mirrored(self, images: np.ndarray) -> np.ndarray:
        """`images` (N, H, W, C), followed by their mirror images if those were asked for."""
        return np.concatenate([images, images[:, :, ::-1]]) if self.flip else images

    def remarks(self, what: str, area: int, square: int, small: int) -> Iterator[str]:
        """Notes on `what` was resized: `area`, `square` and `small` as `converted.Tally` has them."""
        yield f"resized  {what}, {WAYS[self.resize]}"
        if self.resize == "crop" and 3 * square < 2 * area:
            lost = f"{1 - square / area:.0%} of the pictures' area lies outside their centre squares"
            yield f"note     {lost}: --resize pad or stretch keeps all of it"
        if small:
            yield f"note     {small:,} pictures are smaller than half of --size {self.size}: they get blurred"


@dataclass(frozen=True)
class Dataset:
    """Pictures, and what a user should know about them."""

    name: str  # "fashion-mnist", "strokes", or the name of a folder or file
    images: Any  # (N, H, W, C) uint8: an array, or a `Mapped` one, of which parts are taken
    source: str  # where they came from, in words
    notes: tuple[str, ...] = ()  # lines the user should see: what was left out, converted, assumed
    files: tuple[str, ...] = ()  # the names of picture files, where it was made of those

    @cached_property
    def sha256(self) -> str:
        """A digest of the shape and every pixel: two sets are the same if and only if these are."""
        return _digest(self.images.shape, chunks(self.images))

    def census(self) -> str:
        """How many images there were before, pixel by pixel, and how many are of one colour, in words."""
        blank, seen = 0, [np.zeros(0, np.int64)]
        for part in chunks(self.images):
            blank += int((part == part[:, :1, :1]).all((1, 2, 3)).sum())
            seen.append(np.array([hash(image.tobytes()) for image in part]))
        again = len(self.images) - len(np.unique(np.concatenate(seen)))
        return f"{plural(again, 'duplicate')}, {blank:,} blank"


class Mapped:
    """The array of `shape` and `dtype`, in C order, that begins where the open `file` stands; of any size.
    ``images[3]``, ``images[3:5]`` and ``images[numbers]`` are copies in memory, as NumPy's indexing gives. A
    page that was touched counts as this process's memory (https://man7.org/linux/man-pages/man2/mmap.2.html),
    so it is given back at once. Raises ValueError where the file is too short, or the shape impossible."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.ndim, self.dtype = Path(file.name), shape, len(shape), dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._end = file.tell() + self.nbytes
        self._memory = mmap.mmap(file.fileno(), self._end, access=mmap.ACCESS_READ)
        self._array = np.frombuffer(self._memory, dtype, math.prod(shape), file.tell()).reshape(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        """A copy in memory. Raises DataError where the file has been cut since it was opened."""
        if self._memory.size() < self._end:  # to touch what is missing would kill the process
            raise DataError(f"{self.path} has become shorter while it was in use. Put the whole file back.")
        # Shuffled images have no neighbours to read ahead.
        self._advise("MADV_SEQUENTIAL" if isinstance(which, slice) else "MADV_RANDOM")
        taken = self._array[which]
        taken = taken if taken.flags.owndata else taken.copy()
        self._advise("MADV_DONTNEED")
        return taken

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("the whole of a mapped array as one in memory: take parts of it")

    def _advise(self, what: str) -> None:
        if hasattr(mmap, what):  # not on Windows
            self._memory.madvise(getattr(mmap, what))


def chunks(images: Any) -> Iterator[np.ndarray]:
    """All of `images` (N, ...), an array or a `Mapped`, in parts of at most `CHUNK` bytes, or one image."""
    rows = max(1, CHUNK * len(images) // max(1, images.nbytes))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def fingerprint(images: Any) -> str:
    """A digest of the shape of `images`, and of some spread evenly over them: enough to notice others."""
    return _digest(images.shape, [spread(images, FINGERPRINTED)])


def spread(images: Any, count: int) -> np.ndarray:
    """`count` of the `images`, or all if there are fewer, evenly spread over them."""
    numbers = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    parts = np.array_split(numbers, 1 + len(numbers) // FINGERPRINTED)  # each maps memory around its images
    return np.concatenate([images[part] for part in parts])


def _digest(shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


@contextmanager
def reading(before: str = "", after: str = "") -> Iterator[None]:
    """As `refusing`; and no thread warns of old headers, odd metadata or damaged pictures."""
    log, silent = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(silent)  # without any handler its lines would go to stderr
    try:
        with warnings.catch_warnings(), refusing(before, after):
            warnings.simplefilter("ignore")  # in the whole process: not in several threads at once
            yield
    finally:
        log.removeHandler(silent)


@contextmanager
def refusing(before: str = "", after: str = "") -> Iterator[None]:
    """Within this, what readers raise on hostile files is a `DataError`: `before`, colon, reason, `after`."""
    before = before and f"{before}: "
    try:
        yield
    except TinyganError:
        raise
    except MemoryError as full:
        remedy = after and ". Free some, or use other data."
        raise DataError(f"{before}more than there is memory for{remedy}") from full
    except Exception as problem:  # SyntaxError and tokenize.TokenError included
        reason = re.sub(" <.*>", "", one_line(problem))  # Pillow names objects
        raise DataError(f"{before}{reason}{after}") from problem


def normalise(images: Any) -> Any:
    """Bytes 0 .. 255 to float32 in [-1, 1], the range of the generator's tanh: (x - 127.5) / 127.5.

    >>> normalise(np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)"""
    return (images.astype(np.float32) - 127.5) / 127.5
