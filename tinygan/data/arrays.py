"""Pictures stored as numbers: NumPy files, CSV tables, MNIST's IDX and CIFAR-10's binary version."""

import gzip
import itertools
import math
import re
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np

from tinygan.arrays import ARRAY
from tinygan.data.collection import METHODS, Collection
from tinygan.data.converted import Conversion, Tally, converted
from tinygan.data.dataset import CHUNK, Dataset, Mapped, Shape, chunks, reading, refusing
from tinygan.data.pictures import LOST, coloured, fit_all
from tinygan.errors import DataError, Printer, pasted, plural

# Array names to prefer, best first, if several arrays of an .npz could be pictures.
PREFERRED = {
    "train": ("train_images", "x_train", "X_train", "images", "imgs", "image", "data", "x", "X", "arr_0"),
    "test": ("test_images", "x_test", "X_test"),
}
LARGEST = 1 << 29  # bytes: the most that is read into memory at once
LARGEST_IDX = 3 << 28  # bytes: enough for EMNIST's 547 million pixels
LARGE = 256 << 20  # bytes, before or after conversion: larger arrays are mapped, conversions are cached
LINE = 1 << 20  # characters: longer lines of a table are cut
LABELS = ("label", "labels", "class", "target", "y")
CIFAR = 3 * 32 * 32  # bytes of a picture, which follow its label of one byte
MAGIC = bytes([0, 0, 8, 3])  # how an IDX file starts: unsigned bytes, three dimensions
# The maxima of data with other than 256 levels: 1, 4, 10, 12 and 14 bits, and 16 in scikit-learn's digits.
LEVELS = (1, 15, 16, 1023, 4095, 16383)

# Images (N, H, W, C) or (N, C, H, W), an array or a `Mapped`; and the words that name them in messages.
Stack: TypeAlias = tuple[Any, str]


