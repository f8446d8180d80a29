"""The ranges that numbers are assumed to be in, compared with what a person would say."""

import numpy as np
import pytest

from tinygan.data import dataset, load
from tinygan.data.arrays import scale_of
from tinygan.errors import DataError


def pixels(numbers, dtype) -> tuple[list[int], str]:
    array = np.array(numbers, dtype).reshape(1, 1, -1, 1)
    scale = scale_of(array, "it")
    return scale.pixels(array).ravel().tolist(), scale.words


@pytest.mark.parametrize(
    ("numbers", "dtype", "expected", "words"),
    [
        ([0, 0.2, 1.0000002], "f4", [0, 51, 255], "[0, 1]"),
        ([-1e-7, 0.2, 1], "f8", [0, 51, 255], "[0, 1]"),
        ([0, 0.2, 0.9], "f2", [0, 51, 229], "[0, 1]"),
        ([-1.000001, 0.2, 1.000001], "f4", [0, 153, 255], "[-1, 1]"),
        ([-1, 0, 1], "i1", [0, 128, 255], "[-1, 1]"),
        ([-0.2, 7.4, 255.2], "f4", [0, 7, 255], "[0, 255]"),
        ([0, 7, 200], "i8", [0, 7, 200], "[0, 255]"),
        ([0, 7, 200], "u1", [0, 7, 200], ""),
        ([0, 7, 17], "u1", [0, 7, 17], ""),
        ([0, 1, 1], "u1", [0, 255, 255], "[0, 1]"),
        ([0, 1, 1], "?", [0, 255, 255], "[0, 1]"),
        ([0, 1, 1], "f4", [0, 255, 255], "[0, 1]"),
        ([0, 5, 15], "u1", [0, 85, 255], "[0, 15]"),
        ([0, 8, 16], "f8", [0, 128, 255], "[0, 16]"),
        ([0, 0.5, 16], "f8", [0, 0, 16], "[0, 255]"),
        ([-128, 0, 127], "i1", [0, 128, 255], "[-128, 127]"),
        ([-127.5, 0, 127.5], "f4", [0, 128, 255], "[-128, 127]"),
        ([0, 257, 65535], "u2", [0, 1, 255], "[0, 65535]"),
        ([0, 257, 60000], ">u2", [0, 1, 233], "[0, 65535]"),
        ([0, 1023], "u2", [0, 255], "[0, 1023]"),
        ([0, 2048, 4095], "i4", [0, 128, 255], "[0, 4095]"),
        ([0, 0, 0], "u1", [0, 0, 0], ""),
        ([0, 0, 0], "f4", [0, 0, 0], "[0, 255]"),
    ],
)
def test_ranges_that_mean_one_thing_are_read(numbers, dtype, expected, words):
    assert pixels(numbers, dtype) == (expected, words)


@pytest.mark.parametrize(
    ("numbers", "word"),
    [
        ([-2.1, 0, 2.6], "from -2.1 to 2.6"),
        ([0, 3000], "from 0 to 3000"),
        ([-200, 0], "from -200 to 0"),
        ([0, 1e9], "from 0 to 1e[+]09"),
        ([0, np.nan], "not finite"),
        ([0, np.inf], "not finite"),
        ([-np.inf, 0], "not finite"),
    ],
)
def test_other_ranges_are_refused(numbers, word):
    with pytest.raises(DataError, match=word):
        pixels(numbers, "f8")


def test_all_numbers_count_not_only_the_first_ones(monkeypatch):
    monkeypatch.setattr(dataset, "CHUNK", 1)
    assert pixels([0, 8, 16, 0, 200], "i4")[1] == "[0, 255]"
    assert pixels([0, 8, 0.5, 0, 16], "f4")[1] == "[0, 255]"
    assert pixels([0, 1, 17], "u1") == ([0, 1, 17], "")


@pytest.mark.parametrize(("low", "high", "faint"), [(0, 20, 3), (100, 120, 2), (0, 90, 0)])
def test_faint_pictures_are_reported(tmp_path, low, high, faint):
    images = np.tile(np.linspace(0, 255, 16).astype(np.uint8), 4).reshape(4, 4, 4)
    images[:faint] = np.linspace(low, high, 16).reshape(4, 4)
    images[3] = images[3, ::-1]
    np.save(tmp_path / "a.npy", images)
    notes = load(str(tmp_path / "a.npy"), size=4).notes
    expected = f"{faint} of 4 pictures: nearly black or of a single colour"
    assert [expected in note for note in notes] == [True] * bool(faint)
