"""Both plans of a convolution, regardless of the cost model's choice, for every way to cut a picture."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.checks import numbers
from tinygan.fast import threads
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Axis, Frequencies, axis_choices
from tinygan.fast.threads import KernelGradient, Line, Product, Task, blocks

Pair = tuple[int, int]

GEOMETRIES = [
    # (H, W), (KH, KW), (SH, SW), padding
    ((7, 7), (5, 5), (1, 1), "same"),
    ((8, 5), (5, 3), (2, 2), "same"),
    ((9, 7), (4, 2), (2, 2), "valid"),
    ((10, 8), (2, 5), (3, 1), "same"),
    ((7, 8), (1, 1), (3, 2), "same"),  # strides larger than the kernel
    ((9, 11), (2, 2), (4, 5), "valid"),  # the same, and pixels after the last window
    ((3, 2), (7, 6), (1, 1), ((4, 5), (6, 4))),  # a kernel larger than the picture
    ((4, 3), (2, 3), (1, 2), ((5, 0), (7, 3))),  # windows that see no pixel at all
    ((1, 1), (1, 1), (3, 1), ((1, 5), (0, 0))),  # more results than places in the circle
    ((40, 3), (5, 2), (1, 1), "same"),  # too long for one tile
]
EVERY_GEOMETRY = pytest.mark.parametrize(("size", "kernel", "stride", "padding"), GEOMETRIES)


class Case:
    """Pictures, a kernel, and the results of the convolution and its adjoints, computed by loops."""

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
        return Frequencies(self.large, self.small, self.kernel, (rows, columns), dtype)

    def windows(self, dtype: str = "d") -> Direct:
        return Direct(self.large, self.small, self.kernel, self.stride, self.pads, dtype)

    def check(self, plan: Frequencies | Direct, tolerance: float = 1e-12) -> None:
        """Compare the plan's three results with the loops'; it can process the pictures in pieces."""
        dtype = plan.dtype
        x, w, y, weights = (a.astype(dtype) for a in (self.x, self.w, self.y, self.weights))
        W, tasks = plan.lift_kernel(w)
        done(tasks)

        def lifted() -> tuple[np.ndarray, np.ndarray]:
            X, Y = plan.lifted_large(self.N), plan.lifted_small(self.N)
            for block in blocks(self.N, plan.numbers):
                plan.lift_large(X, block, x[block])
                plan.lift_small(Y, block, y[block])
            return X, Y

        X, Y = lifted()
        results = [
            (self.images(plan.down(X, W), self.down, plan), self.down),
            (self.images(plan.up(Y, W), self.up, plan), self.up),
        ]
        for of_images, expected in ((None, self.dw), (weights, self.weighted_dw)):
            dw = np.full_like(w, np.nan)
            done_in_turn(plan.kernel_gradient(*lifted(), dw, of_images))
            results.append((dw, expected))
            # As in a training step: the product overwrites the factor of the gradient, and the gradient
            # overwrites the kernel that the product needs.
            for images in (self.up, self.down):
                (X, Y), buffer, dw = lifted(), W.copy(), np.full_like(w, np.nan)
                whole = plan.up(Y, buffer, X) if images is self.up else plan.down(X, buffer, Y)
                of_kernel = plan.kernel_gradient(X, Y, dw, of_images, buffer)
                results += [(self.images(whole, images, plan, of_kernel), images), (dw, expected)]
        for found, expected in results:
            assert found.dtype == dtype and found.shape == expected.shape
            scale = np.abs(expected).max() or 1.0  # a kernel that sees no pixel has a gradient of 0
            assert np.abs(found - expected).max() < tolerance * scale

    def images(self, product: Product, expected: np.ndarray, plan: Any, *of_kernel: Any) -> np.ndarray:
        """The result of a product, block by block; every image must come once."""
        result, line = np.zeros(expected.shape, plan.dtype), Line(blocks(self.N, plan.numbers))
        line.multiply(product, *of_kernel)

        def write(block: slice, images: np.ndarray) -> None:
            result[block] += images

        line.then(write)
        line.finish()
        return result


def done(tasks: Sequence[Task]) -> None:
    for task in reversed(tasks):  # in any order
        task()


def done_in_turn(parts: KernelGradient) -> None:
    for tasks in parts:
        done(tasks)


@EVERY_GEOMETRY
def test_both_plans_equal_the_loops_for_every_cut_of_the_axes_in_many_pieces(
    monkeypatch, size, kernel, stride, padding
):
    monkeypatch.setattr(threads, "PIECE", 60)  # numbers: small arrays are cut as large ones usually are
    case = Case(size, kernel, stride, padding)
    case.check(case.windows())
    for rows, columns in product(case.axes(0), case.axes(1)):
        case.check(case.products(rows, columns))


@EVERY_GEOMETRY
def test_float32_stays_float32_and_is_right_to_rounding_in_one_piece(size, kernel, stride, padding):
    case = Case(size, kernel, stride, padding)
    case.check(case.windows("f"), 1e-6)
    for rows, columns in zip(case.axes(0), case.axes(1), strict=False):
        case.check(case.products(rows, columns, "f"), 1e-6)


def test_the_geometries_are_cut_whole_and_in_tiles_with_even_and_odd_circles():
    seen = set()
    for geometry in GEOMETRIES:
        case = Case(*geometry, N=1)
        for rows, columns in product(case.axes(0), case.axes(1)):
            seen.add((rows.tiles > 1, columns.tiles > 1, rows.n % 2, columns.n % 2))
    assert seen == set(product((False, True), (False, True), (0, 1), (0, 1)))
