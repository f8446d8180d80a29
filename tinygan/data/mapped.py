"""An array in a file, larger than memory if need be: what is asked for is read, and nothing is kept.

Once mapped, the file can be used as memory, and the operating system reads a page of it when it is touched
(https://man7.org/linux/man-pages/man2/mmap.2.html). It then counts as this process's memory until somebody
gives it back: so whatever is taken from a `Mapped` is a copy, and the pages go back at once.
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinygan.errors import DataError

CHUNK = 16 << 20  # bytes taken at once by who goes through all of an array


class Mapped:
    """The array of `shape` and `dtype`, in C order, that begins where the open `file` stands.

    ``images[3]``, ``images[3:5]`` and ``images[numbers]`` are arrays in memory, as NumPy's indexing gives.
    Raises ValueError where the file is too short, or the shape impossible.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path, self.shape, self.ndim, self.dtype = Path(file.name), shape, len(shape), dtype
        self.nbytes = math.prod(shape) * dtype.itemsize
        self._offset = file.tell()
        self._end = self._offset + self.nbytes
        self._memory = mmap.mmap(file.fileno(), self._end, access=mmap.ACCESS_READ)
        self._array = np.frombuffer(self._memory, dtype, math.prod(shape), self._offset).reshape(shape)
        self._advise("MADV_RANDOM")  # shuffled images have no neighbours to read ahead

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> Any:
        """A copy in memory. Raises DataError where the file has been cut since it was opened."""
        if self._memory.size() < self._end:  # to touch what is missing would kill the process
            raise DataError(f"{self.path} has become shorter while it was in use. Put the whole file back.")
        if isinstance(which, slice):
            start, stop, _ = which.indices(len(self))
            row = self.nbytes // len(self)
            first = (self._offset + start * row) // mmap.PAGESIZE * mmap.PAGESIZE
            if start < stop:
                self._advise("MADV_WILLNEED", first, self._offset + stop * row - first)
        taken = self._array[which]
        if not taken.flags.owndata:
            taken = taken.copy()
        self._advise("MADV_DONTNEED")
        return taken

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("the whole of a mapped array as one in memory: take parts of it")

    def _advise(self, what: str, *where: int) -> None:
        if hasattr(mmap, what):  # not on Windows
            self._memory.madvise(getattr(mmap, what), *where)


def chunks(images: Any) -> Iterator[np.ndarray]:
    """All of `images` (N, ...), an array or a `Mapped`, in parts of at most `CHUNK` bytes, or one image."""
    rows = max(1, CHUNK * len(images) // max(1, images.nbytes))
    for start in range(0, len(images), rows):
        yield images[start : start + rows]
