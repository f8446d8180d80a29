"""Data that is larger than memory may be: a sparse file of 10 GB, in real processes that are measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.peak import peak
from tests.ranks.launch import finish, needs_mpi

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files, and /proc to measure with"),
]
BYTES = 10 * 10**9
ALLOWED = 1.5e9  # bytes of resident memory
TRAIN = ("-m", "tests.data.peak", "tinygan.train", "--no-gif", "--no-report", "--width", "8", "--steps", "3")


def sparse(path: Path, dtype: str, shape: tuple[int, ...]) -> str:
    """An array of `BYTES` that takes nearly no disk: zeros, and some images that are none."""
    images = BYTES // (np.dtype(dtype).itemsize * int(np.prod(shape)))
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (images, *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + BYTES // images * images)
    array = np.lib.format.open_memmap(path, "r+")
    for number in (1, images // 2, images - 1):
        array[number] = np.linspace(0, 1 if dtype == "f4" else 255, array[0].size).reshape(shape)
    return str(path)


@pytest.fixture
def bytes_in_a_file(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "large.npy"
    yield sparse(path, "u1", (28, 28, 1))
    path.unlink()  # pytest keeps the folder


def measured(ranks: int, *command: str, cwd: Path) -> list[int]:
    """The peak of every rank that runs `command`, in bytes."""
    code, output, errors = finish(ranks, *command, cwd=cwd, seconds=500)
    assert code == 0, errors
    print(output, end="")
    peaks = [int(number) for number in re.findall(r"peak (\d+) bytes", output)]
    assert len(peaks) == ranks
    return peaks


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2])
def test_ten_gigabytes_of_bytes_train_in_little_memory(
    tmp_path: Path, bytes_in_a_file: str, ranks: int
) -> None:
    peaks = measured(ranks, *TRAIN, "--data", bytes_in_a_file, cwd=tmp_path)
    assert max(peaks) < ALLOWED


@needs_mpi
def test_ten_gigabytes_of_floats_are_converted_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path / "cache"))
    data = sparse(tmp_path / "large.npy", "f4", (28, 28))
    try:
        assert max(measured(1, *TRAIN, "--data", data, cwd=tmp_path)) < ALLOWED
        (stored,) = (tmp_path / "cache" / "pictures").glob("large_npy-28x28x1-*.npy")
        assert np.load(stored, mmap_mode="r").shape == (BYTES // (4 * 784), 28, 28, 1)
    finally:
        for path in tmp_path.rglob("*.npy"):
            path.unlink()


def test_what_is_measured_counts_the_pages_of_mapped_files(tmp_path: Path) -> None:
    size, before = 1 << 29, peak()
    (tmp_path / "zeros").touch()
    with (tmp_path / "zeros").open("r+b") as file:
        file.truncate(size)
    assert np.memmap(tmp_path / "zeros", np.uint8, "r")[::4096].sum() == 0
    assert peak() - before > size // 2
