"""The two networks: sizes, initial values, and the gradient of a whole narrow pair of them."""

import inspect
import re
from math import sqrt

import numpy as np
import pytest

from tests.checks import numbers, one_line, relative_error
from tinygan import models
from tinygan.autograd import grad
from tinygan.errors import ShapeError, UsageError
from tinygan.gan import discriminator_loss, generator_loss
from tinygan.rng import stream


@pytest.fixture(scope="module")
def seed_networks():
    """The tutorial's networks, full size."""
    return models.generator(), models.discriminator()


def count(tensors):
    return sum(tensor.data.size for tensor in tensors.values())


def test_parameter_counts_are_the_tutorials(seed_networks):
    G, D = seed_networks
    assert count({**G.parameters, **G.statistics}) == 2_330_944  # Keras' "total params"
    assert count(G.statistics) == 25_472  # of these, "non-trainable"
    assert count(D.parameters) == 212_865
    assert count(D.statistics) == 0


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
    G, D = seed_networks
    starts = []
    for net in (G, D):
        for name, p in net.parameters.items():
            if name.endswith("kernel"):
                starts.append(tuple((p.data.ravel()[:5] / np.abs(p.data).max()).round(3)))
    assert len(set(starts)) == len(starts) == 7


def test_biases_betas_and_running_means_start_at_0_gammas_and_running_variances_at_1(seed_networks):
    G, D = seed_networks
    tensors = {**G.parameters, **G.statistics, **D.parameters}
    starts = {"bias": 0, "beta": 0, "gamma": 1, "running_mean": 0, "running_variance": 1}
    found = 0
    for name, tensor in tensors.items():
        kind = name.split("/")[1]
        if kind != "kernel":
            assert (tensor.data == starts[kind]).all(), name
            found += 1
    assert found == 3 * 4 + 3


def test_generator_has_no_bias_before_batch_norm(seed_networks):
    assert not [name for name in seed_networks[0].parameters if name.endswith("bias")]


@pytest.mark.parametrize("make", [models.generator, models.discriminator])
def test_same_seed_same_weights_other_seed_other_weights(make):
    def weights(seed):
        net = make(stream(seed, "init").at(0), width=4)
        return {name: p.data.tobytes() for name, p in net.parameters.items() if name.endswith("kernel")}

    assert weights(5) == weights(5)
    one, other = weights(5), weights(6)
    assert all(one[name] != other[name] for name in one)


@pytest.mark.parametrize("which", [0, 1], ids=["generator", "discriminator"])
def test_the_comment_on_every_line_of_a_network_is_the_shape_that_the_layer_makes(seed_networks, which):
    network = seed_networks[which]
    text = inspect.getsource((models.generator, models.discriminator)[which])
    commented = re.findall(r"^.*\S +# (\d+(?:, \d+)*)$", text, re.M)
    layers = re.findall(r"^        layers\.[A-Z]\w+\(.*\), +# \d", text, re.M)
    assert len(layers) == len(network.layers) and len(commented) == len(layers) + 1
    found = [tuple(map(int, shape.split(", "))) for shape in commented]
    assert found == [network.input_shape, *network.shapes.values()]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [4, 8, 28, 32, 64])
def test_any_side_divisible_by_4_makes_and_takes_pictures(size, channels):
    G = models.generator(size=size, channels=channels, width=2, noise_dim=3)
    D = models.discriminator(size=size, channels=channels, width=2)
    images = G(numbers(1, 2, 3).astype(np.float32))
    assert images.shape == (2, size, size, channels)
    assert np.abs(images.data).max() < 1 and images.data.std() > 0
    logits = D(images)
    assert logits.shape == (2, 1) and logits.data[0] != logits.data[1]


@pytest.mark.parametrize(
    ("make", "numbers_"),
    [
        (models.generator, {"size": 30}),
        (models.discriminator, {"size": 30}),
        (models.generator, {"size": 0}),
        (models.discriminator, {"size": -4}),
        (models.generator, {"width": 0}),
        (models.generator, {"noise_dim": 0}),
        (models.discriminator, {"channels": 0}),
    ],
)
def test_impossible_sizes_are_refused_in_one_line(make, numbers_):
    with pytest.raises(UsageError) as error:
        make(**numbers_)
    one_line(error)


def test_size_30_is_told_the_nearest_size_that_works():
    with pytest.raises(UsageError, match=r"30 .*--size 32\."):
        models.generator(size=30)