def from_stack(
    stack: Stack, path: Path, state: str, shape: Shape, limit: int | None, say: Printer
) -> Dataset:
    """Turn a `Stack` from `path` into a data set; `state` changes when the file does. Raises: DataError."""
    images, where = stack
    images = images[:limit] if isinstance(images, np.ndarray) else images
    planes = images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3)  # channels come first
    total, was = len(images), (*images.shape[2:], images.shape[1]) if planes else images.shape[1:]
    if not total:
        raise DataError(f"{where} has no pictures. Use other data.")
    notes = [f"layout   {where} has its channels first, {images.shape}; moved them last"] * planes
    as_it_is = images.dtype == np.uint8 and was == shape.image and not (planes or shape.flip)
    if as_it_is and not scale_of(images, where).words:
        if isinstance(images, Mapped):
            gigabytes = f"{images.nbytes / 1e9:.1f} GB"
            say(f"data     {gigabytes} stay in {path}: read once now for a checksum, then as needed")
        return Dataset(path.stem, images, where)
    row = max(images.nbytes // total, math.prod(shape.image))

    def pieces(tally: Tally) -> Iterator[np.ndarray]:
        scale, rows = scale_of(images, where), max(1, CHUNK // row)
        tally.scale = scale.words
        for start in range(tally.done, total, rows):
            part = scale.pixels(images[start : start + rows])
            part = part.transpose(0, 2, 3, 1) if planes else part
            tally.done += len(part)
            tally.coloured += coloured(part, shape)
            yield fit_all(part, shape)

    limited = limit if limit == total else None  # a program's array has no `state`: it is never cached
    conversion = Conversion(path, f"{state} {where}", total, shape, pieces, limited)
    made, tally, stored = converted(conversion, bool(state) and total * row > LARGE, say)
    notes += [f"numbers  assumed to be in {tally.scale}"] if tally.scale else []
    notes += [f"note     {plural(tally.coloured, 'colour picture')} {LOST}"] if tally.coloured else []
    if was != shape.image:
        from_, to = ("x".join(map(str, image)) for image in (was, shape.image))
        what, side = f"{plural(total, 'image')} from {from_} to {to}", min(was[:2])
        notes += shape.remarks(what, was[0] * was[1], side**2, total * (2 * side < shape.size))
    return Dataset(path.stem, made, where, (*notes, *stored))


def from_array(pictures: Any, shape: Shape, limit: int | None, say: Printer) -> Dataset:
    """Turn an array, or anything that NumPy can convert to one, into a data set. Raises: DataError."""
    with refusing("the array cannot be read", ". Pass a NumPy array."):
        array = np.asarray(pictures)
    images = array.reshape(layout(array.shape, array.dtype, "the array"))
    made = from_stack((images, "the array"), Path(ARRAY), "", shape, limit, say)
    own = made.images.copy() if np.may_share_memory(made.images, array) else made.images
    return replace(made, images=own)  # later changes to the program's array have no effect


class Scale(NamedTuple):
    """How numbers become bytes: ``(numbers + add) * times``."""

    add: float
    times: float
    words: str  # the assumed range; empty for bytes that stay as they are

    def pixels(self, numbers: np.ndarray) -> np.ndarray:
        """Convert `numbers` to uint8, of the same shape."""
        if not self.words:
            return numbers
        wide = numbers.astype(np.result_type(numbers, np.float32), copy=False)
        return np.clip(np.rint((wide + self.add) * self.times), 0, 255).astype(np.uint8)


def scale_of(array: Any, where: str) -> Scale:
    """Find the `Scale` of the whole `array`. Raises: DataError for NaN, infinity or an ambiguous range."""
    low, high, whole = np.inf, -np.inf, True
    for part in chunks(array):
        if array.dtype == np.uint8 and part.max() > 16:
            return Scale(0, 1, "")
        whole = whole and (part.dtype.kind in "bui" or bool((part == np.rint(part)).all()))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        if not np.isfinite(high - low):
            raise DataError(f"{where} holds numbers that are not finite (NaN or infinity). Replace them.")

    if whole and low >= 0 and high in LEVELS:
        return Scale(0, 255 / high, f"[0, {high:g}]")
    for bottom, top, is_clear, scale in (
        (0, 1, not whole, Scale(0, 255, "[0, 1]")),
        (-1, 1, low < 0, Scale(1, 127.5, "[-1, 1]")),
        (0, 255, True, Scale(0, 1, "" if array.dtype == np.uint8 else "[0, 255]")),
        (-128, 128, low < -64, Scale(128, 1, "[-128, 127]")),
        (0, 65535, high > LEVELS[-1], Scale(0, 255 / 65535, "[0, 65535]")),
    ):
        slack = 0 if whole else 0.001 * (top - bottom)  # floating-point numbers can overshoot a little
        if is_clear and bottom - slack <= low and high <= top + slack:
            return scale
    wanted = "[0, 1], [-1, 1] or [0, 255]"
    raise DataError(f"{where} holds numbers from {low:g} to {high:g}. Rescale them to {wanted}.")


def read_npz(path: Path, split: str) -> Stack:
    """Read the array of an .npz that can be pictures; of several, the one of `split`. Raises: DataError."""
    found: dict[str, tuple[zipfile.ZipInfo, tuple[int, ...]]] = {}
    with zipfile.ZipFile(path) as archive:
        for info in (info for info in archive.infolist() if info.filename.endswith(".npy")):
            name = info.filename.removesuffix(".npy")
            if info.compress_type not in METHODS:
                raise DataError(f"{name} in {path} is not compressed the way NumPy does. Save it again.")
            with archive.open(info) as file:
                found[name] = info, read_header(file, f"{name} in {path}")[0]
        # An array with separate height and width is never a table of labels; a flat one could be.
        likely = {name: len(shape) for name, (_, shape) in found.items() if laid_out(shape)}
        names = [name for name, depth in likely.items() if depth > 2] or list(likely)
        if len(names) != 1:
            of_split = [name for name in names if split in re.split("[^a-z]+", name.lower())]
            names = [name for name in PREFERRED[split] if name in names] or of_split
        if not names:
            shapes = ", ".join(f"{name} {shape}" for name, (_, shape) in found.items())
            raise DataError(f"{path} holds {shapes or 'nothing'}. Name the array of pictures 'images'.")
        info, where = found[names[0]][0], str(path) if len(found) == 1 else f"{names[0]} in {path}"
        if info.file_size > LARGEST:
            unpack = pasted("python", "-m", "zipfile", "-e", str(path), str(path.with_suffix("")))
            remedy = f"Unpack it with {unpack} and use --data {path.with_suffix('') / info.filename}."
            raise DataError(f"{where} has {info.file_size:,} bytes, more than {LARGEST:,}. {remedy}")
        with archive.open(info) as file:
            return read_npy(file, info.file_size, where)


def read_npy(file: IO[bytes], size: int, where: str, limit: int | None = None, pixels: int = 0) -> Stack:
    """Read the array in an open .npy file of `size` bytes, reshaped as `laid_out` does. If it is in C order
    and takes more than `LARGE` bytes, as stored or as images of `pixels` bytes each, map its first `limit`
    images instead. Raises: DataError for objects (they can run code), a wrong length, an unknown version."""
    shape, fortran_order, dtype = read_header(file, where)
    laid = layout(shape, dtype, where)
    declared = math.prod(shape) * dtype.itemsize
    if declared != size - file.tell():
        raise DataError(f"{where} declares {declared:,} bytes but has {size - file.tell():,}. Save it again.")
    if pixels and not fortran_order and max(declared, laid[0] * pixels) > LARGE:
        return Mapped(file, (min(laid[0], limit or laid[0]), *laid[1:]), dtype), where
    if declared > LARGEST:  # Fortran order scatters each image over the whole file
        how = "numpy.save(FILE, numpy.ascontiguousarray(array))"
        raise DataError(f"{where} has {declared:,} bytes in Fortran order. Save it in C order: {how}.")
    array = np.frombuffer(file.read(declared), dtype).reshape(shape, order="F" if fortran_order else "C")
    return array.reshape(laid), where


def read_header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an .npy file's shape, whether it is in Fortran order, and dtype. Raises: DataError; as NumPy."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise DataError(f"{where} has .npy version {version}; expected 1.0 or 2.0. Save it again.")
    return readers[version](file)


def layout(shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> tuple[int, ...]:
    """As `laid_out`. Raises: DataError if the shape or dtype does not fit pictures."""
    if dtype.kind not in "buif":
        raise DataError(f"{where} has dtype {dtype}. Use integers or floating-point numbers.")
    if not (laid := laid_out(shape)):
        wanted = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, or (N, side * side)"
        raise DataError(f"{where} has shape {shape}. Reshape it to {wanted}.")
    return laid


def laid_out(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the four dimensions of pictures in an array of `shape`, or () if it cannot hold any.

    >>> laid_out((9, 28, 28)), laid_out((9, 784)), laid_out((9, 3, 32, 32)), laid_out((28, 28, 3))
    ((9, 28, 28, 1), (9, 28, 28, 1), (9, 3, 32, 32), ())"""
    if len(shape) == 2 and shape[1] > 15 and math.isqrt(shape[1]) ** 2 == shape[1]:
        shape = (shape[0], math.isqrt(shape[1]), math.isqrt(shape[1]), 1)
    elif len(shape) == 3 and shape[-1] not in (1, 3):  # those are one picture
        shape = (*shape, 1)
    fits = len(shape) == 4 and (shape[-1] in (1, 3, 4) or shape[1] in (1, 3)) and min(shape) > 0
    return tuple(map(int, shape)) if fits else ()


def read_csv(path: Path) -> Stack:
    """Read pictures from a CSV file such as Kaggle's MNIST: each row has side * side numbers and perhaps a
    label, in a column of that name, or else in the first if one is left over. Raises: DataError; as NumPy."""
    with path.open(encoding="utf-8-sig") as file:
        lines = iter(lambda: file.readline(LINE), "")
        first = next(lines, "")
        names = [name.strip(' "\r\n').lower() for name in first.split(",")]
        # A header can number its columns: 0, 1, 2 and so on, or 0, 0.1, 0.2 (pandas).
        counted = names[:2] in (["0", "1"], ["1", "2"], ["0", "0.1"]) and len(set(names)) == len(names)
        if not counted and not re.search("[a-df-z]", first.lower()):  # numbers (e: an exponent), not a header
            lines = itertools.chain([first], lines)
        is_square = math.isqrt(len(names)) ** 2 == len(names)
        label = next((i for i, name in enumerate(names) if name in LABELS), None if is_square else 0)
        side = math.isqrt(len(names) - (label is not None))
        if side < 4 or side**2 != len(names) - (label is not None):
            wanted = "Use side * side numbers and perhaps a label, such as 785"
            raise DataError(f"{path} has rows of {len(names)} values ({first.strip():.40}...). {wanted}.")
        lines = itertools.islice(lines, 1 + LARGEST // (4 * len(names)))
        rows = np.loadtxt(lines, np.float32, comments=None, delimiter=",", quotechar='"', ndmin=2)
    if rows.nbytes > LARGEST:
        raise DataError(f"{path} has more than {LARGEST:,} bytes of numbers. Save it as .npy.")
    if rows.size and rows.shape[1] != len(names):
        raise DataError(f"{path} has rows of {len(names)} and of {rows.shape[1]} values. Get a fresh copy.")
    where = str(path) if label is None else f"{path} (without column {label + 1}, the label)"
    pixels = np.delete(rows.reshape(-1, len(names)), [] if label is None else label, axis=1)
    return pixels.reshape(-1, side, side, 1), where


def read_cifar(collection: Collection) -> Stack:
    """Read all batches of CIFAR-10's binary version: for each picture a label, then red, green, blue.
    Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. Raises: DataError; as `open`."""
    batches = []
    for entry in collection.entries(0):
        with entry.open() as file:
            data = np.frombuffer(file.read(), np.uint8)
        if len(data) % (1 + CIFAR):
            raise DataError(f"{entry.name} ({len(data):,} bytes) is not a CIFAR-10 batch. Get a fresh copy.")
        batches.append(data.reshape(-1, 1 + CIFAR)[:, 1:].reshape(-1, 3, 32, 32))
    return np.concatenate(batches), str(collection.source)


def read_idx(path: Path) -> np.ndarray:
    """Read the images in an IDX file, plain or gzipped: (N, H, W) uint8.

        00 00 08 03 | images | rows | columns | pixels ...     each size a big-endian 32-bit number

    Source: http://yann.lecun.com/exdb/mnist, end of page. Reads at most one byte more than the file declares.
    Raises: DataError if the file cannot be read, has another format or is not as long as it declares."""
    with reading(f"{path} cannot be read", ". Get a fresh copy."):
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(16)
            if len(header) < 16 or header[:4] != MAGIC:
                wrong = f"{path} starts with {header[:4].hex(' ') or 'nothing'}, not {MAGIC.hex(' ')}"
                remedy = "Delete it, or replace it with the right file."
                raise DataError(f"{wrong}: it is not an IDX image file. {remedy}")
            shape = struct.unpack(">3I", header[4:])
            size = math.prod(shape)
            if not 0 < size <= LARGEST_IDX:
                raise DataError(f"{path} declares {shape} bytes. Use a file of 1 to {LARGEST_IDX:,} bytes.")
            found = bytearray()
            # In pieces: one large read would allocate the memory before it finds that bytes are missing.
            while chunk := file.read(min(size + 1 - len(found), 1 << 20)):
                found += chunk
    if len(found) != size:
        holds = "more" if len(found) > size else f"{len(found):,}"
        raise DataError(f"{path} declares {size:,} bytes but holds {holds}. Delete it and get a fresh copy.")
    return np.frombuffer(found, np.uint8).reshape(shape)
