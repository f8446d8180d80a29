"""Convolution and transposed convolution with fewer multiplications than by definition.

**One axis.** A convolution is y[p] = sum over taps o of x[p + o] w[o], for I inputs, O outputs and taps at
o = -a .. b; outside, x is 0. Put x and y on a circle of length n instead, where place p + o is taken modulo
n. A tap then reads a wrong pixel only if the circle is too short: no output up to O - 1 may reach past the
circle's end, O + b <= n, and none from 0 on may reach back to the last pixel, I + a <= n. For the smallest
such n the discrete Fourier transform turns the circular convolution into products:

    X[u] = sum_j x[j] e(-u j),   W[u] = sum_o w[o] e(-u o),   e(t) = exp(2 pi i t / n)
    y[p] = 1/n  sum_u  X[u] conj(W[u]) e(u p)

Insert X[u] and W[u]: the sum over u of e(u (p + o - j)) is n where j = p + o modulo n, else 0.
Every frequency u takes one multiplication, n in all instead of O (a + b + 1).

**Two axes, many channels.** u becomes a pair (u, v), the transform a constant matrix over pixels, and the
product of two numbers a product of matrices, (images, C) times (C, F): one per frequency, as large as the
batch. `frequencies.py` computes in this form: *lift* pictures and kernel to frequencies, multiply, *lower*
the result. All three steps are linear, so the backward pass applies their transposes in opposite order
(lower' transposes lift, lift' transposes lower). The lifted input is kept for the kernel's gradient:

    convolution       Y = lift(x) W,          y = lower(Y)
    its gradients     dX = lift'(dy) W^T,     dx = lower'(dX),     dW = lift(x)^T lift'(dy)
    transposed        the line above, with x for dy

**Real numbers.** For real x, X[-u] = conj X[u], so one frequency of each such pair is computed and counted
twice. One frequency is real in any case, or four if n is even (u and v each 0 or n / 2). The others need a
complex product, which takes three real ones (Gauss), with k = (p + q) c:

    (p + iq)(c + id) = (k - q (c + d))  +  i (k + p (d - c))

So an n x n circle takes R = 1 + 3 (n^2 - 1) / 2 products if n is odd, 4 + 3 (n^2 - 4) / 2 if even.

**Stride S.** Pixel m S + a belongs to phase a. For output p, tap i reads pixel p S + i - top, which is
place p + (i - top - a) / S of the one phase a for which that is an integer. So x splits into S^2 smaller
pictures that act as S^2 C channels, and each tap belongs to one of them.

**Tiles.** A large map is cut into tiles of T outputs per axis. Each tile sees n = T + a + b inputs, so
neighbours overlap; the tiles join the batch. A small map is one tile, and the zeros around it serve as the
end of the circle. For an image and a pair of channels, ConvT1 (n = 9) takes 121 products instead of 1225 by
definition; ConvT2 and Conv2, of stride 2 (n = 8), take 4 phases of 94 instead of 1225.

Rounding: 5e-7 relative to the largest number, in float32, for each of them and their gradients (im2col:
4e-7). Sources: S. Winograd 1980, "Arithmetic Complexity of Computations" (bilinear algorithms); Lavin & Gray
2015, arXiv 1509.09308 (tiles and matrix products for convolutional networks); R. Blahut 2010, "Fast
Algorithms for Signal Processing", chapters 2 and 5 (Gauss's product, cyclic convolution).

An example on paper: a 3 x 3 picture, a 2 x 2 kernel, no padding. I = 3, O = 2, taps at 0 and 1, so n = 3
with four pairs and one real frequency: 13 products instead of 16.

>>> axis = axis_choices(side=3, out=2, taps=2, stride=1, before=0)[0]
>>> plan = Frequencies((3, 3, 1), (2, 2, 1), (2, 2), (axis, axis), "d")
>>> axis.n, plan.transform.pairs, plan.transform.reals
(3, 4, 1)
>>> x = np.arange(1.0, 10).reshape(1, 3, 3, 1)           # 1 2 3 / 4 5 6 / 7 8 9
>>> w = np.array([[1.0, 0], [0, -10]]).reshape(2, 2, 1, 1)
>>> (W, tasks), X = plan.lift_kernel(w), plan.lifted_large(1)
>>> plan.lift_large(X, slice(0, 1), x)
>>> float(X[4, 0, 0].round(6))                           # frequency (0, 0) is the sum of all pixels
45.0
>>> products, lower = plan.down(X, W)
>>> _ = [task() for task in tasks + products]
>>> print(lower(slice(0, 1))[0, :, :, 0].round(6))       # 1 - 10 * 5 and so on
[[-49. -58.]
 [-76. -85.]]"""

from functools import lru_cache
from math import inf
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.fast import plain
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Axes, Frequencies, Pair, axis_choices
from tinygan.fast.reduce import channel_sums
from tinygan.fast.threads import Line, blocks
from tinygan.ops import conv as readable
from tinygan.ops.geometry import Padding, Pads, Stride, conv2d_pads, conv2d_transpose_size, stride_pair

Plan = Frequencies | Direct


class Saved(NamedTuple):
    plan: Plan
    lifted: Array  # the input
    kernel: Array  # lifted


