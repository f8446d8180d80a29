"""The nonlinearities: LeakyReLU inside both networks, tanh at the generator's end."""

from types import ModuleType

from tinygan.ops import Array, Wanted


def leaky_relu_forward(xp: ModuleType, x: Array, *, slope: float = 0.3) -> tuple[Array, Array]:
    """y = x where x > 0, slope x elsewhere. Any shape.

    A negative input keeps a small gradient, so no unit can fall silent for good, as with ReLU.
    Source: Maas, Hannun & Ng 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic
    Models", equation 2; the slope 0.3 is Keras' default.
    """
    number = x.dtype.type  # a plain 1 or 0.3 would make an array of float64
    derivative = xp.where(x > 0, number(1), number(slope))
    return x * derivative, derivative


def leaky_relu_backward(xp: ModuleType, saved: Array, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dx = dy where x > 0, slope dy elsewhere (at 0, where there is no derivative: slope dy)."""
    return (dy * saved if wanted[0] else None,)


def tanh_forward(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """y = tanh(x), which brings any number into (-1, 1), the range of the pictures. Any shape."""
    y = xp.tanh(x)
    return y, y


def tanh_backward(xp: ModuleType, saved: Array, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dx = dy (1 - y^2)."""
    return (dy * (1 - saved * saved) if wanted[0] else None,)
