"""Sums and moments of channels, in pieces: first each piece's share, then the shares in order."""

from collections.abc import Callable, Iterable

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.threads import POOL, Result, blocks
from tinygan.ranks.alone import Ranks


def rows(x: Array) -> Array:
    """x (N, ..., C) as a matrix (rows, C), without a copy."""
    return x.reshape(-1, x.shape[-1])


def over_rows(function: Callable[..., Result], *arrays: Array) -> list[Result]:
    """Call `function` on the same rows of each array (N, ..., C), piece by piece; the results, in order."""
    matrices = [rows(array) for array in arrays]
    return POOL.each(lambda some: function(*(m[some] for m in matrices)), blocks(*matrices[0].shape))


def share(x: Array) -> Array:
    """The sum of the rows of x (..., rows, C), by a matrix product: several times as fast as `sum`."""
    return np.ones(x.shape[-2], x.dtype) @ x


def channel_sums(x: Array) -> Array:
    """The sum of x (N, ..., C) over all axes but the last: (C,)."""
    return np.sum(over_rows(share, x), axis=0)


def moments(x: Array) -> tuple[int, Array, Array]:
    """(count, mean, sum of squared distances from the mean) of the rows of x (rows, C)."""
    mean = share(x) / x.dtype.type(len(x))
    centred = x - mean
    np.multiply(centred, centred, out=centred)
    return len(x), mean, share(centred)


def merged(parts: Iterable[tuple[int, Array, Array]]) -> tuple[float, Array, Array]:
    """The `moments` of a whole, from those of its pieces, without cancellation: Chan, Golub & LeVeque 1983,
    "Algorithms for Computing the Sample Variance", equation 2.1, for any number of parts."""
    numbers, means, squares = map(np.stack, zip(*parts, strict=True))
    counts = numbers.astype(means.dtype)
    total = counts.sum()
    mean = counts @ means / total
    return total, mean, squares.sum(axis=0) + counts @ (means - mean) ** 2


def over_ranks(ranks: Ranks, count: float, mean: Array, squares: Array) -> tuple[Array, Array]:
    """(mean, biased variance) over all ranks, from this rank's `moments`, by the same formula."""
    size = np.array(count, mean.dtype)
    if ranks.size > 1:
        own, (total, size) = mean, ranks.sum(mean * size, size)
        mean = total / size
        (squares,) = ranks.sum(squares + count * (own - mean) ** 2)
    return mean, squares / size
