"""Data larger than memory: a sparse file of 10 GB, and the memory that real processes take for it."""

import os
import re
import sys
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


def sparse(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    """An array of `BYTES` that takes almost no disk space: zeros, except for a few images."""
    images = BYTES // (np.dtype(dtype).itemsize * int(np.prod(shape)))
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (images, *shape))
    for number in (1, images // 2, images - 1):
        array[number] = np.linspace(0, 1 if dtype == "f4" else 255, array[0].size).reshape(shape)


@needs_mpi
@pytest.mark.parametrize(("dtype", "shape", "ranks"), [("u1", (28, 28, 1), 2), ("f4", (28, 28), 1)])
def test_ten_gigabytes_train_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, shape: tuple[int, ...], ranks: int
) -> None:
    """Bytes are mapped by each rank; floats are converted first."""
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path / "cache"))
    try:
        sparse(tmp_path / "large.npy", dtype, shape)
        code, output, errors = finish(ranks, *TRAIN, "--data", "large.npy", cwd=tmp_path, seconds=500)
        assert code == 0, errors
        peaks = [int(number) for number in re.findall(r"peak (\d+) bytes", output)]
        assert len(peaks) == ranks and max(peaks) < ALLOWED
    finally:
        for path in tmp_path.rglob("*.npy"):
            path.unlink()  # pytest keeps the folder


def test_the_measurement_includes_the_pages_of_mapped_files(tmp_path: Path) -> None:
    size, before = 1 << 29, peak()
    (tmp_path / "zeros").touch()
    os.truncate(tmp_path / "zeros", size)
    assert np.memmap(tmp_path / "zeros", np.uint8, "r")[::4096].sum() == 0
    assert peak() - before > size // 2
