"""Batch normalisation, with the batch's own moments and with constant ones."""

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import check_jacobian, forward, gradients, numbers, one_line, relative_error
from tinygan.autograd import Tensor, grad
from tinygan.errors import ShapeError
from tinygan.ops.batchnorm import moments

SHAPES = [(4, 3), (1, 3, 5, 2), (2, 3, 1, 3), (3, 2, 5, 1)]
EPS = 1e-3


def own_moments(arrays):
    """The attributes of a training pass, by NumPy's own mean and var; eps is left at its default."""
    x = arrays[0]
    axes = tuple(range(x.ndim - 1))
    return {"mean": x.mean(axis=axes), "variance": x.var(axis=axes), "of_batch": True}


def inputs(shape):
    C = shape[-1]
    return 2 + 3 * numbers(1, *shape), 1 + 0.5 * numbers(2, C), numbers(3, C)


@pytest.mark.parametrize("shape", [*SHAPES, (1, 4)])
def test_moments_are_those_of_each_channel_over_all_the_rest(backend, shape):
    x = 2 + 3 * numbers(1, *shape)
    mean, variance = (backend.numpy(a) for a in moments(backend.array(x)))
    expected_mean, expected_variance = oracles.moments(x)
    assert relative_error(mean, expected_mean) < 1e-13
    assert np.abs(variance - expected_variance).max() < 1e-13 * (1 + expected_variance.max())


def test_variance_survives_a_large_mean():
    x = np.float32(1000) + numbers(1, 64, 3).astype(np.float32)
    _, expected = oracles.moments(x)
    assert relative_error(moments(x)[1], expected) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_training_forward_equals_the_loops(backend, shape):
    x, gamma, beta = inputs(shape)
    y, _ = forward(backend, "batch_norm", (x, gamma, beta), **own_moments((x,)))
    assert relative_error(y, oracles.batch_norm(x, gamma, beta, *oracles.moments(x), EPS)) < 1e-13
    public = tinygan.batch_norm(backend.array(x), backend.array(gamma), backend.array(beta))
    assert relative_error(backend.numpy(public.data), y) < 1e-13  # eps 1e-3 is the default


@pytest.mark.parametrize("shape", [*SHAPES, (1, 4)])
def test_it_computes_the_batchs_own_moments_where_none_are_given(backend, shape):
    x, gamma, beta = inputs(shape)
    y, _ = forward(backend, "batch_norm", (x, gamma, beta))
    given, _ = forward(backend, "batch_norm", (x, gamma, beta), **own_moments((x,)))
    assert relative_error(y, given) < 1e-13
    dy = numbers(7, *shape)
    found = gradients(backend, "batch_norm", (x, gamma, beta), dy)
    expected = gradients(backend, "batch_norm", (x, gamma, beta), dy, **own_moments((x,)))
    for g, e in zip(found, expected, strict=True):
        assert np.abs(g - e).max() <= 1e-12 * np.abs(dy).max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("attributes", [own_moments, lambda arrays: {}], ids=["given", "its own"])
def test_full_jacobian_goes_through_mean_and_variance(backend, shape, attributes):
    check_jacobian(backend, "batch_norm", inputs(shape), 6e-6, 1e-6, attributes)


@pytest.mark.parametrize("shape", [(5, 3), (3, 4, 2, 2)])
def test_gradient_of_a_loss_goes_through_its_own_moments(backend, shape):
    """The same from outside: tensors, `grad`, and nothing said of moments."""
    arrays, target = inputs(shape), backend.array(np.abs(np.tanh(numbers(8, *shape))))

    def loss(arrays):
        tensors = [Tensor(backend.array(a), backend) for a in arrays]
        return tinygan.bce_with_logits(tinygan.batch_norm(*tensors), target=target), tensors

    def value(arrays):
        return float(loss(arrays)[0])

    found = [backend.numpy(g) for g in grad(*loss(arrays))]
    for which, g in enumerate(found):
        expected = np.zeros(g.size)
        for j in range(g.size):
            sides = []
            for step in (6e-6, -6e-6):
                moved = [a.copy() for a in arrays]
                moved[which].flat[j] += step
                sides.append(value(moved))
            expected[j] = (sides[0] - sides[1]) / 12e-6
        assert relative_error(g.ravel(), expected) < 1e-6


@pytest.mark.parametrize("shape", [*SHAPES, (1, 3)])
def test_full_jacobian_with_constant_statistics(backend, shape):
    C = shape[-1]
    statistics = {"mean": numbers(5, C), "variance": numbers(6, C) ** 2, "of_batch": False, "eps": EPS}
    check_jacobian(backend, "batch_norm", inputs(shape), 6e-6, 1e-6, lambda arrays: statistics)


@pytest.mark.parametrize("shape", [(7, 3), (3, 4, 5, 2)])
def test_random_cotangent_agrees_with_central_differences_of_the_loops(backend, shape):
    x, gamma, beta = inputs(shape)
    dy = numbers(7, *shape)
    dx, dgamma, dbeta = gradients(backend, "batch_norm", (x, gamma, beta), dy, **own_moments((x,)))

    def loss(x, gamma, beta):
        return float((dy * oracles.batch_norm(x, gamma, beta, *oracles.moments(x), EPS)).sum())

    step = 6e-6
    for seed in range(5):
        e = [numbers(10 * seed + i, *a.shape) for i, a in enumerate((x, gamma, beta))]
        found = sum(float((g * d).sum()) for g, d in zip((dx, dgamma, dbeta), e, strict=True))
        ahead = loss(x + step * e[0], gamma + step * e[1], beta + step * e[2])
        behind = loss(x - step * e[0], gamma - step * e[1], beta - step * e[2])
        assert relative_error(found, (ahead - behind) / (2 * step)) < 1e-6


def test_one_example_without_space_becomes_beta_and_gets_no_gradient(backend):
    x, gamma, beta = inputs((1, 4))
    y, _ = forward(backend, "batch_norm", (x, gamma, beta), **own_moments((x,)))
    assert (y == beta).all()
    dy = numbers(7, 1, 4)
    dx, dgamma, dbeta = gradients(backend, "batch_norm", (x, gamma, beta), dy, **own_moments((x,)))
    assert (dx == 0).all() and (dgamma == 0).all() and (dbeta == dy[0]).all()


def test_shifting_and_stretching_a_channel_changes_nothing(backend):
    x, gamma, beta = inputs((5, 3, 2, 2))
    y, _ = forward(backend, "batch_norm", (x, gamma, beta), **own_moments((x,)) | {"eps": 0.0})
    moved = np.array([3.0, 0.5]) * x + np.array([-4.0, 9.0])
    z, _ = forward(backend, "batch_norm", (moved, gamma, beta), **own_moments((moved,)) | {"eps": 0.0})
    assert relative_error(z, y) < 1e-12


@pytest.mark.parametrize("wrong", ["gamma", "beta", "mean", "variance"])
def test_wrong_number_of_channels_is_refused_in_one_line(wrong):
    arrays = {name: np.ones(4 if name == wrong else 3) for name in ("gamma", "beta", "mean", "variance")}
    with pytest.raises(ShapeError, match=wrong) as error:
        statistics = {"mean": arrays["mean"], "variance": arrays["variance"]}
        tinygan.batch_norm(np.ones((2, 3)), arrays["gamma"], arrays["beta"], **statistics)
    one_line(error)
