"""The fully connected layer: every output is a weighted sum of every input."""

from types import ModuleType
from typing import Any

from tinygan.errors import ShapeError
from tinygan.ops import Array, Wanted


def dense_forward(xp: ModuleType, x: Array, w: Array, b: Array | None) -> tuple[Array, Any]:
    """y = x w + b.

    Shapes: x (N, C), w (C, F), b (F,) or None, y (N, F).

    Raises:
        ShapeError: x is not (N, C) for this w, or b is not (F,).
    """
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ShapeError(f"dense got x {x.shape} and w {w.shape}. It needs x (N, C) and w (C, F).")
    if b is not None and b.shape != w.shape[1:]:
        raise ShapeError(f"dense got b {b.shape} with w {w.shape}. It needs b ({w.shape[1]},).")
    y = x @ w  # (N, F)
    if b is not None:
        y += b
    return y, (x, w)


def dense_backward(xp: ModuleType, saved: Any, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dx = dy w^T,  dw = x^T dy,  db = sum of dy over the batch."""
    x, w = saved
    want_x, want_w, want_b = wanted
    dx = dy @ w.T if want_x else None  # (N, C)
    dw = x.T @ dy if want_w else None  # (C, F)
    db = dy.sum(axis=0) if want_b else None  # (F,)
    return dx, dw, db
