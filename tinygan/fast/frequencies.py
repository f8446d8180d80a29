"""Convolution as matrix products of frequencies; `tinygan.fast.conv` derives the algorithm."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from itertools import groupby, product
from math import ceil, nan
from typing import NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.direct import Read, Write
from tinygan.fast.threads import POOL, Result, blocks

Pair = tuple[int, int]
Shape = tuple[int, int, int]  # rows, columns, channels
Axes = tuple["Axis", "Axis"]  # rows, columns


class Axis(NamedTuple):
    """How one axis of the convolution is cut: into tiles of the result, and what each of them sees. Input
    pixel m S + a is pixel m of phase a; tap i looks `offset` places further on in its phase."""

    stride: int  # S, the number of phases
    before: int  # zeros before the first pixel
    tiles: int
    out: int  # pixels of the result in a tile
    seen: int  # pixels of each phase that a tile sees
    start: int  # the first of them, for the first tile
    n: int  # length of the circular convolution that computes a tile

    @property
    def reach(self) -> tuple[int, int]:
        """The first pixel that a tile sees, 0 or before the picture; and the one after the last."""
        end = self.start + (self.tiles - 1) * self.out + self.seen
        return self.start * self.stride, end * self.stride

    def side_by_side(self) -> "Axis":
        """The same tiles of the result, as an axis that is cut without phases or overlaps."""
        return self._replace(stride=1, before=0, seen=self.out, start=0)

    def offset(self, tap: int) -> tuple[int, int]:
        """(phase, how many places from a result's own place, counted from the tile's start)."""
        places, phase = divmod(tap - self.before, self.stride)
        return phase, places - self.start


def whole(side: int, out: int, taps: int, stride: int, before: int) -> Axis:
    """An axis in one tile: zeros around the picture serve as the rest of the circle."""
    places = [(tap - before) // stride for tap in range(taps)]
    length = ceil(side / stride)
    return Axis(stride, before, 1, out, length, 0, max(length - min(places), out + max(places), 1))


def axis_choices(side: int, out: int, taps: int, stride: int, before: int) -> list[Axis]:
    """The ways to cut one axis: whole, where zeros around the picture let n be smaller, or in tiles."""
    one = whole(side, out, taps, stride, before)
    (_, lowest), (_, highest) = one.offset(0), one.offset(taps - 1)
    choices = [one] if one.n <= 24 else []
    for tile in range(2, min(13, out)):
        seen = tile + highest - lowest
        choices.append(Axis(stride, before, ceil(out / tile), tile, seen, lowest, seen))
    return choices


class Grid(NamedTuple):
    """The transform of the pixels of one tile: `lift` to frequencies, and its adjoint `lower`. Rows: m real
    parts, reals, m imaginary parts. Even ones need sums of opposite pixels, odd differences."""

    pixels: int
    groups: tuple[tuple[slice, Array, bool], ...]  # rows, their matrix, whether they are odd

    def lift(self, x: Array, out: Array) -> None:
        """Pixels x (N, pixels, C) -> frequencies out (N, rows, C)."""
        half = self.pixels // 2
        first, last = x[:, :half], x[:, : -half - 1 : -1]  # each pixel and its opposite
        even = np.empty((len(x), self.pixels - half, x.shape[2]), x.dtype)
        np.add(first, last, out=even[:, :half])
        even[:, half:] = x[:, half : self.pixels - half]  # the one in the centre, if there is one
        odd = first - last
        for rows, matrix, is_odd in self.groups:
            np.matmul(matrix, odd if is_odd else even, out=out[:, rows])

    def lower(self, y: Array) -> Array:
        """Frequencies y (N, rows, C) -> pixels (N, pixels, C)."""
        out, half = np.empty((len(y), self.pixels, y.shape[2]), y.dtype), self.pixels // 2
        shares: tuple[list[Array], list[Array]] = ([], [])  # of even rows, of odd rows
        for rows, matrix, is_odd in self.groups:
            shares[is_odd].append(np.matmul(matrix.T, y[:, rows]))
        even = reduce(np.add, shares[False])
        out[:, half : self.pixels - half] = even[:, half:]
        odd = reduce(np.add, shares[True], 0)  # a circle too short for the tile may have no odd rows
        np.add(even[:, :half], odd, out=out[:, :half])
        np.subtract(even[:, :half], odd, out=out[:, : -half - 1 : -1])
        return out


class Transform(NamedTuple):
    pairs: int  # m: frequencies that come with a conjugate
    reals: int  # frequencies that are their own conjugate
    large: Grid
    small: Grid
    kernel: tuple[tuple[int, int, Array], ...]  # per phase: its taps' first row and column, matrix


def circles(n: Pair) -> tuple[list[Pair], list[Pair]]:
    """Frequencies (u, v) of circles of n[0] and n[1] pixels: one of each conjugate pair, and real ones."""
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

    def grid(height: int, width: int) -> tuple[Grid, Array]:
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        places = np.array([*np.ndindex(height, width)])
        turned = angles(n, pairs, places - centre)
        table = np.concatenate([np.cos(turned), np.cos(angles(n, reals, places)), -np.sin(turned)])
        groups, half, start = [], len(places) // 2, 0
        for odd, some in groupby(table, lambda row: not np.allclose(row, row[::-1])):
            matrix = np.array([row[: half if odd else len(places) - half] for row in some], dtype)
            groups.append((slice(start, start + len(matrix)), matrix, odd))
            start += len(matrix)
        return Grid(len(places), tuple(groups)), centre

    large, large_centre = grid(rows.seen, columns.seen)
    small, small_centre = grid(rows.out, columns.out)
    phases = []
    for a, b in np.ndindex(rows.stride, columns.stride):
        top, left = (a + rows.before) % rows.stride, (b + columns.before) % columns.stride
        vertical = [rows.offset(i)[1] for i in range(top, kernel[0], rows.stride)]
        horizontal = [columns.offset(j)[1] for j in range(left, kernel[1], columns.stride)]
        # No taps at all, where the stride is larger than the kernel.
        taps = np.array([*product(vertical, horizontal)], float).reshape(-1, 2)
        turned = angles(n, pairs, taps - (large_centre - small_centre))
        table = np.concatenate([2 * np.cos(turned), np.cos(angles(n, reals, taps)), 2 * np.sin(turned)])
        phases.append((top, left, (table / (rows.n * columns.n)).astype(dtype)))
    return Transform(len(pairs), len(reals), large, small, tuple(phases))


@dataclass(eq=False)
class Frequencies:
    """A convolution between a large picture (its input) and a small one (its result), by frequencies.
    `large` (N, H, W, C), `small` (N, OH, OW, F), kernel (KH, KW, C, F). Lifted, in t tiles of all images:
    (frequencies, t, S^2 C), (frequencies, t, F) and (frequencies, S^2 C, F); phases count as channels."""

    large: Shape
    small: Shape
    kernel: Pair
    rows: Axis
    columns: Axis
    dtype: str
    weighed: float = nan  # what this way was reckoned to cost, as a share of what `direct.Direct` would

    def __post_init__(self) -> None:
        rows, columns = self.rows, self.columns
        self.transform = transform(rows, columns, self.kernel, self.dtype)
        self.axes = rows, columns
        self.side_by_side = rows.side_by_side(), columns.side_by_side()
        self.tiles = rows.tiles * columns.tiles
        self.phases = rows.stride * columns.stride
        self.C, self.F = self.large[2], self.small[2]
        self.frequencies = 2 * self.transform.pairs + self.transform.reals
        numbers = max(rows.seen * columns.seen * self.phases * self.C, rows.out * columns.out * self.F)
        self.numbers = numbers * self.tiles

    def __str__(self) -> str:
        r, c, products = self.rows, self.columns, self.transform.reals + 3 * self.transform.pairs
        return (
            f"frequencies: {products} products for each of {self.tiles} tiles of {r.out} x {c.out} pixels, "
            f"circles of {r.n} x {c.n}: {self.weighed:.2f} of the cost of direct convolution"
        )

    def lift_kernel(self, w: Array) -> Array:
        """w (KH, KW, C, F) -> (frequencies, phases C, F): real parts, real frequencies, imaginary parts."""
        W = np.empty((self.frequencies, self.phases, self.C * self.F), self.dtype)

        def piece(matrix: Array, taps: Array, lifted: Array) -> None:
            np.matmul(matrix, taps.reshape(-1, taps.shape[2]), out=lifted)

        self._each_phase(piece, w.reshape(*self.kernel, self.C * self.F), W)
        return W.reshape(self.frequencies, self.phases * self.C, self.F)

    def lower_kernel(self, dW: Array) -> Array:
        """The adjoint of `lift_kernel`: the gradient of w from that of the lifted kernel."""
        dw = np.zeros((*self.kernel, self.C * self.F), self.dtype)

        def piece(matrix: Array, taps: Array, lifted: Array) -> None:
            taps[...] = np.matmul(matrix.T, lifted).reshape(taps.shape)

        self._each_phase(piece, dw, dW.reshape(self.frequencies, self.phases, self.C * self.F))
        return dw.reshape(*self.kernel, self.C, self.F)

    def _each_phase(self, function: Callable[[Array, Array, Array], None], w: Array, W: Array) -> None:
        """Call `function` with each phase's matrix, its taps in w and its part of W, by pieces of C F."""
        pieces = [
            (matrix, w[row :: self.rows.stride, column :: self.columns.stride, some], W[:, phase, some])
            for phase, (row, column, matrix) in enumerate(self.transform.kernel)
            for some in blocks(self.C * self.F, 2 * self.frequencies)
        ]
        POOL.each(lambda piece: function(*piece), pieces)

    def lift_large(self, images: Array | Read, N: int) -> Array:
        """N images of the large picture, lifted: (frequencies, tiles, phases C)."""
        return self._lift(self.transform.large, self.axes, self.phases * self.C, images, N)

    def lift_small(self, images: Array | Read, N: int) -> Array:
        """N images of the small picture, lifted: (frequencies, tiles, F)."""
        return self._lift(self.transform.small, self.side_by_side, self.F, images, N)

    def _lift(self, grid: Grid, axes: Axes, channels: int, images: Array | Read, N: int) -> Array:
        read = images if callable(images) else images.__getitem__
        Z = np.empty((self.frequencies, N * self.tiles, channels), self.dtype)
        images_first = Z.transpose(1, 0, 2)

        def piece(block: slice) -> None:
            grid.lift(self._split(read(block), axes), images_first[self._tiles_of(block)])

        POOL.each(piece, blocks(N, self.numbers))
        return Z

    def down(self, X: Array, W: Array, write: Write[Result]) -> list[Result]:
        """The convolution: lifted large picture X -> `write(block, images of the small picture)`."""
        Y = self._multiply(X, W, adjoint=False)
        return self._lower(self.transform.small, self.side_by_side, self.small, Y, write)

    def up(self, Y: Array, W: Array, write: Write[Result], first: int = 0) -> list[Result]:
        """Its adjoint: lifted small picture Y, from image `first` on -> `write(block, large images)`."""
        X = self._multiply(Y[:, first * self.tiles :], W, adjoint=True)
        return self._lower(self.transform.large, self.axes, self.large, X, write)

    def _lower(self, grid: Grid, axes: Axes, shape: Shape, Z: Array, write: Write[Result]) -> list[Result]:
        images_first = Z.transpose(1, 0, 2)

        def piece(block: slice) -> Result:
            tiles = grid.lower(images_first[self._tiles_of(block)])
            return write(block, self._merge(tiles, axes, shape))

        return POOL.each(piece, blocks(Z.shape[1] // self.tiles, self.numbers))

    def kernel_gradient(self, X: Array, Y: Array, weights: Array | None = None) -> Array:
        """The kernel's gradient (KH, KW, C, F) from both lifted pictures; image i counts weights[i] times."""
        dW = np.empty((self.frequencies, X.shape[2], Y.shape[2]), self.dtype)
        x = X.transpose(0, 2, 1)
        scale = None if weights is None else np.repeat(weights, self.tiles)[:, None]

        def weighted(some: slice) -> Array:
            return Y[some] if scale is None else Y[some] * scale

        def piece(real: slice, imaginary: slice) -> None:  # dc = p^T dRe + q^T dIm, dd = p^T dIm - q^T dRe
            re, im = weighted(real), weighted(imaginary)
            both = np.matmul(x[real] + x[imaginary], re + im)
            p_im, q_re = np.matmul(x[real], im), np.matmul(x[imaginary], re)
            np.subtract(both, p_im, out=both)
            np.subtract(both, q_re, out=dW[real])
            np.subtract(p_im, q_re, out=dW[imaginary])

        self._each_frequency(piece, lambda some: np.matmul(x[some], weighted(some), out=dW[some]), X.shape[1])
        return self.lower_kernel(dW)

    def _multiply(self, x: Array, W: Array, adjoint: bool) -> Array:
        """x W, frequency by frequency; with `adjoint`, x W^H."""
        w = W.transpose(0, 2, 1) if adjoint else W
        y = np.empty((*x.shape[:2], w.shape[2]), self.dtype)

        def piece(real: slice, imaginary: slice) -> None:
            # Gauss's three products; the adjoint is the same with real and imaginary parts exchanged.
            c, d = w[real], w[imaginary]
            if adjoint:
                real, imaginary = imaginary, real
            k = np.matmul(x[real] + x[imaginary], c)
            np.matmul(x[imaginary], c + d, out=y[real])
            np.subtract(k, y[real], out=y[real])
            np.matmul(x[real], d - c, out=y[imaginary])
            y[imaginary] += k

        self._each_frequency(piece, lambda some: np.matmul(x[some], w[some], out=y[some]), x.shape[1])
        return y

    def _each_frequency(self, pair: Callable[..., None], alone: Callable[..., object], tiles: int) -> None:
        """Call `pair` with slices of real and of imaginary parts, `alone` with those of real frequencies."""
        m, numbers = self.transform.pairs, 4 * tiles * max(self.phases * self.C, self.F)
        shift = m + self.transform.reals  # from a real part to its imaginary part
        pieces = [partial(pair, at, slice(at.start + shift, at.stop + shift)) for at in blocks(m, numbers)]
        pieces += [partial(alone, slice(row, row + 1)) for row in range(m, shift)]
        POOL.each(lambda piece: piece(), pieces)

    def _tiles_of(self, block: slice) -> slice:
        return slice(block.start * self.tiles, block.stop * self.tiles)

    def _split(self, x: Array, axes: Axes) -> Array:
        """Images (N, H, W, C) -> what each tile sees (tiles, pixels, phases C)."""
        (r, c), (N, H, W, C) = axes, x.shape
        (top, bottom), (left, right) = r.reach, c.reach
        pads = (-top, max(0, bottom - H)), (-left, max(0, right - W))
        if pads != ((0, 0), (0, 0)):
            x = np.pad(x, ((0, 0), *pads, (0, 0)))
        # A view by image, tile, pixel and phase: tiles are `out` pixels apart, and overlap by seen - out.
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
        """The adjoint of `_split`, (tiles, pixels, phases C) -> (N, H, W, C); overlaps are added."""
        (r, c), (H, W, C), N = axes, shape, len(tiles) // self.tiles
        parts = tiles.reshape(N, r.tiles, c.tiles, r.seen, c.seen, r.stride, c.stride, C)
        # (tiles, tiles, N, seen, S, seen, S, C): a tile's pictures together, a pixel beside its phases
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
