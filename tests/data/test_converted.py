"""Large data sets of another image size are converted once, into the cache."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinygan import files
from tinygan.data import Dataset, arrays, converted, dataset, pictures
from tinygan.data.collection import Entry, collected
from tinygan.data.converted import header
from tinygan.data.dataset import Mapped, Shape
from tinygan.data.pictures import Room, load_pictures
from tinygan.data.sources import from_path
from tinygan.errors import DataError

COUNT = 12
SHAPE = Shape(4, 1)


@pytest.fixture(autouse=True)
def small_and_with_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the cache into the test's folder `pictures`, and count small sets as large."""
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(pictures, "FEW", 3)
    monkeypatch.setattr(arrays, "LARGE", 500)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures of two sizes, one of which cannot be read."""
    place = tmp_path / "photos"
    (place / "more").mkdir(parents=True)
    for number in range(COUNT):
        side = 4 if number % 3 else 6
        pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
        path = place / ("more" if number % 2 else ".") / f"{number:02}.png"
        Image.fromarray(pixels).save(path, compress_level=0)
    (place / "05.png").write_bytes(b"no picture")
    return place


class Loaded:
    """A data set, loaded through the cache, the lines printed, and how many pictures were opened."""

    def __init__(self, photos: Path, limit: int | None = None) -> None:
        self.cache = photos.parent / "pictures"
        self.lines: list[str] = []
        self.opened = 0
        real = pictures.attempt

        def count(entry: Entry, shape: Shape, room: Room) -> object:
            self.opened += 1
            return real(entry, shape, room)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pictures, "attempt", count)
            self.data = load_pictures(collected(photos), SHAPE, limit, self.lines.append)

    @property
    def stored(self) -> Path:
        (path,) = self.cache.glob("*.npy")
        return path


def plain(photos: Path, limit: int | None = None) -> Dataset:
    """The same data set, converted in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "FEW", 1000)
        return load_pictures(collected(photos), SHAPE, limit, ignore)


def ignore(line: str) -> None:
    """Print nothing."""


def test_a_folder_is_converted_once_and_then_mapped(photos: Path) -> None:
    first, second, memory = Loaded(photos), Loaded(photos), plain(photos)
    assert (first.opened, second.opened) == (COUNT + 1, 0) and second.lines == []
    for loaded in (first, second):
        assert isinstance(loaded.data.images, Mapped) and loaded.data.sha256 == memory.sha256
        assert loaded.data.notes[:-1] == memory.notes and "05.png" in memory.notes[0]
        assert str(loaded.stored) in loaded.data.notes[-1]
    assert "13 pictures, once" in first.lines[0] and len(first.lines) == 1
    assert np.load(first.stored).tobytes() == memory.images.tobytes()
    assert sorted(path.suffix for path in first.cache.iterdir()) == [".json", ".lock", ".npy"]


def test_few_pictures_are_not_cached(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "FEW", COUNT + 1)
    loaded = Loaded(photos)
    assert isinstance(loaded.data.images, np.ndarray) and not loaded.cache.exists()


def test_a_limit_takes_the_first_pictures_and_has_a_separate_file(photos: Path) -> None:
    limited = Loaded(photos, limit=7)
    assert limited.data.sha256 == plain(photos, 7).sha256 and len(limited.data.images) == 7
    assert limited.data.notes[:-1] == plain(photos, 7).notes
    assert limited.opened == 8  # one of them is unreadable
    assert Loaded(photos, limit=3).opened == 3  # too few for the cache
    assert Loaded(photos).opened == COUNT + 1
    assert Loaded(photos, limit=7).opened == 0
    for all_of_them in (COUNT + 1, 900):
        assert Loaded(photos, limit=all_of_them).opened == 0


