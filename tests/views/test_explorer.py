"""The weights of a network as text, for the page."""

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.views.explorer import encode


def decode(text):
    """Decode a text digit by digit, as the docstring of `encode` describes it."""
    alphabet = "".join(map(chr, range(33, 127))).replace("<", "")
    digits = [alphabet.index(character) for character in text]
    whole = [93 * high + low - 4324 for high, low in zip(digits[::2], digits[1::2], strict=True)]
    assert len(whole) % 65 == 0
    for block in range(0, len(whole), 65):
        yield from (2 ** (whole[block] / 64) * number for number in whole[block + 1 : block + 65])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_numbers_come_back_within_1_in_8500_of_the_largest_in_their_block(size):
    array = numbers(0, size) * 10.0 ** np.arange(size)[::-1].clip(0, 9)
    text = encode(array)
    assert len(text) == 2 * 65 * -(-size // 64)
    found = np.array(list(decode(text)))
    assert (found[size:] == 0).all()
    for block in range(0, size, 64):
        ours, theirs = found[block:size][:64], array[block : block + 64]
        assert np.abs(ours - theirs).max() <= np.abs(theirs).max() / 8500


@pytest.mark.parametrize(("number", "comes_back"), [(0.0, 0.0), (1e-30, 0.0), (-1e12, -1e12), (1e25, 9.4e23)])
def test_numbers_of_any_size_can_be_encoded(number, comes_back):
    with np.errstate(all="raise"):
        (first, *_) = decode(encode(np.full(3, number)))
    assert first == pytest.approx(comes_back, rel=0.01, abs=1e-9)
