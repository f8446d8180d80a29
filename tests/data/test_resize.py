"""Resizing any picture to the model's size."""

import numpy as np
import pytest
from PIL import Image

from tinygan.data import load
from tinygan.data.dataset import Shape
from tinygan.data.pictures import fit, fit_all
from tinygan.errors import UsageError

STRIPES = np.array([50, 200, 100])


def striped(height: int, width: int) -> Image.Image:
    """Three stripes along the longer side: 50, 200 in the middle, 100."""
    pixels = np.zeros((height, width), np.uint8)
    if width > height:
        side = (width - height) // 2
        pixels[:, :side], pixels[:, side : side + height], pixels[:, side + height :] = 50, 200, 100
    else:
        pixels = np.asarray(striped(width, height)).T
    return Image.fromarray(np.ascontiguousarray(pixels))


def test_crop_takes_the_centre_square():
    for height, width in ((8, 24), (24, 8)):
        assert (fit(striped(height, width), Shape(4, 1, "crop")) == 200).all()


def test_pad_keeps_the_whole_picture_between_black_bars():
    image = fit(striped(8, 24), Shape(12, 1, "pad"))[..., 0]
    assert (image[:4] == 0).all() and (image[8:] == 0).all()
    assert np.abs(image[5, [0, 6, 11]] - STRIPES).max() < 3  # Lanczos' filter overshoots a little
    assert (fit(striped(24, 8), Shape(12, 1, "pad"))[..., 0] == image.T).all()


def test_stretch_keeps_the_whole_picture_and_fills_the_square():
    image = fit(striped(8, 24), Shape(12, 1, "stretch"))[..., 0]
    assert np.abs(image[:, [0, 6, 11]] - STRIPES).max() < 3


@pytest.mark.parametrize("way", ["crop", "pad", "stretch"])
def test_squares_become_the_same_in_every_way(way):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8))
    expected = picture.resize((4, 4), Image.Resampling.LANCZOS)
    assert (fit(picture, Shape(4, 3, way)) == np.asarray(expected)).all()


def test_pictures_that_fit_are_left_alone():
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
    assert fit_all(images, Shape(4, 1)) is images


@pytest.mark.parametrize(
    ("width", "way", "noted"), [(30, "crop", True), (30, "pad", False), (14, "crop", False)]
)
def test_a_crop_that_leaves_out_more_than_a_third_is_reported(tmp_path, width, way, noted):
    for number in range(3):
        Image.new("L", (width, 10), 80 * number).save(tmp_path / f"{number}.png")
    array = np.stack([np.full((10, width), 80 * number, np.uint8) for number in range(3)])
    np.save(tmp_path / "a.npy", array)
    for path in (tmp_path, tmp_path / "a.npy"):
        notes = load(str(path), size=4, resize=way).notes
        assert any("67% of the pictures' area" in note and "--resize" in note for note in notes) == noted


@pytest.mark.parametrize(("side", "noted"), [(7, True), (8, False)])
def test_pictures_much_smaller_than_the_size_are_reported(tmp_path, side, noted):
    for number in range(3):
        Image.new("L", (20, side), 80 * number).save(tmp_path / f"{number}.png")
    notes = load(str(tmp_path), size=16).notes
    assert any("--size 16 blurs 3 pictures of less than half that size" in note for note in notes) == noted


@pytest.mark.parametrize("kind", ["folder", "array", "strokes"])
def test_flip_adds_the_mirror_image_of_each(tmp_path, kind):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    if kind == "folder":
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
    np.save(tmp_path / "a.npy", pixels)
    name = {"folder": str(tmp_path), "array": str(tmp_path / "a.npy"), "strokes": "strokes"}[kind]
    once, twice = (load(name, limit=4, flip=flip).images for flip in (False, True))
    assert len(once) == 4 and len(twice) == 8
    mirrored = {image.tobytes() for image in once} | {image[:, ::-1].tobytes() for image in once}
    assert {image.tobytes() for image in twice} == mirrored and len(mirrored) == 8


def test_an_unknown_way_is_refused():
    with pytest.raises(UsageError, match="squeeze.*crop, pad, stretch"):
        load("strokes", resize="squeeze")
