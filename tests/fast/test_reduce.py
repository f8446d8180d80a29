"""Sums and moments of channels, piece by piece, against float64 and exact sums."""

from math import fsum
from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.fast import reduce, threads
from tinygan.ranks.alone import ALONE

SHAPES = [(1, 1), (1000, 2), (20, 9, 11, 5), (3, 50, 40, 1), (5, 300)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


@pytest.fixture(params=[threads.PIECE, 100], ids=["whole", "pieces"], autouse=True)
def piece(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PIECE", request.param)


def in_pieces(x: np.ndarray) -> tuple[Any, Any]:
    """Mean and variance of x (N, ..., C), from the moments of its pieces."""
    matrix = reduce.rows(x)
    parts = [reduce.moments(matrix[block]) for block in threads.blocks(*matrix.shape)]
    return reduce.over_ranks(ALONE, *reduce.merged(parts))


@EVERY_SHAPE
@pytest.mark.parametrize("dtype", ["f", "d"])
def test_channel_sums_are_exact_to_rounding(shape, dtype):
    x = numbers(1, *shape).astype(dtype)
    found = reduce.channel_sums(x)
    assert found.dtype == dtype and found.shape == shape[-1:]
    for c in range(shape[-1]):
        terms = [float(number) for number in x[..., c].flat]
        assert abs(float(found[c]) - fsum(terms)) <= 4 * np.finfo(dtype).eps * fsum(map(abs, terms))


@EVERY_SHAPE
def test_moments_of_pieces_give_those_of_the_whole(shape):
    x = numbers(1, *shape)
    axes = tuple(range(len(shape) - 1))
    before = x.tobytes()
    mean, variance = in_pieces(x)
    assert x.tobytes() == before
    np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(variance, x.var(axis=axes), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape", [(16, 28, 28, 8), (64, 28, 28, 1), (256, 3)], ids=str)
@pytest.mark.parametrize("offset", [0, 1000])
def test_a_large_mean_costs_no_digit_of_the_variance(shape, offset):
    """For numbers 1000 +- 1 the mean of squares minus the square of the mean has no correct digit."""
    x = (numbers(1, *shape) + offset).astype(np.float32)
    exact = reduce.rows(x).astype(float)
    mean, variance = in_pieces(x)
    assert mean.dtype == variance.dtype == np.float32
    spread = exact.std(axis=0)
    # A pairwise sum would give the mean to 1e-7 of the offset. A long plain sum loses a digit or two,
    # depending on the BLAS: 3.2e-6 with that of NumPy 1.26 on an Intel Xeon.
    far = 1e-5 * (spread + offset)
    assert (np.abs(mean - exact.mean(axis=0)) < far).all()
    # The error of the mean counts squared, because distances are from the mean.
    assert (np.abs(variance / exact.var(axis=0) - 1) < 1e-5 + (far / spread) ** 2).all()
