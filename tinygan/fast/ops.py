"""All ops except convolutions; each forward and backward has the name of its twin in `tinygan.ops`.

They work in cache-sized blocks, on threads. Dense alone gains nothing from this. But BLAS's threads would
keep spinning for milliseconds after such a product and take the cores from the pool."""

from typing import Any

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.fast import plain
from tinygan.fast.reduce import channel_sums, over_rows, share
from tinygan.fast.threads import POOL, blocks, elementwise
from tinygan.ops import activation, batchnorm, dense, dropout


def leaky_relu_forward(x: Array, *, slope: float = 0.3) -> tuple[Array, Array]:
    return elementwise(lambda x, y, d: np.multiply(x, leaky_derivative(x, slope, d), out=y), x, results=2)


def leaky_relu_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    return elementwise(np.multiply, dy, saved)


def leaky_derivative(x: Array, slope: float, out: Array, scale: float = 1) -> Array:
    """`out` = scale where x > 0, slope * scale elsewhere, for slope <= 1. `np.where` is ten times slower."""
    number = x.dtype.type
    np.greater(x, 0, out=out)
    np.multiply(out, number(scale) - number(slope * scale), out=out)
    return np.add(out, number(slope * scale), out=out)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    (y,) = elementwise(np.tanh, x)
    return y, y


def tanh_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    return elementwise(tanh_gradient, saved, dy)


def tanh_gradient(y: Array, dy: Array, out: Array | None = None) -> Array:
    """dy (1 - y^2), into `out` or a new array."""
    dx = np.multiply(y, y, out=out)
    np.subtract(1, dx, out=dx)
    return np.multiply(dx, dy, out=dx)


def dense_forward(x: Array, w: Array, b: Array | None) -> tuple[Array, Any]:
    fit = x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0] and (b is None or b.shape == w.shape[1:])
    if not fit or not plain(x, w, b):
        return dense.dense_forward(x, w, b)
    y = product(x, w)
    if b is not None:
        y += b
    return y, (x, w)


def dense_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    x, w = saved
    if not plain(x, w, dy):
        return dense.dense_backward(saved, dy, wanted)
    want_x, want_w, want_b = wanted
    dx = product(dy, w.T) if want_x else None
    dw = product(x.T, dy) if want_w else None
    return dx, dw, channel_sums(dy) if want_b else None


def product(a: Array, b: Array) -> Array:
    """a (N, K) @ b (K, M), split along the longer side of the result."""
    y = np.empty((len(a), b.shape[1]), a.dtype)
    if len(a) >= b.shape[1]:
        POOL.each(lambda rows: np.matmul(a[rows], b, out=y[rows]), blocks(len(a), sum(b.shape)))
    else:
        POOL.each(lambda some: np.matmul(a, b[:, some], out=y[:, some]), blocks(b.shape[1], sum(a.shape)))
    return y


def batch_norm_forward(
    x: Array, gamma: Array, beta: Array, *, mean: Array = None, variance: Array = None,
    of_batch: bool = False, eps: float = 1e-3,
) -> tuple[Array, Any]:  # fmt: skip
    channels = (gamma, beta, mean, variance)
    if mean is None or any(a.shape != x.shape[-1:] for a in channels) or not plain(x, *channels):
        moments = {"mean": mean, "variance": variance}
        return batchnorm.batch_norm_forward(x, gamma, beta, **moments, of_batch=of_batch, eps=eps)
    inverse_std = 1 / np.sqrt(variance + eps)
    xhat, y = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)

    def piece(x: Array, xhat: Array, y: Array) -> None:
        np.subtract(x, mean, out=xhat)
        np.multiply(xhat, inverse_std, out=xhat)
        np.multiply(xhat, gamma, out=y)
        np.add(y, beta, out=y)

    over_rows(piece, x, xhat, y)
    return y, (xhat, gamma, inverse_std, of_batch)


def batch_norm_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    xhat, gamma, inverse_std, of_batch = saved
    if not plain(xhat, gamma, dy):
        return batchnorm.batch_norm_backward(saved, dy, wanted)
    want_x, want_gamma, want_beta = wanted
    shares = over_rows(lambda dy, xhat: (share(dy), share(dy * xhat)), dy, xhat)
    dbeta, dgamma = (np.sum(part, axis=0) for part in zip(*shares, strict=True))
    dx = None
    if want_x:
        dx = np.empty(dy.shape, dy.dtype)
        scale, count = gamma * inverse_std, dy.dtype.type(dy.size / dy.shape[-1])
        shift, stretch = dbeta / count, dgamma / count  # through the batch's moments

        def piece(dy: Array, xhat: Array, dx: Array) -> None:
            if of_batch:
                np.multiply(xhat, stretch, out=dx)
                np.add(dx, shift, out=dx)
                dy = np.subtract(dy, dx, out=dx)
            np.multiply(dy, scale, out=dx)

        over_rows(piece, dy, xhat, dx)
    return dx, dgamma if want_gamma else None, dbeta if want_beta else None


def dropout_forward(x: Array, *, mask: Array, rate: float) -> tuple[Array, tuple[Array, float]]:
    if mask.shape != x.shape or not plain(x) or not 0 <= rate < 1:
        return dropout.dropout_forward(x, mask=mask, rate=rate)
    scale = 1 / (1 - rate)
    return _masked(x, mask, scale), (mask, scale)


def dropout_backward(saved: tuple[Array, float], dy: Array, wanted: Wanted) -> Gradients:
    return (_masked(dy, *saved),) if plain(dy) else dropout.dropout_backward(saved, dy, wanted)


def _masked(x: Array, mask: Array, scale: float) -> Array:
    """scale * x where mask, else 0 even if x is NaN: and its bits with all ones or all zeros."""
    number, whole = x.dtype.type(scale), f"i{x.dtype.itemsize}"

    def piece(x: Array, mask: Array, y: Array) -> None:
        bits = np.multiply(x, number, out=y).view(whole)
        ones = np.not_equal(mask, 0).astype(whole)
        np.bitwise_and(bits, np.negative(ones, out=ones), out=bits)

    (y,) = elementwise(piece, x, mask)
    return y


# By the file of the readable op.
TWINS: dict[Any, dict[Op, Op]] = {
    activation: {
        activation.leaky_relu: Op(leaky_relu_forward, leaky_relu_backward),
        activation.tanh: Op(tanh_forward, tanh_backward),
    },
    batchnorm: {batchnorm.batch_norm: Op(batch_norm_forward, batch_norm_backward)},
    dense: {dense.dense: Op(dense_forward, dense_backward)},
    dropout: {dropout.dropout: Op(dropout_forward, dropout_backward)},
}
