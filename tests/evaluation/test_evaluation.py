"""The figures of real images, spoilt images and noise, and their order."""

from typing import Any

import numpy as np
import pytest

from tinygan.data.strokes import strokes
from tinygan.evaluation.evaluation import SIDES, Compared, Evaluation, shrunk
from tinygan.runs.settings import Settings

N = 1000
SHARES = ("precision", "recall", "coverage")


@pytest.fixture(scope="module")
def against() -> Evaluation:
    return Evaluation(Settings(data="strokes"), samples=N)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return strokes(N, 0)[0]


@pytest.fixture(scope="module")
def compared(against: Evaluation, images: np.ndarray) -> Compared:
    return against.compare(images)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def blurred(images: np.ndarray, times: int) -> np.ndarray:
    x = images.astype(np.float64)
    for _ in range(times):
        x = np.mean([np.roll(x, (i, j), (1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    return x


def with_holes(images: np.ndarray, size: int) -> np.ndarray:
    x = images.copy()
    for picture, (top, left) in zip(x, rng().integers(4, 24 - size, (len(x), 2)), strict=True):
        picture[top : top + size, left : left + size] = 0
    return x


# Each spoils images (N, 28, 28, 1) more and more.
CORRUPTIONS: dict[str, Any] = {
    "noise": lambda x, much: x + rng().normal(0, 25 * much, x.shape),
    "blur": lambda x, much: blurred(x, much),
    "holes": lambda x, much: with_holes(x, 5 * much),
    "faint": lambda x, much: x * (1 - 0.25 * much),
    "salt and pepper": lambda x, much: np.where(rng().random(x.shape) < 0.06 * much, 255 - x, x),
    "fewer kinds": lambda x, much: x[: len(x) // 8**much].repeat(8**much, axis=0),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_more_images_are_spoilt_the_farther_they_are(
    against: Evaluation, images: np.ndarray, compared: Compared, kind: str
) -> None:
    spoilt = [np.clip(CORRUPTIONS[kind](images, much), 0, 255).astype(np.uint8) for much in (1, 2, 3)]
    distances = [compared.figures, *(against.compare(x).figures for x in spoilt)]
    for before, after in zip(distances, distances[1:], strict=False):
        assert after["fcd"] > before["fcd"] + 2 * before["error"], (kind, distances)


def test_real_images_are_near_and_noise_is_far(
    against: Evaluation, images: np.ndarray, compared: Compared
) -> None:
    floor, ceiling = compared, against.compare(against.others(images)["noise"])
    assert ceiling.figures["fcd"] > 50 * floor.figures["fcd"]
    assert min(floor.figures[share] for share in SHARES) > 0.8
    assert max(ceiling.figures[share] for share in ("recall", "coverage")) < 0.1


def test_the_distance_alone_is_the_same(against: Evaluation, images: np.ndarray) -> None:
    few = images[:300]
    assert against.fcd(few) == against.compare(few).figures["fcd"]


def test_the_order_of_the_pictures_does_not_matter(
    against: Evaluation, images: np.ndarray, compared: Compared
) -> None:
    again = against.compare(images[::-1].copy())
    for name in ("fcd", *SHARES):
        assert again.figures[name] == pytest.approx(compared.figures[name], rel=1e-6), name
    assert (again.classes == compared.classes).all()


def test_classes_are_shares_of_the_pictures(against: Evaluation, compared: Compared) -> None:
    assert compared.classes.sum() == pytest.approx(1) and against.classes.sum() == pytest.approx(1)
    assert np.abs(compared.classes - 0.1).max() < 0.04


def test_a_generator_that_makes_one_picture_is_detected(against: Evaluation, images: np.ndarray) -> None:
    found = against.compare(images[:1].repeat(N, axis=0))
    assert found.figures["coverage"] < 0.05 and found.classes.max() == 1


@pytest.mark.parametrize("side", [18, 12, 4])
def test_a_distance_is_expressed_as_the_size_to_which_real_images_shrink(
    against: Evaluation, images: np.ndarray, side: int
) -> None:
    for factor in (1.01, 1, 0.99):
        assert against.side_as_far(factor * against.fcd(shrunk(images, side)), images) == ("about", side)


def test_a_distance_beyond_all_sizes_has_none(against: Evaluation, images: np.ndarray) -> None:
    few = images[:200]
    assert against.side_as_far(0.0, few) == ("nearer", SIDES[0])
    assert against.side_as_far(1e9, few) == ("farther", SIDES[-1])


def test_shrunk_images_lose_details_smaller_than_their_pixels() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 28, 14))[..., None]  # one pixel wide
    assert (shrunk(stripes, 14) == 128).all() and (shrunk(stripes, 28) == stripes).all()


def test_fewer_pictures_are_compared_with_as_many_real_ones(against: Evaluation, images: np.ndarray) -> None:
    """With 200 real images, not 1,000: the distance of fewer pictures is larger."""
    assert against.fcd(images[:200]) > against.fcd(images)


def test_noise_is_the_same_for_the_same_seed(
    against: Evaluation, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = against.others(images)["noise"]
    assert (against.others(images)["noise"] == noise).all()
    monkeypatch.setattr(against, "seed", against.seed + 1)
    assert (against.others(images)["noise"] != noise).any()
