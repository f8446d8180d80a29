"""Precision, recall, coverage and nearest images, against loops over the definitions and on made-up sets."""

import numpy as np
import pytest

from tinygan.evaluation import neighbours
from tinygan.evaluation.neighbours import K, memorised, nearest, overlap


def rng(seed=0):
    return np.random.default_rng(seed)


def by_definition(real, fake):
    """The three shares, one distance at a time."""

    def distance(a, b):
        return np.sqrt(((a - b) ** 2).sum())

    def radius(points, i):
        return sorted(distance(points[i], other) for j, other in enumerate(points) if j != i)[K - 1]

    def inside(points, balls):
        return np.mean([any(distance(point, centre) <= r for centre, r in balls) for point in points])

    real_balls, fake_balls = ([(x[i], radius(x, i)) for i in range(len(x))] for x in (real, fake))
    precision, recall = inside(fake, real_balls), inside(real, fake_balls)
    coverage = np.mean([any(distance(centre, f) <= r for f in fake) for centre, r in real_balls])
    return {"precision": precision, "recall": recall, "coverage": coverage}


@pytest.mark.parametrize(("n", "m", "shift"), [(30, 25, 0.5), (25, 30, 1.5), (12, 40, 0.0)])
def test_the_shares_are_those_of_the_definitions(n, m, shift, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)  # several tables, the last one smaller
    real, fake = rng(1).standard_normal((n, 2)), rng(2).standard_normal((m, 2)) + shift
    assert overlap(real, fake) == pytest.approx(by_definition(real, fake))


def test_pictures_half_as_far_as_real_ones_count_as_memorised():
    assert memorised(np.array([4.9]), np.array([10])) and not memorised(np.array([5.1]), np.array([10]))


def test_the_nearest_is_found_across_tables(monkeypatch):
    images, pictures = (rng(i).integers(0, 256, (23, 3, 3, 1), dtype=np.uint8) for i in (1, 2))
    pictures[0] = images[7]  # a copy, at distance 0
    flat = [x.reshape(23, -1).astype(float) for x in (pictures, images)]
    table = ((flat[0][:, None] - flat[1]) ** 2).mean(axis=2)
    for rows in (1000, 5):
        monkeypatch.setattr(neighbours, "ROWS", rows)
        index, distance = nearest(pictures, images)
        assert (index == table.argmin(axis=1)).all()
        assert distance == pytest.approx(np.sqrt(table.min(axis=1)))
