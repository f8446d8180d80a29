"""Dropout: set random numbers to 0, so that the discriminator cannot rely on a few of them."""

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.errors import UsageError
from tinygan.ops import expect


def dropout_forward(x: Array, *, mask: Array, rate: float) -> tuple[Array, tuple[Array, float]]:
    """y = x mask / (1 - rate). The division keeps the mean of x, so that inference needs no scaling.

    Shapes: x any; mask the same, bool or 0/1, 1 (keep) with probability 1 - rate. Raises: UsageError unless
    0 <= rate < 1. Source: Srivastava et al. 2014, JMLR 15, section 10."""
    if not 0 <= rate < 1:
        raise UsageError(f"dropout rate {rate} is not in [0, 1). Give a share such as 0.3.")
    expect(mask.shape == x.shape, f"dropout got mask {mask.shape} for x {x.shape}. Give both the same shape.")
    scale = 1 / (1 - rate)
    return array_module(x).where(mask, scale * x, 0), (mask, scale)


def dropout_backward(saved: tuple[Array, float], dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy mask / (1 - rate): no gradient where x was dropped."""
    mask, scale = saved
    return (array_module(dy).where(mask, scale * dy, 0),)


dropout = Op(dropout_forward, dropout_backward)
