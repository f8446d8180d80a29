"""Pictures in a NumPy file: ``.npy``, or ``.npz`` with one array or one named ``images``.

A large ``.npy`` stays where it is, and parts of it are read as they are needed; if its images have another
size or dtype, it is converted once (see converted.py). An ``.npz`` is read as a whole.
"""

import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from tinygan.data.converted import Conversion, Tally, converted
from tinygan.data.dataset import Dataset, reading
from tinygan.data.mapped import CHUNK, Mapped, chunks
from tinygan.data.resize import fit_all
from tinygan.errors import DataError

PREFERRED = ("images", "x_train", "arr_0")  # where an .npz holds several arrays
LARGEST = 8 << 30  # bytes that are read into memory
LARGE = 256 << 20  # bytes, before or after conversion; more are mapped, and converted once for all runs


def load_array(
    path: Path, size: int, channels: int, limit: int | None, say: Callable[[str], object]
) -> Dataset:
    """The pictures of an array (N, H, W) or (N, H, W, C): bytes, or numbers in [0, 1], [-1, 1] or [0, 255].

    What is larger than `LARGE` and has to be converted is stored in the cache.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    shape, pixels = (size, size, channels), size * size * channels
    with reading(f"{path} cannot be read", ". Save it again."):
        facts = path.stat()  # before it is read: if it changes meanwhile, it is converted again
        if path.suffix == ".npz":
            array = read_npz(path)
        else:
            with path.open("rb") as file:
                array = read_npy(file, facts.st_size, str(path), limit, pixels, LARGE)
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise DataError(f"{path} holds shape {array.shape}. It needs (N, H, W) or (N, H, W, C), C 1 or 3.")
    if isinstance(array, np.ndarray):
        array = array[:limit]
    if array.dtype == np.uint8 and array.shape[1:] == shape:
        if isinstance(array, Mapped):
            gigabytes = f"{array.nbytes / 1e9:.1f} GB"
            say(f"data     {gigabytes} stay in {path}: read once now, for a digest, and then as needed")
        return Dataset(path.stem, array, str(path))
    row = max(array.nbytes // len(array), pixels)

    def pieces(tally: Tally) -> Iterator[np.ndarray]:
        add, times, tally.scale = range_of(array, path)
        rows = max(1, CHUNK // row)
        for start in range(tally.done, len(array), rows):
            part = array[start : start + rows]
            if tally.scale:
                part = np.rint((part + add) * times).astype(np.uint8)
            tally.done += len(part)
            yield fit_all(part, size, channels)

    state = f"{facts.st_size} {facts.st_mtime_ns}"
    limited = limit if limit == len(array) else None
    conversion = Conversion(path, state, len(array), shape, pieces, limited)
    images, tally, stored = converted(conversion, len(array) * row > LARGE, say)
    notes = [f"numbers  taken as {tally.scale}"] if tally.scale else []
    if array.shape[1:] != shape:
        height, width, depth = array.shape[1:]
        was, becomes = f"{height}x{width}x{depth}", f"{size}x{size}x{channels}"
        notes.append(f"resized  {len(array):,} images from {was} to {becomes}, from their centre squares")
    return Dataset(path.stem, images, str(path), (*notes, *stored))


def read_npz(path: Path) -> np.ndarray | Mapped:
    """The only array of an .npz file, or the one with the first of `PREFERRED` that it holds."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = members if len(members) == 1 else PREFERRED
        name = next((name for name in wanted if name in members), None)
        if name is None:
            raise DataError(f"{path} holds the arrays {sorted(members)}. Name one of them 'images'.")
        with archive.open(members[name]) as file:
            return read_npy(file, members[name].file_size, f"{name} in {path}")


def read_npy(
    file: IO[bytes], size: int, where: str, limit: int | None = None, pixels: int = 0, large: float = math.inf
) -> np.ndarray | Mapped:
    """The array in an open .npy file of `size` bytes, (N, H, W) as (N, H, W, 1).

    Where it is in C order and larger than `large` bytes, as it is or as bytes with `pixels` to an image, its
    first `limit` images are mapped. Everything else is read, after its header has been checked.

    Raises:
        DataError: it holds objects (which could run code), declares more or less than the file has, or is of
            an unknown version.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}; 1.0 and 2.0 are read. Save it again.")
    shape, fortran_order, dtype = readers[version](file)
    if dtype.kind not in "buif":
        raise DataError(f"{where} holds {dtype}. It needs whole or floating-point numbers.")
    shape = (*shape, 1) if len(shape) == 3 else shape
    declared, rows = math.prod(shape) * dtype.itemsize, shape[0] if shape else 0
    if declared != size - file.tell():
        raise DataError(f"{where} declares {declared:,} bytes and has {size - file.tell():,}. Save it again.")
    # In Fortran's order an image lies scattered over the whole file.
    if not fortran_order and max(declared, rows * pixels) > large:
        return Mapped(file, (min(rows, limit or rows), *shape[1:]), dtype)
    if declared > LARGEST:
        raise DataError(f"{where} declares {declared:,} bytes; up to {LARGEST:,} can be read into memory.")
    return np.frombuffer(file.read(declared), dtype).reshape(shape, order="F" if fortran_order else "C")


def range_of(array: np.ndarray | Mapped, path: Path) -> tuple[float, float, str]:
    """What to add to the numbers of `array`, then to multiply by, to have 0 .. 255, and the range they were
    taken to be in (empty for uint8)."""
    if array.dtype == np.uint8:
        return 0.0, 1.0, ""
    ends = np.array([(part.min(), part.max()) for part in chunks(array)])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if -1 <= low < 0 and high <= 1:
        return 1.0, 127.5, "[-1, 1]"
    if 0 <= low and high <= 1:
        return 0.0, 255.0, "[0, 1]"
    if 0 <= low and high <= 255:
        return 0.0, 1.0, "[0, 255]"
    raise DataError(  # NaN included
        f"{path} holds numbers from {low:g} to {high:g}. Bring them to [0, 1], [-1, 1] or [0, 255]."
    )
