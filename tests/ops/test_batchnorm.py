"""Batch normalisation, with the batch's own moments and with constant ones."""

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import forward, gradients, numbers, one_line, relative_error
from tinygan.arrays import CPU
from tinygan.errors import ShapeError
from tinygan.ops.batchnorm import moments

EVERY_SHAPE = pytest.mark.parametrize("shape", [(4, 3), (1, 3, 5, 2), (2, 3, 1, 3), (3, 2, 5, 1), (1, 4)])
EPS = 1e-3


def inputs(shape):
    C = shape[-1]
    return 2 + 3 * numbers(1, *shape), 1 + 0.5 * numbers(2, C), numbers(3, C)


@EVERY_SHAPE
def test_moments_are_those_of_each_channel_over_all_the_rest(shape):
    x = inputs(shape)[0]
    mean, variance = moments(x)
    expected_mean, expected_variance = oracles.moments(x)
    assert relative_error(mean, expected_mean) < 1e-13
    assert np.abs(variance - expected_variance).max() < 1e-13 * (1 + expected_variance.max())


def test_variance_survives_a_large_mean():
    x = np.float32(1000) + numbers(1, 64, 3).astype(np.float32)
    _, expected = oracles.moments(x)
    assert relative_error(moments(x)[1], expected) < 1e-5


@EVERY_SHAPE
def test_it_equals_the_loops_with_the_batchs_own_moments_whether_given_or_not(shape):
    x, gamma, beta = inputs(shape)
    mean, variance = oracles.moments(x)
    given = {"mean": mean, "variance": variance, "of_batch": True}
    expected = oracles.batch_norm(x, gamma, beta, mean, variance, EPS)  # the default
    dy = numbers(7, *shape)
    found = [gradients("batch_norm", (x, gamma, beta), dy, **attributes) for attributes in ({}, given)]
    for attributes in ({}, given):
        assert relative_error(forward(CPU, "batch_norm", (x, gamma, beta), **attributes)[0], expected) < 1e-13
    for g, e in zip(*found, strict=True):
        assert np.abs(g - e).max() <= 1e-12 * np.abs(dy).max()


@EVERY_SHAPE
def test_constant_statistics_have_no_share_in_the_gradient(shape):
    x, gamma, beta = inputs(shape)
    mean, variance = numbers(5, shape[-1]), numbers(6, shape[-1]) ** 2
    statistics = {"mean": mean, "variance": variance, "eps": 0.5}
    y, _ = forward(CPU, "batch_norm", (x, gamma, beta), **statistics)
    assert relative_error(y, oracles.batch_norm(x, gamma, beta, mean, variance, 0.5)) < 1e-13
    dy = numbers(7, *shape)
    dx = gradients("batch_norm", (x, gamma, beta), dy, **statistics)[0]
    assert relative_error(dx, dy * gamma / np.sqrt(variance + 0.5)) < 1e-13


def test_one_example_without_space_becomes_beta_and_gets_no_gradient():
    x, gamma, beta = inputs((1, 4))
    assert (forward(CPU, "batch_norm", (x, gamma, beta))[0] == beta).all()
    dy = numbers(7, 1, 4)
    dx, dgamma, dbeta = gradients("batch_norm", (x, gamma, beta), dy)
    assert (dx == 0).all() and (dgamma == 0).all() and (dbeta == dy[0]).all()


@pytest.mark.parametrize("wrong", ["gamma", "beta", "mean", "variance"])
def test_wrong_number_of_channels_is_refused_in_one_line(wrong):
    arrays = {name: np.ones(4 if name == wrong else 3) for name in ("gamma", "beta", "mean", "variance")}
    with pytest.raises(ShapeError, match=wrong) as error:
        tinygan.batch_norm(np.ones((2, 3)), **arrays)
    one_line(error)
