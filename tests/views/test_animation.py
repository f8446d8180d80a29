"""The animation: the tutorial's choice of frames, and a GIF that loops."""

import importlib.util
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from tinygan.errors import CheckpointError
from tinygan.views.animation import frame_indices, load_frames, write_gif
from tinygan.views.pictures import save_png


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def pictures(folder: Path, count: int, shape: tuple[int, int, int] = (20, 30, 1)) -> list[Path]:
    paths = []
    for i in range(count):
        pixels = np.full(shape, 40 * i % 256, np.uint8)
        pixels[i % shape[0], :] = 255
        paths.append(folder / f"epoch_{i:04d}.png")
        save_png(paths[-1], pixels)
    return paths


def seed_frames(filenames: list[int]) -> list[int]:
    """The loop of the tutorial, with a list in place of the writer."""
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


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 3), (17, 3, 1), (1, 1, 3)])
def test_the_gif_loops_and_has_every_frame(tmp_path, no_ffmpeg, shape):
    path = tmp_path / "training.gif"
    paths = pictures(tmp_path, 5, shape)
    write_gif(path, load_frames(paths, print), print, seconds_per_frame=0.25)
    assert not path.with_suffix(".mp4").exists()
    with Image.open(path) as gif:
        assert gif.format == "GIF"
        assert gif.info["loop"] == 0  # for ever
        durations = []
        for i in range(getattr(gif, "n_frames", 1)):
            gif.seek(i)
            durations.append(gif.info["duration"])
    height, width, _ = shape
    assert iio.imread(path, plugin="pillow").shape == (len(durations), height, width, 3)
    assert sum(durations) == 5 * 250
    if height > 1:
        assert durations == [250] * 5


def test_grey_frames_keep_their_pixels(tmp_path, no_ffmpeg):
    paths = pictures(tmp_path, 6)
    write_gif(tmp_path / "a.gif", load_frames(paths, print), print)
    frames = iio.imread(tmp_path / "a.gif", plugin="pillow")
    for frame, path in zip(frames, paths, strict=True):
        assert (frame == iio.imread(path)[..., None]).all()


def test_the_last_picture_twice_is_shown_for_twice_the_time(tmp_path, no_ffmpeg):
    a, b = pictures(tmp_path, 2)
    write_gif(tmp_path / "a.gif", load_frames([a, b, b], print), print, seconds_per_frame=0.1)
    with Image.open(tmp_path / "a.gif") as gif:
        gif.seek(1)
        assert gif.info["duration"] == 200


def test_no_pictures_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no pictures"):
        load_frames([], print)


def test_pictures_of_another_size_and_broken_ones_are_left_out_by_name(tmp_path):
    paths, warned = pictures(tmp_path, 3), []
    odd, broken = tmp_path / "odd.png", tmp_path / "broken.png"
    save_png(odd, np.zeros((3, 3, 1), np.uint8))
    broken.write_bytes(paths[0].read_bytes()[:40])
    found = load_frames([odd, paths[0], broken, paths[1], paths[2], paths[2]], warned.append)
    assert (found == load_frames([*paths, paths[2]], pytest.fail)).all()
    assert len(warned) == 2 and all(line.startswith("warning: ") for line in warned)
    assert "broken.png" in warned[0] and "odd.png is (3, 3, 1), and not (20, 30, 1)" in warned[1]


@pytest.mark.skipif(not importlib.util.find_spec("imageio_ffmpeg"), reason="needs imageio_ffmpeg")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its reader leaves pipes open
@pytest.mark.parametrize("channels", [1, 3])
def test_a_video_beside_the_gif_where_ffmpeg_is_installed(tmp_path, channels):
    paths = pictures(tmp_path, 8, (45, 50, channels))
    write_gif(tmp_path / "a.gif", load_frames(paths, print), print, seconds_per_frame=0.5)
    assert (tmp_path / "a.gif").exists()
    frames = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert frames.shape == (8, 48, 64, 3)
    assert iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 2
    assert abs(frames[0, 10:40, 10:40].astype(int)).max() < 30  # the picture, not stretched
    assert frames[:, :, 55:].min() > 225  # the white margin


def test_a_video_that_fails_is_one_line_and_the_gif_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    imwrite = iio.imwrite

    def no_program(*args, **options):
        if options["plugin"] == "FFMPEG":
            raise RuntimeError("No ffmpeg exe could be found.\nInstall ffmpeg")
        return imwrite(*args, **options)

    monkeypatch.setattr(iio, "imwrite", no_program)
    warned: list[str] = []
    write_gif(tmp_path / "a.gif", load_frames(pictures(tmp_path, 2), print), warned.append)
    (line,) = warned
    assert line.endswith("a.mp4 with imageio_ffmpeg: RuntimeError: No ffmpeg exe could be found.")
    assert (tmp_path / "a.gif").exists()
