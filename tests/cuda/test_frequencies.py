"""Convolution as plain products, in float64, against `ops.conv`; its kernels against their definition."""

from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.cuda.blas import arguments
from tinygan.cuda.frequencies import TAPS, Convolution, axis, constants
from tinygan.cuda.kernels import Kernels
from tinygan.ops import conv as readable


class Products:
    """`Blas` in NumPy, in any precision."""

    def product(self, a, b, out):
        arguments(a, b, out)
        np.matmul(a, b, out=out)


class Definitions:
    """The kernels by definition: each tap adds to, or takes from, its phase."""

    lifted = float

    def flat(self, name, count, w, K, R, stride, C, F, W, times):
        W[...] = 0
        for tap, part in self.of_taps(W, R, stride, C, F):
            part += np.einsum("rij,cf->ricjf", K[tap], w.reshape(-1, C, F)[tap])

    def columns(self, name, count, chunks, W, K, R, stride, C, F, w, along):
        for tap, part in self.of_taps(W, R, stride, C, F):
            w.reshape(-1, C, F)[tap] = np.einsum("rij,ricjf->cf", K[tap], part)

    def of_taps(self, W, R, stride, C, F):
        before, rows = (TAPS - stride) // 2, W.reshape(R, 2, stride, stride, C, 2, F)
        for tap, (i, j) in enumerate(np.ndindex(TAPS, TAPS)):
            yield tap, rows[:, :, (i + before) % stride, (j + before) % stride]


def convolution(side, stride):
    """A `Convolution` with constants in float64."""
    kernels: Any = Definitions()
    blas: Any = Products()
    plan = Convolution(np, kernels, blas, side, stride)
    plan.L, plan.K = constants(axis(side, stride))
    return plan


@pytest.mark.parametrize("side", [1, 2, 7, 8, 16])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_equals_the_readable_convolution_and_its_gradients(side, stride):
    T, C, F = 3, 2, 3
    plan = convolution(side, stride)
    x, w = numbers(1, T, side * stride, side * stride, C), numbers(2, TAPS, TAPS, C, F)
    dy = numbers(3, T, side, side, F)
    y, saved = readable.conv2d_forward(x, w, None, stride=stride, padding="same")
    dx, dw, _ = readable.conv2d_backward(saved, dy, (True, True, False))

    def places(pictures, stride):  # (T, H, W, C) -> (T, places, phases C)
        parts = pictures.reshape(T, side, stride, side, stride, -1).transpose(0, 1, 3, 2, 4, 5)
        return np.ascontiguousarray(parts).reshape(T, side * side, -1)

    depth = stride * stride * C
    shapes = (T, 2 * plan.R, depth), (T, 2 * plan.R, F), (plan.R, 2 * depth, 2 * F)
    X, Y, W = map(np.empty, shapes)
    plan.lift(places(x, stride), X)
    plan.lift_kernel(w, W)
    plan.down(X, W, Y)
    found = np.empty((T, side * side, F))
    plan.lower(Y, found)
    assert found == pytest.approx(places(y, 1), abs=1e-12)

    dX, dY, dW = map(np.empty, shapes)
    plan.lift(places(dy, 1), dY)
    plan.up(dY, W, dX)
    found = np.empty((T, side * side, depth))
    plan.lower(dX, found)
    assert found == pytest.approx(places(dx, stride), abs=1e-12)
    plan.kernel_gradient(X, dY, dW)
    found = np.empty_like(w)
    plan.lower_kernel(dW, found)
    assert found == pytest.approx(dw, abs=1e-11)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("C", "F", "wide"), [(4, 8, 4), (12, 36, 4), (3, 5, 1), (33, 20, 1)])
def test_kernels_are_lifted_and_lowered_as_defined(make_backend, stride, C, F, wide):
    backend, plan = make_backend(), convolution(7, stride)
    K, w = plan.K.astype(np.float32), numbers(1, TAPS, TAPS, C, F).astype(np.float32)
    W = numbers(2, plan.R, 2 * stride**2 * C, 2 * F).astype(np.float32)
    lifted, lowered = np.empty_like(W, float), np.empty_like(w, float)
    plan.lift_kernel(w.astype(float), lifted)
    plan.lower_kernel(W.astype(float), lowered)
    kernels: Any = Kernels(backend.xp, 7, 1, wide)
    blas: Any = None
    card = Convolution(backend.xp, kernels, blas, 7, stride)
    into, back = map(backend.array, (np.full_like(W, np.nan), np.full_like(w, np.nan)))
    assert (backend.numpy(card.K) == K).all()
    card.lift_kernel(backend.array(w), into)
    card.lower_kernel(backend.array(W), back)
    assert backend.numpy(into) == pytest.approx(lifted, abs=1e-5)
    assert backend.numpy(back) == pytest.approx(lowered, abs=1e-4)


def test_the_tutorials_layers_take_as_many_products_as_the_derivation_says():
    assert [constants(axis(7, stride))[1].shape[1] for stride in (1, 2)] == [41, 32]
