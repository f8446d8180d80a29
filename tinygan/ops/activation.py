"""The nonlinearities: LeakyReLU inside both networks, tanh at the generator's end."""

from types import ModuleType

from tinygan.ops import Array, Wanted


def leaky_relu_forward(xp: ModuleType, x: Array, *, slope: float = 0.3) -> tuple[Array, tuple[Array, float]]:
    """y = x where x > 0, slope x elsewhere. Any shape.

    A negative input keeps a small gradient, so no unit can fall silent for good, as with ReLU.
    Source: Maas, Hannun & Ng 2013, "Rectifier Nonlinearities Improve Neural Network Acoustic
    Models", equation 2; the slope 0.3 is Keras' default.
    """
    positive = x > 0
    return xp.where(positive, x, slope * x), (positive, slope)


def leaky_relu_backward(
    xp: ModuleType, saved: tuple[Array, float], dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """dx = dy where x > 0, slope dy elsewhere (at 0, where there is no derivative: slope dy)."""
    positive, slope = saved
    return (xp.where(positive, dy, slope * dy) if wanted[0] else None,)


def tanh_forward(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """y = tanh(x), which brings any number into (-1, 1), the range of the pictures. Any shape."""
    y = xp.tanh(x)
    return y, y


def tanh_backward(xp: ModuleType, saved: Array, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dx = dy (1 - y^2)."""
    return (dy * (1 - saved * saved) if wanted[0] else None,)
