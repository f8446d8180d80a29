"""Layers: batch normalisation's running values, output shapes, and the layer that a shape error names."""

import numpy as np
import pytest

from tests.checks import numbers, one_line
from tinygan.arrays import CPU
from tinygan.autograd import Tensor
from tinygan.errors import ShapeError
from tinygan.layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Init,
    LeakyReLU,
    Mode,
    Network,
    Reshape,
)
from tinygan.rng import stream


def init(backend=CPU, dtype=np.float64):
    return Init(stream(0, "init"), backend, dtype)


def test_running_values_move_one_percent_towards_the_batchs_mean_and_biased_variance(readable):
    layer = BatchNorm(init(readable), 2)
    # Means 3 and 10, variances 4 (not 8) and 0.
    x = Tensor(readable.array(np.array([[1.0, 10.0], [5.0, 10.0]])))
    before = layer.running_mean.data

    def running():
        layer(x, Mode(True))
        return [readable.numpy(tensor.data) for tensor in (layer.running_mean, layer.running_variance)]

    mean, variance = running()
    assert (before == 0).all()  # updates make new arrays: the old one is unchanged
    assert mean == pytest.approx([0.03, 0.1], rel=1e-13)
    assert variance == pytest.approx([0.99 + 0.04, 0.99], rel=1e-13)
    mean, variance = running()
    assert mean == pytest.approx([0.99 * 0.03 + 0.03, 0.99 * 0.1 + 0.1], rel=1e-13)
    assert variance == pytest.approx([0.99 * 1.03 + 0.04, 0.99 * 0.99], rel=1e-13)


@pytest.mark.parametrize(
    ("layer", "given", "made"),
    [
        (lambda backend: Dense(init(backend), 6, 4), (6,), (4,)),
        (lambda backend: Conv2D(init(backend), 2, 3, kernel=5, stride=2), (7, 10, 2), (4, 5, 3)),
        (lambda backend: Conv2D(init(backend), 2, 3, kernel=2, stride=3), (7, 10, 2), (3, 4, 3)),
        (lambda backend: Conv2DTranspose(init(backend), 2, 3, kernel=5, stride=2), (7, 10, 2), (14, 20, 3)),
        (lambda backend: Reshape(2, 3, 1), (6,), (2, 3, 1)),
        (lambda backend: BatchNorm(init(backend), 3), (4, 5, 3), (4, 5, 3)),
        (lambda backend: LeakyReLU(), (4, 5, 3), (4, 5, 3)),
    ],
)
def test_a_network_finds_the_shape_that_each_layer_makes_and_changes_nothing(readable, layer, given, made):
    layer = layer(readable)
    network = Network("n", given, [BatchNorm(init(readable), given[-1]), layer])  # one that has parameters
    before = [t.data.tobytes() for t in (network.parameters | network.statistics).values()]
    assert network.shapes == {"00_batchnorm": given, f"01_{layer.name}": made}
    assert [t.data.tobytes() for t in (network.parameters | network.statistics).values()] == before
    assert network(readable.xp.ones((2, *given))).shape == (2, *made)


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        (lambda: [Dense(init(), 5, 8)], "layer 00_dense of the net: dense got"),
        (lambda: [LeakyReLU(), Reshape(2, 4)], "layer 01_reshape of the net: cannot reshape"),
        (
            lambda: [Reshape(1, 6, 1), Conv2D(init(), 2, 3, kernel=3, stride=1)],
            "layer 01_conv of the net: conv2d",
        ),
        (
            lambda: [Reshape(1, 6, 1), LeakyReLU(), Conv2DTranspose(init(), 2, 3, kernel=3, stride=1)],
            "layer 02_conv_transpose of the net: conv2d_transpose",
        ),
        (lambda: [Dense(init(), 6, 8), BatchNorm(init(), 7)], "layer 01_batchnorm of the net: batch_norm"),
    ],
)
def test_shapes_that_do_not_fit_name_the_layer_in_one_line(layers, named):
    network = Network("net", (6,), [*layers(), Dense(init(), 1, 1)])
    with pytest.raises(ShapeError) as error:
        network(numbers(1, 2, 6))
    assert one_line(error).startswith(named)
    assert isinstance(error.value.__cause__, ShapeError)


def test_an_input_of_another_shape_names_the_network():
    network = Network("net", (6,), [Dense(init(), 6, 8)])
    with pytest.raises(ShapeError, match=r"^the net got \(2, 5\)\. It needs \(N, 6\)\.$"):
        network(numbers(1, 2, 5))
