"""Array files: what is taken, how numbers become pixels, what is refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from tinygan.data import load
from tinygan.errors import DataError


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def refused(path, *words):
    with pytest.raises(DataError) as error:
        load(str(path), size=4)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 4, 4, 1)])
def test_bytes_are_taken_as_they_are(tmp_path, shape):
    pixels = np.arange(48, dtype=np.uint8).reshape(shape)
    np.save(tmp_path / "a.npy", pixels)
    data = load(str(tmp_path / "a.npy"), size=4)
    assert (data.images == pixels.reshape(3, 4, 4, 1)).all() and data.notes == () and data.name == "a"


def test_fortran_order_keeps_its_meaning(tmp_path):
    pixels = np.asfortranarray(np.arange(48, dtype=np.uint8).reshape(3, 4, 4, 1))
    np.save(tmp_path / "a.npy", pixels)
    assert (load(str(tmp_path / "a.npy"), size=4).images == pixels).all()


@pytest.mark.parametrize(
    ("values", "pixels", "scale"),
    [
        ([-1.0, 0.2, 1.0], [0, 153, 255], "[-1, 1]"),
        ([0.0, 0.2, 1.0], [0, 51, 255], "[0, 1]"),
        ([0.0, 7.4, 200.0], [0, 7, 200], "[0, 255]"),
        ([0, 7, 200], [0, 7, 200], "[0, 255]"),
    ],
)
def test_the_range_of_numbers_is_recognised_and_told(tmp_path, values, pixels, scale):
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


def test_the_only_array_of_an_npz_is_taken(tmp_path):
    data = load(save(tmp_path / "a.npz", whatever=np.ones((2, 4, 4), np.uint8)), size=4)
    assert data.images.shape == (2, 4, 4, 1)


def test_the_array_called_images_is_taken(tmp_path):
    arrays = {"labels": np.zeros(2), "images": np.ones((2, 4, 4), np.uint8)}
    assert (load(save(tmp_path / "a.npz", **arrays), size=4).images == 1).all()


def test_several_arrays_with_other_names_are_refused_by_name(tmp_path):
    refused(save(tmp_path / "a.npz", one=np.ones(2), two=np.ones(2)), "one", "two", "images")


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
    assert pickle.dumps(Canary("x"))
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", file.getvalue())
    else:
        path.write_bytes(file.getvalue())
    refused(path)
    assert not (tmp_path / "ran").exists()


def test_a_header_that_claims_terabytes_is_refused_before_memory_is_taken(tmp_path):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**11, 2**11, 1)}
    np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    refused(tmp_path / "a.npy", "4,398,046,511,104")


def test_every_truncation_is_refused(tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros((2, 4, 4), np.uint8))
    whole = (tmp_path / "whole.npy").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "a.npy").write_bytes(whole[:length])
        refused(tmp_path / "a.npy")


def test_every_flipped_bit_of_a_header_is_survived(tmp_path):
    np.save(tmp_path / "whole.npy", np.zeros((2, 4, 4), np.uint8))
    whole = (tmp_path / "whole.npy").read_bytes()
    for place in range(0, 128):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        (tmp_path / "a.npy").write_bytes(content)
        try:
            load(str(tmp_path / "a.npy"), size=4)
        except DataError as problem:
            assert "\n" not in str(problem)


def test_no_zip_at_all_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and so on")
    refused(tmp_path / "a.npz", "a.npz")


def test_a_negative_size_is_refused(tmp_path):
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (-1, 4, 4)}
    np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "a.npy").write_bytes(file.getvalue() + bytes(16))
    refused(tmp_path / "a.npy", "declares -16 bytes")
