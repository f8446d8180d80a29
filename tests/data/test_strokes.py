"""The built-in digits: the same every time, all different, and statistically like handwriting."""

import hashlib
import time

import numpy as np
import pytest

from tinygan.data import load
from tinygan.data.strokes import BLOCK, strokes


@pytest.fixture(scope="module")
def many() -> tuple[np.ndarray, np.ndarray]:
    return strokes(3000, 0)


def test_the_same_seed_gives_the_same_digits_on_every_machine():
    images, labels = strokes(1000, 0)
    assert images.shape == (1000, 28, 28, 1) and images.dtype == np.uint8 and images.flags.c_contiguous
    assert labels.shape == (1000,) and labels.dtype == np.uint8
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest == "2a7bf563ca0542847798552d68fdbdc1a30d2a98e604c7789327cea83a7629be"


@pytest.mark.parametrize("count", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1])
def test_the_first_images_do_not_depend_on_how_many_are_drawn(many, count):
    images, labels = strokes(count, 0)
    assert (images == many[0][:count]).all() and (labels == many[1][:count]).all()


def test_no_two_images_are_the_same_in_a_set_or_across_seeds(many):
    both = np.concatenate([many[0], strokes(3000, 1)[0]])
    assert len({image.tobytes() for image in both}) == 6000


def test_a_digit_resembles_its_own_kind(many):
    """Most of 500 images show what the nearest of 2,500 labelled ones shows, as in MNIST."""
    pixels, labels = many[0].reshape(3000, -1) / 255.0, many[1]
    known, asked = pixels[:2500], pixels[2500:]
    distance = (known**2).sum(1) - 2 * asked @ known.T
    assert (labels[distance.argmin(1)] == labels[2500:]).mean() > 0.85


def test_there_is_as_much_ink_as_in_mnist(many):
    images = many[0]
    assert 0.10 < images.mean() / 255 < 0.16  # MNIST 0.131
    assert 0.16 < (images > 0).mean() < 0.23  # MNIST 0.191
    assert 0.25 < images.std() / 255 < 0.36  # MNIST 0.308
    drawn = images.reshape(3000, -1)
    assert drawn.max(1).min() > 128, "an image is nearly empty"
    assert (drawn > 127).mean(1).max() < 0.5, "an image is a blot"


def test_digits_are_in_the_middle_and_touch_no_border(many):
    images = many[0][..., 0].astype(float)
    mass = images.sum((1, 2))
    for axis in (1, 2):
        centre = (images.sum(3 - axis) * (np.arange(28) + 0.5)).sum(1) / mass
        assert abs(centre.mean() - 14) < 0.3 and abs(centre - 14).max() < 4
    border = images.copy()
    border[:, 1:-1, 1:-1] = 0
    assert (border == 0).all()


def test_train_and_test_sets_are_different_digits():
    train, test = (load("strokes", split=split, limit=9) for split in ("train", "test"))
    assert train.name == test.name == "strokes" and train.source.startswith("built in")
    assert train.sha256 != test.sha256


@pytest.mark.slow
def test_sixty_thousand_take_less_than_fifteen_seconds():
    start = time.process_time()
    strokes(60_000, 0)
    assert time.process_time() - start < 15
