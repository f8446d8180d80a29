"""Convolution and transposed convolution with fewer multiplications than their definition has."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinygan.fast.products import Products, axis_choices
from tinygan.fast.sums import channel_sums
from tinygan.fast.windows import Windows, Write
from tinygan.ops import Array, Wanted
from tinygan.ops import conv as readable
from tinygan.ops.conv import Padding, Pads, Stride, conv2d_pads, conv2d_transpose_size, stride_pair

Plan = Products | Windows


class Saved(NamedTuple):
    """What the backward pass needs: the plan, the lifted input and the lifted kernel."""

    plan: Plan
    lifted: Array
    kernel: Array


def conv2d_forward(
    xp: ModuleType, x: Array, w: Array, b: Array | None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """`ops.conv.conv2d_forward`, faster where a plan is; else that one."""
    plan = None
    if _usual(x, w, b, channels=2, filters=3):
        strides = stride_pair(stride)
        pads = conv2d_pads(x.shape[1:3], w.shape[:2], strides, padding)
        plan = conv_plan(x.shape, w.shape, strides, pads, x.dtype.char)
    if plan is None:
        return readable.conv2d_forward(xp, x, w, b, stride=stride, padding=padding)
    y = np.empty((len(x), *plan.small), x.dtype)
    kernel = plan.lift_kernel(w)
    lifted = plan.lift_large(np.ascontiguousarray(x), len(x))
    plan.down(lifted, kernel, _into(y, b))
    return y, Saved(plan, lifted, kernel)


def conv2d_backward(xp: ModuleType, saved: Any, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """`ops.conv.conv2d_backward`, faster where the forward pass was."""
    if not isinstance(saved, Saved):
        return readable.conv2d_backward(xp, saved, dy, wanted)
    plan, lifted, kernel = saved
    want_x, want_w, want_b = wanted
    dx = dw = None
    if want_x or want_w:
        dY = plan.lift_small(np.ascontiguousarray(dy), len(dy))
        dw = plan.kernel_gradient(lifted, dY) if want_w else None
        if want_x:
            dx = np.empty((len(dy), *plan.large), dy.dtype)
            plan.up(dY, kernel, _into(dx))
    return dx, dw, channel_sums(dy) if want_b else None


def conv2d_transpose_forward(
    xp: ModuleType, x: Array, w: Array, b: Array | None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """`ops.conv.conv2d_transpose_forward`, faster where a plan is; else that one."""
    plan = None
    if _usual(x, w, b, channels=3, filters=2):
        strides = stride_pair(stride)
        size, pads = conv2d_transpose_size(x.shape[1:3], w.shape[:2], strides, padding)
        plan = conv_plan((len(x), *size, w.shape[2]), w.shape, strides, pads, x.dtype.char, x.shape[1:3])
    if plan is None:
        return readable.conv2d_transpose_forward(xp, x, w, b, stride=stride, padding=padding)
    y = np.empty((len(x), *plan.large), x.dtype)
    kernel = plan.lift_kernel(w)
    lifted = plan.lift_small(np.ascontiguousarray(x), len(x))
    plan.up(lifted, kernel, _into(y, b))
    return y, Saved(plan, lifted, kernel)


def conv2d_transpose_backward(
    xp: ModuleType, saved: Any, dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """`ops.conv.conv2d_transpose_backward`, faster where the forward pass was."""
    if not isinstance(saved, Saved):
        return readable.conv2d_transpose_backward(xp, saved, dy, wanted)
    plan, lifted, kernel = saved
    want_x, want_w, want_b = wanted
    dx = dw = None
    if want_x or want_w:
        dX = plan.lift_large(np.ascontiguousarray(dy), len(dy))
        dw = plan.kernel_gradient(dX, lifted) if want_w else None
        if want_x:
            dx = np.empty((len(dy), *plan.small), dy.dtype)
            plan.down(dX, kernel, _into(dx))
    return dx, dw, channel_sums(dy) if want_b else None


# Which way is the fastest? Costs are in multiplications; a number that is written or read counts as
# several, as much as memory is slower than the multipliers.

MOVED = 8  # multiplications in the time of moving one number to or from memory
LIFTING = 2  # the products of a transform are small, and slower by this


@lru_cache(maxsize=256)
def conv_plan(
    large: tuple[int, int, int, int],
    kernel: tuple[int, int, int, int],
    stride: tuple[int, int],
    pads: Pads,
    dtype: str,
    small: tuple[int, int] | None = None,
) -> Plan | None:
    """The cheapest plan for a convolution of `large` (N, H, W, C) by `kernel` (KH, KW, C, F).

    `small` is the size of the result, where the formula for `pads` does not give it: a transposed
    convolution may make a picture that its adjoint would not use to the edge. None: `ops.conv` is
    the fastest.
    """
    N, H, W, C = large
    KH, KW, _, F = kernel
    if small is None:
        (top, bottom), (left, right) = pads
        small = (H + top + bottom - KH) // stride[0] + 1, (W + left + right - KW) // stride[1] + 1
    windows = N * small[0] * small[1] * KH * KW * C
    best, plan = 3 * windows * F + MOVED * 4 * windows, None
    shapes = (H, W, C), (*small, F), (KH, KW)
    phases = stride[0] * stride[1]
    for rows in axis_choices(H, small[0], KH, stride[0], pads[0][0]):
        for columns in axis_choices(W, small[1], KW, stride[1], pads[1][0]):
            frequencies, tiles = rows.n * columns.n, N * rows.tiles * columns.tiles
            lifted = tiles * frequencies * (phases * C + F)
            pixels = rows.seen * columns.seen * phases * C + rows.out * columns.out * F
            cost = (
                3 * 1.5 * tiles * frequencies * phases * C * F
                + 2 * LIFTING * tiles * frequencies * pixels / 2
                + MOVED * (4 * lifted + 4 * tiles * pixels)
                + (9 * KH * KW + MOVED * 10 * phases) * frequencies * C * F
            )
            if cost < best:
                best, plan = cost, (rows, columns)
    if plan is not None:
        return Products(*shapes, *plan, dtype)
    if min(C, F) <= FEW and C * KH * KW * small[0] * small[1] > 0:
        return Windows(*shapes, stride, pads, dtype) if C <= FEW else None
    return None


FEW = 4  # channels, up to which their windows are copied pixel by pixel


def _usual(x: Array, w: Array, b: Array | None, channels: int, filters: int) -> bool:
    """Whether the arrays fit each other and are of a kind that a plan can take."""
    return (
        x.ndim == w.ndim == 4
        and x.dtype == w.dtype
        and x.dtype.char in "fd"
        and x.shape[3] == w.shape[channels]
        and x.size * w.size > 0
        and (b is None or b.shape == (w.shape[filters],))
    )


def _into(y: Array, b: Array | None = None) -> Write:
    def write(block: slice, images: Array) -> None:
        if b is None:
            y[block] = images
        else:
            np.add(images, b, out=y[block])

    return write
