"""LeakyReLU and tanh."""

import math

import numpy as np
import pytest

from tests.checks import check_jacobian, forward, gradients, numbers, relative_error


@pytest.mark.parametrize("slope", [0.3, 0.01, 0.0, 1.0])
def test_leaky_relu_is_x_above_zero_and_slope_x_below(backend, slope):
    x = np.array([[-2.0, -0.5, 0.0], [0.5, 2.0, 1e300]])
    y, _ = forward(backend, "leaky_relu", (x,), slope=slope)
    assert (y == [[-2.0 * slope, -0.5 * slope, 0.0], [0.5, 2.0, 1e300]]).all()


def test_leaky_relu_has_slope_0_3_when_none_is_given(backend):
    y, _ = forward(backend, "leaky_relu", (np.array([-1.0, 1.0]),))
    assert (y == [-0.3, 1.0]).all()


def test_leaky_relu_full_jacobian_away_from_zero(backend):
    x = numbers(1, 2, 3, 2)
    x += np.sign(x) * 0.1
    assert (x > 0).any() and (x < 0).any()
    check_jacobian(backend, "leaky_relu", (x,), 6e-6, 1e-6, lambda arrays: {"slope": 0.3})


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_leaky_relu_derivative_at_zero_is_the_slope(backend, zero):
    (dx,) = gradients(backend, "leaky_relu", (np.array([zero]),), np.array([1.0]))
    assert dx == 0.3


def test_tanh_equals_the_math_library(backend):
    x = np.array([-1000.0, -20.0, -1.0, -1e-9, 0.0, 0.5, 3.0, 1000.0])
    y, _ = forward(backend, "tanh", (x,))
    expected = [math.tanh(number) for number in x]
    assert np.abs(y - expected).max() < 1e-15 and y[3] == pytest.approx(-1e-9, rel=1e-15)


def test_tanh_full_jacobian(backend):
    check_jacobian(backend, "tanh", (numbers(1, 3, 2, 1, 2),), 6e-6, 1e-6)


def test_tanh_gradient_at_zero_is_dy_and_vanishes_far_out(backend):
    (dx,) = gradients(backend, "tanh", (np.array([0.0, 1000.0]),), np.array([7.0, 7.0]))
    assert relative_error(dx, np.array([7.0, 0.0])) == 0
