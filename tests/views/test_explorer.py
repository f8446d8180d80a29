"""What a page gets of a generator: its layers, its weights, and the directions worth a slider."""

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.autograd import Tensor
from tinygan.errors import UsageError
from tinygan.layers import LeakyReLU, Mode, Network
from tinygan.models import generator
from tinygan.views.explorer import directions, encode


def made_up(size=8, width=3, noise_dim=6, channels=1):
    """A small generator whose batch normalisations have seen something."""
    G = generator(size=size, width=width, noise_dim=noise_dim, channels=channels)
    for i, (name, tensor) in enumerate((G.parameters | G.statistics).items()):
        values = numbers(i, *tensor.shape).astype(np.float32)
        tensor.data = np.exp(values / 2) if name.endswith("variance") else values / 2
    return G


def decode(text):
    """The numbers of a text, read digit by digit as the docstring of `encode` says."""
    alphabet = "".join(map(chr, range(33, 127))).replace("<", "")
    digits = [alphabet.index(character) for character in text]
    whole = [93 * high + low - 4324 for high, low in zip(digits[::2], digits[1::2], strict=True)]
    assert len(whole) % 65 == 0
    for block in range(0, len(whole), 65):
        yield from (2 ** (whole[block] / 64) * number for number in whole[block + 1 : block + 65])


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_numbers_come_back_to_one_part_in_8500_of_the_largest_in_their_block(size):
    array = numbers(0, size) * 10.0 ** np.arange(size)[::-1].clip(0, 9)
    text = encode(array)
    assert len(text) == 2 * 65 * -(-size // 64)
    found = np.array(list(decode(text)))
    assert (found[size:] == 0).all()
    for block in range(0, size, 64):
        ours, theirs = found[block:size][:64], array[block : block + 64]
        assert np.abs(ours - theirs).max() <= np.abs(theirs).max() / 8500


@pytest.mark.parametrize(("number", "comes_back"), [(0.0, 0.0), (1e-30, 0.0), (-1e12, -1e12), (1e25, 9.4e23)])
def test_numbers_of_any_size_can_be_written(number, comes_back):
    with np.errstate(all="raise"):
        (first, *_) = decode(encode(np.full(3, number)))
    assert first == pytest.approx(comes_back, rel=0.01, abs=1e-9)


def test_directions_are_unit_vectors_at_right_angles():
    found = directions(made_up(noise_dim=12))
    assert found.shape == (8, 12) and found.dtype == np.float32
    assert found @ found.T == pytest.approx(np.eye(8), abs=1e-5)


def test_the_first_direction_is_the_one_that_moves_the_first_layers_most():
    """More than any of many random ones, measured on the layers themselves; each less than the one before."""
    G = made_up(noise_dim=6)
    dense, norm = list(G.layers.values())[:2]

    def moved(direction):
        ends = np.stack([direction, -direction]).astype(np.float32)
        out = norm(dense(Tensor(ends), Mode()), Mode()).data
        return np.linalg.norm(out[0] - out[1])

    found = [moved(direction) for direction in directions(G)]
    others = numbers(1, 200, 6)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    random = [moved(direction) for direction in others]
    assert found == sorted(found, reverse=True)
    assert found[0] > max(random) and found[-1] < min(random)


def test_a_generator_of_few_noise_numbers_has_as_few_directions():
    assert directions(made_up(noise_dim=2)).shape == (2, 2)


def test_a_generator_that_does_not_begin_with_a_dense_layer_has_no_directions():
    with pytest.raises(UsageError, match="begins with a dense layer"):
        directions(Network("generator", (6,), [LeakyReLU(), LeakyReLU()]))


def test_directions_have_their_largest_number_positive():
    found = directions(made_up())
    assert (found[np.arange(len(found)), np.abs(found).argmax(axis=1)] > 0).all()
