"""IDX, the file format of MNIST: a magic number, the sizes, then the bytes; plain or gzipped.

    00 00 08 03 | images | rows | columns | pixels ...     each size a big-endian 32-bit number

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

HEADER = 16
CHUNK = 1 << 20  # bytes
LARGEST = 1 << 30  # bytes of pixels; MNIST has 47 million


def read_images(path: Path) -> np.ndarray:
    """The images of an IDX file, (N, H, W) uint8.

    Never reads more than the header declares, and one byte, whatever the file unpacks to.

    Raises:
        DataError: the file cannot be read, is no such file, or is longer or shorter than it says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(HEADER)
            if len(header) < HEADER or header[:4] != b"\0\0\x08\x03":
                raise DataError(
                    f"{path} starts with {header[:4].hex(' ') or 'nothing'}, not 00 00 08 03: it is no IDX "
                    "image file. Delete it, or put the right file in its place."
                )
            shape = struct.unpack(">3I", header[4:])
            size = math.prod(shape)
            if not 0 < size <= LARGEST:
                raise DataError(f"{path} declares {shape} pixels; 1 to {LARGEST:,} in all are read.")
            chunks, missing = [], size + 1
            # In pieces: one large read takes the memory first and looks for the bytes afterwards.
            while missing and (chunk := file.read(min(missing, CHUNK))):
                chunks.append(chunk)
                missing -= len(chunk)
            pixels = b"".join(chunks)
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"{path} cannot be read: {one_line(problem)}. Get it again.") from problem
    if len(pixels) != size:
        found = "more" if len(pixels) > size else f"{len(pixels):,}"
        raise DataError(f"{path} declares {size:,} bytes and holds {found}. Delete it and get it again.")
    return np.frombuffer(pixels, np.uint8).reshape(shape)
