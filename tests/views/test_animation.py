"""Animations: the tutorial's choice of frames, the film of a training run, and its formats."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from tinygan.errors import CheckpointError
from tinygan.runs.folder import RunFolder
from tinygan.views.animation import (
    endings,
    film_frames,
    frame_indices,
    load_frames,
    title,
    write_animation,
    write_film,
)
from tinygan.views.pictures import captioned, read_picture, save_png


def pictures(folder: Path, count: int, shape: tuple[int, int, int] = (20, 30, 1)) -> list[Path]:
    paths = []
    for i in range(count):
        pixels = np.full(shape, 40 * i % 256, np.uint8)
        pixels[i % shape[0], :] = 255
        paths.append(folder / f"epoch_{i:04d}.png")
        save_png(paths[-1], pixels)
    return paths


def seed_frames(filenames: list[Any]) -> list[Any]:
    """The tutorial's loop, with a list instead of the writer."""
    written, last = [], -1
    for i, filename in enumerate(filenames):
        frame = 2 * (i**0.5)
        if round(frame) > round(last):
            last = frame
        else:
            continue
        written.append(filename)
    return [*written, filenames[-1]]


def test_the_frames_are_those_of_the_tutorial():
    for count in range(1, 151):
        assert frame_indices(count) == seed_frames(list(range(count)))
    assert frame_indices(0) == []


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames of an animation as RGB, and the duration of each in milliseconds."""
    found, durations = [], []
    with Image.open(path) as animation:
        for number in range(getattr(animation, "n_frames", 1)):
            animation.seek(number)
            found.append(np.array(animation.convert("RGB")))
            durations.append(int(animation.info["duration"]))
        assert animation.info["loop"] == 0  # forever
    return found, durations


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 3), (17, 3, 1)])
def test_the_film_opens_with_its_end_and_shows_every_picture_with_its_title(tmp_path, shape):
    paths = pictures(tmp_path, 6, shape)
    titled = [("before training", paths[0]), *((f"epoch {i}", path) for i, path in enumerate(paths) if i)]
    titled = [titled[-1], *titled]
    write_film(tmp_path / "a.gif", paths, pytest.fail)
    found, _ = frames_of(tmp_path / "a.gif")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gif", *[".png"] * 6]
    for frame, (text, path) in zip(found, titled, strict=True):
        expected = captioned(read_picture(path), text)
        assert (frame[: shape[0]] == read_picture(path)).all() and (frame == expected).all()


def test_a_film_shows_the_tutorial_s_choice_of_epochs_and_of_steps_within_them(tmp_path):
    run = RunFolder.create(tmp_path, "run")
    inside = [(0, step) for step in range(40, 1240, 40)]
    places = [(0, None), *inside, *((epoch, None) for epoch in range(1, 31))]
    for epoch, step in places:
        save_png(run.sample_path(epoch, step), np.zeros((3, 3, 1), np.uint8))
    run.append_stats({"epoch": 30, "step": 4000})
    epochs = sorted({*seed_frames(list(range(31)))})
    assert 10 < len(epochs) < 20
    stems = [path.stem for path in film_frames(run)]
    early = [f"epoch_0000_step_{step:07}" for _, step in sorted({*seed_frames(inside)})]  # by the same rule
    assert stems == ["epoch_0000", *early, *(f"epoch_{epoch:04}" for epoch in epochs[1:])]


def test_titles_count_epochs_from_one():
    found = [title(stem) for stem in ("epoch_0000", "epoch_0020", "epoch_0002_step_0000583", "mine")]
    assert found == ["before training", "epoch 20", "epoch 3, step 583", "mine"]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 12, 40])
def test_a_film_holds_its_ends_and_lasts_four_seconds(tmp_path, count):
    paths = pictures(tmp_path, count)
    write_film(tmp_path / "a.gif", paths, pytest.fail)
    _, durations = frames_of(tmp_path / "a.gif")
    assert len(durations) == (count if count == 1 else count + 1) and sum(durations) >= 4000
    assert min(*durations[:2], *durations[-1:]) >= 1000 and min(durations) >= 200
    assert len(set(durations[2:-1])) <= 1


def test_frames_of_all_greys_are_read_back_exactly(tmp_path):
    greys = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    frames = [greys, np.full_like(greys, 64), greys.transpose(1, 0, 2).copy()]
    write_animation(tmp_path / "a.gif", frames, [0.1] * 3)
    for found, frame in zip(frames_of(tmp_path / "a.gif")[0], frames, strict=True):
        assert (found == frame).all()


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_equal_frames_last_as_long_as_all_of_them_together(tmp_path, ending):
    if ending not in endings():
        pytest.skip("this Pillow writes no animated WebP")
    grey, white = np.full((16, 16, 1), 100, np.uint8), np.full((16, 16, 1), 255, np.uint8)
    path = tmp_path / f"a{ending}"
    write_animation(path, iter([grey, white, white, grey]), [0.1, 0.2, 0.3, 0.4])
    with Image.open(path) as animation:
        assert animation.format == ending[1:].upper()
    found, durations = frames_of(path)
    assert durations == [100, 500, 400]
    assert [round(frame.mean() / 10) for frame in found] == [10, 26, 10]


def test_mp4_is_offered_only_if_its_package_has_a_program(monkeypatch):
    for missing in (ImportError, RuntimeError("No ffmpeg exe could be found")):

        def get_ffmpeg_exe(missing=missing):
            raise missing

        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(get_ffmpeg_exe=get_ffmpeg_exe))
        assert ".mp4" not in endings() and endings()[-1] == ".gif"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", SimpleNamespace(get_ffmpeg_exe=str))
    assert endings()[0] == ".mp4"


def test_no_pictures_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no pictures"):
        load_frames([], print)


def test_pictures_of_another_size_and_broken_ones_are_left_out_with_a_warning(tmp_path):
    paths, warned = pictures(tmp_path, 3), []
    odd, broken = tmp_path / "odd.png", tmp_path / "broken.png"
    save_png(odd, np.zeros((3, 3, 1), np.uint8))
    broken.write_bytes(paths[0].read_bytes()[:40])
    found = load_frames([odd, paths[0], broken, *paths[1:]], warned.append)
    assert (np.array(found) == load_frames(paths, pytest.fail)).all()
    assert len(warned) == 2 and all(line.startswith("warning: ") for line in warned)
    assert "broken.png" in warned[0] and "odd.png is (3, 3, 1), not (20, 30, 1)" in warned[1]


@pytest.mark.skipif(not importlib.util.find_spec("imageio_ffmpeg"), reason="needs imageio_ffmpeg")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its reader leaves pipes open
@pytest.mark.parametrize("channels", [1, 3])
def test_a_video_shows_the_frames_unstretched(tmp_path, channels):
    paths = pictures(tmp_path, 8, (45, 51, channels))
    write_animation(tmp_path / "a.mp4", map(read_picture, paths), [0.5] * 8)
    frames = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert frames.shape == (8, 46, 52, 3)
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 2
    for frame, path in zip(frames, paths, strict=True):
        assert np.abs(frame[:45, :51].astype(int) - read_picture(path)).mean() < 8


def test_a_failed_video_is_one_line(tmp_path, monkeypatch):
    def no_program(*args, **options):
        raise OSError("broken pipe\nFFMPEG COMMAND")

    monkeypatch.setattr(iio, "imwrite", no_program)
    with pytest.raises(CheckpointError, match="a.mp4 with imageio_ffmpeg: broken pipe. Name a .gif"):
        write_animation(tmp_path / "a.mp4", [np.zeros((2, 2, 1), np.uint8)], [0.1])
