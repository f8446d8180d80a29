"""Pictures in a NumPy file: ``.npy``, or ``.npz`` with one array or one named ``images``."""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from tinygan.data.dataset import Dataset
from tinygan.data.resize import fit_all
from tinygan.errors import DataError, one_line

NAMES = ("images", "x_train", "arr_0")  # preferred where an .npz holds several arrays
LARGEST = 8 << 30  # bytes


def load_array(path: Path, size: int, channels: int, limit: int | None) -> Dataset:
    """The pictures of an array (N, H, W) or (N, H, W, C): bytes, or numbers in [0, 1], [-1, 1] or [0, 255].

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old header versions
            array = read_npz(path) if path.suffix == ".npz" else read_npy_file(path)
    except DataError:
        raise
    except Exception as problem:  # a hostile header raises nearly anything, tokenize.TokenError included
        raise DataError(f"{path} cannot be read: {one_line(problem)}. Save it again.") from problem
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise DataError(f"{path} holds shape {array.shape}. It needs (N, H, W) or (N, H, W, C), C 1 or 3.")
    array = array[:limit]
    pixels, scale = to_bytes(array, path)
    notes = [f"numbers  taken as {scale}"] if scale else []
    if array.shape[1:] != (size, size, channels):
        height, width, depth = array.shape[1:]
        was, becomes = f"{height}x{width}x{depth}", f"{size}x{size}x{channels}"
        notes.append(f"resized  {len(array):,} images from {was} to {becomes}, from their centre squares")
    return Dataset(path.stem, fit_all(pixels, size, channels), str(path), tuple(notes))


def read_npy_file(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return read_npy(file, path.stat().st_size, str(path))


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
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}; 1.0 and 2.0 are read. Save it again.")
    shape, fortran_order, dtype = readers[version](file)
    if dtype.kind not in "buif":
        raise DataError(f"{where} holds {dtype}. It needs whole or floating-point numbers.")
    declared = math.prod(shape) * dtype.itemsize
    if not 0 <= declared <= min(size, LARGEST):  # below 0, too: a read of -1 bytes is a read of all
        raise DataError(f"{where} declares {declared:,} bytes and has at most {min(size, LARGEST):,}.")
    data = file.read(declared)
    if len(data) != declared or file.read(1):
        raise DataError(f"{where} does not hold the {declared:,} bytes it declares. Save it again.")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def to_bytes(array: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """`array` as uint8 0 .. 255, and in which range its numbers were taken to be (empty for uint8)."""
    if array.dtype == np.uint8:
        return array, ""
    low, high = float(array.min()), float(array.max())
    if -1 <= low < 0 and high <= 1:
        scaled, scale = (array + 1.0) * 127.5, "[-1, 1]"
    elif 0 <= low and high <= 1:
        scaled, scale = array * 255.0, "[0, 1]"
    elif 0 <= low and high <= 255:
        scaled, scale = array * 1.0, "[0, 255]"
    else:  # NaN, too
        raise DataError(
            f"{path} holds numbers from {low:g} to {high:g}. Bring them to [0, 1], [-1, 1] or [0, 255]."
        )
    return np.rint(scaled).astype(np.uint8), scale
