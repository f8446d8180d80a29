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
from tinygan.fast.threads import elementwise
from tinygan.ops import activation as readable


def leaky_relu_forward(x: Array, *, slope: float = 0.3) -> tuple[Array, Array]:
    """`ops.activation.leaky_relu_forward`, faster."""

    def piece(x: Array, y: Array, derivative: Array) -> None:
        np.multiply(x, leaky_derivative(x, slope, derivative), out=y)

    y, derivative = elementwise(piece, x, results=2)
    return y, derivative


def leaky_relu_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    """`ops.activation.leaky_relu_backward`, faster."""
    return elementwise(np.multiply, dy, saved)


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
    (y,) = elementwise(np.tanh, x)
    return y, y


def tanh_backward(saved: Array, dy: Array, wanted: Wanted) -> Gradients:
    """`ops.activation.tanh_backward`, faster."""
    return elementwise(tanh_gradient, saved, dy)


def tanh_gradient(y: Array, dy: Array, out: Array | None = None) -> Array:
    """dy (1 - y^2), in `out` or a new array."""
    dx = np.multiply(y, y, out=out)
    np.subtract(1, dx, out=dx)
    return np.multiply(dx, dy, out=dx)


TWINS = {
    readable.leaky_relu: Op(leaky_relu_forward, leaky_relu_backward),
    readable.tanh: Op(tanh_forward, tanh_backward),
}
