"""Pictures in a NumPy file: ``.npy``, or ``.npz`` with one array or one named ``images``.

A large ``.npy`` stays where it is, and parts of it are read as they are needed; if its images have another
size, or are no bytes, it is converted once (see converted.py). An ``.npz`` is read as a whole.
"""

from __future__ import annotations

import math
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinygan.data.converted import Conversion, Tally, converted, in_memory
from tinygan.data.dataset import Dataset
from tinygan.data.mapped import CHUNK, Mapped, chunks
from tinygan.data.resize import fit_all
from tinygan.errors import DataError, one_line

NAMES = ("images", "x_train", "arr_0")  # preferred where an .npz holds several arrays
LARGEST = 8 << 30  # bytes that are read into memory
LARGE = 256 << 20  # bytes, before or after conversion; more are mapped, and converted once for all runs


def load_array(
    path: Path,
    size: int,
    channels: int,
    limit: int | None,
    cache: Path | None = None,
    say: Callable[[str], object] = print,
    large: int = LARGE,
) -> Dataset:
    """The pictures of an array (N, H, W) or (N, H, W, C): bytes, or numbers in [0, 1], [-1, 1] or [0, 255].

    What is larger than `large` and has to be converted is stored in the folder `cache`.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old header versions
            facts = path.stat()  # before it is read: if it changes meanwhile, it is converted again
            if path.suffix == ".npz":
                array = read_npz(path)
            else:
                array = read_npy_file(path, limit, size * size * channels, large)
    except DataError:
        raise
    except Exception as problem:  # a hostile header raises nearly anything, tokenize.TokenError included
        raise DataError(f"{path} cannot be read: {one_line(problem)}. Save it again.") from problem
    if isinstance(array, np.ndarray) and array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise DataError(f"{path} holds shape {array.shape}. It needs (N, H, W) or (N, H, W, C), C 1 or 3.")
    if isinstance(array, np.ndarray):
        array = array[:limit]
    if array.dtype == np.uint8 and array.shape[1:] == (size, size, channels):
        if isinstance(array, Mapped):
            gigabytes = f"{array.nbytes / 1e9:.1f} GB"
            say(f"data     {gigabytes} stay in {path}: read once now, for a digest, and then as needed")
        return Dataset(path.stem, array, str(path))
    row = max(array.nbytes // len(array), size * size * channels)

    def pieces(tally: Tally) -> Iterator[np.ndarray]:
        add, times, tally.scale = range_of(array, path)
        rows = max(1, CHUNK // row)
        for start in range(tally.done, len(array), rows):
            part = array[start : start + rows]
            if tally.scale:
                part = np.rint((part + add) * times).astype(np.uint8)
            tally.done += len(part)
            yield fit_all(part, size, channels)

    shape = (size, size, channels)
    state = f"{facts.st_size} {facts.st_mtime_ns}"
    limited = limit if limit == len(array) else None
    conversion = Conversion(path, state, len(array), shape, pieces, limited)
    if len(array) * row > large:
        images, tally, stored = converted(conversion, cache, say)
    else:
        images, tally = in_memory(conversion)
        stored = ()
    notes = [f"numbers  taken as {tally.scale}"] if tally.scale else []
    if array.shape[1:] != shape:
        height, width, depth = array.shape[1:]
        was, becomes = f"{height}x{width}x{depth}", f"{size}x{size}x{channels}"
        notes.append(f"resized  {len(array):,} images from {was} to {becomes}, from their centre squares")
    return Dataset(path.stem, images, str(path), (*notes, *stored))


def read_npy_file(path: Path, limit: int | None, pixels: int, large: int) -> np.ndarray | Mapped:
    """The array of an .npy file; the first `limit` images, mapped, if they are large.

    They are if they take more than `large` bytes, as they are or as bytes with `pixels` to an image.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        shape, fortran_order, dtype = read_header(file, str(path))
        declared = math.prod(shape) * dtype.itemsize
        rows = shape[0] if shape else 0
        # In Fortran's order an image lies scattered over the whole file.
        if not fortran_order and max(declared, rows * pixels) > large:
            if declared != length - file.tell():
                raise DataError(f"{path} declares {declared:,} bytes and has {length - file.tell():,}.")
            if len(shape) == 3:
                shape = (*shape, 1)
            return Mapped(file, (min(rows, limit or rows), *shape[1:]), dtype)
        file.seek(0)
        return read_npy(file, length, str(path))


def read_npz(path: Path) -> np.ndarray:
    """The only array of an .npz file, or the one with the first of `NAMES` that it holds."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        name = next(iter(members)) if len(members) == 1 else next((n for n in NAMES if n in members), None)
        if name is None:
            raise DataError(f"{path} holds the arrays {sorted(members)}. Name one of them 'images'.")
        with archive.open(members[name]) as file:
            return read_npy(file, members[name].file_size, f"{name} in {path}")


def read_npy(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """The array in an open .npy file of `size` bytes; the header is checked before memory is taken.

    Raises:
        DataError: it holds objects (which could run code), or declares more or less than the file has.
    """
    shape, fortran_order, dtype = read_header(file, where)
    declared = math.prod(shape) * dtype.itemsize
    if not 0 <= declared <= min(size, LARGEST):  # below 0, too: a read of -1 bytes is a read of all
        raise DataError(f"{where} declares {declared:,} bytes and has at most {min(size, LARGEST):,}.")
    data = file.read(declared)
    if len(data) != declared or file.read(1):
        raise DataError(f"{where} does not hold the {declared:,} bytes it declares. Save it again.")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran's order or not, and dtype of the open .npy file, which then stands at its numbers.

    Raises:
        DataError: it holds objects, or is of an unknown version.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}; 1.0 and 2.0 are read. Save it again.")
    shape, fortran_order, dtype = readers[version](file)
    if dtype.kind not in "buif":
        raise DataError(f"{where} holds {dtype}. It needs whole or floating-point numbers.")
    return shape, fortran_order, dtype


def range_of(array: np.ndarray | Mapped, path: Path) -> tuple[float, float, str]:
    """What to add to the numbers of `array`, then to multiply by, to have 0 .. 255, and the range they were
    taken to be in (empty for uint8)."""
    if array.dtype == np.uint8:
        return 0.0, 1.0, ""
    ends = [(part.min(), part.max()) for part in chunks(array)]
    low, high = (float(end) for end in (np.min([low for low, _ in ends]), np.max([high for _, high in ends])))
    if -1 <= low < 0 and high <= 1:
        return 1.0, 127.5, "[-1, 1]"
    if 0 <= low and high <= 1:
        return 0.0, 255.0, "[0, 1]"
    if 0 <= low and high <= 255:
        return 0.0, 1.0, "[0, 255]"
    raise DataError(  # NaN, too
        f"{path} holds numbers from {low:g} to {high:g}. Bring them to [0, 1], [-1, 1] or [0, 255]."
    )