def test_every_change_of_a_folder_changes_its_state(photos: Path) -> None:
    def state() -> str:
        return collected(photos).state

    for picture in photos.rglob("*.png"):
        os.utime(picture, ns=(0, 0))
    changes = (
        lambda: Image.new("L", (4, 4), 9).save(photos / "02.png"),
        lambda: os.utime(photos / "02.png", ns=(1, 1)),
        lambda: (photos / "02.png").rename(photos / "04b.png"),
        lambda: (photos / "04b.png").unlink(),
        lambda: Image.new("L", (4, 4), 9).save(photos / "99.png"),
    )
    states = {state()}
    for number, change in enumerate(changes, 2):
        change()
        states.add(state())
        assert len(states) == number


def test_a_folder_that_has_changed_is_converted_again(photos: Path) -> None:
    before = Loaded(photos)
    Image.new("L", (4, 4), 9).save(photos / "02.png")
    again = Loaded(photos)
    assert again.opened >= COUNT
    assert again.data.sha256 == plain(photos).sha256 != before.data.sha256
    assert again.stored == before.stored  # one folder has one file
    assert Loaded(photos).opened == 0


class Stop(BaseException):
    """Stands in for KeyboardInterrupt."""


def test_a_file_is_never_matched_with_an_older_sidecar(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "FINGERPRINTED", 2)  # a change between the first and the last goes unnoticed
    old = Loaded(photos)
    path = photos / "02.png"
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    Image.new("L", (4, 4), 9).save(path)

    def stop(stored: converted.Stored, tally: converted.Tally) -> None:
        assert np.load(stored.file).tobytes() != old.data.images[:].tobytes()
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(converted.Stored, "_note", stop)
        Loaded(photos)
    path.write_bytes(content)
    os.utime(path, ns=(time, time))
    assert Loaded(photos).data.sha256 == old.data.sha256


