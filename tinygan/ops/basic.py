"""Addition and reshape: the two ops that only route gradients."""

from types import ModuleType

from tinygan.errors import ShapeError
from tinygan.ops import Array, Wanted


def add_forward(xp: ModuleType, a: Array, b: Array) -> tuple[Array, None]:
    """y = a + b, for two arrays of one shape.

    Raises:
        ShapeError: the shapes differ; nothing is broadcast.
    """
    if a.shape != b.shape:
        raise ShapeError(f"cannot add shapes {a.shape} and {b.shape}. Give both the same shape.")
    return a + b, None


def add_backward(xp: ModuleType, saved: None, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """da = db = dy."""
    return tuple(dy if want else None for want in wanted)


def reshape_forward(xp: ModuleType, x: Array, *, shape: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """The same numbers in row-major order under another shape; one side may be -1.

    Raises:
        ShapeError: the number of elements does not fit.
    """
    try:
        return x.reshape(shape), x.shape
    except ValueError:
        raise ShapeError(f"cannot reshape {x.shape} to {shape}. The number of elements must stay.") from None


def reshape_backward(
    xp: ModuleType, saved: tuple[int, ...], dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """dx = dy under x's shape."""
    return (dy.reshape(saved) if wanted[0] else None,)
