"""Convolution of pictures with few channels: one small matrix product to an image.

Where one side has one to three channels, frequencies save nothing. The windows of `ops.conv.im2col` are then
copied with the pixels innermost, (N, KH KW C, OH OW): a run of so few channels is too short to copy well. In
the training step these pieces pass through the next operations before they leave the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.threads import POOL, Result, blocks
from tinygan.ops.conv import col2im
from tinygan.ops.geometry import Pads

# Called with blocks of the batch, by several threads. `Read` gives a block's images (N, H, W, C); `Write`
# takes them, may change and keep them, and what it returns is passed on in the order of the blocks.
Read = Callable[[slice], Array]
Write = Callable[[slice, Array], Result]


@dataclass(eq=False)
class Direct:
    """A convolution between a large picture (its input) and a small one (its result), by windows.
    `large` (N, H, W, C), `small` (N, OH, OW, F), kernel (KH, KW, C, F). The lifted large picture is
    (N, KH KW C, OH OW); kernel and small picture need no lifting."""

    large: tuple[int, int, int]
    small: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: Pads
    dtype: str
    weighed: float = nan  # what frequencies were reckoned to cost, as a share of what this way does

    def __post_init__(self) -> None:
        self.rows = self.kernel[0] * self.kernel[1] * self.large[2]
        self.pixels = self.small[0] * self.small[1]
        self.numbers = self.pixels * max(self.rows, self.small[2])

    def __str__(self) -> str:
        products = f"{self.rows} products for each of {self.pixels} pixels"
        return f"direct: {products}: frequencies would cost {self.weighed:.1f} times as much"

    def lift_kernel(self, w: Array) -> Array:
        """w (KH, KW, C, F) -> (KH KW C, F)."""
        return w.reshape(self.rows, self.small[2])

    def lift_large(self, images: Array | Read, N: int) -> Array:
        """The windows of N images of the large picture."""
        read: Read = images if callable(images) else images.__getitem__
        X = np.empty((N, self.rows, self.pixels), self.dtype)
        (KH, KW), (SH, SW), (OH, OW, _), C = self.kernel, self.stride, self.small, self.large[2]

        def piece(block: slice) -> None:
            x = np.pad(read(block), ((0, 0), *self.pads, (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(x, (KH, KW), (1, 2))[:, ::SH, ::SW]
            X[block].reshape(-1, KH, KW, C, OH, OW)[...] = windows.transpose(0, 4, 5, 3, 1, 2)

        POOL.each(piece, blocks(N, self.rows * self.pixels))
        return X

    def lift_small(self, images: Array | Read, N: int) -> Array:
        """N images of the small picture, as (N, OH OW, F)."""
        Y: Array = images
        if callable(images):
            read: Read = images
            Y = np.empty((N, *self.small), self.dtype)
            POOL.each(lambda block: np.copyto(Y[block], read(block)), blocks(N, self.numbers))
        return Y.reshape(N, self.pixels, self.small[2])

    def down(self, X: Array, W: Array, write: Write[Result]) -> list[Result]:
        """The convolution: lifted large picture X -> `write(block, images of the small picture)`."""

        def piece(block: slice) -> Result:
            return write(block, np.matmul(X[block].transpose(0, 2, 1), W).reshape(-1, *self.small))

        return POOL.each(piece, blocks(len(X), self.numbers))

    def up(self, Y: Array, W: Array, write: Write[Result], first: int = 0) -> list[Result]:
        """Its adjoint: small picture Y, from image `first` on -> `write(block, large images)`."""
        Y, (OH, OW, _), C = Y[first:], self.small, self.large[2]

        def piece(block: slice) -> Result:
            cols = np.matmul(Y[block], W.T).reshape(-1, OH, OW, *self.kernel, C)
            return write(block, col2im(cols, (len(cols), *self.large), self.stride, self.pads))

        return POOL.each(piece, blocks(len(Y), self.rows * self.pixels))

    def kernel_gradient(self, X: Array, Y: Array, weights: Array | None = None) -> Array:
        """The kernel's gradient (KH, KW, C, F) from both lifted pictures; image i counts weights[i] times."""
        ones = np.ones(len(X), self.dtype) if weights is None else weights

        def piece(block: slice) -> Array:
            shares = np.matmul(X[block], Y[block])
            return np.matmul(ones[block], shares.reshape(len(shares), -1))

        sums = POOL.each(piece, blocks(len(X), self.numbers))
        return np.sum(sums, axis=0).reshape(*self.kernel, self.large[2], self.small[2])
