"""The IDX reader, against bytes packed by hand."""

import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tinygan.data.idx import read_idx
from tinygan.errors import DataError

PIXELS = bytes(range(24))
PLAIN = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + PIXELS


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as error:
        read_idx(path, "image")
    text = str(error.value)
    assert path.name in text and "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_read_row_by_row(tmp_path, packed):
    path = write(tmp_path / ("a.gz" if packed else "a"), gzip.compress(PLAIN) if packed else PLAIN)
    images = read_idx(path, "image")
    assert images.shape == (2, 3, 4) and images.dtype == np.uint8
    assert images[1, 2, 3] == 23 and images[1, 0, 1] == 13


@pytest.mark.parametrize("length", range(len(PLAIN)))
def test_every_truncation_is_refused(tmp_path, length):
    refused(write(tmp_path / "a", PLAIN[:length]))


@pytest.mark.parametrize("length", range(len(gzip.compress(PLAIN))))
def test_every_truncation_of_a_gz_is_refused(tmp_path, length):
    refused(write(tmp_path / "a.gz", gzip.compress(PLAIN)[:length]))


def test_bytes_after_the_last_pixel_are_refused(tmp_path):
    refused(write(tmp_path / "a", PLAIN + b"x"), "more")


def test_labels_are_no_images(tmp_path):
    refused(write(tmp_path / "a", struct.pack(">BBBBI", 0, 0, 8, 1, 24) + PIXELS), "00 00 08 01")


def test_a_damaged_gz_is_refused(tmp_path):
    content = bytearray(gzip.compress(PLAIN))
    content[-6] ^= 1  # its checksum
    refused(write(tmp_path / "a.gz", bytes(content)), "CRC")


def test_a_text_file_called_gz_is_refused(tmp_path):
    refused(write(tmp_path / "a.gz", b"<html>404</html>"))


@pytest.mark.parametrize("sizes", [(0, 3, 4), (2**32 - 1, 2**32 - 1, 2**32 - 1), (2**31, 1, 1)])
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path, sizes):
    refused(write(tmp_path / "a", struct.pack(">BBBBIII", 0, 0, 8, 3, *sizes)), "in all are read")


def test_a_bomb_is_unpacked_no_further_than_it_declares(tmp_path):
    path = write(tmp_path / "a.gz", gzip.compress(PLAIN + bytes(50_000_000)))
    tracemalloc.start()
    refused(path, "more")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "a", "No such file")


def test_a_short_file_that_declares_much_takes_little_memory(tmp_path):
    path = write(tmp_path / "a", struct.pack(">BBBBIII", 0, 0, 8, 3, 2**18, 64, 64) + PIXELS)
    tracemalloc.start()
    refused(path, "1,073,741,824", "24")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_file_that_holds_more_than_memory_does_is_refused_in_one_line(tmp_path):
    pytest.importorskip("resource", reason="only POSIX limits a process' memory")
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 400, 1 << 10, 1 << 10)
    path = write(tmp_path / "a.gz", gzip.compress(header + bytes(400 << 20), 1))
    code = (
        "import resource, sys; from pathlib import Path; from tinygan import cli\n"
        "from tinygan.data.idx import read_idx\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20,) * 2)\n"
        "sys.exit(cli.run(lambda names: len(read_idx(Path(names[0]), 'image'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (
        done.returncode == 4
        and "more than there is memory for" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_labels_are_read_and_are_no_images(tmp_path):
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([7, 0, 9]))
    assert read_idx(path, "label").tolist() == [7, 0, 9]
    with pytest.raises(DataError, match="not 00 00 08 03: it is no IDX image file"):
        read_idx(path, "image")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="declares 3 bytes and holds 2"):
        read_idx(path, "label")
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">I", 3) + bytes([7, 0, 9]))
    with pytest.raises(DataError, match="not 00 00 08 01: it is no IDX label file"):
        read_idx(path, "label")
