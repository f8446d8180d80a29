"""Training on your own pictures, from the command line."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import fails, tinygan, works
from tinygan.data import load
from tinygan.errors import DataError

SMALL = ("--width", 2, "--noise-dim", 3, "--size", 8, "--batch-size", 4, "--epochs", 1, "--device", "cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of nine pictures, two of which are the same and one of which is blank."""
    place = tmp_path / "photos"
    place.mkdir()
    for number in range(9):
        pixels = np.random.default_rng(max(1, number)).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels if number < 8 else pixels * 0).save(place / f"{number}.png")
    return place


def test_a_run_inside_its_data_is_not_data(photos: Path) -> None:
    works("train", "--data", ".", *SMALL, cwd=photos)
    resumed = works("train", "--resume", "runs/0001-photos", "--epochs", 2, cwd=photos).stdout
    assert "photos: 9 images" in resumed and "in runs of tinygan" in resumed
    assert "photos: 9 images" in works("train", "--data", ".", *SMALL, cwd=photos).stdout


def test_the_folder_of_runs_can_have_any_name(photos: Path) -> None:
    works("train", "--data", ".", "--out", "results", *SMALL, cwd=photos)
    assert "photos: 9 images" in works("train", "--data", ".", *SMALL, "--dry-run", cwd=photos).stdout
    fails(tinygan("train", "--data", "results/0001-photos", *SMALL, cwd=photos), 4, "belongs to a run")


def test_a_resume_says_which_pictures_came_and_went(photos: Path) -> None:
    works("train", "--data", "photos", *SMALL, cwd=photos.parent)
    (photos / "3.png").rename(photos / "new\nname.png")
    (photos / "4.png").unlink()
    result = tinygan("train", "--resume", "--epochs", 2, cwd=photos.parent)
    words = ("not trained on", "9 before, 8 now", r"1 added: new\nname.png", "2 removed: 3.png, 4.png")
    fails(result, 5, *words)
    fails(tinygan("explain", cwd=photos.parent), 5, *words)


def test_a_resume_of_a_run_without_a_list_of_its_pictures_says_how_many_there_were(photos: Path) -> None:
    works("train", "--data", "photos", *SMALL, cwd=photos.parent)
    (photos.parent / "runs/0001-photos/images.txt").unlink()
    (photos / "4.png").unlink()
    result = tinygan("train", "--resume", "--epochs", 2, cwd=photos.parent)
    fails(result, 5, "(9 before, 8 now). Restore the old ones")


def test_a_dry_run_shows_what_the_networks_will_see_and_writes_only_to_the_cache(photos: Path) -> None:
    for number in (0, 3):
        Image.new("RGB", (30, 10), (0, 0, 250)).save(photos / f"wide{number}.png")
    options = ("--data", "photos", "--resize", "pad", *SMALL, "--dry-run")
    printed = works("train", *options, cwd=photos.parent).stdout
    shown = photos.parent / "cache" / "reals.png"
    assert "2 duplicates, 1 blank" in printed and str(shown) in printed and "11 of them" in printed
    assert sorted(path.name for path in photos.parent.iterdir()) == ["cache", "photos"]
    tiles = np.asarray(Image.open(shown))
    scale = 500 // (4 * 8) + 1
    tile = tiles[2 * (8 * scale + 2) :, 2 * (8 * scale + 2) :][: 8 * scale : scale, : 8 * scale : scale]
    assert (tile[:2] == 0).all() and tile[4].min() > 20  # the last one, between black bars


def test_few_pictures_get_a_warning_and_can_be_flipped(photos: Path) -> None:
    printed = works("train", "--data", "photos", *SMALL, "--dry-run", cwd=photos.parent).stdout
    assert "only 9 pictures" in printed and "--flip" in printed
    flipped = works("train", "--data", "photos", "--flip", *SMALL, cwd=photos.parent).stdout
    assert "photos: 18 images" in flipped and "--flip" not in flipped
    resumed = works("train", "--resume", "--epochs", 2, cwd=photos.parent).stdout
    assert "photos: 18 images" in resumed


@pytest.mark.parametrize("option", ["--data", "--data-dir", "--out", "--resume"])
def test_an_empty_name_is_not_the_current_folder(photos: Path, option: str) -> None:
    fails(tinygan("train", option, "", *SMALL, cwd=photos), 2, f"{option}: it is empty")
    with pytest.raises(DataError, match="empty"):
        load("")


def test_sizes_that_are_not_square_are_refused_in_a_line(photos: Path) -> None:
    fails(tinygan("train", "--size", "64x48", cwd=photos), 2, "64x48", "square")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_cannot_forge_lines_anywhere(photos: Path) -> None:
    odd = photos.with_name("nl\nfake line \x1b[31m" + os.fsdecode(b"\xff"))
    photos.rename(odd)
    (odd / "a\nerror: all is lost.png").write_bytes(b"")
    done = works("train", "--data", odd, "--out", odd / "r\nuns", *SMALL, cwd=odd.parent)
    (run,) = (odd / "r\nuns").iterdir()
    for command in ("sample", "report", "explain"):
        later = works(command, run, cwd=odd.parent)
        done.stdout, done.stderr = done.stdout + later.stdout, done.stderr + later.stderr
    written = done.stdout + done.stderr + (run / "log.txt").read_text()
    assert "fake line" in written and "all is lost" in written
    lines = written.splitlines()
    assert all(line.isprintable() for line in lines if "\r" not in line)
    assert not [line for line in lines if line.startswith(("fake line", "error: all"))]
    assert json.loads((run / "config.json").read_text())["data"]["name"] == odd.name
    fails(tinygan("train", "--data", odd / "no\nthing", *SMALL, cwd=odd.parent), 4, r"no\nthing")


def test_converted_pictures_say_where_they_are_and_the_cache_has_a_limit(photos: Path) -> None:
    for number in range(1001):
        Image.new("L", (8, 8), number % 256).save(photos / f"many{number}.png", compress_level=0)
    dry = ("train", "--data", "photos", *SMALL, "--dry-run")
    printed = works(*dry, cwd=photos.parent, TINYGAN_CACHE_LIMIT="3").stdout
    (stored,) = (photos.parent / "cache" / "pictures").glob("*.npy")
    assert f"in {stored}" in printed and "of 3 GB" in printed
    works(*dry, "--channels", 3, cwd=photos.parent, TINYGAN_CACHE_LIMIT="0")
    assert not stored.exists()
    fails(tinygan(*dry, cwd=photos.parent, TINYGAN_CACHE_LIMIT="many"), 2, "TINYGAN_CACHE_LIMIT 'many'")


@pytest.mark.parametrize("kind", ["files", "array"])
def test_colours_that_become_grey_are_reported_with_the_remedy(tmp_path: Path, kind: str) -> None:
    """Grey pictures stored as RGB lose no colours."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    pixels[4:] = pixels[4:, :, :, :1]
    np.save(tmp_path / "array.npy", pixels)
    (tmp_path / "files").mkdir()
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"files/{number}.png")
    data = tmp_path / ("array.npy" if kind == "array" else "files")
    grey = works("train", "--data", data, *SMALL, "--dry-run", cwd=tmp_path).stdout
    assert "note     4 colour pictures turned grey: --channels 3 keeps the colours\n" in grey
    colour = works("train", "--data", data, *SMALL, "--channels", 3, "--dry-run", cwd=tmp_path).stdout
    assert "turned grey" not in colour
