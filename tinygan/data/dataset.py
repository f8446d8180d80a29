"""A data set: pictures as bytes, in memory or in a file, with their shape and where they came from."""

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

FINGERPRINTED = 64  # images in a fingerprint
CHUNK = 16 << 20  # bytes per chunk when a whole array is read
WAYS = {
    "crop": "cropped to their centre squares",
    "pad": "padded to squares with black bars",
    "stretch": "stretched to squares",
}


class Shape(NamedTuple):
    """The shape pictures are converted to: `resize`, one of `WAYS`, says how; `flip` adds mirror images."""

    size: int
    channels: int  # 1 or 3
    resize: str = "crop"
    flip: bool = False

    @property
    def image(self) -> tuple[int, int, int]:
        return self.size, self.size, self.channels

    def mirrored(self, images: np.ndarray) -> np.ndarray:
        """`images` (N, H, W, C), followed by their mirror images if `flip`."""
        return np.concatenate([images, images[:, :, ::-1]]) if self.flip else images

    def remarks(self, what: str, area: int, square: int, small: int) -> Iterator[str]:
        """Yield notes on resizing `what`; `area`, `square` and `small` are as in `converted.Tally`."""
        yield f"resized  {what}, {WAYS[self.resize]}"
        if self.resize == "crop" and 3 * square < 2 * area:
            lost = f"{1 - square / area:.0%} of the pictures' area is outside their centre squares"
            yield f"note     {lost}: --resize pad or stretch keeps all of it"
        if small:
            yield f"note     --size {self.size} blurs {plural(small, 'picture')} of less than half that size"


@dataclass(frozen=True)
class Dataset:
    """Pictures, and what a user should know about them."""

    name: str  # "fashion-mnist", "strokes", or the name of a folder or file
    images: Any  # (N, H, W, C) uint8: an array, or a `Mapped` to index or slice
    source: str  # where they came from, in words
    notes: tuple[str, ...] = ()  # lines the user should see: what was left out, converted, assumed
    files: tuple[str, ...] = ()  # the names of the picture files, if it was made from files

    @cached_property
    def sha256(self) -> str:
        """A digest of the shape and every pixel: two sets are equal if and only if these are."""
        return _digest(self.images.shape, chunks(self.images))

    def census(self) -> str:
        """Say how many images repeat an earlier one, pixel by pixel, and how many have a single colour."""
        blank, seen = 0, [np.zeros(0, np.int64)]
        for part in chunks(self.images):
            blank += int((part == part[:, :1, :1]).all((1, 2, 3)).sum())
            seen.append(np.array([hash(image.tobytes()) for image in part]))
        again = len(self.images) - len(np.unique(np.concatenate(seen)))
        return f"{plural(again, 'duplicate')}, {blank:,} blank"


class Mapped:
    """An array of `shape` and `dtype`, in C order and of any size, mapped from the open `file`'s position on.
    ``images[3]``, ``images[3:5]`` and ``images[numbers]`` are copies in memory, as with NumPy's indexing. A
    page that was read counts as this process's memory (https://man7.org/linux/man-pages/man2/mmap.2.html),
    so it is released at once. Raises: ValueError if the file is too short or the shape impossible."""

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.ndim, self.dtype = Path(file.name), shape, len(shape), dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._end = file.tell() + self.nbytes
        self._memory = mmap.mmap(file.fileno(), self._end, access=mmap.ACCESS_READ)
        self._array = np.frombuffer(self._memory, dtype, math.prod(shape), file.tell()).reshape(shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        """Return a copy in memory. Raises: DataError if the file was truncated after it was opened."""
        if self._memory.size() < self._end:  # reading past the end would kill the process
            raise DataError(f"{self.path} became shorter while in use. Restore the whole file.")
        # For shuffled images, reading ahead is useless.
        self._advise("MADV_SEQUENTIAL" if isinstance(which, slice) else "MADV_RANDOM")
        taken = self._array[which]
        taken = taken if taken.flags.owndata else taken.copy()
        self._advise("MADV_DONTNEED")
        return taken

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a mapped array does not go into memory whole: index or slice it")

    def _advise(self, what: str) -> None:
        if hasattr(mmap, what):  # not on Windows
            self._memory.madvise(getattr(mmap, what))


def chunks(images: Any) -> Iterator[np.ndarray]:
    """Yield all `images` (N, ...), an array or `Mapped`, in parts of at most `CHUNK` bytes, or one image."""
    rows = max(1, CHUNK * len(images) // max(1, images.nbytes))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]


def fingerprint(images: Any) -> str:
    """Return a digest of the shape and of a few evenly spaced `images`: enough to notice other data."""
    return _digest(images.shape, [spread(images, FINGERPRINTED)])


def spread(images: Any, count: int) -> np.ndarray:
    """Return `count` evenly spaced `images`, or all if there are fewer."""
    numbers = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    parts = np.array_split(numbers, 1 + len(numbers) // FINGERPRINTED)  # each maps memory near its images
    return np.concatenate([images[part] for part in parts])


def _digest(shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


@contextmanager
def reading(before: str = "", after: str = "") -> Iterator[None]:
    """As `refusing`, without warnings from any thread of old headers, odd metadata or damaged pictures."""
    log, silent = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(silent)  # without a handler, messages would go to stderr
    try:
        with warnings.catch_warnings(), refusing(before, after):
            warnings.simplefilter("ignore")  # process-wide: not for use in several threads at once
            yield
    finally:
        log.removeHandler(silent)


@contextmanager
def refusing(before: str = "", after: str = "") -> Iterator[None]:
    """Turn any error of a reader, on hostile files, into a `DataError`: `before`, colon, reason, `after`."""
    before = before and f"{before}: "
    try:
        yield
    except TinyganError:
        raise
    except MemoryError as full:
        remedy = after and ". Free some memory or use other data."
        raise DataError(f"{before}it does not fit in memory{remedy}") from full
    except Exception as problem:  # SyntaxError and tokenize.TokenError included
        reason = re.sub(" <.*>", "", one_line(problem))  # Pillow's texts include object addresses
        raise DataError(f"{before}{reason}{after}") from problem


def normalise(images: Any) -> Any:
    """Map bytes 0 .. 255 to float32 in [-1, 1], the range of the generator's tanh: (x - 127.5) / 127.5.

    >>> normalise(np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)"""
    return (images.astype(np.float32) - 127.5) / 127.5
