"""LeakyReLU and tanh in cache-sized blocks.

    version  idea                                                  ms (LeakyReLU of 6.4 M numbers, forward)
    0        `where` over whole arrays, `ops.activation`           27
    1        a comparison written as 0 or 1, times and plus a      5
             constant, piece by piece, on threads

float32, NumPy 2.4.6, 2 threads of an AMD EPYC (Zen 4).
"""

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.fast.threads import POOL, blocks
from tinygan.ops import activation as readable


def leaky_relu_forward(x: Array, *, slope: float = 0.3) -> tuple[Array, Array]:
    """`ops.activation.leaky_relu_forward`, faster."""
    y, derivative = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
    source, result, factor = x.reshape(-1), y.reshape(-1), derivative.reshape(-1)

    def piece(block: slice) -> None:
        leaky_derivative(source[block], slope, factor[block])
        np.multiply(source[block], factor[block], out=result[block])

    POOL.each(piece, blocks(x.size, 2))
    return y, derivative


def leaky_relu_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    """`ops.activation.leaky_relu_backward`, faster."""
    return (_products(dy, saved) if wanted[0] else None,)


def leaky_derivative(x: Array, slope: float, out: Array, scale: float = 1) -> Array:
    """`out` = scale where x > 0, slope scale elsewhere; for slope <= 1, without a branch.

    A comparison that writes its 0 or 1 as a number, then a x + b: `where` takes ten times as long.
    """
    number = x.dtype.type
    np.greater(x, 0, out=out)
    np.multiply(out, number(scale) - number(slope * scale), out=out)
    return np.add(out, number(slope * scale), out=out)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """`ops.activation.tanh_forward`, faster."""
    y = np.empty(x.shape, x.dtype)
    source, result = x.reshape(-1), y.reshape(-1)
    POOL.each(lambda block: np.tanh(source[block], out=result[block]), blocks(x.size, 2))
    return y, y


def tanh_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    """`ops.activation.tanh_backward`, faster."""
    if not wanted[0]:
        return (None,)
    dx = np.empty(dy.shape, dy.dtype)
    y, gradient, result = saved.reshape(-1), dy.reshape(-1), dx.reshape(-1)

    def piece(block: slice) -> None:
        part = result[block]
        np.multiply(y[block], y[block], out=part)
        np.subtract(1, part, out=part)
        np.multiply(part, gradient[block], out=part)

    POOL.each(piece, blocks(dy.size, 3))
    return (dx,)


def _products(a: Array, b: Array) -> Array:
    """a b, element by element."""
    result = np.empty(a.shape, a.dtype)
    left, right, out = a.reshape(-1), b.reshape(-1), result.reshape(-1)
    POOL.each(lambda block: np.multiply(left[block], right[block], out=out[block]), blocks(a.size, 3))
    return result


TWINS = {
    readable.leaky_relu: Op(leaky_relu_forward, leaky_relu_backward),
    readable.tanh: Op(tanh_forward, tanh_backward),
}
