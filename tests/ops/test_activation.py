"""LeakyReLU and tanh."""

import math

import numpy as np
import pytest

from tests.checks import forward, gradients


@pytest.mark.parametrize("slope", [0.01, 0.0, 1.0])
def test_leaky_relu_is_x_above_zero_and_slope_x_below(backend, slope):
    x = np.array([[-2.0, -0.5, 0.0], [0.5, 2.0, 1e300]])
    y, _ = forward(backend, "leaky_relu", (x,), slope=slope)
    assert (y == [[-2.0 * slope, -0.5 * slope, 0.0], [0.5, 2.0, 1e300]]).all()


def test_leaky_relu_has_slope_0_3_by_default_also_at_zero(backend):
    x = np.array([-1.0, -0.0, 0.0, 1.0])
    assert (forward(backend, "leaky_relu", (x,))[0] == [-0.3, 0.0, 0.0, 1.0]).all()
    assert (gradients(backend, "leaky_relu", (x,), np.ones(4))[0] == [0.3, 0.3, 0.3, 1.0]).all()


def test_tanh_equals_the_math_library(backend):
    x = np.array([-1000.0, -20.0, -1.0, -1e-9, 0.0, 0.5, 3.0, 1000.0])
    y, _ = forward(backend, "tanh", (x,))
    expected = [math.tanh(number) for number in x]
    assert np.abs(y - expected).max() < 1e-15 and y[3] == pytest.approx(-1e-9, rel=1e-15)


def test_tanh_gradient_at_zero_is_dy_and_vanishes_far_out(backend):
    (dx,) = gradients(backend, "tanh", (np.array([0.0, 1000.0]),), np.array([7.0, 7.0]))
    assert (dx == [7.0, 0.0]).all()
