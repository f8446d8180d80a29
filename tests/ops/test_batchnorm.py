"""Batch normalisation, in cases that TensorFlow's numbers and finite differences do not cover."""

import numpy as np
import pytest

import tinygan
from tests.checks import forward, gradients, numbers, one_line, relative_error
from tinygan.errors import ShapeError
from tinygan.ops.batchnorm import moments


def inputs(shape):
    C = shape[-1]
    return 2 + 3 * numbers(1, *shape), 1 + 0.5 * numbers(2, C), numbers(3, C)


def test_variance_survives_a_large_mean():
    x = np.float32(1000) + numbers(1, 64, 3).astype(np.float32)
    assert relative_error(moments(x)[1], x.astype(float).var(axis=0)) < 1e-5


@pytest.mark.parametrize("shape", [(4, 3), (3, 2, 5, 1)])
def test_passing_the_batchs_moments_changes_nothing(backend, shape):
    arrays, dy = inputs(shape), numbers(7, *shape)
    axes = tuple(range(len(shape) - 1))
    given = {"mean": arrays[0].mean(axis=axes), "variance": arrays[0].var(axis=axes), "of_batch": True}
    y, other = (forward(backend, "batch_norm", arrays, **attributes)[0] for attributes in ({}, given))
    assert relative_error(other, y) < 1e-13
    found, expected = (gradients(backend, "batch_norm", arrays, dy, **more) for more in (given, {}))
    for g, e in zip(found, expected, strict=True):
        assert np.abs(g - e).max() <= 1e-12 * np.abs(dy).max()


def test_one_example_without_space_becomes_beta_and_gets_no_gradient(backend):
    x, gamma, beta = inputs((1, 4))
    assert (forward(backend, "batch_norm", (x, gamma, beta))[0] == beta).all()
    dy = numbers(7, 1, 4)
    dx, dgamma, dbeta = gradients(backend, "batch_norm", (x, gamma, beta), dy)
    assert (dx == 0).all() and (dgamma == 0).all() and (dbeta == dy[0]).all()


@pytest.mark.parametrize("wrong", ["gamma", "beta", "mean", "variance"])
def test_wrong_number_of_channels_is_refused_in_one_line(wrong):
    arrays = {name: np.ones(4 if name == wrong else 3) for name in ("gamma", "beta", "mean", "variance")}
    with pytest.raises(ShapeError, match=wrong) as error:
        tinygan.batch_norm(np.ones((2, 3)), **arrays)
    one_line(error)


def test_a_mean_without_a_variance_is_refused():
    with pytest.raises(ShapeError, match="mean and variance, or neither"):
        tinygan.batch_norm(*inputs((2, 3)), mean=np.zeros(3))
