"""The nonlinearities: LeakyReLU inside both networks, tanh at the end of the generator."""

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted


def leaky_relu_forward(x: Array, *, slope: float = 0.3) -> tuple[Array, Array]:
    """y = x where x > 0, slope x elsewhere. Any shape.

    Negative inputs keep a small gradient. So no unit stops learning for good, as one can with ReLU, which is
    slope 0 (Maas, Hannun & Ng 2013, equation 2). 0.3 is Keras's default."""
    number = x.dtype.type  # `where` would turn two Python numbers into float64
    derivative = array_module(x).where(x > 0, number(1), number(slope))
    return x * derivative, derivative


def leaky_relu_backward(derivative: Array, dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy where x > 0, slope dy elsewhere (also at 0, where there is no derivative)."""
    return (dy * derivative,)


def tanh_forward(x: Array) -> tuple[Array, Array]:
    """y = tanh(x), in (-1, 1) as the images are. Any shape."""
    y = array_module(x).tanh(x)
    return y, y


def tanh_backward(y: Array, dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy (1 - y^2)."""
    return (dy * (1 - y * y),)


leaky_relu = Op(leaky_relu_forward, leaky_relu_backward)
tanh = Op(tanh_forward, tanh_backward)
