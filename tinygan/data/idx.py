"""IDX, the file format of MNIST: a magic number, the sizes, then the bytes; plain or gzipped.

    00 00 08 03 | images | rows | columns | pixels ...     each size a big-endian 32-bit number

08 says "unsigned bytes", 03 "three dimensions". (http://yann.lecun.com/exdb/mnist, end of page)
"""

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from tinygan.data.dataset import reading
from tinygan.errors import DataError

CHUNK = 1 << 20  # bytes
LARGEST = 3 << 28  # bytes; EMNIST has 547 million pixels
MAGIC = bytes([0, 0, 8, 3])


def read_idx(path: Path) -> np.ndarray:
    """The images in an IDX file, (N, H, W) uint8. Never reads more than the header declares, and one byte,
    whatever the file unpacks to. Raises DataError where the file cannot be read, has another format, or is
    longer or shorter than it declares."""
    with reading(f"{path} cannot be read", ". Get it again."):
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(16)
            if len(header) < 16 or header[:4] != MAGIC:
                wrong = f"{path} starts with {header[:4].hex(' ') or 'nothing'}, not {MAGIC.hex(' ')}"
                remedy = "Delete it, or put the right file in its place."
                raise DataError(f"{wrong}: it is no IDX image file. {remedy}")
            shape = struct.unpack(">3I", header[4:])
            size = math.prod(shape)
            if not 0 < size <= LARGEST:
                raise DataError(f"{path} declares {shape} bytes; 1 to {LARGEST:,} in all are read.")
            found = bytearray()
            # In pieces: one large read takes the memory before it finds the bytes.
            while chunk := file.read(min(size + 1 - len(found), CHUNK)):
                found += chunk
    if len(found) != size:
        holds = "more" if len(found) > size else f"{len(found):,}"
        raise DataError(f"{path} declares {size:,} bytes and holds {holds}. Delete it and get it again.")
    return np.frombuffer(found, np.uint8).reshape(shape)
