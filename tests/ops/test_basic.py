"""Addition, reshape and the fully connected layer."""

import numpy as np
import pytest

import tinygan
from tests.checks import forward, gradients, one_line
from tinygan.autograd import Tensor
from tinygan.errors import ShapeError


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
    for shape in ((3, 2), (-1, 2)):
        y, _ = forward(backend, "reshape", (x,), shape=shape)
        assert (y == [[0, 1], [2, 3], [4, 5]]).all()
    (dx,) = gradients(backend, "reshape", (x,), np.array([[1.0, 2], [3, 4], [5, 6]]), shape=(3, 2))
    assert (dx == [[1, 2, 3], [4, 5, 6]]).all()


def test_reshape_to_another_number_of_elements_is_refused_in_one_line():
    with pytest.raises(ShapeError) as error:
        tinygan.reshape(np.ones((2, 3)), shape=(4, 2))
    one_line(error)


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [((5,), (5, 2), None), ((1, 4), (5, 2), None), ((1, 5), (5,), None), ((1, 5), (5, 2), (5,)),
     ((1, 5), (5, 2), (1, 2))],
)  # fmt: skip
def test_shapes_that_do_not_fit_dense_are_refused_in_one_line(x, w, b):
    with pytest.raises(ShapeError) as error:
        tinygan.dense(np.ones(x), np.ones(w), None if b is None else np.ones(b))
    one_line(error)
