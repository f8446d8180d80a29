"""Dropout with a given mask; and the layer, which can draw one from a stream."""

import numpy as np
import pytest

import tinygan
from tests.checks import forward, gradients, numbers, one_line, relative_error
from tinygan.autograd import Tensor
from tinygan.errors import ShapeError, UsageError
from tinygan.layers import Dropout, Mode
from tinygan.rng import mask_rate, stream

MASK = np.array([[True, False, True], [False, True, True]])


def dropped(x, rate, source):
    """The layer's output for x, with a mask or with a stream to draw one from."""
    return Dropout(rate)(Tensor(x), Mode(True, [source])).data


def test_kept_numbers_are_scaled_and_the_others_are_zero(backend):
    x = numbers(1, 2, 3)
    expected = np.array([[x[0, 0] / 0.7, 0, x[0, 2] / 0.7], [0, x[1, 1] / 0.7, x[1, 2] / 0.7]])
    assert relative_error(forward(backend, "dropout", (x,), mask=MASK, rate=0.3)[0], expected) < 1e-15
    assert relative_error(dropped(x, 0.3, MASK), expected) < 1e-15


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int8])
def test_gradient_has_the_same_mask_and_scale(backend, dtype):
    dy = numbers(2, 2, 3)
    (dx,) = gradients(backend, "dropout", (numbers(1, 2, 3),), dy, mask=MASK.astype(dtype), rate=0.75)
    assert (dx == np.where(MASK, 4 * dy, 0)).all()


def test_dropped_numbers_are_zero_even_if_nan_or_infinite(backend):
    x = np.array([np.inf, np.nan, 1.0])
    y, _ = forward(backend, "dropout", (x,), mask=np.array([False, False, True]), rate=0.5)
    assert (y == [0, 0, 2]).all()


def test_mean_is_kept_on_average():
    y = dropped(np.ones(100_000), 0.3, stream(0, "dropout").at(1))
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 100_000)  # five standard deviations
    assert set(np.unique(y)) == {0.0, 1 / (1 - mask_rate(0.3))}  # scaled by the rate it was drawn with


def test_rate_zero_changes_nothing():
    x = numbers(1, 4, 5)
    assert (dropped(x, 0, stream(0, "dropout")) == x).all()


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize("source", [np.ones(3, bool), stream(0, "dropout")], ids=["mask", "stream"])
def test_impossible_rate_is_refused_in_one_line(rate, source):
    with pytest.raises(UsageError, match=f"rate {rate} ") as error:
        dropped(np.ones(3), rate, source)
    one_line(error)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 3)])
def test_mask_of_another_shape_is_refused_in_one_line(shape):
    with pytest.raises(ShapeError) as error:
        tinygan.dropout(np.ones((2, 3)), mask=np.ones(shape, dtype=bool), rate=0.3)
    one_line(error)
