"""IDX, the file format of MNIST: a magic number, the sizes, then the bytes; plain or gzipped.

    00 00 08 03 | images | rows | columns | pixels ...     each size a big-endian 32-bit number
    00 00 08 01 | labels | labels ...

08 says "unsigned bytes", 03 "three dimensions". (http://yann.lecun.com/exdb/mnist, end of page)
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from tinygan.errors import DataError, one_line

CHUNK = 1 << 20  # bytes
LARGEST = 1 << 30  # bytes; MNIST has 47 million pixels


def read_images(path: Path) -> np.ndarray:
    """The images of an IDX file, (N, H, W) uint8.

    Never reads more than the header declares, and one byte, whatever the file unpacks to.

    Raises:
        DataError: the file cannot be read, is no such file, or is longer or shorter than it says.
    """
    return _read(path, dimensions=3, kind="image")


def read_labels(path: Path) -> np.ndarray:
    """The labels of an IDX file, (N,) uint8; otherwise as `read_images`."""
    return _read(path, dimensions=1, kind="label")


def _read(path: Path, dimensions: int, kind: str) -> np.ndarray:
    magic, length = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(length)
            if len(header) < length or header[:4] != magic:
                raise DataError(
                    f"{path} starts with {header[:4].hex(' ') or 'nothing'}, not {magic.hex(' ')}: it is no "
                    f"IDX {kind} file. Delete it, or put the right file in its place."
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            size = math.prod(shape)
            if not 0 < size <= LARGEST:
                raise DataError(f"{path} declares {shape} bytes; 1 to {LARGEST:,} in all are read.")
            chunks, missing = [], size + 1
            # In pieces: one large read takes the memory first and looks for the bytes afterwards.
            while missing and (chunk := file.read(min(missing, CHUNK))):
                chunks.append(chunk)
                missing -= len(chunk)
            found = b"".join(chunks)
    except MemoryError as problem:
        raise DataError(
            f"{path} holds more than there is memory for. Free some, or use other data."
        ) from problem
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} cannot be read: {one_line(problem)}. Get it again.") from problem
    if len(found) != size:
        holds = "more" if len(found) > size else f"{len(found):,}"
        raise DataError(f"{path} declares {size:,} bytes and holds {holds}. Delete it and get it again.")
    return np.frombuffer(found, np.uint8).reshape(shape)
