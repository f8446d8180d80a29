"""Dropout masks: the share of numbers that they keep, and that masks are independent."""

from math import sqrt

import pytest

from tinygan.rng import MASK_STEPS, mask_rate, stream

PART = 1 << 18  # numbers in a part


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5, 0.999])
def test_the_share_kept_is_one_minus_the_rate_in_every_part(rate):
    mask = stream(0, "dropout").at(1).keep((1000, 1000), rate).reshape(-1)
    for start in range(0, mask.size, PART):
        part = mask[start : start + PART]
        assert abs(part.mean() - (1 - rate)) <= 5 * sqrt(rate * (1 - rate) / part.size) + 1 / MASK_STEPS


def test_parts_pictures_and_places_are_not_correlated():
    mask = stream(0, "dropout").at(1).keep((1024, 32, 32), 0.5).reshape(1024, -1) * 2.0 - 1
    for moved in (1, 4, 16, PART // 1024):
        for found in ((mask[:-moved] * mask[moved:]).mean(), (mask[:, :-moved] * mask[:, moved:]).mean()):
            assert abs(found) < 5 / sqrt(mask.size // 2)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1 / 3, 0.5, 0.999999])
def test_the_rate_is_rounded_to_sixteen_bits(rate):
    rounded = mask_rate(rate)
    assert 0 <= rounded < 1 and abs(rounded - rate) <= 1 / MASK_STEPS
    assert (rounded * MASK_STEPS).is_integer()