def cut(photos: Path, after: int, every: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a conversion and stop it when `after` pictures have been opened."""
    real, left = pictures.attempt, [after]

    def stop(entry: Entry, shape: Shape, room: Room) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise Stop
        return real(entry, shape, room)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "usable_cores", lambda: 1)  # one at a time
        patch.setattr(pictures, "attempt", stop)
        patch.setattr(converted, "SAVE_SECONDS", every)
        with pytest.raises(Stop):
            load_pictures(collected(photos), SHAPE, None, ignore)


@pytest.mark.parametrize("after", [0, 1, 4, 5, COUNT])
@pytest.mark.parametrize("every", [0, 1000])
def test_an_interrupted_conversion_resumes_to_the_same_result(
    photos: Path, monkeypatch: pytest.MonkeyPatch, after: int, every: float
) -> None:
    cut(photos, after, every, monkeypatch)
    cut(photos, 0, every, monkeypatch)  # twice
    loaded = Loaded(photos)
    unreadable = 1 if after == 4 else 0  # progress is not saved after an unreadable file
    assert loaded.opened == COUNT + 1 - (0 if every else after - unreadable)
    assert loaded.data.sha256 == plain(photos).sha256 and loaded.data.notes[:-1] == plain(photos).notes
    whole = loaded.stored.read_bytes()
    loaded.stored.unlink()
    assert Loaded(photos).stored.read_bytes() == whole
    assert sorted(path.suffix for path in loaded.cache.iterdir()) == [".json", ".lock", ".npy"]


def damaged(path: Path) -> Iterator[str]:
    """Damage the file in every way, one after the other, and yield what was done."""
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 13)):
        path.write_bytes(whole[:place])
        yield f"cut at {place}"
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        yield f"byte {place} changed"
    deep, none, noise = b"[" * 100_000, b'{"facts": null, "crc": 0}', os.urandom(len(whole))
    for content in (deep, none, b"null", b"\xff", noise, whole + 1000 * b"more"):
        path.write_bytes(content)
        yield f"{content[:30]!r}"
    path.unlink(missing_ok=True)
    yield "gone"


@pytest.mark.parametrize("suffix", [".npy", ".json"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_file_is_converted_again(
    photos: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, whole: bool
) -> None:
    expected, cache = plain(photos), photos.parent / "pictures"
    if not whole:
        cut(photos, 6, 0, monkeypatch)
    else:
        Loaded(photos)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    (path,) = (path for path in kept if path.name.endswith(suffix))
    for damage in damaged(path):
        for other in kept.keys() - {path}:
            other.write_bytes(kept[other])
        loaded = Loaded(photos)
        assert loaded.data.sha256 == expected.sha256 and isinstance(loaded.data.images, Mapped), damage
        assert loaded.data.notes[:-1] == expected.notes, damage
        for old in cache.iterdir():
            if old != path:
                old.unlink()


def test_without_a_writable_cache_memory_is_used(photos: Path) -> None:
    (photos.parent / "pictures").write_bytes(b"in the way")
    loaded = Loaded(photos)
    assert loaded.data.sha256 == plain(photos).sha256 and isinstance(loaded.data.images, np.ndarray)
    assert loaded.data.notes[:-1] == plain(photos).notes
    assert loaded.data.notes[-1].startswith("note     converted in memory: ")
    assert len(loaded.lines) == 1 and "in memory" in loaded.lines[0]


def test_without_a_home_folder_memory_is_used(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYGAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    data = Loaded(photos).data
    assert data.sha256 == plain(photos).sha256 and "no home folder" in data.notes[-1]


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_full_disk_leaves_no_partial_file(photos: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    if when == "before":
        monkeypatch.setattr(converted.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    else:

        def full(file: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(converted, "keep", full)
    loaded = Loaded(photos)
    assert loaded.data.sha256 == plain(photos).sha256 and isinstance(loaded.data.images, np.ndarray)
    assert "in memory" in loaded.data.notes[-1]
    assert not list(loaded.cache.glob("*.npy"))


def test_an_old_file_in_use_stays_intact_while_a_new_one_is_made(photos: Path) -> None:
    first = Loaded(photos)
    before = first.data.images[:]
    Image.new("L", (4, 4), 9).save(photos / "00.png")
    assert (Loaded(photos).data.images[:] != before).any() and (first.data.images[:] == before).all()


READ = """
import sys
from pathlib import Path
from tinygan.data import collection, dataset, pictures
pictures.FEW = 3
data = pictures.load_pictures(collection.collected(Path(sys.argv[1])), dataset.Shape(4, 1), None, print)
print(data.sha256, type(data.images).__name__)
"""


@pytest.mark.parametrize(("good", "kind"), [(True, Mapped), (False, np.ndarray)])
def test_a_read_only_cache_is_used_if_it_is_good(
    photos: Path, monkeypatch: pytest.MonkeyPatch, good: bool, kind: type
) -> None:
    def refuse(path: Path, busy: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    first = Loaded(photos)
    if not good:
        next(first.cache.glob("*.json")).unlink()
    monkeypatch.setattr(converted, "locked", refuse)
    again = Loaded(photos)
    assert again.data.sha256 == first.data.sha256 and isinstance(again.data.images, kind)
    assert len(again.lines) == (0 if good else 1)


def test_processes_that_convert_the_same_pictures_at_once_agree(photos: Path) -> None:
    for number in range(12, 150):
        Image.new("L", (4, 4), number).save(photos / f"{number:03}.png")
    command = [sys.executable, "-c", READ, str(photos)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate()[0].splitlines() for process in running]
    assert {lines[-1] for lines in outputs} == {f"{plain(photos).sha256} Mapped"}
    assert sum(len(lines) > 1 for lines in outputs) == 1  # only one of them converted


def test_waiting_for_another_process_is_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "WAIT_SECONDS", 0.1)
    answers = iter([False] * 6 + [True])
    monkeypatch.setattr(files, "_taken", lambda file: next(answers))
    assert [line.startswith("convert  waiting for another process: ") for line in Loaded(photos).lines] == [
        True, False
    ]  # fmt: skip


def test_progress_says_how_much_time_is_left(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 10))
    clock = SimpleNamespace(monotonic=lambda: next(seconds), time=lambda: 0.0)
    monkeypatch.setattr(converted, "time", clock)
    lines = Loaded(photos).lines
    # Ten seconds for each picture; the fourth of 13 files is unreadable.
    assert lines[1:] == [
        "convert  2 of 13, 2 min left",
        "convert  6 of 13, 56 s left",
        "convert  9 of 13, 35 s left",
        "convert  12 of 13, 9 s left",
    ]


@pytest.mark.parametrize(
    ("dtype", "height", "size"), [("u1", 6, 4), ("u1", 4, 6), ("f2", 4, 6), ("f4", 4, 4), ("i8", 6, 4)]
)
def test_arrays_are_converted_as_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, height: int, size: int
) -> None:
    array = np.random.default_rng(1).integers(0, 256, (50, height, 5, 3))
    np.save(tmp_path / "a.npy", (array / 127.5 - 1 if dtype[0] == "f" else array).astype(dtype))
    for limit in (None, 20):
        with monkeypatch.context() as patch:
            patch.setattr(arrays, "LARGE", 1 << 20)
            memory = from_path(tmp_path / "a.npy", Shape(size, 1), limit, ignore)
        lines: list[str] = []
        for time in range(2):
            if time:  # even the range of the numbers is not computed again
                patch.setattr(arrays, "scale_of", None)
            data = from_path(tmp_path / "a.npy", Shape(size, 1), limit, lines.append)
            assert isinstance(data.images, Mapped) and data.sha256 == memory.sha256
            assert data.notes[:-1] == memory.notes and "stored" in data.notes[-1]
        patch.undo()
        assert sum("once" in line for line in lines) == 1
    assert len(list((tmp_path / "pictures").glob("*.npy"))) == 2
    os.utime(tmp_path / "a.npy", ns=(1, 1))
    from_path(tmp_path / "a.npy", Shape(size, 1), 20, lines.append)
    assert "once" in lines[-1]


def test_numbers_of_no_known_range_are_refused_anywhere_in_an_array(tmp_path: Path) -> None:
    for place, value in ((0, np.nan), (40, np.nan), (49, -3.0), (20, 256)):
        array = np.zeros((50, 4, 4), np.float32)
        array[place, 1, 2] = value
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(DataError, match="holds numbers"):
            from_path(tmp_path / "a.npy", SHAPE, None, ignore)
    assert not [path for path in (tmp_path / "pictures").iterdir() if path.suffix != ".lock"]


def test_files_unused_for_long_are_deleted(photos: Path) -> None:
    def age(kept: Path) -> None:
        for path in kept.parent.glob(f"{kept.stem}.*"):
            os.utime(path, (0, 0))

    old, used = Loaded(photos, limit=7).stored, Loaded(photos)
    used = next(path for path in used.cache.glob("*.npy") if path != old)
    age(old)
    age(used)
    assert Loaded(photos).opened == 0  # used again, which deletes the other one
    assert used.exists() and not old.exists()
    assert sorted(path.suffix for path in used.parent.iterdir()) == [".json", ".lock", ".lock", ".npy"]
    limited = Loaded(photos, limit=7)
    assert limited.opened == 8 and used.exists()  # as it was used recently


def test_headers_have_one_length_for_any_number_of_images() -> None:
    lengths = {len(header((count, 64, 64, 3))) for count in (0, 1, 10**6, 10**12)}
    assert len(lengths) == 1


def test_folders_with_odd_names_can_be_cached(photos: Path) -> None:
    odd = photos.with_name("a\nb / \x1b[31m é".replace("/", "_") + "x" * 150)
    photos.rename(odd)
    loaded = Loaded(odd)
    assert loaded.data.sha256 == plain(odd).sha256 and loaded.stored.name.isascii()
