"""The fully connected layer."""

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import check_jacobian, forward, numbers, one_line, relative_error
from tinygan.errors import ShapeError


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("N", [1, 4])
def test_dense_equals_the_loops(backend, N, bias):
    x, w, b = numbers(1, N, 5), numbers(2, 5, 3), numbers(3, 3) if bias else None
    y, _ = forward(backend, "dense", (x, w, b))
    assert relative_error(y, oracles.dense(x, w, b)) < 1e-14


@pytest.mark.parametrize("N", [1, 3])
def test_full_jacobian_is_exact_because_dense_is_linear_in_each_argument(backend, N):
    check_jacobian(backend, "dense", (numbers(1, N, 5), numbers(2, 5, 2), numbers(3, 2)), 1.0, 1e-10)


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [((5,), (5, 2), None), ((1, 4), (5, 2), None), ((1, 5), (5,), None), ((1, 5), (5, 2), (5,)),
     ((1, 5), (5, 2), (1, 2))],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused_in_one_line(x, w, b):
    with pytest.raises(ShapeError) as error:
        tinygan.dense(np.ones(x), np.ones(w), None if b is None else np.ones(b))
    one_line(error)
