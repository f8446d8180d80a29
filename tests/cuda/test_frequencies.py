"""Convolution as four plain products, in float64, against `ops.conv`."""

from __future__ import annotations

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


def convolution(side, C, F, taps, stride):
    """A `Convolution` whose constants are left in float64."""
    plan = Convolution(np, cast(Blas, Products()), side, C, F, taps, stride)
    cut = axis(side, taps, stride)
    plan.L, plan.S, plan.K = constants(cut, cut, (taps, taps))
    return plan


CASES = [
    (7, 1, 5),
    (7, 2, 5),
    (8, 1, 5),
    (8, 2, 5),
    (1, 1, 5),
    (1, 2, 5),
    (2, 1, 5),
    (2, 2, 5),
    (3, 2, 4),
    (4, 1, 3),
]
CASES += [(5, 3, 5), (16, 2, 5)]


@pytest.mark.parametrize(("side", "stride", "taps"), CASES)
def test_it_is_the_readable_convolution_and_its_gradients(side, stride, taps):
    T, C, F = 3, 2, 3
    plan = convolution(side, C, F, taps, stride)
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
    plan.lift_large(places(x, stride), X)
    plan.lift_kernel(w, W)
    plan.down(X, W, Y)
    found = np.empty((side * side, T, F))
    plan.lower_small(Y, found)
    assert found == pytest.approx(places(y, 1), abs=1e-12)

    dX, dY, dW = map(np.zeros, shapes)
    plan.lift_small(places(dy, 1), dY)
    plan.up(dY, W, dX)
    found = np.empty((side * side, T, depth))
    plan.lower_large(dX, found)
    assert found == pytest.approx(places(dx, stride), abs=1e-12)
    plan.kernel_gradient(X, dY, dW)
    found = np.empty_like(w)
    plan.lower_kernel(dW, found)
    assert found == pytest.approx(dw, abs=1e-11)


def test_the_tutorials_layers_take_as_many_products_as_the_derivation_says():
    assert [lifted_rows(axis(7, 5, stride).n) for stride in (1, 2)] == [(121, 124), (94, 96)]


@pytest.mark.parametrize("n", range(1, 20))
def test_frequencies_are_counted_as_they_are_made(n):
    cut = axis(n, 1, 1)
    assert cut.n == n
    found = constants(cut, cut, (1, 1)).large
    R, rows = lifted_rows(n)
    assert found.shape == (n * n, rows) and rows % 4 == 0 and rows - R < 4
    assert found[:, :R].any(axis=0).all() and not found[:, R:].any()


def test_rows_past_the_frequencies_change_nothing():
    plan = convolution(7, 2, 3, 5, 1)
    X = numbers(1, *(plan.rows, 2, 2))
    found, again = np.empty((49, 2, 2)), np.empty((49, 2, 2))
    plan.lower_large(X, found)
    X[plan.R :] = 1e6
    plan.lower_large(X, again)
    assert (found == again).all() and plan.R < plan.rows
