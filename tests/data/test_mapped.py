"""A mapped array is the same data set as one read into memory."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.peak import peak
from tinygan.backend import cpu
from tinygan.data import Dataset, arrays, dataset, load
from tinygan.data.dataset import Mapped, Shape, chunks, fingerprint
from tinygan.data.sources import from_path
from tinygan.errors import DataError
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import measure_step_seconds, trainer

IMAGES = np.random.default_rng(3).integers(0, 256, (19, 8, 8, 1), dtype=np.uint8)
SETTINGS = Settings(size=8, width=3, noise_dim=5, batch_size=4)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LARGE", 0)


def quiet(line: str) -> None:
    pass


def opened(path: Path, array: np.ndarray = IMAGES, limit: int | None = None) -> Dataset:
    """The array as a mapped data set."""
    np.save(path, array)
    return from_path(path, Shape(8, 1), limit, quiet)


def trained(data: Dataset) -> dict[str, np.ndarray]:
    """The state after six training steps, a partial batch included."""
    state = State(SETTINGS, cpu("fast"))
    taking = trainer(state, data)
    assert np.isfinite(taking.steps(6)).all()
    return state.arrays()


@pytest.mark.parametrize("shape", [(19, 8, 8), (19, 8, 8, 1)])
def test_mapped_equals_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    data = opened(tmp_path / "a.npy", IMAGES.reshape(shape))
    monkeypatch.setattr(arrays, "LARGE", 1 << 20)
    read = opened(tmp_path / "a.npy", IMAGES.reshape(shape))
    assert isinstance(read.images, np.ndarray) and isinstance(data.images, Mapped)
    assert data.images.shape == read.images.shape == IMAGES.shape
    assert data.sha256 == read.sha256 and fingerprint(data.images) == fingerprint(read.images)
    numbers = np.random.default_rng(0).permutation(19)
    for which in (0, -1, slice(2, 5), slice(None), slice(17, 40), slice(5, 5), slice(9, 2, -3), numbers):
        assert (data.images[which] == IMAGES[which]).all()
    ours, theirs = trained(data), trained(read)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert measure_step_seconds(SETTINGS, data, cpu("fast")) > 0


def test_the_digest_is_that_of_earlier_versions_for_any_size_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashlib.sha256(b"(19, 8, 8, 1)" + IMAGES.tobytes()).hexdigest()
    turned = np.asfortranarray(IMAGES)
    for size in (1, 64, 100, 64 * 19, 1 << 20):
        monkeypatch.setattr(dataset, "CHUNK", size)
        data = opened(tmp_path / "a.npy")
        assert [len(part) for part in chunks(data.images)][0] == min(19, max(1, size // 64))
        assert data.sha256 == expected == Dataset("a", turned, "").sha256 == Dataset("a", IMAGES, "").sha256


def test_a_fingerprint_covers_both_ends_and_the_shape() -> None:
    images = np.zeros((1000, 2, 2, 1), np.uint8)
    seen = {fingerprint(images), fingerprint(images[:-1])}
    for number in (0, 999):
        other = images.copy()
        other[number] = 1
        seen.add(fingerprint(other))
    assert len(seen) == 4


def test_an_array_that_stays_in_its_file_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez(tmp_path / "a.npz", IMAGES)
    for name in ("a.npz", "a.npy"):
        from_path(tmp_path / name, Shape(8, 1), None, lines.append)
    assert len(lines) == 1 and str(tmp_path / "a.npy") in lines[0]


def test_large_arrays_in_fortran_order_are_read(tmp_path: Path) -> None:
    images = opened(tmp_path / "a.npy", np.asfortranarray(IMAGES)).images
    assert isinstance(images, np.ndarray) and (images == IMAGES).all()


def test_a_limit_maps_the_first_images(tmp_path: Path) -> None:
    assert (opened(tmp_path / "a.npy", limit=7).images[:] == IMAGES[:7]).all()
    assert len(opened(tmp_path / "a.npy", limit=70).images) == 19


def test_parts_are_independent_of_the_file_and_the_whole_is_never_read_by_accident(tmp_path: Path) -> None:
    images = opened(tmp_path / "a.npy").images
    parts = images[3], images[3:5], images[np.array([3, 4])]
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "r+")
    array[:] = 0
    array.flush()
    assert all((part == IMAGES[3 : 3 + len(part)]).all() for part in parts[1:]) and images[3].max() == 0
    assert (parts[0] == IMAGES[3]).all()
    with pytest.raises(TypeError, match="mapped"):
        np.asarray(images)


def test_a_file_that_is_truncated_while_in_use_is_refused(tmp_path: Path) -> None:
    data = opened(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(DataError, match="shorter"):
        data.images[np.array([18])]


def test_a_large_header_must_fit_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    whole = (tmp_path / "a.npy").read_bytes()
    for content in (whole[:-1], whole + b"x", whole[:200]):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(DataError, match="declares 1,216 bytes"):
            from_path(tmp_path / "a.npy", Shape(8, 1), None, quiet)


def test_one_picture_many_times_is_still_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "CHUNK", 256)
    same = np.broadcast_to(IMAGES[:1], IMAGES.shape).copy()
    np.save(tmp_path / "a.npy", same)
    assert "only one picture" in load(str(tmp_path / "a.npy"), size=8, say=quiet).notes[-1]
    same[9, 3, 3] ^= 1
    np.save(tmp_path / "b.npy", same)
    data = load(str(tmp_path / "b.npy"), size=8, say=quiet)
    assert isinstance(data.images, Mapped) and data.notes == ()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to measure with")
def test_pages_are_released(tmp_path: Path) -> None:
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (1 << 14, 64, 64, 1))  # 64 MB
    images = from_path(tmp_path / "a.npy", Shape(64, 1), None, quiet).images
    ballast = np.ones(max(0, peak() - resident()) + (40 << 20), np.uint8)  # so that any more is a new peak
    before = peak()
    for start in range(0, len(images), 256):
        images[start : start + 256]
        images[np.arange(start, start + 256)]
    assert peak() - before < 16 << 20 and ballast.any()


def resident() -> int:
    """Resident memory now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
