"""Addition and reshape."""

import numpy as np
import pytest

import tinygan
from tests.checks import check_jacobian, forward, gradients, numbers, one_line
from tinygan.autograd import Tensor
from tinygan.errors import ShapeError


def test_add_is_linear_in_both(backend):
    check_jacobian(backend, "add", (numbers(1, 2, 3), numbers(2, 2, 3)), 1.0, 1e-10)


def test_add_of_two_numbers(backend):
    y, _ = forward(backend, "add", (np.array(1.5), np.array(2.25)))
    assert y == 3.75 and y.shape == ()


@pytest.mark.parametrize(("a", "b"), [((2, 3), (3,)), ((), (1,)), ((2, 1), (1, 2))])
def test_add_does_not_broadcast(a, b):
    with pytest.raises(ShapeError) as error:
        _ = Tensor(np.ones(a)) + Tensor(np.ones(b))
    one_line(error)


def test_reshape_keeps_row_major_order_and_routes_gradients_back(backend):
    x = np.arange(6.0).reshape(2, 3)
    y, _ = forward(backend, "reshape", (x,), shape=(3, 2))
    assert (y == [[0, 1], [2, 3], [4, 5]]).all()
    (dx,) = gradients(backend, "reshape", (x,), np.array([[1.0, 2], [3, 4], [5, 6]]), shape=(3, 2))
    assert (dx == [[1, 2, 3], [4, 5, 6]]).all()


def test_reshape_full_jacobian(backend):
    check_jacobian(backend, "reshape", (numbers(1, 2, 3, 2),), 1.0, 1e-10, lambda arrays: {"shape": (2, -1)})


def test_reshape_to_another_number_of_elements_is_refused_in_one_line():
    with pytest.raises(ShapeError) as error:
        tinygan.reshape(np.ones((2, 3)), shape=(4, 2))
    one_line(error)
