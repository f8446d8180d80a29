"""Batch normalisation: give each channel mean 0 and variance 1, then a learnt scale and a learnt shift.

Source: Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1; the backward pass simplifies the equations
just before its section 3.1. Shapes: x, y (N, C) or (N, H, W, C); gamma, beta, mean, variance (C,)."""

from typing import Any

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.ops import expect


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and (biased) variance of each channel, over the batch and, for images, over height and width."""
    axes = tuple(range(x.ndim - 1))  # all but the channels: (0,) or (0, 1, 2)
    mean = x.mean(axis=axes)
    return mean, ((x - mean) ** 2).mean(axis=axes)


def batch_norm_forward(
    x: Array, gamma: Array, beta: Array, *, mean: Array = None, variance: Array = None,
    of_batch: bool = False, eps: float = 1e-3,
) -> tuple[Array, Any]:  # fmt: skip
    """y = gamma xhat + beta,  xhat = (x - mean) / sqrt(variance + eps).

    Without mean and variance, those of x are computed. If they are those of x (`of_batch`), the backward pass
    goes through them; otherwise they are constants, the running values. eps prevents a division by 0."""
    expect((mean is None) == (variance is None), "batch_norm needs mean and variance, or neither.")
    if mean is None:
        (mean, variance), of_batch = moments(x), True
    for name, array in (("gamma", gamma), ("beta", beta), ("mean", mean), ("variance", variance)):
        expect(array.shape == x.shape[-1:], f"batch_norm got {name} {array.shape}. It needs {x.shape[-1:]}.")
    inverse_std = 1 / array_module(x).sqrt(variance + eps)  # (C,)
    xhat = (x - mean) * inverse_std
    return gamma * xhat + beta, (xhat, gamma, inverse_std, of_batch)


def batch_norm_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    """dbeta = sum of dy,  dgamma = sum of dy xhat,  and, with M numbers in each channel,

        dx = gamma inverse_std (dy - (dbeta + xhat dgamma) / M).

    The subtracted terms come from the mean and variance, which depend on x: the forward pass undoes any shift
    or scaling of a whole channel, so dx has no part in these two directions. Constants have no such terms."""
    xhat, gamma, inverse_std, of_batch = saved
    axes = tuple(range(dy.ndim - 1))
    dbeta, dgamma = dy.sum(axis=axes), (dy * xhat).sum(axis=axes)  # (C,)
    if of_batch:
        M = dy.dtype.type(dy.size // dy.shape[-1])
        dy = dy - (dbeta + xhat * dgamma) / M
    return gamma * inverse_std * dy, dgamma, dbeta


batch_norm = Op(batch_norm_forward, batch_norm_backward)
