"""Precision, recall, coverage and nearest images, against loops over the definitions and on made-up sets."""

import numpy as np
import pytest

from tinygan.evaluation import neighbours
from tinygan.evaluation.neighbours import K, nearest, overlap


def rng(seed=0):
    return np.random.default_rng(seed)


def by_definition(real, fake):
    """The three shares, one distance at a time."""

    def distance(a, b):
        return np.sqrt(((a - b) ** 2).sum())

    def radius(points, i):
        return sorted(distance(points[i], other) for j, other in enumerate(points) if j != i)[K - 1]

    real_radius = [radius(real, i) for i in range(len(real))]
    fake_radius = [radius(fake, i) for i in range(len(fake))]
    precision = np.mean(
        [any(distance(f, r) <= s for r, s in zip(real, real_radius, strict=False)) for f in fake]
    )
    recall = np.mean(
        [any(distance(r, f) <= s for f, s in zip(fake, fake_radius, strict=False)) for r in real]
    )
    coverage = np.mean(
        [any(distance(r, f) <= s for f in fake) for r, s in zip(real, real_radius, strict=False)]
    )
    return {"precision": precision, "recall": recall, "coverage": coverage}


@pytest.mark.parametrize(("n", "m", "shift"), [(30, 25, 0.5), (25, 30, 1.5), (12, 40, 0.0)])
def test_the_shares_are_those_of_the_definitions(n, m, shift, monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)  # several tables, the last one smaller
    real, fake = rng(1).standard_normal((n, 2)), rng(2).standard_normal((m, 2)) + shift
    assert overlap(real, fake) == pytest.approx(by_definition(real, fake))


def test_the_nearest_image_and_its_distance():
    images = rng().integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    pictures = images[[7, 31]].copy()
    pictures[1, 0, 0, 0] ^= 128  # one of 16 pixels is off by 128: the root mean square is 32
    index, distance = nearest(pictures, images)
    assert index.tolist() == [7, 31] and distance == pytest.approx([0, 32])


def test_the_nearest_is_found_across_tables(monkeypatch):
    images, pictures = (rng(i).integers(0, 256, (23, 3, 3, 1), dtype=np.uint8) for i in (1, 2))
    whole = nearest(pictures, images)
    monkeypatch.setattr(neighbours, "ROWS", 5)
    parts = nearest(pictures, images)
    flat = [x.reshape(23, -1).astype(float) for x in (pictures, images)]
    table = ((flat[0][:, None] - flat[1]) ** 2).mean(axis=2)
    for index, distance in (whole, parts):
        assert (index == table.argmin(axis=1)).all()
        assert distance == pytest.approx(np.sqrt(table.min(axis=1)))
