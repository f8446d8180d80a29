"""The Fréchet distance against closed forms, and its properties for any features."""

import numpy as np
import pytest

from tinygan.evaluation.distance import frechet, moments, standard_error


def rng(seed=0):
    return np.random.default_rng(seed)


def rotation(size, seed=0):
    return np.linalg.qr(rng(seed).standard_normal((size, size)))[0]


def test_equal_distributions_are_at_distance_0():
    x = rng().standard_normal((500, 8)) @ rng(1).standard_normal((8, 8))
    assert frechet(moments(x), moments(x)) == pytest.approx(0, abs=1e-10)


def test_normals_of_known_distance():
    """With one covariance: |mu1 - mu2|^2; with commuting ones: plus the sum of (sqrt a - sqrt b)^2."""
    mean, turn = rng().standard_normal(6), rotation(6)
    a, b = rng(1).uniform(0.1, 4, 6), rng(2).uniform(0.1, 4, 6)
    first = np.zeros(6), turn * a @ turn.T
    assert frechet(first, (mean, turn * a @ turn.T)) == pytest.approx(mean @ mean)
    expected = mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet(first, (mean, turn * b @ turn.T)) == pytest.approx(expected, rel=1e-12)


def test_two_dimensions_by_hand():
    """tr (S1 S2)^(1/2) of 2x2 matrices is sqrt(tr(S1 S2) + 2 sqrt(det S1 det S2)); these do not commute."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.3], [-0.3, 3.0]])
    assert np.abs(a @ b - b @ a).max() > 0.5
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    expected = 7 - 2 * root + 2**2 + 1
    found = frechet((np.zeros(2), a), (np.array([2.0, 1.0]), b))
    assert found == pytest.approx(expected, rel=1e-12)


def test_covariances_can_be_singular():
    """Some features never change, like those of a classifier's dead units."""
    x = rng().standard_normal((100, 4)) * [1, 0, 2, 0]
    assert frechet(moments(x), moments(x + [0, 3, 0, 0])) == pytest.approx(9)
    assert frechet(moments(x), moments(x * 0)) == pytest.approx(
        x.var(axis=0, ddof=1).sum() + (x.mean(axis=0) ** 2).sum()
    )


def test_moments_are_the_mean_and_the_covariance():
    x = rng().standard_normal((50, 3)).astype(np.float32)
    mean, covariance = moments(x)
    centred = x - x.astype(float).sum(axis=0) / 50
    assert x - mean == pytest.approx(centred, abs=1e-12)
    assert covariance == pytest.approx(centred.T @ centred / 49, abs=1e-12)
    assert mean.dtype == covariance.dtype == np.float64


def test_the_error_is_the_spread_of_fresh_draws():
    """Against 60 new pairs of sets. A bootstrap of 50 is accurate to about a third."""
    draws = [
        (rng(i).standard_normal((400, 3)), rng(1000 + i).standard_normal((400, 3)) + 1) for i in range(60)
    ]
    spread = np.std([frechet(moments(x), moments(y)) for x, y in draws], ddof=1)
    assert standard_error(*draws[0]) == pytest.approx(spread, rel=0.4)
    assert standard_error(*draws[0]) == standard_error(*draws[0])
