"""Convolution by frequencies as plain matrix products; `tinygan.fast.conv` derives the algorithm.

On a graphics card a few more multiplications cost little, but moving numbers costs much. So a frequency
that has a conjugate keeps its two real numbers, p + iq, and a complex product becomes a real matrix product:

    [Re Y  Im Y] = [p  q] [ c  d]      for conj W = c + id
                          [-d  c]

Real frequencies are paired, and their matrix is diagonal. With R pairs in all, a convolution is

    X = L' x       lift pictures       (2 R, places) (places, C), for each example
    W = K' w       lift the kernel     (4 R, taps) (taps, C F)
    Y[r] = X[r] W[r]                   R products (T, 2 C) (2 C, 2 F)
    y = L Y        lower pictures      (places, 2 R) (2 R, F), for each example

where ' means the transpose; the gradients use the transposes. Maps are (T, places, channels). With stride 2
the four phases of a place are neighbours and count as 4 C channels."""

from functools import lru_cache
from typing import Any

import numpy as np

from tinygan.arrays import Array
from tinygan.cuda.blas import Blas
from tinygan.cuda.kernels import Kernels
from tinygan.fast.frequencies import Axis, angles, circles, whole

TAPS = 5  # side of every kernel


@lru_cache(maxsize=8)
def constants(cut: Axis) -> tuple[np.ndarray, np.ndarray]:
    """L (places, 2 R) and K (taps, R, 2, 2), float64, of a convolution with both axes `cut` the same way."""
    n = cut.n, cut.n
    both = circles(n)
    pairs, reals = map(len, both)
    R = pairs + -(-reals // 2)

    def waves(places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cosines and sines of the pairs, cosines of the real frequencies: (places, frequencies)."""
        turned, of_reals = (angles(n, frequencies, places).T for frequencies in both)
        return np.cos(turned), np.sin(turned), np.cos(of_reals)

    places = np.array([*np.ndindex(cut.out, cut.out)])  # of the small picture, of each phase of the large one
    L = np.zeros((len(places), 2 * R))
    L[:, : 2 * pairs : 2], sines, L[:, 2 * pairs : 2 * pairs + reals] = waves(places)
    L[:, 1 : 2 * pairs : 2] = -sines

    taps = [(cut.offset(i)[1], cut.offset(j)[1]) for i, j in np.ndindex(TAPS, TAPS)]
    K = np.zeros((TAPS * TAPS, R, 2, 2))
    c, d, real = (table / (cut.n * cut.n) for table in waves(np.array(taps)))
    K[:, :pairs] = 2 * np.stack([c, d, -d, c], axis=-1).reshape(TAPS * TAPS, pairs, 2, 2)
    for i in range(reals):
        K[:, pairs + i // 2, i % 2, i % 2] = real[:, i]
    return L, K


def axis(side: int, stride: int) -> Axis:
    """The axis of a square picture with 'same' padding: `stride` * `side` pixels in, `side` out."""
    return whole(side * stride, side, TAPS, stride, (TAPS - stride) // 2)


class Convolution:
    """A convolution from C channels of a large square picture to F of a small one, 'same' padding. The small
    picture has `side` x `side` places, the large one `stride` times as many pixels per axis. For T examples,
    lifted pictures are X (T, 2 R, phases C) and Y (T, 2 R, F), the lifted kernel W (R, 2 phases C, 2 F)."""

    def __init__(self, xp: Any, kernels: Kernels, blas: Blas, side: int, stride: int) -> None:
        cut = axis(side, stride)
        L, K = constants(cut)
        # Rows start at multiples of 16 bytes, which tensor cores read fastest.
        rows = np.pad(L, ((0, 0), (0, -L.shape[1] % 8))).astype(kernels.lifted)
        self.L, self.K = xp.asarray(rows)[:, : L.shape[1]], xp.asarray(K.astype(np.float32))
        self.R, self.stride, self.kernels, self.blas = self.K.shape[1], stride, kernels, blas

    def lift(self, x: Array, X: Array) -> None:
        """Pictures x (T, places, ...) -> X."""
        self.blas.product(self.L.T, x.reshape(*x.shape[:2], -1), X)

    def lower(self, X: Array, x: Array) -> None:
        """The transpose of `lift`: product X -> pictures x."""
        self.blas.product(self.L, X, x.reshape(*x.shape[:2], -1))

    def lift_kernel(self, w: Array, W: Array) -> None:
        """A kernel w (TAPS, TAPS, C, F) -> W."""
        given = w, self.K, self.R, self.stride, *w.shape[2:], W
        self.kernels.flat("lift_kernel", W[0].size // 4, *given, times=self.R)

    def lower_kernel(self, W: Array, w: Array) -> None:
        """The transpose of `lift_kernel`: gradient W -> gradient w of the kernel."""
        given = W, self.K, self.R, self.stride, *w.shape[2:], w
        self.kernels.columns("lower_kernel", W[0].size // 4, 1, *given, along=32)

    def down(self, X: Array, W: Array, Y: Array) -> None:
        """Y = X W, frequency by frequency."""
        self.blas.product(self._by_pairs(X), W, self._by_pairs(Y))

    def up(self, Y: Array, W: Array, X: Array) -> None:
        """X = Y W', the transpose of `down`."""
        self.blas.product(self._by_pairs(Y), W.transpose(0, 2, 1), self._by_pairs(X))

    def kernel_gradient(self, X: Array, Y: Array, W: Array) -> None:
        """W = X' Y"""
        self.blas.product(self._by_pairs(X).transpose(0, 2, 1), self._by_pairs(Y), W)

    def _by_pairs(self, X: Array) -> Array:
        """X (T, 2 R, C) as (R, T, 2 C)."""
        return X.reshape(len(X), self.R, -1).transpose(1, 0, 2)
