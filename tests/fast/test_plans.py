"""The two plans of a convolution, whatever the cost model would pick: every way to cut a picture."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.checks import numbers
from tinygan.fast import threads
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Axis, Frequencies, axis_choices, transform

Pair = tuple[int, int]

GEOMETRIES = [
    # (H, W), (KH, KW), (SH, SW), padding
    ((1, 1), (1, 1), (1, 1), "same"),
    ((3, 3), (2, 2), (1, 1), "valid"),
    ((7, 7), (5, 5), (1, 1), "same"),
    ((6, 9), (3, 4), (1, 1), "same"),
    ((8, 5), (5, 3), (2, 2), "same"),
    ((9, 7), (4, 2), (2, 2), "valid"),
    ((10, 8), (2, 5), (3, 1), "same"),
    ((5, 11), (1, 7), (1, 3), "valid"),
    ((7, 8), (1, 1), (3, 2), "same"),  # strides larger than the kernel
    ((9, 11), (2, 2), (4, 5), "valid"),  # and pixels after the last window
    ((3, 2), (7, 6), (1, 1), ((4, 5), (6, 4))),  # a kernel larger than the picture
    ((2, 3), (5, 4), (2, 3), ((5, 1), (0, 6))),
    ((4, 3), (2, 3), (1, 2), ((5, 0), (7, 3))),  # windows that see no pixel at all
    ((1, 5), (1, 2), (3, 1), ((1, 5), (0, 0))),
    ((1, 1), (1, 1), (3, 1), ((1, 5), (0, 0))),  # more results than places in the circle
    ((2, 1), (3, 3), (1, 1), ((0, 3), (9, 0))),
]
EVERY_GEOMETRY = pytest.mark.parametrize(("size", "kernel", "stride", "padding"), GEOMETRIES)


class Case:
    """Pictures, a kernel and what the convolution and its adjoints make of them, by loops."""

    def __init__(self, size: Pair, kernel: Pair, stride: Pair, padding: Any, N: int = 3) -> None:
        C, F = 2, 3
        self.N, self.kernel, self.stride, self.N = N, kernel, stride, N
        out, self.pads = oracles.conv2d_geometry(size, kernel, stride, padding)
        self.large, self.small = (*size, C), (*out, F)
        self.x, self.w = numbers(1, N, *self.large), numbers(2, *kernel, C, F)
        self.y, self.weights = numbers(3, N, *self.small), numbers(4, N)
        self.down = oracles.conv2d(self.x, self.w, None, stride, padding)
        self.up, self.dw, _ = oracles.conv2d_gradients(self.x, self.w, self.y, stride, padding)
        weighted = self.weights[:, None, None, None] * self.y
        self.weighted_dw = oracles.conv2d_gradients(self.x, self.w, weighted, stride, padding)[1]

    def axes(self, axis: int) -> list[Axis]:
        """The ways to cut this axis."""
        return axis_choices(
            self.large[axis], self.small[axis], self.kernel[axis], self.stride[axis], self.pads[axis][0]
        )

    def products(self, rows: Axis, columns: Axis, dtype: str = "d") -> Frequencies:
        return Frequencies(self.large, self.small, self.kernel, rows, columns, dtype)

    def windows(self, dtype: str = "d") -> Direct:
        return Direct(self.large, self.small, self.kernel, self.stride, self.pads, dtype)

    def check(self, plan: Frequencies | Direct, tolerance: float = 1e-12) -> None:
        """The plan's three results against the loops'; it may take the pictures in pieces."""
        dtype = plan.dtype
        x, w, y, weights = (a.astype(dtype) for a in (self.x, self.w, self.y, self.weights))
        X, Y, W = plan.lift_large(x, self.N), plan.lift_small(y, self.N), plan.lift_kernel(w)
        for found, expected in [
            (collected(plan.down, X, W, self.down.shape, dtype), self.down),
            (collected(plan.up, Y, W, self.up.shape, dtype), self.up),
            (plan.kernel_gradient(X, Y), self.dw),
            (plan.kernel_gradient(X, Y, weights), self.weighted_dw),
            (collected(plan.up, plan.since(Y, 1), W, self.up[1:].shape, dtype), self.up[1:]),
        ]:
            assert found.dtype == dtype and found.shape == expected.shape
            scale = np.abs(expected).max() or 1.0  # a kernel that sees no pixel has a gradient of 0
            assert np.abs(found - expected).max() < tolerance * scale


def collected(direction: Any, lifted: Any, kernel: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """What `down` or `up` writes; every number exactly once."""
    result, times = np.full(shape, np.nan, dtype), np.zeros(shape[0], int)

    def write(block: slice, images: np.ndarray) -> None:
        result[block] = images
        times[block] += 1

    direction(lifted, kernel, write)
    assert (times == 1).all()
    return result


@pytest.fixture(params=[None, 60], ids=["whole", "pieces"])
def piece(request, monkeypatch):
    """All in one piece, or in many: of a few numbers, as larger arrays are cut."""
    if request.param:
        monkeypatch.setattr(threads, "PIECE", request.param)


@EVERY_GEOMETRY
def test_products_equal_the_loops_however_the_axes_are_cut(piece, size, kernel, stride, padding):
    case = Case(size, kernel, stride, padding)
    for rows, columns in product(case.axes(0), case.axes(1)):
        case.check(case.products(rows, columns))


@EVERY_GEOMETRY
def test_windows_equal_the_loops(piece, size, kernel, stride, padding):
    case = Case(size, kernel, stride, padding)
    case.check(case.windows())


def test_the_geometries_are_cut_whole_and_in_tiles_with_even_and_odd_circles():
    seen = set()
    for geometry in GEOMETRIES:
        case = Case(*geometry, N=1)
        for rows, columns in product(case.axes(0), case.axes(1)):
            seen.add((rows.tiles > 1, columns.tiles > 1, rows.n % 2, columns.n % 2))
    assert seen == set(product((False, True), (False, True), (0, 1), (0, 1)))


@pytest.mark.parametrize("side", [23, 24, 25, 40])
def test_long_axes_equal_the_loops_too(side):
    case = Case((side, 3), (5, 2), (1, 1), "same", N=2)
    for rows in case.axes(0):
        case.check(case.products(rows, case.axes(1)[0]))


@EVERY_GEOMETRY
def test_float32_stays_float32_and_is_right_to_rounding(size, kernel, stride, padding):
    case = Case(size, kernel, stride, padding)
    case.check(case.windows("f"), 1e-6)
    for rows, columns in zip(case.axes(0), case.axes(1), strict=False):
        plan = case.products(rows, columns, "f")
        assert plan.lift_large(case.x.astype("f"), case.N).dtype == np.float32
        case.check(plan, 1e-6)


LAYERS = [  # of the networks: (H, W), (KH, KW), (SH, SW), C, F
    ((28, 28), (5, 5), (2, 2), 1, 6),
    ((14, 14), (5, 5), (2, 2), 6, 5),
    ((7, 7), (5, 5), (1, 1), 8, 4),
    ((64, 64), (5, 5), (2, 2), 3, 4),
]


def plans_of(size: Pair, kernel: Pair, stride: Pair, C: int, F: int) -> list[Frequencies | Direct]:
    """Direct, and products with all their ways to cut both axes alike."""
    out, pads = oracles.conv2d_geometry(size, kernel, stride, "same")
    shapes = (*size, C), (*out, F), kernel
    rows, columns = (axis_choices(size[a], out[a], kernel[a], stride[a], pads[a][0]) for a in (0, 1))
    products = [Frequencies(*shapes, r, c, "d") for r, c in zip(rows, columns, strict=True)]
    return [Direct(*shapes, stride, pads, "d"), *products]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_up_is_the_adjoint_of_down_and_the_kernels_gradient_that_of_the_kernel(layer):
    for plan in plans_of(*layer):
        x, y, w = numbers(1, 2, *plan.large), numbers(2, 2, *plan.small), numbers(3, *layer[1], *layer[3:])
        X, Y, W = plan.lift_large(x, 2), plan.lift_small(y, 2), plan.lift_kernel(w)
        down = collected(plan.down, X, W, y.shape, y.dtype)
        up = collected(plan.up, Y, W, x.shape, x.dtype)
        products = [down * y, x * up, plan.kernel_gradient(X, Y) * w]
        terms = np.abs(products[0]).sum()
        for other in products[1:]:
            assert abs(products[0].sum() - other.sum()) < 1e-13 * terms


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_picture_may_come_in_blocks_each_asked_for_once(piece, layer):
    for plan in plans_of(*layer):
        for lift, shape in ((plan.lift_large, plan.large), (plan.lift_small, plan.small)):
            images, asked = numbers(1, 3, *shape), []

            def read(block: slice, images: Any = images, asked: list[int] = asked) -> np.ndarray:
                asked.extend(range(len(images))[block])
                return images[block].copy()

            assert lift(read, 3).tobytes() == lift(images, 3).tobytes()
            assert sorted(asked) == [0, 1, 2]


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 1), (3, 3), (4, 5), (6, 6)], ids=str)
@pytest.mark.parametrize("n", [(6, 7), (7, 6), (8, 8), (9, 9)], ids=str)
def test_lowering_is_the_transpose_of_lifting(sides, n):
    """For every pixel and every frequency; and these are those of the discrete Fourier transform."""
    rows, columns = (Axis(1, 0, 1, side, side, 0, length) for side, length in zip(sides, n, strict=True))
    plan = transform(rows, columns, (1, 1), "d")
    pixels, frequencies = sides[0] * sides[1], n[0] * n[1]
    for grid in (plan.large, plan.small):
        lifted, lowered = np.empty((pixels, frequencies, 1)), np.empty((frequencies, pixels, 1))
        grid.lift(np.eye(pixels)[:, :, None], lifted)
        grid.lower(np.eye(frequencies)[:, :, None], lowered)
        np.testing.assert_allclose(lifted[:, :, 0], lowered[:, :, 0].T, atol=1e-15)
    picture = numbers(1, 1, pixels, 1)
    lifted = np.empty((1, frequencies, 1))
    plan.large.lift(picture, lifted)
    power = lifted[0, : plan.pairs, 0] ** 2 + lifted[0, plan.pairs + plan.reals :, 0] ** 2
    expected = np.abs(np.fft.fft2(picture.reshape(sides), n)) ** 2
    pairs = [(u, v) for u, v in np.ndindex(n) if (u, v) < (-u % n[0], -v % n[1])]
    np.testing.assert_allclose(power, [expected[pair] for pair in pairs], rtol=1e-10, atol=1e-12)
