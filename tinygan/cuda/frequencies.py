"""Convolution by frequencies as four plain matrix products; `tinygan.fast.conv` derives the algorithm.

A graphics card does not mind a few more multiplications, but it does mind waiting. So here Gauss's
sums are folded into the constant matrices, every frequency counts as one real number (R of them),
and nothing remains but

    X = L' x       lift the large picture     (R, places) (places, T C)
    W = K' w       lift the kernel            (R phases, taps) (taps, C F)
    Y[r] = X[r] W[r]                          R products (T, phases C) (phases C, F)
    y = S Y        lower to the small one     (places, R) (R, T F)

and their transposes for everything else, ' being the transpose. Pictures lie place by place,
(places, T, channels), so that L, K and S each multiply one matrix as wide as the whole batch. With
stride 2 the four phases of a place are neighbours, as 4 C channels.
"""

from typing import Any

import numpy as np

from tinygan.arrays import Array
from tinygan.cuda.blas import Blas
from tinygan.fast.frequencies import Axis, circles, pixels, whole

TAPS = 5  # side of every kernel
ALIGNED = 4  # float32 numbers in 16 bytes, as tensor cores like to read them


def constants(cut: Axis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L (places, R'), S (places, R') and K (taps, R' phases) of a convolution, float64.

    Both its axes are `cut` so: whole, in a single tile. R' is R, filled up with columns of zeros.

    For a frequency that has a conjugate, X = p + iq and conj W = c + id make three real products,
    (p + q) c, p (d - c) and q (c + d), of which the first and third make the real part of Y by
    their difference, the first and second its imaginary part by their sum.
    """
    circle = circles((cut.n, cut.n))

    def waves(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cosines and sines of the pairs, cosines of the reals: (places, frequencies)."""
        turned = circle.angles(circle.pairs, places).T
        return np.cos(turned), np.sin(turned), np.cos(circle.angles(circle.reals, places).T)

    def filled(*parts: np.ndarray) -> np.ndarray:
        table = np.concatenate(parts, axis=-1)
        return np.pad(table, ((0, 0), (0, -table.shape[1] % ALIGNED)))

    cos, sin, real = waves(pixels(cut.out, cut.out))  # a phase of the large picture has the same
    large = filled(cos - sin, cos, -sin, real)
    small = filled(cos - sin, -sin, -cos, real)

    kernel = np.zeros((TAPS * TAPS, large.shape[1], cut.stride * cut.stride))
    for tap, (i, j) in enumerate(np.ndindex(TAPS, TAPS)):
        (a, down), (b, along) = cut.offset(i), cut.offset(j)
        cos, sin, real = waves(np.array([(down, along)]))
        row = filled(2 * cos, 2 * sin - 2 * cos, 2 * cos + 2 * sin, real)[0] / (cut.n * cut.n)
        kernel[tap, :, a * cut.stride + b] = row
    return large, small, kernel.reshape(len(kernel), -1)


def axis(side: int, stride: int) -> Axis:
    """Of a square picture with 'same' padding: side `stride` times `side` before, `side` after."""
    return whole(side * stride, side, TAPS, stride, (TAPS - stride) // 2)


def lifted_rows(n: int) -> tuple[int, int]:
    """(R, R') of a circle of length n on both axes: a row for a real frequency, three for a pair."""
    circle = circles((n, n))
    R = 3 * len(circle.pairs) + len(circle.reals)
    return R, -(-R // ALIGNED) * ALIGNED


class Convolution:
    """A convolution from C channels of a large square picture to F of a small one, 'same' padding.

    The small picture has `side` x `side` places; the large one `stride` times as many pixels an axis. Lifted,
    for T examples: X (rows, T, phases C) and Y (rows, T, F); the kernel: W (rows, phases C, F).
    """

    def __init__(self, xp: Any, blas: Blas, side: int, stride: int) -> None:
        cut = axis(side, stride)
        self.L, self.S, self.K = (xp.asarray(np.asarray(m, np.float32)) for m in constants(cut))
        self.R, self.rows = lifted_rows(cut.n)
        self.blas = blas

    def lift(self, matrix: Array, x: Array, X: Array) -> None:
        """x -> X: with L the large picture (places, T, phases C), with S the small one (places, T, F), with K
        the kernel (TAPS, TAPS, C, F)."""
        inside, outside = matrix.shape
        self.blas.product(matrix.T, x.reshape(inside, -1), X.reshape(outside, -1))

    def lower(self, matrix: Array, X: Array, x: Array) -> None:
        """The transpose of `lift`: with S a result from what was multiplied, with K a kernel's gradient."""
        inside, outside = matrix.shape
        self.blas.product(matrix, X.reshape(outside, -1), x.reshape(inside, -1))

    # The rows past R stay as they are. They hold numbers of earlier steps or zeros, and only meet
    # the constants' columns of zeros.

    def down(self, X: Array, W: Array, Y: Array) -> None:
        """Y = X W, frequency by frequency."""
        self.blas.product(X[: self.R], W[: self.R], Y[: self.R])

    def up(self, Y: Array, W: Array, X: Array) -> None:
        """X = Y W', the transpose of `down`."""
        self.blas.product(Y[: self.R], W[: self.R].transpose(0, 2, 1), X[: self.R])

    def kernel_gradient(self, X: Array, Y: Array, W: Array) -> None:
        """W = X' Y"""
        self.blas.product(X[: self.R].transpose(0, 2, 1), Y[: self.R], W[: self.R])
