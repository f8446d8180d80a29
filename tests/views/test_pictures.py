"""Picture grids, pixel by pixel, and PNG files, written and read back."""

import math
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageFont, features
from PIL._util import DeferredError

from tinygan.errors import CheckpointError, ShapeError
from tinygan.views.pictures import captioned, grid, panels, read_picture, save_png, tiles, to_uint8


def test_values_become_bytes_by_rounding_and_clipping():
    values = np.array([-1, 1, 0.004, -0.004, -1.5, 7, -126.5 / 127.5, np.inf], dtype=np.float32)
    assert to_uint8(values).tolist() == [0, 255, 128, 127, 0, 255, 1, 255]


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (10, 3, 4), (16, 4, 4), (17, 4, 5)]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_any_number_of_images_is_laid_out_row_by_row(count, rows, columns, channels):
    images = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 2, 3, channels), np.uint8)
    page = grid(images, scale=1, gap=1)
    assert page.dtype == np.uint8
    assert page.shape == (rows * 3 - 1, columns * 4 - 1, channels)
    for place in range(rows * columns):
        top, left = place // columns * 3, place % columns * 4
        value = place if place < count else 255
        assert (page[top : top + 2, left : left + 3] == value).all(), place
    assert (page[2::3] == 255).all()
    assert (page[:, 3::4] == 255).all()


def test_every_pixel_becomes_a_square_and_tiles_are_separated():
    images = np.array([[[0], [50]], [[100], [150]], [[200], [250]]], dtype=np.uint8).reshape(3, 1, 2, 1)
    page = grid(images, columns=2, scale=2, gap=1)
    assert page[:, :, 0].tolist() == [
        [0, 0, 50, 50, 255, 100, 100, 150, 150],
        [0, 0, 50, 50, 255, 100, 100, 150, 150],
        [255] * 9,
        [200, 200, 250, 250, 255, 255, 255, 255, 255],
        [200, 200, 250, 250, 255, 255, 255, 255, 255],
    ]


@pytest.mark.parametrize(("count", "side"), [(16, 28), (1, 28), (10, 28), (16, 64), (25, 32)])
def test_a_grid_is_large_enough_to_look_at(count, side):
    page = grid(np.zeros((count, side, side, 1), np.float32))
    assert 500 <= page.shape[1] < 700
    assert grid(np.zeros((4, 300, 300, 1), np.uint8), gap=0).shape == (600, 600, 1)  # large enough already


@pytest.mark.parametrize("shape", [(0, 2, 2, 1), (2, 2, 1), (2, 2, 2, 4), (1, 0, 2, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match="Pass"):
        grid(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(5, 3, 1), (5, 3, 3), (1, 1, 1)])
def test_a_png_is_read_back_exactly(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    save_png(tmp_path / "picture.png", pixels)
    again = read_picture(tmp_path / "picture.png")
    assert again.dtype == np.uint8
    assert again.shape == shape
    assert (again == pixels).all()
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]


def test_other_kinds_of_png_are_read_as_rgb(tmp_path):
    Image.new("RGBA", (2, 3), (10, 20, 30, 255)).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").tolist() == [[[10, 20, 30]] * 2] * 3


def test_every_truncation_of_a_png_and_every_flip_of_a_bit_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    save_png(path, pixels)
    data = path.read_bytes()
    refused = 0
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            assert (read_picture(path) == pixels).all()  # only the end mark is missing
        except CheckpointError as error:
            assert str(error).startswith(f"cannot read {path}: ") and ".." not in str(error)
            refused += 1
    assert refused >= len(data) - 20
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            read_picture(path)
        except CheckpointError as error:
            assert "\n" not in str(error)


def test_a_picture_with_too_many_pixels_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (10_000, 9_000)).save(path)
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="10000x9000 pixels, more than"):
        read_picture(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_missing_picture_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="gone.png: No such file"):
        read_picture(tmp_path / "gone.png")


@pytest.mark.parametrize("count", [1, 2, 5, 16])
@pytest.mark.parametrize(("height", "width", "channels"), [(28, 28, 1), (64, 64, 3), (4, 12, 1)])
def test_a_grid_gives_its_images_back(count, height, width, channels):
    images = np.random.default_rng(0).integers(0, 256, (count, height, width, channels), dtype=np.uint8)
    assert (tiles(grid(images), count, height, width) == images).all()


@pytest.mark.parametrize(("count", "height", "width"), [(16, 28, 27), (16, 27, 28), (4, 28, 28)])
def test_a_picture_that_is_not_such_a_grid_is_refused(count, height, width):
    page = grid(np.zeros((16, 28, 28, 1), np.uint8))
    with pytest.raises(ShapeError, match="a grid of"):
        tiles(page, count, height, width)


@pytest.mark.parametrize("free_type", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_title_is_below_the_picture_with_every_font(monkeypatch, free_type, channels):
    if not free_type:
        monkeypatch.setattr(features, "check", lambda feature: False)
        monkeypatch.setattr(ImageFont, "core", DeferredError(ImportError("FreeType")))
    page = np.full((7, 90, channels), 77, np.uint8)
    short, long = captioned(page, "epoch 3"), captioned(page, "epoch 3" * 9)
    assert short.shape == long.shape == (27, 90, channels)
    assert (short[:7] == 77).all() and short[7:].min() < 100 and short[7:].mean() > 200
    assert (short[7:, 70:] == 255).all() and (long[7:, 70:] < 255).any()  # cut off at the edge
    if free_type:  # a title that is a little too long is smaller
        fits = captioned(page, "epoch 10, step")
        assert (fits[7:, 70:] < 255).any() and (fits[7:, -2:] == 255).all()


@pytest.mark.parametrize(
    ("groups", "count", "scale", "rows"), [(1, 4, 16, 1), (2, 16, 4, 1), (6, 16, 2, 2), (30, 16, 1, 5)]
)
def test_panels_form_a_grid_as_large_as_a_screen_allows(groups, count, scale, rows):
    """Each panel has its own grey value."""
    images = np.arange(groups, dtype=np.uint8)[:, None, None, None, None].repeat(count, 1)
    page = panels(np.broadcast_to(images, (groups, count, 28, 28, 1)), ["title"] * groups)
    assert 500 <= page.shape[1] <= 1000
    for value in range(groups):
        assert (page == value).sum() >= count * (28 * scale) ** 2
    starts = np.diff(page[:, 0, 0].astype(int), prepend=255) < 0
    assert starts.sum() == rows * math.isqrt(count)


@pytest.mark.parametrize(("groups", "count"), [(1, 1), (2, 1), (9, 1), (3, 17), (14, 16), (100, 16)])
def test_a_page_of_panels_is_never_a_strip(groups, count):
    height, width, _ = panels(np.zeros((groups, count, 28, 28, 1), np.uint8), ["title"] * groups).shape
    assert max(height, width) <= 3 * min(height, width) and max(height, width) < 1700
