"""Array files: what is taken, how numbers become pixels, what is refused."""

import io
import zipfile

import numpy as np
import pytest

from tinygan.data import load
from tinygan.data.converted import header
from tinygan.errors import DataError


def refused(path, *words):
    with pytest.raises(DataError) as error:
        load(str(path), size=4)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 1)])
@pytest.mark.parametrize("order", [np.ascontiguousarray, np.asfortranarray])
def test_bytes_are_taken_as_they_are(tmp_path, shape, order):
    pixels = order(np.arange(48, dtype=np.uint8).reshape(shape))
    np.save(tmp_path / "a.npy", pixels)
    data = load(str(tmp_path / "a.npy"), size=4)
    assert (data.images == pixels.reshape(3, 4, 4, 1)).all() and data.notes == () and data.name == "a"


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
        {"whatever": np.ones((2, 4, 4), np.uint8)},
        {"labels": np.zeros(2), "images": np.ones((2, 4, 4), np.uint8)},
    ],
)
def test_the_only_array_of_an_npz_or_the_one_called_images_is_taken(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    data = load(str(tmp_path / "a.npz"), size=4)
    assert data.images.shape == (2, 4, 4, 1) and (data.images == 1).all()


def test_several_arrays_with_other_names_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", one=np.ones(2), two=np.ones(2))
    refused(tmp_path / "a.npz", "one", "two", "images")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((0, 4, 4), np.uint8),
        np.zeros((2, 3, 4, 4), np.uint8),
        np.full((1, 4, 4), np.nan),
        np.full((1, 4, 4), -3.0),
        np.full((1, 4, 4), 256),
        np.zeros((1, 4, 4), complex),
        np.array([["a"]]),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, array):
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
        (header((2**20, 2**11, 2**11, 1)), "4,398,046,511,104"),  # before memory is taken
        (header((-1, 4, 4)) + bytes(16), "declares -16 bytes"),
        (WHOLE + b"x", "declares 32 bytes and has 33"),
    ],
    ids=["terabytes", "negative", "longer"],
)
def test_files_that_hold_other_than_they_declare_are_refused(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", words)


def test_every_truncation_is_refused(tmp_path):
    for length in range(len(WHOLE)):
        (tmp_path / "a.npy").write_bytes(WHOLE[:length])
        refused(tmp_path / "a.npy")
