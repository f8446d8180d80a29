"""The fully connected layer, where each output is a weighted sum of all inputs; and reshape."""

from tinygan.arrays import Array
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.errors import ShapeError
from tinygan.ops import expect


def dense_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, tuple[Array, Array]]:
    """y = x w + b. Shapes: x (N, C), w (C, F), b (F,) or None, y (N, F)."""
    fits = x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0]
    expect(fits, f"dense got x {x.shape} and w {w.shape}. It needs x (N, C) and w (C, F).")
    expect(b is None or b.shape == w.shape[1:], f"dense got b {getattr(b, 'shape', 0)}, not {w.shape[1:]}.")
    y = x @ w  # (N, F)
    return (y if b is None else y + b), (x, w)


def dense_backward(saved: tuple[Array, Array], dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy w^T,  dw = x^T dy,  db = sum of dy over the batch."""
    x, w = saved
    want_x, want_w, want_b = wanted
    dx = dy @ w.T if want_x else None  # (N, C)
    dw = x.T @ dy if want_w else None  # (C, F)
    db = dy.sum(axis=0) if want_b else None  # (F,)
    return dx, dw, db


def reshape_forward(x: Array, *, shape: tuple[int, ...]) -> tuple[Array, tuple[int, ...]]:
    """The same numbers, in row-major order, in another shape. One length can be -1: the one that fits."""
    try:
        return x.reshape(shape), x.shape
    except ValueError:
        raise ShapeError(f"cannot reshape {x.shape} to {shape}. Give a shape of {x.size} elements.") from None


def reshape_backward(saved: tuple[int, ...], dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy in the shape of x."""
    return (dy.reshape(saved),)


dense = Op(dense_forward, dense_backward)
reshape = Op(reshape_forward, reshape_backward)
