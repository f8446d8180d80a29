"""Dropout: silence random units, so that the discriminator cannot rely on a few of them."""

from types import ModuleType

from tinygan.errors import ShapeError
from tinygan.ops import Array, Wanted


def dropout_forward(
    xp: ModuleType, x: Array, *, mask: Array, rate: float
) -> tuple[Array, tuple[Array, float]]:
    """y = x mask / (1 - rate): inverted dropout, so that the mean of y is x and nothing is scaled later.

    Shapes: x and y any, mask the same, bool or 0/1, 1 with probability 1 - rate; 0 <= rate < 1.
    Source: Srivastava et al. 2014, JMLR 15, section 10 (the scaling at training time).

    Raises:
        ShapeError: mask and x differ in shape.
    """
    if mask.shape != x.shape:
        raise ShapeError(f"dropout got a mask {mask.shape} for x {x.shape}. Give both the same shape.")
    scale = 1 / (1 - rate)
    return xp.where(mask, scale * x, 0), (mask, scale)


def dropout_backward(
    xp: ModuleType, saved: tuple[Array, float], dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """dx = dy mask / (1 - rate): what was silenced gets no gradient."""
    mask, scale = saved
    return (xp.where(mask, scale * dy, 0) if wanted[0] else None,)
