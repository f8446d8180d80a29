"""The IDX reader, against bytes packed by hand."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tinygan.data import arrays
from tinygan.data.arrays import read_idx
from tinygan.errors import DataError

PIXELS = bytes(range(24))


def header(*sizes: int) -> bytes:
    return struct.pack(">BBBBIII", 0, 0, 8, 3, *sizes)


PLAIN = header(2, 3, 4) + PIXELS
PACKED = gzip.compress(PLAIN, mtime=0)  # the same bytes in each process of pytest-xdist


def refused(path: Path, content: bytes, *words: str) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    text = str(error.value)
    assert path.name in text and "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(("name", "content"), [("a", PLAIN), ("a.gz", PACKED)])
def test_images_are_read_row_by_row_and_every_truncation_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    images = read_idx(tmp_path / name)
    assert images.shape == (2, 3, 4) and images.dtype == np.uint8
    assert images[1, 2, 3] == 23 and images[1, 0, 1] == 13
    for length in range(len(content)):
        refused(tmp_path / name, content[:length])


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a", PLAIN + b"x", "more"),
        ("a.gz", PACKED[:-6] + bytes([PACKED[-6] ^ 1]) + PACKED[-5:], "CRC"),
        ("a.gz", b"<html>404</html>", "cannot be read"),
        ("a", header(0, 3, 4), "Use a file of 1 to"),
        ("a", header(2**31, 1, 1), "Use a file of 1 to"),
        ("a", header(2**32 - 1, 2**32 - 1, 2**32 - 1), "Use a file of 1 to"),
    ],
)
def test_damaged_and_absurd_files_are_refused(tmp_path, name, content, word):
    refused(tmp_path / name, content, word)


@pytest.mark.parametrize(
    ("name", "content", "word", "most"),
    [
        ("bomb.gz", gzip.compress(PLAIN + bytes(50_000_000), mtime=0), "more", 1_000_000),
        ("short", header(2**16, 64, 64) + PIXELS, "declares 268,435,456 bytes but holds 24", 10_000_000),
    ],
)
def test_a_false_size_takes_no_memory(tmp_path, name, content, word, most):
    tracemalloc.start()
    refused(tmp_path / name, content, word)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < most


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "a")


def test_a_file_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    class Full(gzip.GzipFile):
        def read(self, size=-1):
            if size and size > 16:
                raise MemoryError
            return super().read(size)

    monkeypatch.setattr(arrays.gzip, "open", Full)
    refused(tmp_path / "a.gz", PACKED, "it does not fit in memory")


def test_labels_are_not_images(tmp_path):
    refused(tmp_path / "a", b"\0\0\x08\x01" + PLAIN[4:], "not 00 00 08 03: it is not an IDX image file")
