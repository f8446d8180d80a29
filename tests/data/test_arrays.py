"""Array files: what is read, how numbers become pixels, what is refused."""

import io
import shlex
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tinygan.data import arrays, load
from tinygan.data.converted import header
from tinygan.errors import DataError

WANTED, OTHER = np.full((2, 4, 4), 100, np.uint8), np.full((2, 4, 4), 50, np.uint8)


def refused(path, *words):
    with pytest.raises(DataError) as error:
        load(str(path), size=4)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 1)])
@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray])
def test_bytes_are_kept_as_they_are(tmp_path, shape, order):
    pixels = order(np.arange(0, 240, 5, dtype=np.uint8).reshape(shape))
    np.save(tmp_path / "a.npy", pixels)
    data = load(str(tmp_path / "a.npy"), size=4)
    assert (data.images == pixels.reshape(3, 4, 4, 1)).all() and data.notes == () and data.name == "a"


@pytest.mark.parametrize(
    ("shape", "laid", "channels"),
    [
        ((3, 16), lambda x: x.reshape(3, 4, 4, 1), 1),
        ((5, 3, 4, 4), lambda x: x.transpose(0, 2, 3, 1), 3),
        ((5, 1, 4, 4), lambda x: x.transpose(0, 2, 3, 1), 1),
        ((5, 4, 4, 3), lambda x: x, 3),
        ((5, 4, 4, 1), lambda x: x, 1),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", ">f4", "f8", "i8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("large", [False, True])
def test_every_layout_is_read(tmp_path, monkeypatch, shape, laid, channels, dtype, order, large):
    if large:
        monkeypatch.setattr(arrays, "LARGE", 10)
        monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pixels.flat[0] = 255
    array = pixels.astype(dtype) * np.array(257 if dtype[1:] == "u2" else 1, dtype)
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    data = load(str(tmp_path / "a.npy"), size=4, channels=channels, say=str)
    assert (data.images[:] == laid(pixels)).all()
    assert ("channels first" in " ".join(data.notes)) == (shape[1] < 4 and len(shape) == 4 and shape[-1] == 4)


def test_transparent_arrays_are_put_on_white(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    opacity = pixels[..., 3:] / 255
    expected = pixels[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(load(str(tmp_path / "a.npy"), size=4, channels=3).images - expected).max() < 1


def test_the_name_of_an_array_file_does_not_matter(tmp_path):
    for name, save in (("a.NPY", np.save), ("b", np.save), ("c.NPZ", np.savez)):
        with (tmp_path / name).open("wb") as file:
            save(file, np.full((2, 4, 4), 100, np.uint8))
        assert (load(str(tmp_path / name), size=4).images == 100).all()


@pytest.mark.parametrize(
    ("values", "pixels", "scale"),
    [
        ([-1.0, 0.2, 1.0], [0, 153, 255], "[-1, 1]"),
        ([0.0, 0.2, 1.0], [0, 51, 255], "[0, 1]"),
        ([0.0, 7.4, 200.0], [0, 7, 200], "[0, 255]"),
        ([0, 7, 200], [0, 7, 200], "[0, 255]"),
    ],
)
def test_the_range_of_numbers_is_recognised_and_noted(tmp_path, values, pixels, scale):
    images = np.resize(values, (2, 4, 4, 3))
    np.save(tmp_path / "a.npy", images)
    data = load(str(tmp_path / "a.npy"), size=4, channels=3)
    assert data.images.ravel()[:3].tolist() == pixels
    assert scale in data.notes[0]


def test_a_batch_is_limited_and_resized(tmp_path):
    np.save(tmp_path / "a.npy", np.full((5, 10, 8, 3), 100, np.uint8))
    data = load(str(tmp_path / "a.npy"), size=4, channels=1, limit=2)
    assert data.images.shape == (2, 4, 4, 1) and (data.images == 100).all()
    assert "10x8x3 to 4x4x1" in data.notes[0]


@pytest.mark.parametrize(
    "arrays",
    [
        {"whatever": WANTED},
        {"labels": np.zeros(2), "pics": WANTED, "one_hot": np.zeros((2, 10))},
        {"labels": np.zeros((2, 100)), "pics": WANTED},  # not 10x10 pictures: others fit better
        {"test_images": OTHER, "train_images": WANTED, "train_labels": np.zeros((2, 1))},
        {"x_test": OTHER, "x_train": WANTED, "y_train": np.zeros(2)},
        {"images": WANTED, "more": OTHER},
        {"pretrained": OTHER, "train": WANTED},
        {"validation": OTHER, "my_train_set": WANTED},
        {"flat": WANTED.reshape(2, 16), "labels": np.zeros(2)},
    ],
)
def test_the_array_of_an_npz_with_the_shape_of_pictures_is_used_and_train_before_test(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    data = load(str(tmp_path / "a.npz"), size=4)
    assert data.images.shape == (2, 4, 4, 1) and (data.images == 100).all()


def test_an_npz_too_large_for_memory_names_a_command_that_unpacks_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arrays, "LARGEST", 20)
    np.savez(tmp_path / "my data.npz", images=WANTED)
    with pytest.raises(DataError, match="more than 20") as error:
        load("my data.npz", size=4)
    command, _, data = str(error.value).partition("Unpack it with ")[2].partition(" and use --data ")
    words = shlex.split(command)
    subprocess.run([sys.executable, *words[1:]], check=True)
    monkeypatch.undo()
    assert (load(str(tmp_path / data.rstrip(".")), size=4).images == 100).all()


def test_an_array_in_fortran_order_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST", 20)
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(32, dtype=np.uint8).reshape(2, 4, 4)))
    refused(tmp_path / "a.npy", "32 bytes in Fortran order", "ascontiguousarray")


def test_several_arrays_with_other_names_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.ones(2), two=OTHER, three=OTHER)
    refused(tmp_path / "a.npz", "one (2,)", "two (2, 4, 4)", "three", "images")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint8),  # one picture
        np.zeros((2, 5, 4, 6), np.uint8),
        np.zeros((2, 15), np.uint8),
        np.zeros((2, 3072), np.uint8),  # 32x32, but are the channels first or last?
        np.full((1, 4, 4), np.nan),
        np.full((1, 4, 4), -3.0),
        np.full((1, 4, 4), 256),
        np.zeros((1, 4, 4), complex),
        np.array([["a"]]),
    ],
)
def test_unsuitable_arrays_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", "a.npy")


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_refused_and_never_run(tmp_path, suffix):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([Canary(str(tmp_path / "ran"))], object), allow_pickle=True)
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", file.getvalue())
    else:
        path.write_bytes(file.getvalue())
    refused(path)
    assert not (tmp_path / "ran").exists()


WHOLE = header((2, 4, 4)) + bytes(32)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (header((2**20, 2**11, 2**11, 1)), "4,398,046,511,104"),  # before memory is allocated
        (header((-1, 4, 4)) + bytes(16), "has shape (-1, 4, 4)"),
        (WHOLE + b"x", "declares 32 bytes but has 33"),
    ],
    ids=["terabytes", "negative", "longer"],
)
def test_files_that_contradict_their_headers_are_refused(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", words)


def test_every_truncation_is_refused(tmp_path):
    for length in range(len(WHOLE)):
        (tmp_path / "a.npy").write_bytes(WHOLE[:length])
        refused(tmp_path / "a.npy")
