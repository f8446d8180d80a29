"""Where the named sets are found, and what `auto` does."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from tinygan.data import download, load, normalise
from tinygan.data.sources import PINNED, TEST, TRAIN
from tinygan.errors import DataError, UsageError

REAL = Path(os.environ.get("TINYGAN_DATA") or Path(__file__).parents[3] / "shared" / "data") / "fashion-mnist"
needs_real = pytest.mark.skipif(not (REAL / TRAIN).exists(), reason="the real Fashion-MNIST is not here")


def idx(count: int = 3) -> bytes:
    return struct.pack(">4BIII", 0, 0, 8, 3, count, 28, 28) + bytes(count * 784)


def no_network(address: str, timeout: float):
    raise OSError("no network")


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """An empty cache, no data folder in the environment, and no network."""
    monkeypatch.delenv("TINYGAN_DATA", raising=False)
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "urlopen", no_network)


def put(folder: Path, name: str = "fashion-mnist", packed: bool = True) -> Path:
    (folder / name).mkdir(parents=True)
    path = folder / name / (TRAIN if packed else TRAIN.removesuffix(".gz"))
    path.write_bytes(gzip.compress(idx()) if packed else idx())
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_a_set_is_found_in_the_data_folder(tmp_path, name, packed):
    path = put(tmp_path / "data", name, packed)
    data = load(name, data_dir=tmp_path / "data")
    assert data.images.shape == (3, 28, 28, 1) and data.source == str(path) and data.name == name


def test_a_set_directly_in_the_data_folder_is_found(tmp_path):
    path = put(tmp_path / "data")
    assert load("fashion-mnist", data_dir=path.parent).source == str(path)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home and a current folder for this test alone."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def test_the_downloads_of_keras_are_found(home):
    path = put(home / ".keras" / "datasets")
    assert load("fashion-mnist").source == str(path)
    pixels = np.arange(2 * 784, dtype=np.uint16).reshape(2, 28, 28).astype(np.uint8)
    arrays = {"x_train": pixels, "y_train": np.zeros(2), "x_test": pixels[:1], "y_test": np.zeros(1)}
    np.savez(home / ".keras" / "datasets" / "mnist.npz", **arrays)
    for folder in (None, home / ".keras" / "datasets"):
        data = load("mnist", data_dir=folder)
        assert (data.images[..., 0] == pixels).all() and data.name == "mnist" and "x_train" in data.source
        assert len(load("mnist", split="test", data_dir=folder).images) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_the_downloads_of_torchvision_are_found(home, packed):
    path = put(Path.cwd() / "data" / "FashionMNIST", "raw", packed)
    for folder in (None, Path("data")):
        assert Path(load("fashion-mnist", data_dir=folder).source).resolve() == path
    assert load(str(path.parent)).images.shape == load(str(path)).images.shape == (3, 28, 28, 1)


def test_the_downloads_of_tensorflow_datasets_are_named(home):
    folder = home / "tensorflow_datasets" / "fashion_mnist" / "3.0.1"
    records = folder / "fashion_mnist-train.tfrecord-00000-of-00001"
    records.parent.mkdir(parents=True)
    records.touch()
    with pytest.raises(DataError, match=f"Use --data {records} to see how"):
        load("fashion-mnist")
    with pytest.raises(DataError, match="TFRecord.*Convert it with python -c"):
        load(str(records))


def test_the_cache_comes_before_the_downloads_of_others(home, tmp_path):
    put(home / ".keras" / "datasets")
    theirs = load("fashion-mnist").source
    mine = put(tmp_path / "cache")
    with pytest.raises(DataError):  # it is not intact, and there is no network
        load("fashion-mnist")
    mine.unlink()
    assert load("fashion-mnist").source == theirs


def test_a_user_without_a_home_is_refused_with_a_remedy(monkeypatch):
    monkeypatch.delenv("TINYGAN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(DataError, match="TINYGAN_CACHE"):
        load("fashion-mnist")


@pytest.mark.parametrize(
    "arguments", [{"limit": 0}, {"limit": -1}, {"size": 0}, {"channels": 2}, {"split": "validation"}]
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(UsageError):
        load("strokes", **arguments)


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        # Only "auto" falls back to another set,
        ("fashion-mnist", None, "no network.*--data-dir DIR or TINYGAN_DATA=DIR; or use --data strokes"),
        ("auto", "missing", "missing"),  # and not if a folder is given
        ("cats", None, "cats.*does not exist.*strokes"),
        (__file__, None, "no known format"),
    ],
)
def test_missing_data_is_refused(tmp_path, name, folder, words):
    with pytest.raises(DataError, match=words):
        load(name, data_dir=folder and tmp_path / folder)


def test_a_file_that_is_not_the_official_one_is_used_with_a_note(tmp_path):
    put(tmp_path / "data")
    assert "not the official" in load("auto", data_dir=tmp_path / "data").notes[0]


def test_the_environment_can_name_the_data_folder(tmp_path, monkeypatch):
    path = put(tmp_path / "data")
    monkeypatch.setenv("TINYGAN_DATA", str(tmp_path / "data"))
    assert load("auto").source == str(path)


def test_auto_uses_strokes_and_says_so_in_one_line(monkeypatch):
    monkeypatch.setenv("TINYGAN_DATA", "/nowhere/at/all")
    lines = []
    data = load("auto", limit=5, say=lines.append)
    assert data.name == "strokes" and data.images.shape == (5, 28, 28, 1)
    assert sum("strokes" in line for line in lines) == 1
    assert all("\n" not in line for line in lines)


def test_a_set_is_brought_to_another_size_and_colour(tmp_path):
    put(tmp_path / "data")
    data = load("fashion-mnist", data_dir=tmp_path / "data", size=32, channels=3, limit=2)
    assert data.images.shape == (2, 32, 32, 3) and data.images.dtype == np.uint8


def test_pixels_are_normalised_to_the_range_of_tanh():
    pixels = np.arange(256, dtype=np.uint8)
    result = normalise(pixels)
    assert result.dtype == np.float32 and result[0] == -1 and result[255] == 1
    assert np.allclose(result, [(x - 127.5) / 127.5 for x in range(256)], atol=1e-7)


@needs_real
@pytest.mark.parametrize(("split", "file", "count"), [("train", TRAIN, 60000), ("test", TEST, 10000)])
def test_the_real_fashion_mnist_is_the_pinned_one(split, file, count):
    pinned = PINNED["fashion-mnist", split]
    assert (REAL / file).stat().st_size == pinned.size
    data = load("fashion-mnist", data_dir=REAL.parent, split=split)
    assert data.images.shape == (count, 28, 28, 1)
    assert data.notes == ()  # the digest is the official one
    assert 70 < data.images.mean() < 76
