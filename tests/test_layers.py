"""Layers: what batch normalisation remembers, and the shapes that networks assert."""

import numpy as np
import pytest

from tinygan.backend import cpu
from tinygan.layers import BatchNorm, Conv2D, Conv2DTranspose, Dense, LeakyReLU, Network, New, Reshape
from tinygan.rng import stream


def new(dtype=np.float64):
    return New(stream(0, "init"), cpu(), dtype)


def test_running_values_move_one_percent_towards_the_batchs_mean_and_biased_variance():
    layer = BatchNorm(new(), 2)
    x = np.array([[1.0, 10.0], [5.0, 10.0]])  # means 3 and 10, variances 4 (not 8) and 0
    layer(x, True, iter(()))
    assert layer.running_mean.data == pytest.approx([0.03, 0.1], rel=1e-13)
    assert layer.running_variance.data == pytest.approx([0.99 + 0.04, 0.99], rel=1e-13)
    layer(x, True, iter(()))
    assert layer.running_mean.data == pytest.approx([0.99 * 0.03 + 0.03, 0.99 * 0.1 + 0.1], rel=1e-13)
    assert layer.running_variance.data == pytest.approx([0.99 * 1.03 + 0.04, 0.99 * 0.99], rel=1e-13)


def test_running_values_of_pictures_gather_batch_and_space():
    layer = BatchNorm(new(), 1)
    layer(np.array([[[[0.0], [2.0]]], [[[4.0], [6.0]]]]), True, iter(()))  # mean 3, variance 5
    assert layer.running_mean.data == pytest.approx([0.03], rel=1e-13)
    assert layer.running_variance.data == pytest.approx([0.99 + 0.05], rel=1e-13)


def test_running_values_serve_and_stay_when_not_training():
    layer = BatchNorm(new(), 1)
    layer.running_mean.data, layer.running_variance.data = np.array([2.0]), np.array([4.0 - 1e-3])
    y = layer(np.array([[6.0]]), False, iter(()))
    assert y.data == pytest.approx(2.0, rel=1e-15)
    assert layer.running_mean.data == 2 and layer.running_variance.data == 4 - 1e-3


def test_training_makes_new_running_arrays_so_that_copies_taken_before_stay():
    layer = BatchNorm(new(), 1)
    before = layer.running_mean.data
    layer(np.array([[6.0]]), True, iter(()))
    assert before == 0 and layer.running_mean.data != 0


@pytest.mark.parametrize(
    ("layer", "given", "made"),
    [
        (lambda: Dense(new(), 6, 4), (6,), (4,)),
        (lambda: Conv2D(new(), 2, 3, kernel=5, stride=2), (7, 10, 2), (4, 5, 3)),
        (lambda: Conv2D(new(), 2, 3, kernel=2, stride=3), (7, 10, 2), (3, 4, 3)),
        (lambda: Conv2DTranspose(new(), 2, 3, kernel=5, stride=2), (7, 10, 2), (14, 20, 3)),
        (lambda: Reshape(2, 3, 1), (6,), (2, 3, 1)),
        (lambda: BatchNorm(new(), 3), (4, 5, 3), (4, 5, 3)),
        (LeakyReLU, (4, 5, 3), (4, 5, 3)),
    ],
)
def test_layers_say_the_shape_they_make(layer, given, made):
    layer = layer()
    assert layer.output_shape(given) == made
    assert layer(np.ones((2, *given)), False, iter(())).shape == (2, *made)


def test_a_network_asserts_the_shape_on_each_line():
    with pytest.raises(AssertionError, match=r"layer 1 \(reshape\)"):
        Network("n", (6,), [(LeakyReLU(), (6,)), (Reshape(2, 3), (3, 2))])
