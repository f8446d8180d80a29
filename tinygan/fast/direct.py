"""Convolution of pictures with few channels, or of very few pictures: one small matrix product per picture.

If one side has one to three channels, frequencies save nothing. The windows of `ops.conv.im2col` are then
copied with the pixels innermost, (N, KH KW C, OH OW), because runs of one to three channels copy slowly. In
the training step each block passes through the next operations while it is still in the cache."""

from dataclasses import dataclass
from functools import partial
from math import nan

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.threads import KernelGradient, Product, Task, blocks
from tinygan.ops.geometry import Pads


@dataclass(eq=False)
class Direct:
    """A convolution from a large picture (input) to a small one (result), by windows. `large` (N, H, W, C),
    `small` (N, OH, OW, F), kernel (KH, KW, C, F). The lifted large picture is (N, KH KW C, OH OW); kernel and
    small picture need no lifting."""

    large: tuple[int, int, int]
    small: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    dtype: str
    weighed: float = nan  # the estimated cost of frequencies, relative to this plan's

    def __post_init__(self) -> None:
        self.rows = self.kernel[0] * self.kernel[1] * self.large[2]
        self.pixels = self.small[0] * self.small[1]
        self.numbers = self.pixels * max(self.rows, self.small[2])

    def __str__(self) -> str:
        products = f"{self.rows} products for each of {self.pixels} pixels"
        return f"direct: {products}: frequencies would cost {self.weighed:.1f} times as much"

    def lift_kernel(self, w: Array) -> tuple[Array, list[Task]]:
        """w (KH, KW, C, F) -> (KH KW C, F)."""
        return w.reshape(self.rows, self.small[2]), []

    def lifted_large(self, N: int) -> Array:
        """An array for `lift_large` of N images: their windows, (N, KH KW C, OH OW)."""
        return np.empty((N, self.rows, self.pixels), self.dtype)

    def lifted_small(self, N: int, buffer: Array | None = None) -> Array:
        """An array for `lift_small` of N images: (N, OH OW, F), a view of `buffer` if given, else new."""
        images: Array = np.empty((N, *self.small), self.dtype) if buffer is None else buffer
        return images.reshape(N, self.pixels, self.small[2])

    def lift_large(self, X: Array, block: slice, images: Array) -> None:
        """Put the windows of a block of images (n, H, W, C) into X."""
        x, picture = self._padded(len(images))
        picture[...] = images
        n, down, along, channel = x.strides
        shape = len(x), *self.kernel, self.large[2], *self.small[:2]
        strides = n, down, along, channel, down * self.stride[0], along * self.stride[1]
        X[block].reshape(shape)[...] = np.ndarray(shape, x.dtype, x, strides=strides)  # a view

    def lift_small(self, Y: Array, block: slice, images: Array) -> None:
        """Put a block of images (n, OH, OW, F) into Y."""
        if not np.may_share_memory(images, Y):  # otherwise they are already there
            Y[block] = images.reshape(-1, *Y.shape[1:])

    def down(self, X: Array, W: Array, out: Array | None = None) -> Product:
        """The convolution: lifted large picture X -> small picture. It has no tasks and ignores `out`."""
        return [], lambda block: np.matmul(X[block].transpose(0, 2, 1), W).reshape(-1, *self.small)

    def up(self, Y: Array, W: Array, out: Array | None = None) -> Product:
        """The adjoint of `down`: lifted small picture Y -> large picture."""
        return [], lambda block: self._add_back(np.matmul(W, Y[block].transpose(0, 2, 1)))

    def _add_back(self, windows: Array) -> Array:
        """The adjoint of the copy into windows (N, KH KW C, OH OW): first their columns, then their rows."""
        (KH, KW), (SH, SW), (OH, OW, _), C = self.kernel, self.stride, self.small, self.large[2]
        windows = windows.reshape(-1, KH, KW, C, OH, OW)
        x, picture = self._padded(len(windows))
        rows = np.zeros((len(x), KH, C, OH, x.shape[2]), self.dtype)
        for j in range(KW):
            rows[..., j : j + OW * SW : SW] += windows[:, :, j]
        for i in range(KH):
            x[:, i : i + OH * SH : SH] += rows[:, i].transpose(0, 2, 3, 1)
        return picture

    def _padded(self, N: int) -> tuple[Array, Array]:
        """Zeros for N large pictures with their padding, and a view of the pictures without it."""
        ((top, bottom), (left, right)), (H, W, C) = self.pads, self.large
        x = np.zeros((N, top + H + bottom, left + W + right, C), self.dtype)
        return x, x[:, top : top + H, left : left + W]

    def kernel_gradient(
        self, X: Array, Y: Array, dw: Array, weights: Array | None = None, buffer: Array | None = None
    ) -> KernelGradient:
        """`dw` from both lifted pictures; image i counts weights[i] times. `buffer` is not used."""
        ones = np.ones(len(X), self.dtype) if weights is None else weights
        blocks_ = blocks(len(X), self.numbers)
        shares = np.empty((len(blocks_), self.rows * self.small[2]), self.dtype)

        def piece(share: Array, block: slice) -> None:
            products = np.matmul(X[block], Y[block])
            np.matmul(ones[block], products.reshape(len(products), -1), out=share)

        tasks: list[Task] = [partial(piece, *both) for both in zip(shares, blocks_, strict=True)]
        return tasks, [lambda: np.sum(shares, axis=0, out=dw.reshape(-1))]