def _twin(original: Op, transposed: bool) -> Op:
    def forward(
        x: Array, w: Array, b: Array | None, *, stride: Stride = 1, padding: Padding = "same"
    ) -> tuple[Array, Any]:
        given = x.shape, w.shape, x.dtype.char, stride, padding
        plan = plan_of(*given, transposed=transposed) if _fit(x, w, b, transposed) else None
        if plan is None or by_definition(plan):
            return original.forward(x, w, b, stride=stride, padding=padding)
        N, (kernel, tasks) = len(x), plan.lift_kernel(w)
        lifted = plan.lifted_small(N) if transposed else plan.lifted_large(N)
        lift, product = (plan.lift_small, plan.up) if transposed else (plan.lift_large, plan.down)
        x, bias = np.ascontiguousarray(x), 0 if b is None else b
        y = np.empty((N, *(plan.large if transposed else plan.small)), x.dtype)
        line = Line(blocks(N, plan.numbers), [tasks])
        line.then(lambda block, _: lift(lifted, block, x[block]))
        line.multiply(product(lifted, kernel))
        line.then(lambda block, images: np.add(images, bias, out=y[block]))
        line.finish()
        return y, Saved(plan, lifted, kernel)

    def backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
        if not isinstance(saved, Saved):
            return original.backward(saved, dy, wanted)
        # dx is the forward pass of the adjoint op; dw the product of both lifted arrays.
        plan, lifted, kernel = saved
        N, dx, dw, (want_x, want_w, want_b) = len(dy), None, None, wanted
        gradient = plan.lifted_large(N) if transposed else plan.lifted_small(N)
        lift, product = (plan.lift_large, plan.down) if transposed else (plan.lift_small, plan.up)
        dy = np.ascontiguousarray(dy)
        line = Line(blocks(N, plan.numbers))
        line.then(lambda block, _: lift(gradient, block, dy[block]))
        if want_w:
            large, small = (gradient, lifted) if transposed else (lifted, gradient)
            dw = np.empty((*plan.kernel, plan.large[2], plan.small[2]), dy.dtype)
            line.later(*plan.kernel_gradient(large, small, dw))
        if want_x:
            dx = np.empty((N, *(plan.small if transposed else plan.large)), dy.dtype)
            line.multiply(product(gradient, kernel))
            line.then(lambda block, images: np.copyto(dx[block], images))
        line.finish()
        return dx, dw, channel_sums(dy) if want_b else None

    forward.__name__, forward.__doc__ = original.forward.__name__, original.forward.__doc__
    return Op(forward, backward)


def plan_of(
    x: Any, w: Any, dtype: str, stride: Stride, padding: Padding = "same", *, transposed: bool
) -> Plan:
    """`conv_plan` for the shapes x (N, H, W, C) and w (KH, KW, C, F), or, transposed, w (KH, KW, F, C)."""
    strides, size = stride_pair(stride), x[1:3]
    if transposed:
        large, pads = conv2d_transpose_size(size, w[:2], strides, padding)
        return conv_plan((x[0], *large, w[2]), size, w, strides, pads, dtype)
    pads = conv2d_pads(size, w[:2], strides, padding)
    axes = zip(size, pads, w[:2], strides, strict=True)
    height, width = ((side + sum(pad) - K) // S + 1 for side, pad, K, S in axes)
    return conv_plan(x, (height, width), w, strides, pads, dtype)


# The cost model that picks the faster plan. Costs are in multiplications.
MOVED = 8  # multiplications in the time it takes to move one number to or from memory
FEW = 4  # the most channels for which windows are best copied pixel by pixel
SLOWER = 2  # the factor by which windows of more channels cost more


@lru_cache(maxsize=256)
def conv_plan(
    large: tuple[int, int, int, int], small: Pair, kernel: tuple[int, int, int, int], stride: Pair,
    pads: Pads, dtype: str,
) -> Plan:  # fmt: skip
    """The cheaper plan to convolve `large` (N, H, W, C) with `kernel` (KH, KW, C, F) to the size `small`."""
    N, H, W, C = large
    KH, KW, _, F = kernel
    windows = N * small[0] * small[1] * KH * KW * C
    by_windows = 3 * windows * F + MOVED * 4 * windows
    phases = stride[0] * stride[1]
    costs: dict[Axes, float] = {}  # of frequencies, for each way to cut the axes
    for rows in axis_choices(H, small[0], KH, stride[0], pads[0][0]):
        for columns in axis_choices(W, small[1], KW, stride[1], pads[1][0]):
            frequencies, tiles = rows.n * columns.n, N * rows.tiles * columns.tiles
            lifted = tiles * frequencies * (phases * C + F)
            pixels = rows.seen * columns.seen * phases * C + rows.out * columns.out * F
            costs[rows, columns] = (
                3 * 1.5 * tiles * frequencies * phases * C * F
                + 2 * tiles * frequencies * pixels
                + MOVED * (4 * lifted + 4 * tiles * pixels)
                + (9 * KH * KW + MOVED * 10 * phases) * frequencies * C * F
            )
    axes, by_frequencies = min(costs.items(), key=lambda choice: choice[1], default=(None, inf))
    weighed = by_frequencies / max(by_windows, 1)
    shapes = (H, W, C), (*small, F), (KH, KW)
    if axes and weighed < (1 if C <= FEW else SLOWER):
        return Frequencies(*shapes, axes, dtype, weighed)
    return Direct(*shapes, stride, pads, dtype, weighed)


def by_definition(plan: Plan) -> bool:
    """Whether `ops.conv` is expected to beat this plan when `fast.gan` does not fuse the layers."""
    return plan.large[2] > FEW and plan.weighed >= 1


def _fit(x: Array, w: Array, b: Array | None, transposed: bool) -> bool:
    if not plain(x, w, b) or not x.ndim == w.ndim == 4:
        return False
    C, F = (w.shape[3], w.shape[2]) if transposed else w.shape[2:]
    return x.shape[3] == C and (b is None or b.shape == (F,))


TWINS = {
    readable.conv2d: _twin(readable.conv2d, transposed=False),
    readable.conv2d_transpose: _twin(readable.conv2d_transpose, transposed=True),
}
