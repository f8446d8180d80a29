"""Folders of pictures."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygan.data import load
from tinygan.data.folder import LARGEST
from tinygan.errors import DataError


def picture(path: Path, pixels, mode: str | None = None, dtype=np.uint8, **options) -> None:
    image = Image.fromarray(np.asarray(pixels, dtype))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(value: int, height: int = 4, width: int = 4) -> np.ndarray:
    return np.full((height, width), value)


def test_nested_pictures_come_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "b").mkdir()
    picture(tmp_path / "b" / "x.png", grey(20))
    picture(tmp_path / "a.jpg", grey(10))
    picture(tmp_path / "c.PNG", grey(30))
    (tmp_path / "readme.txt").write_text("no picture")
    data = load(str(tmp_path), size=4)
    assert data.images[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert data.name == tmp_path.name and data.notes == ()


def test_the_centre_square_is_taken(tmp_path):
    pixels = np.zeros((4, 10))
    pixels[:, 3:7] = 200
    picture(tmp_path / "a.png", pixels)
    data = load(str(tmp_path), size=4)
    assert (data.images == 200).all()
    assert "1 pictures to 4x4" in data.notes[0]


@pytest.mark.parametrize(
    ("pixels", "mode", "dtype", "expected"),
    [
        (np.broadcast_to([255, 0, 0], (4, 4, 3)), "RGB", np.uint8, [76]),  # 0.299 of 255
        (np.broadcast_to([255, 0, 0], (4, 4, 3)), "RGB", np.uint8, [255, 0, 0]),
        (grey(7), "L", np.uint8, [7, 7, 7]),
        (np.broadcast_to([0, 0, 255], (4, 4, 3)), "P", np.uint8, [0, 0, 255]),
        (np.broadcast_to([9, 9, 9, 0], (4, 4, 4)), "RGBA", np.uint8, [255]),  # transparent, put on white
        (np.full((4, 4), 0x6401), None, np.uint16, [0x64]),  # 16 bits, scaled to 8
    ],
)
def test_every_kind_of_pixels_becomes_grey_or_colour(tmp_path, pixels, mode, dtype, expected):
    picture(tmp_path / "a.png", pixels, mode, dtype)
    images = load(str(tmp_path), size=4, channels=len(expected)).images
    assert (images == np.array(expected)).all() and images.shape == (1, 4, 4, len(expected))


def test_a_picture_that_says_it_lies_on_its_side_is_turned(tmp_path):
    pixels = np.zeros((4, 4))
    pixels[0] = 255  # a white top row
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise"
    picture(tmp_path / "a.png", pixels, exif=exif)
    image = load(str(tmp_path), size=4).images[0, ..., 0]
    assert (image[:, 3] == 255).all() and (image[:, :3] == 0).all()


def test_unreadable_pictures_are_named_and_passed_over(tmp_path):
    picture(tmp_path / "good.png", grey(1))
    whole = (tmp_path / "good.png").read_bytes()
    for number in range(7):
        (tmp_path / f"bad{number}.png").write_bytes(whole[: 20 + number])
    data = load(str(tmp_path), size=4)
    assert len(data.images) == 1
    assert "bad0.png" in data.notes[0] and "2 more" in data.notes[5]
    assert all("\n" not in note for note in data.notes)


def test_other_formats_are_refused_whatever_their_name(tmp_path):
    Image.fromarray(grey(1).astype(np.uint8)).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match="a.png"):
        load(str(tmp_path), size=4)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    side = int(LARGEST**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=f"{side}x{side}"):
        load(str(tmp_path), size=4)


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a.png", grey(1))
    picture(tmp_path / "outside.png", grey(2))
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "outside.png")
    assert len(load(str(tmp_path / "in"), size=4).images) == 1


def test_limit_takes_the_first_pictures(tmp_path):
    for number in range(5):
        picture(tmp_path / f"{number}.png", grey(number))
    assert load(str(tmp_path), size=4, limit=2).images[:, 0, 0, 0].tolist() == [0, 1]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no readable PNG or JPEG"):
        load(str(tmp_path), size=4)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names or pipes")
def test_links_to_themselves_and_pipes_are_passed_over(tmp_path):
    picture(tmp_path / "good.png", grey(1))
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    data = load(str(tmp_path), size=4)
    assert len(data.images) == 1 and len(data.notes) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names or pipes")
def test_what_file_names_hold_cannot_break_lines_or_terminals(tmp_path):
    picture(tmp_path / "good.png", grey(1))
    (tmp_path / "a\nerror: all is lost \x1b[31m.png").write_bytes(b"")
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(b"")
    for note in load(str(tmp_path), size=4).notes:
        assert note.isprintable() and note.encode()
    (tmp_path / "good.png").unlink()
    with pytest.raises(DataError) as error:
        load(str(tmp_path), size=4)
    assert str(error.value).isprintable()
