"""Dropout with a given mask, and the layer, which draws one from a stream."""

import numpy as np
import pytest

import tinygan
from tests.checks import (
    check_jacobian,
    forward,
    gradients,
    numbers,
    on_device,
    one_line,
    relative_error,
)
from tinygan.autograd import Tensor
from tinygan.errors import ShapeError, UsageError
from tinygan.layers import Dropout, Mode
from tinygan.rng import Stream, mask_rate, stream

MASK = np.array([[True, False, True], [False, True, True]])


def dropped(x, rate, place):
    """What the layer makes of x with a mask from the stream `place`."""
    return Dropout(rate)(Tensor(x), Mode(True, [place])).data


def test_kept_numbers_are_scaled_and_the_others_are_zero(backend):
    x = numbers(1, 2, 3)
    y, _ = forward(backend, "dropout", (x,), mask=MASK, rate=0.3)
    expected = [[x[0, 0] / 0.7, 0, x[0, 2] / 0.7], [0, x[1, 1] / 0.7, x[1, 2] / 0.7]]
    assert relative_error(y, np.array(expected)) < 1e-15


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int8])
def test_gradient_takes_the_same_way_back(backend, dtype):
    dy = numbers(2, 2, 3)
    (dx,) = gradients(backend, "dropout", (numbers(1, 2, 3),), dy, mask=MASK.astype(dtype), rate=0.75)
    assert (dx == np.where(MASK, 4 * dy, 0)).all()


def test_full_jacobian_with_a_frozen_mask(backend):
    check_jacobian(
        backend, "dropout", (numbers(1, 2, 3),), 6e-6, 1e-6, lambda arrays: {"mask": MASK, "rate": 0.3}
    )


def test_dropped_numbers_are_zero_whatever_they_were(backend):
    x = np.array([np.inf, np.nan, 1.0])
    y, _ = forward(backend, "dropout", (x,), mask=np.array([False, False, True]), rate=0.5)
    assert (y == [0, 0, 2]).all()


def test_mean_is_kept_on_average():
    y = dropped(np.ones(100_000), 0.3, stream(0, "dropout").at(1))
    assert abs(y.mean() - 1) < 5 * np.sqrt(0.3 / 0.7 / 100_000)  # five standard deviations
    assert set(np.unique(y)) == {0.0, 1 / (1 - mask_rate(0.3))}  # scaled by the rate it was drawn with


def test_a_stream_gives_the_same_mask_each_time_and_another_one_at_another_place():
    x, place = np.ones((50, 20)), stream(3, "dropout")
    first = dropped(x, 0.3, place.at(0))
    assert (dropped(x, 0.3, place.at(0)) == first).all()
    assert (dropped(x, 0.3, place.at(1)) != first).any()


def test_rate_zero_changes_nothing():
    x = numbers(1, 4, 5)
    assert (dropped(x, 0, stream(0, "dropout")) == x).all()
    assert (tinygan.dropout(x, mask=np.ones((4, 5), bool), rate=0).data == x).all()


@pytest.mark.parametrize("rate", [1, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize("mask", [np.ones(3, bool), stream(0, "dropout")], ids=["mask", "stream"])
def test_impossible_rate_is_refused_in_one_line(backend, rate, mask):
    x = backend.array(np.ones(3))
    mask = on_device(backend, mask)
    with pytest.raises(UsageError, match=f"rate {rate} ") as error:
        Dropout(rate)(Tensor(x, backend), Mode(True, [mask]))
    one_line(error)
    if not isinstance(mask, Stream):
        with pytest.raises(UsageError, match=f"rate {rate} "):
            tinygan.dropout(x, mask=mask, rate=rate)


def test_the_layer_takes_a_mask_as_it_is_and_scales_by_its_own_rate(backend):
    x = numbers(1, 2, 3)
    layer = Dropout(0.3)
    y = layer(Tensor(backend.array(x), backend), Mode(True, [backend.array(MASK)]))
    assert relative_error(backend.numpy(y.data), np.where(MASK, x / 0.7, 0)) < 1e-15


@pytest.mark.parametrize("shape", [(3,), (3, 2), (1, 3)])
def test_mask_of_another_shape_is_refused_in_one_line(shape):
    with pytest.raises(ShapeError) as error:
        tinygan.dropout(np.ones((2, 3)), mask=np.ones(shape, dtype=bool), rate=0.3)
    one_line(error)