def test_input_of_another_shape_is_refused_in_one_line():
    D = models.discriminator(width=2)
    for shape in ((2, 28, 28, 3), (28, 28, 1), (2, 27, 28, 1)):
        with pytest.raises(ShapeError, match="discriminator") as error:
            D(np.zeros(shape, np.float32))
        one_line(error)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_dropout_masks_are_refused_in_one_line(count):
    D = models.discriminator(size=8, width=2)
    with pytest.raises(UsageError, match="dropout") as error:
        D(np.zeros((1, 8, 8, 1), np.float32), training=True, masks=count * [stream(0, "dropout")])
    one_line(error)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_an_example_does_not_depend_on_its_batch_when_not_training(dtype, tolerance):
    G = models.generator(width=4, noise_dim=10, dtype=dtype)
    D = models.discriminator(width=4, dtype=dtype)
    for i, s in enumerate(G.statistics.values()):  # some running values; variances must be positive
        s.data = np.abs(numbers(i, *s.shape)).astype(dtype)
    noise = numbers(50, 7, 10).astype(dtype)
    images = G(noise).data
    logits = D(images).data
    for n in range(7):
        assert np.abs(G(noise[n : n + 1]).data - images[n : n + 1]).max() <= tolerance
        assert np.abs(D(images[n : n + 1]).data - logits[n : n + 1]).max() <= tolerance
    assert np.abs(images[0] - images[1]).max() > 1e-3


def test_dropout_is_off_when_not_training_and_on_when_training():
    D = models.discriminator(size=8, width=2)
    x = numbers(1, 2, 8, 8, 1).astype(np.float32)
    masks = [stream(0, "dropout").at(i) for i in range(4)]
    assert (D(x).data == D(x, masks=masks).data).all()
    assert (D(x, training=True, masks=masks[:2]).data != D(x, training=True, masks=masks[2:]).data).any()
    everything = [np.ones((2, 4, 4, 2), bool), np.ones((2, 2, 2, 4), bool)]
    kept = D(x, training=True, masks=everything).data
    assert relative_error(kept, D(x).data / 0.49) < 1e-5  # biases are 0, so the scales multiply


# The whole game, float64, dropout masks frozen, batch norm with the batch's own moments.


def game(size):
    """(loss of G, loss of D), as a function of nothing, and both networks."""
    G = models.generator(stream(1, "init").at(0), size=size, width=2, noise_dim=5, dtype=np.float64)
    D = models.discriminator(stream(1, "init").at(1), size=size, width=2, dtype=np.float64)
    for number, p in enumerate([*G.parameters.values(), *D.parameters.values()]):
        if p.data.ndim == 1:  # away from exactly 0 and 1
            p.data = p.data + 0.1 * numbers(number, *p.shape)
    noise, images = numbers(1, 3, 5), np.tanh(numbers(2, 3, size, size, 1))
    half, quarter = size // 2, size // 4
    sides = [(3, half, half, 2), (3, quarter, quarter, 4)]
    real, fake = ([stream(s, "dropout").keep(shape, 0.3) for shape in sides] for s in (3, 4))

    def losses():
        fake_logits = D(G(noise, training=True), training=True, masks=fake)
        real_logits = D(images, training=True, masks=real)
        return generator_loss(fake_logits), discriminator_loss(real_logits, fake_logits)

    return G, D, losses


def difference(losses, which, tensors, directions, step=1e-6):
    """The central difference of a loss when each tensor moves along its direction."""
    start, sides = [t.data for t in tensors], []
    for sign in (step, -step):
        for t, at, e in zip(tensors, start, directions, strict=True):
            t.data = at + sign * e
        sides.append(float(losses()[which]))
    for t, at in zip(tensors, start, strict=True):
        t.data = at
    return (sides[0] - sides[1]) / (2 * step)


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("which", [0, 1], ids=["generator", "discriminator"])
def test_whole_model_gradient_agrees_with_differences_in_20_directions(which, size):
    G, D, losses = game(size)
    tensors = list((G, D)[which].parameters.values())
    gradients = grad(losses()[which], tensors)
    found, expected = [], []
    for seed in range(20):
        directions = [numbers(100 * seed + i, *t.shape) for i, t in enumerate(tensors)]
        length = sqrt(sum((e * e).sum() for e in directions))
        directions = [e / length for e in directions]
        found.append(sum((g * e).sum() for g, e in zip(gradients, directions, strict=True)))
        expected.append(difference(losses, which, tensors, directions))
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("which", [0, 1], ids=["generator", "discriminator"])
def test_whole_model_gradient_of_each_parameter_agrees_with_differences(which, size):
    G, D, losses = game(size)
    parameters = (G, D)[which].parameters
    found = grad(losses()[which], list(parameters.values()))
    for (name, parameter), g in zip(parameters.items(), found, strict=True):
        e = g / sqrt((g * g).sum())  # uphill, where the derivative is the gradient's length
        along, expected = (g * e).sum(), difference(losses, which, [parameter], [e])
        assert relative_error(along, expected) < 1e-6, name
        e = numbers(7, *g.shape)
        e /= sqrt((e * e).sum())
        error = abs((g * e).sum() - difference(losses, which, [parameter], [e]))
        assert error < 1e-6 * sqrt((g * g).sum()), name
