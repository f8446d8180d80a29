"""Precision, recall, coverage, ranks and nearest images, against loops over the definitions."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.checks import numbers
from tests.views.reports import made_up_state
from tinygan.evaluation import neighbours
from tinygan.evaluation.neighbours import K, good_typical_bad, memorised, nearest, overlap, ranked, realism
from tinygan.runs.state import pictures_of
from tinygan.views.pictures import to_uint8


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


def test_realism_is_the_depth_in_the_smaller_half_of_the_balls(monkeypatch):
    monkeypatch.setattr(neighbours, "ROWS", 7)
    real, fake = rng(1).standard_normal((21, 2)), rng(2).standard_normal((16, 2)) + 0.5
    fake[3] = real[5]  # at distance 0
    radii = [np.sort(np.linalg.norm(real - centre, axis=1))[K] for centre in real]
    balls = sorted(zip(radii, real, strict=True), key=lambda ball: ball[0])[:11]
    found = realism(real, fake)
    for i, point in enumerate(fake):
        if i != 3:
            expected = max(radius / np.linalg.norm(point - centre) for radius, centre in balls)
            assert found[i] == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(found).all() and found[3] > 1e6  # whose ball is a small one


def test_good_typical_and_bad_pictures_are_the_ends_and_the_middle():
    scores = rng().permutation(100).astype(float)
    assert sorted(scores[good_typical_bad(scores)]) == [*range(8), *range(46, 54), *range(92, 100)]
    assert (scores[good_typical_bad(scores)][:8] >= 92).all()


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


def test_the_nearest_other_one_of_an_image_of_the_set_is_not_itself():
    images = rng(1).integers(0, 256, (40, 5, 5, 1), np.uint8)
    index, apart = nearest(images[3:9], images, place=1)
    for i, (found, distance) in enumerate(zip(index, apart, strict=True), start=3):
        all_apart = np.sqrt(((images.astype(float) - images[i]) ** 2).mean(axis=(1, 2, 3)))
        all_apart[i] = np.inf
        assert found == all_apart.argmin() and distance == pytest.approx(all_apart.min(), rel=1e-4)


# Good and bad pictures, with the nearest images.


@pytest.fixture(scope="module")
def state():
    return made_up_state(width=2, noise_dim=5)


@pytest.fixture(scope="module")
def pictures(state):
    return pictures_of(state.G, numbers(3, 100, 5).astype(np.float32))


def tiles_of(url):
    """The pictures of a sprite of 8 columns, (N, 28, 28)."""
    page = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))
    return page.reshape(-1, 28, 8, 28).swapaxes(1, 2).reshape(-1, 28, 28)


def test_d_ranks_the_pictures(state, pictures):
    found = ranked(state.D, pictures, None)
    logits = np.array([float(state.D(picture[None]).data[0, 0]) for picture in pictures])
    order = sorted(range(100), key=lambda i: -logits[i])
    shown = [*order[:8], *order[46:54], *order[-8:]]
    assert found["of"] == 100 and found["nearest"] is None
    assert found["probabilities"] == pytest.approx(1 / (1 + np.exp(-logits[shown])), rel=1e-3)
    assert (tiles_of(found["sprite"]) == to_uint8(pictures[shown])[..., 0]).all()


def test_a_copy_has_distance_0_from_its_image():
    images = rng().integers(0, 256, (200, 64, 64, 3), np.uint8)  # their squares sum to more than 2^24
    index, apart = nearest(images[::-1], images)
    assert (index == np.arange(200)[::-1]).all() and (apart == 0).all()


def test_copies_of_training_images_are_found(state, pictures):
    found = ranked(state.D, pictures, rng().permutation(to_uint8(pictures)))
    assert found["nearest"]["sprite"] == found["sprite"]
    assert found["nearest"]["mean"] < 0.5 and found["nearest"]["memorised"]
    twice = to_uint8(pictures).repeat(2, axis=0)  # so that the nearest other image is also a copy
    assert ranked(state.D, pictures, twice)["nearest"]["memorised"]


def test_pictures_as_far_from_the_images_as_those_from_each_other_are_new(state, pictures):
    images = to_uint8(pictures[40:])
    found = ranked(state.D, pictures[:40], images)
    near, flat = found["nearest"], images[..., 0].astype(float)

    def apart(one):
        return sorted(np.sqrt(((one - other) ** 2).mean()) for other in flat)

    assert not near["memorised"] and near["among"] == 60
    shown = tiles_of(found["sprite"])
    assert near["mean"] == pytest.approx(np.mean([apart(one)[0] for one in shown]), rel=1e-3)
    some = [flat[i] for i in np.linspace(0, 59, 24).astype(int)]
    assert near["usual"] == pytest.approx(np.mean([apart(one)[1] for one in some]), rel=1e-3)


def test_one_image_alone_has_no_nearest_other(state, pictures):
    assert ranked(state.D, pictures, to_uint8(pictures[:1]))["nearest"] is None
