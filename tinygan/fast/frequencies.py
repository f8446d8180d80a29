"""Convolution as matrix products of frequencies; `tinygan.fast.conv` derives the algorithm."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from math import ceil, nan
from typing import NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.threads import KernelGradient, Product, Task, blocks

Pair = tuple[int, int]
Shape = tuple[int, int, int]  # rows, columns, channels
Axes = tuple["Axis", "Axis"]  # rows, columns


class Axis(NamedTuple):
    """One way to cut an axis of the convolution into tiles of the result, and the input that each tile sees.
    Input pixel m S + a is pixel m of phase a. Tap i reads `offset` places further along its phase."""

    stride: int  # S, the number of phases
    before: int  # zeros before the first pixel
    tiles: int
    out: int  # pixels of the result in a tile
    seen: int  # pixels of each phase that a tile sees
    start: int  # the first of them, for the first tile
    n: int  # length of the circular convolution that computes a tile

    @property
    def reach(self) -> tuple[int, int]:
        """The first pixel that a tile sees (0 or negative), and the one after the last."""
        end = self.start + (self.tiles - 1) * self.out + self.seen
        return self.start * self.stride, end * self.stride

    def side_by_side(self) -> "Axis":
        """The tiles of the result as an axis: the same cuts without phases or overlaps."""
        return self._replace(stride=1, before=0, seen=self.out, start=0)

    def offset(self, tap: int) -> tuple[int, int]:
        """(phase, places from the result's own place, counted from the start of the tile)."""
        places, phase = divmod(tap - self.before, self.stride)
        return phase, places - self.start


def whole(side: int, out: int, taps: int, stride: int, before: int) -> Axis:
    """An axis as a single tile: the zeros around the picture serve as the end of the circle."""
    places = [(tap - before) // stride for tap in range(taps)]
    length = ceil(side / stride)
    return Axis(stride, before, 1, out, length, 0, max(length - min(places), out + max(places), 1))


def axis_choices(side: int, out: int, taps: int, stride: int, before: int) -> list[Axis]:
    """The ways to cut one axis: whole, where zeros around the picture allow a smaller n, or in tiles."""
    one = whole(side, out, taps, stride, before)
    (_, lowest), (_, highest) = one.offset(0), one.offset(taps - 1)
    choices = [one] if one.n <= 24 else []
    for tile in range(2, min(13, out)):
        seen = tile + highest - lowest
        choices.append(Axis(stride, before, ceil(out / tile), tile, seen, lowest, seen))
    return choices


class Transform(NamedTuple):
    pairs: int  # m: frequencies that come with a conjugate
    reals: int  # frequencies that are their own conjugate
    large: Array  # lifts a tile: (frequencies, pixels), rows of m real parts, of reals, of m imaginary parts
    small: Array
    kernel: tuple[tuple[int, int, Array], ...]  # per phase: its taps' first row and column, matrix


def circles(n: Pair) -> tuple[list[Pair], list[Pair]]:
    """Frequencies (u, v) of circles of n[0] and n[1] pixels: one per conjugate pair, and the real ones."""
    conjugate = {(u, v): (-u % n[0], -v % n[1]) for u, v in np.ndindex(*n)}
    return [f for f in conjugate if f < conjugate[f]], [f for f in conjugate if f == conjugate[f]]


def angles(n: Pair, frequencies: list[Pair], places: Array) -> Array:
    """(frequencies, places): 2 pi (u p / n[0] + v q / n[1]) for places (p, q), float64."""
    turns = np.array(frequencies, float).reshape(-1, 2) / n
    return 2 * np.pi * turns @ places.T


@lru_cache(maxsize=64)
def transform(rows: Axis, columns: Axis, kernel: Pair, dtype: str) -> Transform:
    """The matrices for a kernel of (KH, KW) taps; built in float64, rounded once."""
    n = rows.n, columns.n
    pairs, reals = circles(n)

    def of_pixels(height: int, width: int) -> Array:
        places = np.array([*np.ndindex(height, width)])
        turned = angles(n, pairs, places)
        table = [np.cos(turned), np.cos(angles(n, reals, places)), -np.sin(turned)]
        return np.concatenate(table).astype(dtype)

    phases = []
    for a, b in np.ndindex(rows.stride, columns.stride):
        top, left = (a + rows.before) % rows.stride, (b + columns.before) % columns.stride
        vertical = [rows.offset(i)[1] for i in range(top, kernel[0], rows.stride)]
        horizontal = [columns.offset(j)[1] for j in range(left, kernel[1], columns.stride)]
        # A stride larger than the kernel leaves phases without taps.
        taps = np.array([*product(vertical, horizontal)], float).reshape(-1, 2)
        turned = angles(n, pairs, taps)
        table = np.concatenate([2 * np.cos(turned), np.cos(angles(n, reals, taps)), 2 * np.sin(turned)])
        phases.append((top, left, (table / (rows.n * columns.n)).astype(dtype)))
    large, small = of_pixels(rows.seen, columns.seen), of_pixels(rows.out, columns.out)
    return Transform(len(pairs), len(reals), large, small, tuple(phases))


@dataclass(eq=False)
class Frequencies:
    """A convolution from a large picture (input) to a small one (result), by frequencies.
    `large` (N, H, W, C), `small` (N, OH, OW, F), kernel (KH, KW, C, F). Lifted, with t tiles in all images:
    (frequencies, t, S^2 C), (frequencies, t, F) and (frequencies, S^2 C, F); phases count as channels."""

    large: Shape
    small: Shape
    kernel: Pair
    axes: Axes
    dtype: str
    weighed: float = nan  # the estimated cost, relative to that of `direct.Direct`

    def __post_init__(self) -> None:
        rows, columns = self.axes
        self.transform = transform(rows, columns, self.kernel, self.dtype)
        self.side_by_side = rows.side_by_side(), columns.side_by_side()
        self.tiles, self.phases = rows.tiles * columns.tiles, rows.stride * columns.stride
        self.C, self.F = self.large[2], self.small[2]
        self.frequencies = 2 * self.transform.pairs + self.transform.reals
        numbers = max(rows.seen * columns.seen * self.phases * self.C, rows.out * columns.out * self.F)
        self.numbers = numbers * self.tiles

    def __str__(self) -> str:
        (r, c), products = self.axes, self.transform.reals + 3 * self.transform.pairs
        return (
            f"frequencies: {products} products per tile of {r.out} x {c.out} pixels ({self.tiles} in all), "
            f"circles of {r.n} x {c.n}: {self.weighed:.2f} of the cost of direct convolution"
        )

    def lift_kernel(self, w: Array) -> tuple[Array, list[Task]]:
        """w (KH, KW, C, F) -> (frequencies, phases C, F): real parts, real frequencies, imaginary parts."""
        W = np.empty((self.frequencies, self.phases * self.C, self.F), self.dtype)
        return W, self._each_phase(lambda m, w, W: np.matmul(m, w.reshape(-1, w.shape[2]), out=W), w, W)

    def lower_kernel(self, dW: Array, dw: Array) -> list[Task]:
        """The adjoint of `lift_kernel`: the gradient dW of the lifted kernel -> `dw`, the gradient of w."""
        return self._each_phase(lambda m, w, W: np.copyto(w, (m.T @ W).reshape(w.shape)), dw, dW)

    def _each_phase(self, function: Callable[..., None], w: Array, W: Array) -> list[Task]:
        """Tasks that call `function(matrix, taps in w, part of W)` for each phase and piece of C F."""
        size, (down, along) = self.C * self.F, (axis.stride for axis in self.axes)
        w, W = w.reshape(*self.kernel, size), W.reshape(self.frequencies, self.phases, size)
        return [
            partial(function, matrix, w[row::down, column::along, some], W[:, phase, some])
            for phase, (row, column, matrix) in enumerate(self.transform.kernel)
            for some in blocks(size, 2 * self.frequencies)
        ]

    def lifted_large(self, N: int) -> Array:
        """An array for `lift_large` of N images: (frequencies, tiles, phases C)."""
        return np.empty((self.frequencies, N * self.tiles, self.phases * self.C), self.dtype)

    def lifted_small(self, N: int, buffer: Array | None = None) -> Array:
        """An array for `lift_small` of N images: (frequencies, tiles, F). `buffer` is not used."""
        return np.empty((self.frequencies, N * self.tiles, self.F), self.dtype)

    def lift_large(self, X: Array, block: slice, images: Array) -> None:
        """Put a block of images (n, H, W, C) into X."""
        np.matmul(self.transform.large, self._split(images, self.axes), out=self._tiles(X, block))

    def lift_small(self, Y: Array, block: slice, images: Array) -> None:
        """Put a block of images (n, OH, OW, F) into Y."""
        np.matmul(self.transform.small, self._split(images, self.side_by_side), out=self._tiles(Y, block))

    def down(self, X: Array, W: Array, out: Array | None = None) -> Product:
        """The convolution: lifted large picture X -> small picture. `out`: an array for the product."""
        Y, T = self.lifted_small(X.shape[1] // self.tiles) if out is None else out, self.transform.small.T
        tasks = self._multiply(len(Y[0]), X, W.__getitem__, Y)
        return tasks, lambda some: self._merge(T @ self._tiles(Y, some), self.side_by_side, self.small)

    def up(self, Y: Array, W: Array, out: Array | None = None) -> Product:
        """The adjoint of `down`: lifted small picture Y -> large picture."""
        X, T = self.lifted_large(Y.shape[1] // self.tiles) if out is None else out, self.transform.large.T
        tasks = self._multiply(len(X[0]), Y, W.transpose(0, 2, 1).__getitem__, X, conjugate="w")
        return tasks, lambda some: self._merge(T @ self._tiles(X, some), self.axes, self.large)

    def kernel_gradient(
        self, X: Array, Y: Array, dw: Array, weights: Array | None = None, buffer: Array | None = None
    ) -> KernelGradient:
        """`dw` from both lifted pictures; image i counts weights[i] times. `buffer`: a lifted kernel. A task
        overwrites its part of it, after the product's task that it is given has read this part."""
        dW = np.empty((self.frequencies, X.shape[2], Y.shape[2]), self.dtype) if buffer is None else buffer
        scale = 1 if weights is None else np.repeat(weights, self.tiles)[:, None]
        weighted = Y.__getitem__ if weights is None else lambda some: Y[some] * scale
        tasks = self._multiply(len(Y[0]), X.transpose(0, 2, 1), weighted, dW, conjugate="x")
        return tasks, self.lower_kernel(dW, dw)

    def _multiply(
        self, tiles: int, x: Array, w: Callable[[slice], Array], y: Array, conjugate: str = ""
    ) -> list[Callable[..., None]]:
        """Tasks for y = x w at each frequency; w(some) is a slice of w. `conjugate` names the factor to
        conjugate, x or w. A task accepts another one, to call after it reads x and w, before it writes y."""
        m, numbers = self.transform.pairs, 4 * tiles * max(self.phases * self.C, self.F)
        shift = m + self.transform.reals  # from a real part to its imaginary part

        def pair(real: slice, between: Task = lambda: None) -> None:
            imaginary = slice(real.start + shift, real.stop + shift)
            # Gauss's three products. Conjugating one factor exchanges the parts of the other, and of y.
            parts, exchanged = (real, imaginary), (imaginary, real)
            p, q = (x[some] for some in (exchanged if conjugate == "w" else parts))
            c, d = map(w, exchanged if conjugate == "x" else parts)
            k, less, more = np.matmul(p + q, c), np.matmul(q, c + d), np.matmul(p, d - c)
            del p, q, c, d  # `between` also needs memory
            between()
            first, second = exchanged if conjugate else parts
            np.subtract(k, less, out=y[first])
            np.add(k, more, out=y[second])

        def alone(some: slice, between: Task = lambda: None) -> None:
            product = np.matmul(x[some], w(some))
            between()
            y[some] = product

        return [*(partial(pair, some) for some in blocks(m, numbers)), partial(alone, slice(m, shift))]

    def _tiles(self, Z: Array, block: slice) -> Array:
        """The tiles of a block of images in a lifted array Z, seen as (tiles, frequencies, channels)."""
        return Z[:, block.start * self.tiles : block.stop * self.tiles].transpose(1, 0, 2)

    def _split(self, x: Array, axes: Axes) -> Array:
        """Images (N, H, W, C) -> the pixels each tile sees (tiles, pixels, phases C)."""
        (r, c), (N, H, W, C) = axes, x.shape
        (top, bottom), (left, right) = r.reach, c.reach
        pads = (-top, max(0, bottom - H)), (-left, max(0, right - W))
        if pads != ((0, 0), (0, 0)):
            x = np.pad(x, ((0, 0), *pads, (0, 0)))
        # A view by image, tile, pixel and phase: tiles are `out` pixels apart and overlap by seen - out.
        n, down, along, channel = x.strides
        seen = np.lib.stride_tricks.as_strided(
            x,
            (N, r.tiles, c.tiles, r.seen, c.seen, r.stride, c.stride, C),
            (n, down * r.stride * r.out, along * c.stride * c.out, down * r.stride, along * c.stride,
             down, along, channel),
            writeable=False,
        )  # fmt: skip
        return seen.reshape(N * self.tiles, r.seen * c.seen, r.stride * c.stride * C)

    def _merge(self, tiles: Array, axes: Axes, shape: Shape) -> Array:
        """The adjoint of `_split`: (tiles, pixels, phases C) -> (N, H, W, C). Overlaps are added."""
        (r, c), (H, W, C), N = axes, shape, len(tiles) // self.tiles
        parts = tiles.reshape(N, r.tiles, c.tiles, r.seen, c.seen, r.stride, c.stride, C)
        # (tiles, tiles, N, seen, S, seen, S, C): a tile's pictures together, each pixel next to its phases
        parts = parts.transpose(1, 2, 0, 3, 5, 4, 6, 7)
        parts = parts.reshape(r.tiles, c.tiles, N, r.seen * r.stride, c.seen * c.stride, C)
        (top, bottom), (left, right) = r.reach, c.reach
        if top == left == 0 and (self.tiles == 1 or axes == self.side_by_side):  # nothing overlaps
            parts = parts.transpose(2, 0, 3, 1, 4, 5)  # (N, tiles, seen S, tiles, seen S, C)
            return parts.reshape(N, r.tiles * r.seen * r.stride, -1, C)[:, :H, :W]
        whole = np.zeros((N, max(H, bottom) - top, max(W, right) - left, C), self.dtype)
        for i in range(r.tiles):
            for j in range(c.tiles):
                y, x = i * r.out * r.stride, j * c.out * c.stride
                whole[:, y : y + r.seen * r.stride, x : x + c.seen * c.stride] += parts[i, j]
        return whole[:, -top : H - top, -left : W - left]
