"""Batch normalisation: give every channel mean 0 and variance 1, then let it choose its own.

Source: Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1; the backward pass is the equations
at the end of its section 3, simplified.
"""

from types import ModuleType
from typing import Any

from tinygan.errors import ShapeError
from tinygan.ops import Array, Wanted
from tinygan.ranks import ALONE, Ranks


def moments(xp: ModuleType, x: Array, ranks: Ranks = ALONE) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel over the batch and, for images, over space.

    Where several processes share a batch, x is this one's part, and `ranks` adds up all parts.

    Shapes: x (N, C) or (N, H, W, C); mean and variance (C,).
    """
    axes = tuple(range(x.ndim - 1))  # all but the channels: (0,) or (0, 1, 2)
    total, count = ranks.sum(x.sum(axis=axes), xp.asarray(x.size / x.shape[-1], dtype=x.dtype))
    mean = total / count
    centred = x - mean
    (squares,) = ranks.sum((centred * centred).sum(axis=axes))
    return mean, squares / count


def batch_norm_forward(
    xp: ModuleType,
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    mean: Array,
    variance: Array,
    of_batch: bool,
    eps: float = 1e-3,
    ranks: Ranks = ALONE,
) -> tuple[Array, Any]:
    """y = gamma xhat + beta,  xhat = (x - mean) / sqrt(variance + eps).

    When training, mean and variance are x's own `moments` (`of_batch`), and the backward pass
    goes through them too, and over all `ranks` that share the batch; otherwise they are constants
    gathered before (running values).

    Shapes: x, y (N, C) or (N, H, W, C); gamma, beta, mean, variance (C,).

    Raises:
        ShapeError: gamma, beta, mean or variance do not have x's number of channels.
    """
    for name, array in (("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)):
        if array.shape != x.shape[-1:]:
            raise ShapeError(f"batch_norm got {name} {array.shape} for x {x.shape}. It needs {x.shape[-1:]}.")
    inverse_std = 1 / xp.sqrt(variance + eps)  # (C,)
    xhat = (x - mean) * inverse_std
    return gamma * xhat + beta, (xhat, gamma, inverse_std, ranks if of_batch else None)


def batch_norm_backward(xp: ModuleType, saved: Any, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dbeta = sum dy,  dgamma = sum dy xhat,  and with M numbers to a channel

        dx = gamma / std (dy - (dbeta + xhat dgamma) / M).

    The two subtracted terms are what moving x does to the batch's own mean and variance: the part
    of dy that shifts or stretches a whole channel is undone by the normalisation, so it must not
    count; so M and its sums are those of all ranks. With constant moments they are absent.
    """
    xhat, gamma, inverse_std, ranks = saved
    want_x, want_gamma, want_beta = wanted
    axes = tuple(range(dy.ndim - 1))
    dbeta = dy.sum(axis=axes)  # (C,)
    dgamma = (dy * xhat).sum(axis=axes)  # (C,)
    dx = None
    if want_x:
        felt = dy
        if ranks:
            M = xp.asarray(dy.size / dy.shape[-1], dtype=dy.dtype)
            shift, stretch, M = ranks.sum(dbeta, dgamma, M)
            felt = dy - (shift + xhat * stretch) / M
        dx = gamma * inverse_std * felt
    return dx, dgamma if want_gamma else None, dbeta if want_beta else None
