"""The two networks: sizes, initial values, and outputs in training and at inference."""

import inspect
import re
from math import sqrt

import numpy as np
import pytest

from tests.checks import numbers, one_line, relative_error
from tinygan import models
from tinygan.errors import UsageError
from tinygan.rng import stream


@pytest.fixture(scope="module")
def seed_networks():
    """The tutorial's networks, full size."""
    return models.generator(), models.discriminator()


def test_parameters_have_the_shapes_of_keras_in_the_tutorials_order(seed_networks):
    G, D = seed_networks
    assert [p.shape for p in G.parameters.values()] == [
        (100, 12544), (12544,), (12544,), (5, 5, 128, 256), (128,), (128,), (5, 5, 64, 128), (64,), (64,),
        (5, 5, 1, 64),
    ]  # fmt: skip
    assert [p.shape for p in D.parameters.values()] == [
        (5, 5, 1, 64), (64,), (5, 5, 64, 128), (128,), (6272, 1), (1,),
    ]  # fmt: skip
    layers = ("00_conv", "03_conv", "07_dense")
    assert list(D.parameters) == [f"{layer}/{kind}" for layer in layers for kind in ("kernel", "bias")]
    assert len(G.parameters) == len({id(p) for p in G.parameters.values()})


def test_kernels_are_glorot_uniform(seed_networks):
    G, D = seed_networks
    fans = {
        (100, 12544): 100 + 12544,
        (5, 5, 128, 256): 25 * (128 + 256),
        (5, 5, 64, 128): 25 * (64 + 128),  # a transposed kernel of G, and D's second one
        (5, 5, 1, 64): 25 * (1 + 64),
        (6272, 1): 6272 + 1,
    }
    kernels = [p for net in (G, D) for name, p in net.parameters.items() if name.endswith("kernel")]
    assert len(kernels) == 7
    for kernel in kernels:
        limit, n = sqrt(6 / fans[kernel.shape]), kernel.data.size
        values = kernel.data.astype(np.float64).ravel()
        assert np.abs(values).max() <= np.float32(limit) and np.abs(values).max() > limit * (1 - 20 / n)
        # Mean, mean square and the share below half the limit, within 5 standard deviations.
        assert abs(values.mean()) < 5 * limit / sqrt(3 * n)
        assert abs((values**2).mean() - limit**2 / 3) < 5 * limit**2 * sqrt(4 / 45 / n)
        assert abs((np.abs(values) < limit / 2).mean() - 0.5) < 5 * sqrt(0.25 / n)


def test_no_two_kernels_share_their_random_numbers(seed_networks):
    kernels = [p.data for net in seed_networks for name, p in net.parameters.items() if "kernel" in name]
    starts = {tuple((kernel.ravel()[:5] / np.abs(kernel).max()).round(3)) for kernel in kernels}
    assert len(starts) == len(kernels) == 7


def test_biases_betas_and_running_means_start_at_0_gammas_and_running_variances_at_1(seed_networks):
    G, D = seed_networks
    tensors = {**G.parameters, **G.statistics, **D.parameters}
    starts = {"bias": 0, "beta": 0, "gamma": 1, "running_mean": 0, "running_variance": 1}
    others = {name: tensor.data for name, tensor in tensors.items() if not name.endswith("kernel")}
    assert len(others) == 3 * 4 + 3
    assert all((values == starts[name.split("/")[1]]).all() for name, values in others.items())


@pytest.mark.parametrize("make", [models.generator, models.discriminator])
def test_same_seed_same_weights_other_seed_other_weights(make):
    one, again, other = (
        {name: p.data.tobytes() for name, p in make(stream(seed, "init"), width=4).parameters.items()}
        for seed in (5, 5, 6)
    )
    assert one == again and all(one[name] != other[name] for name in one if name.endswith("kernel"))


@pytest.mark.parametrize("which", [0, 1], ids=["generator", "discriminator"])
def test_the_comment_on_every_line_of_a_network_is_the_shape_that_the_layer_makes(seed_networks, which):
    network = seed_networks[which]
    text = inspect.getsource((models.generator, models.discriminator)[which])
    commented = re.findall(r"^.*\S +# (\d+(?:, \d+)*)$", text, re.M)
    layers = re.findall(r"^        layers\.[A-Z]\w+\(.*\), +# \d", text, re.M)
    assert len(layers) == len(network.layers) and len(commented) == len(layers) + 1
    found = [tuple(map(int, shape.split(", "))) for shape in commented]
    assert found == [network.input_shape, *network.shapes.values()]


@pytest.mark.parametrize(("size", "channels"), [(4, 1), (8, 3), (28, 1), (32, 1), (64, 3)])
def test_any_side_divisible_by_4_makes_and_takes_pictures(readable, size, channels):
    G = models.generator(size=size, channels=channels, width=2, noise_dim=3, backend=readable)
    D = models.discriminator(size=size, channels=channels, width=2, backend=readable)
    images = G(readable.array(numbers(1, 2, 3).astype(np.float32)))
    assert images.shape == (2, size, size, channels)
    assert abs(images.data).max() < 1 and images.data.std() > 0
    logits = D(images)
    assert logits.shape == (2, 1) and logits.data[0] != logits.data[1]


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (models.generator, {"size": 30}, r"30 .*--size 32\."),  # the nearest size that works
        (models.discriminator, {"size": 30}, "30"),
        (models.generator, {"size": 0}, "size 0"),
        (models.discriminator, {"size": -4}, "size -4"),
        (models.generator, {"width": 0}, "width 0"),
        (models.generator, {"noise_dim": 0}, "noise_dim 0"),
        (models.discriminator, {"channels": 0}, "channels 0"),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(make, given, words):
    with pytest.raises(UsageError, match=words) as error:
        make(**given)
    one_line(error)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_dropout_masks_are_refused_in_one_line(count):
    D = models.discriminator(size=8, width=2)
    with pytest.raises(UsageError, match="dropout") as error:
        D(np.zeros((1, 8, 8, 1), np.float32), training=True, masks=count * [stream(0, "dropout")])
    one_line(error)


def test_dropout_is_off_when_not_training_and_on_when_training(readable):
    D = models.discriminator(size=8, width=2, backend=readable)
    x = readable.array(numbers(1, 2, 8, 8, 1).astype(np.float32))
    masks = [stream(0, "dropout").at(i) for i in range(4)]
    assert (D(x).data == D(x, masks=masks).data).all()
    assert (D(x, training=True, masks=masks[:2]).data != D(x, training=True, masks=masks[2:]).data).any()
    everything = [readable.xp.ones(shape, dtype=bool) for shape in ((2, 4, 4, 2), (2, 2, 2, 4))]
    kept, whole = (readable.numpy(y.data) for y in (D(x, training=True, masks=everything), D(x)))
    assert relative_error(kept, whole / 0.49) < 1e-5  # biases are 0, so the scales multiply
