"""Convolution as four plain products, in float64, against `ops.conv`."""

from typing import cast

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.cuda.blas import Blas, arguments
from tinygan.cuda.frequencies import Convolution, axis, constants, lifted_rows
from tinygan.ops import conv as readable


class Products:
    """What `Blas` does, in NumPy and any precision."""

    def product(self, a, b, out):
        arguments(a, b, out)
        np.matmul(a, b, out=out)


def convolution(side, stride):
    """A `Convolution` whose constants are left in float64."""
    plan = Convolution(np, cast(Blas, Products()), side, stride)
    plan.L, plan.S, plan.K = constants(axis(side, stride))
    return plan


@pytest.mark.parametrize("side", [1, 2, 7, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_the_readable_convolution_and_its_gradients(side, stride):
    T, C, F, taps = 3, 2, 3, 5
    plan = convolution(side, stride)
    x, w = numbers(1, T, side * stride, side * stride, C), numbers(2, taps, taps, C, F)
    dy = numbers(3, T, side, side, F)
    y, saved = readable.conv2d_forward(x, w, None, stride=stride, padding="same")
    dx, dw, _ = readable.conv2d_backward(saved, dy, (True, True, False))

    def places(pictures, stride):  # (T, H, W, C) -> (places, T, phases C)
        parts = pictures.reshape(T, side, stride, side, stride, -1).transpose(1, 3, 0, 2, 4, 5)
        return np.ascontiguousarray(parts).reshape(side * side, T, -1)

    depth = stride * stride * C
    shapes = (plan.rows, T, depth), (plan.rows, T, F), (plan.rows, depth, F)
    X, Y, W = map(np.zeros, shapes)
    plan.lift(plan.L, places(x, stride), X)
    plan.lift(plan.K, w, W)
    plan.down(X, W, Y)
    found = np.empty((side * side, T, F))
    plan.lower(plan.S, Y, found)
    assert found == pytest.approx(places(y, 1), abs=1e-12)

    dX, dY, dW = map(np.zeros, shapes)
    plan.lift(plan.S, places(dy, 1), dY)
    plan.up(dY, W, dX)
    found = np.empty((side * side, T, depth))
    plan.lower(plan.L, dX, found)
    assert found == pytest.approx(places(dx, stride), abs=1e-12)
    plan.kernel_gradient(X, dY, dW)
    found = np.empty_like(w)
    plan.lower(plan.K, dW, found)
    assert found == pytest.approx(dw, abs=1e-11)


def test_the_tutorials_layers_take_as_many_products_as_the_derivation_says():
    assert [lifted_rows(axis(7, stride).n) for stride in (1, 2)] == [(121, 124), (94, 96)]


def test_rows_past_the_frequencies_change_nothing():
    plan = convolution(7, 1)
    X = numbers(1, *(plan.rows, 2, 2))
    found, again = np.empty((49, 2, 2)), np.empty((49, 2, 2))
    plan.lower(plan.L, X, found)
    X[plan.R :] = 1e6
    plan.lower(plan.L, X, again)
    assert (found == again).all() and plan.R < plan.rows
