"""What a page gets of a generator: its layers, its weights, and the directions worth a slider."""

from math import prod

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.autograd import Tensor
from tinygan.gan import generate
from tinygan.layers import BatchNorm, Mode
from tinygan.models import generator
from tinygan.rng import stream
from tinygan.views.explorer import directions, encode, export


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


def arrays(exported):
    """The weights of each layer by name, read as the page reads them: one after the other."""
    found = np.array(list(decode(exported.weights)))
    place = 0
    for layer in exported.layers:
        taken = {}
        for name, shape in layer["weights"].items():
            taken[name] = found[place : place + prod(shape)].reshape(shape)
            place += -(-prod(shape) // 64) * 64
        yield layer, taken
    assert place == len(found), "weights that no layer takes"


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


def test_layers_have_the_names_and_shapes_of_the_network():
    G = made_up()
    layers = export(G).layers
    assert [layer["name"] for layer in layers] == list(G.layers)
    assert [layer["shape"] for layer in layers] == list(G.shapes.values())
    assert [layer["kind"] for layer in layers][:4] == ["dense", "batchnorm", "leaky_relu", "reshape"]


def test_kernels_are_rounded_to_13_bits():
    G = made_up()
    for layer, taken in arrays(export(G)):
        if "kernel" in taken:
            kernel = G.parameters[f"{layer['name']}/kernel"].data
            assert np.abs(taken["kernel"] - kernel).max() <= np.abs(kernel).max() / 8500
            assert (taken["kernel"] != kernel).any()


def test_a_batch_normalisation_becomes_a_scale_and_a_shift():
    G = made_up()
    (layer, taken), *_ = [found for found in arrays(export(G)) if found[0]["kind"] == "batchnorm"]
    norm = G.layers[layer["name"]]
    assert isinstance(norm, BatchNorm)
    x = numbers(3, 5, taken["scale"].size)
    gamma, beta, mean, variance = (
        tensor.data.astype(np.float64)
        for tensor in (norm.gamma, norm.beta, norm.running_mean, norm.running_variance)
    )
    expected = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    assert taken["scale"] * x + taken["shift"] == pytest.approx(expected, abs=0.02)


def test_transposed_convolutions_say_what_they_crop():
    found = [layer for layer in export(made_up()).layers if layer["kind"] == "conv_transpose"]
    # 'same' with kernel 5: 4 numbers too many at stride 1, 3 at stride 2; the smaller half comes first.
    assert [(layer["stride"], layer["pads"]) for layer in found] == [(1, [2, 2]), (2, [1, 1]), (2, [1, 1])]


def test_directions_are_unit_vectors_at_right_angles():
    found = directions(made_up(), 4)
    assert found.shape == (4, 6) and found.dtype == np.float32
    assert found @ found.T == pytest.approx(np.eye(4), abs=1e-5)


def test_the_first_direction_is_the_one_that_moves_the_first_layers_most():
    """More than any of many random ones, measured on the layers themselves; each less than the one before."""
    G = made_up(noise_dim=6)
    dense, norm = list(G.layers.values())[:2]

    def moved(direction):
        ends = np.stack([direction, -direction]).astype(np.float32)
        out = norm(dense(Tensor(ends), Mode()), Mode()).data
        return np.linalg.norm(out[0] - out[1])

    found = [moved(direction) for direction in directions(G, 6)]
    others = numbers(1, 200, 6)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    random = [moved(direction) for direction in others]
    assert found == sorted(found, reverse=True)
    assert found[0] > max(random) and found[-1] < min(random)


def test_pictures_change_more_along_the_first_directions_than_along_the_last():
    G = made_up(noise_dim=20)
    found = directions(G, 20)
    noise = stream(0, "samples").normal((32, 20))

    def change(direction):
        return np.abs(generate(G, noise + direction) - generate(G, noise - direction)).mean()

    assert np.mean([change(d) for d in found[:3]]) > 1.5 * np.mean([change(d) for d in found[-3:]])


def test_a_generator_of_few_noise_numbers_has_as_few_directions():
    assert directions(made_up(noise_dim=2)).shape == (2, 2)


def test_directions_have_their_largest_number_positive():
    found = directions(made_up())
    assert (found[np.arange(len(found)), np.abs(found).argmax(axis=1)] > 0).all()
