"""Dropout masks that several threads draw at once."""

from math import sqrt

import numpy as np
import pytest

from tinygan.fast.ops import draw
from tinygan.fast.threads import PIECE, POOL
from tinygan.rng import MASK_STEPS, mask_rate, stream

SHAPES = [(1, 5), (3, 7, 5, 2), (30, 14, 14, 64), (1, PIECE + 99), (7,), (0, 4)]  # some of several parts


@pytest.fixture
def two_threads():
    before = POOL.threads
    POOL.resize(2)
    yield
    POOL.resize(before)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.99999])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_mask_is_that_of_the_stream_also_of_a_part_of_a_batch(two_threads, shape, rate):
    place, whole = stream(3, "dropout").at(7, 1), np.zeros((shape[0] + 2, *shape[1:]), bool)
    mask = whole[1:-1]
    draw([(place, rate, mask)])
    assert (mask == place.keep(shape, rate)).all() and not whole[0].any() and not whole[-1].any()
    later = place.of_examples_from(3)
    draw([(later, rate, mask)])
    assert (mask == later.keep(shape, rate)).all()


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.999])
def test_the_share_kept_is_one_minus_the_rate_in_every_part(rate):
    mask = stream(0, "dropout").at(1).keep((1000, 1000), rate).reshape(-1)
    for start in range(0, mask.size, PIECE):
        part = mask[start : start + PIECE]
        assert abs(part.mean() - (1 - rate)) <= 5 * sqrt(rate * (1 - rate) / part.size) + 1 / MASK_STEPS


def test_parts_pictures_and_places_are_not_correlated():
    mask = stream(0, "dropout").at(1).keep((1024, 32, 32), 0.5).reshape(1024, -1) * 2.0 - 1
    for moved in (1, 4, 16, PIECE // 1024):
        for found in ((mask[:-moved] * mask[moved:]).mean(), (mask[:, :-moved] * mask[:, moved:]).mean()):
            assert abs(found) < 5 / sqrt(mask.size // 2)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1 / 3, 0.5, 0.999999])
def test_the_rate_is_rounded_to_what_sixteen_bits_can_do(rate):
    rounded = mask_rate(rate)
    assert 0 <= rounded < 1 and abs(rounded - rate) <= 1 / MASK_STEPS
    assert (rounded * MASK_STEPS).is_integer()
