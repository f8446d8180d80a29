"""Turns a run's picture grids into a film: picks the frames, and writes GIF, WebP and MP4 animations."""

import importlib
import io
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import mode
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image

from tinygan.errors import CheckpointError, Printer, failing
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder, Sample
from tinygan.views.pictures import captioned, read_picture

LEAST_SECONDS = 4.0  # a film of the training is never shorter


def frame_indices(count: int) -> list[int]:
    """Indices of the pictures to show, out of `count`: many early ones, where much changes, and fewer later.
    As in the tutorial, picture i is kept if ``round(2 sqrt(i))`` grows; the last one is appended, even if it
    was kept already. Without pictures the list is empty."""
    _, kept = np.unique(np.rint(2 * np.sqrt(np.arange(count))), return_index=True)
    return [*kept.tolist(), count - 1] if count else []


def title(stem: str) -> str:
    """A readable title for a picture file: ``epoch_0000_step_0000040`` -> ``epoch 1, step 40``."""
    if not (match := re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", stem)):
        return stem
    epoch, step = int(match[1]), int(match[2] or 0)
    return f"epoch {epoch + 1}, step {step}" if step else f"epoch {epoch}" if epoch else "before training"


def endings() -> list[str]:
    """The suffixes of the animations that can be written here; the format with the smallest files first."""
    Image.init()
    found = [".webp", ".gif"] if "WEBP" in Image.SAVE_ALL else [".gif"]
    with suppress(ImportError, RuntimeError):  # no imageio_ffmpeg, or no ffmpeg program
        importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        return [".mp4", *found]
    return found


def film_frames(run: RunFolder) -> list[Path]:
    """The grids of a film: a choice of those after epochs and of those within. Raises: as `run.samples`."""
    samples, chosen = run.samples(), set[Sample]()
    for group in ([s for s in samples if not s.step], [s for s in samples if s.step]):
        chosen |= {group[index] for index in frame_indices(len(group))}
    return [sample.path for sample in samples if sample in chosen]


def write_film(path: Path, frames: Sequence[Path], warn: Printer) -> None:
    """Write the PNG files `frames` as a looping GIF, each with its `title` below. The film opens with the
    last frame, which previews show; it holds both ends, and lasts at least 4 seconds. It leaves out files
    that cannot be read or differ in size from most, with a line to `warn` for each.
    Raises: CheckpointError if no file is left, or the GIF cannot be written."""
    pictures = load_frames(frames, warn)
    pictures = [*pictures[-1:] * (len(pictures) > 1), *pictures]
    count = len(pictures)
    held = max(1.0, LEAST_SECONDS / count)
    between = max(0.2, min(held, (LEAST_SECONDS - 3 * held) / max(1, count - 3)))
    write_animation(path, pictures, [held, held, *[between] * (count - 3), held][:count])


def load_frames(frames: Sequence[Path], warn: Printer) -> list[np.ndarray]:
    """The frames of a film, uint8 (H, W, C), with their titles; see `write_film`."""
    pictures: dict[Path, np.ndarray] = {}
    for frame in frames:
        try:
            pictures[frame] = read_picture(frame)
        except CheckpointError as problem:
            warn(f"warning: {problem} The animation leaves it out.")
    if not pictures:
        raise CheckpointError("there are no pictures. Train for another epoch to get some.")
    shape = mode(picture.shape for picture in pictures.values())  # the first, if two are equally common
    for frame in [frame for frame, picture in pictures.items() if picture.shape != shape]:
        odd = f"{frame} is {pictures.pop(frame).shape}, not {shape} (height, width, channels)"
        warn(f"warning: {odd}. The animation leaves it out.")
    return [captioned(picture, title(frame.stem)) for frame, picture in pictures.items()]


def write_animation(path: Path, frames: Iterable[np.ndarray], seconds: Sequence[float]) -> None:
    """Write `frames`, uint8 (H, W, C), as a looping animation in the format that the suffix of `path` names.
    `seconds` is how long each frame lasts; a GIF counts in 1/100 s, an MP4 uses the first value for all.
    Pillow joins equal successive frames and adds up their times. Raises: CheckpointError if writing fails."""
    ending = path.suffix.lower()
    if ending == ".mp4":
        how: Any = {"extension": ending, "is_batch": True, "fps": 1 / seconds[0], "macro_block_size": 2}
        # H.264 needs an even width and height.
        even: Any = (np.pad(one, [*((0, n % 2) for n in one.shape[:2]), (0, 0)]) for one in frames)
        with failing(f"cannot write {path} with imageio_ffmpeg", "Name a .gif with --out."):
            data = iio.imwrite("<bytes>", even, plugin="FFMPEG", quality=7, **how)
        return write_atomically(path, data or b"")
    first, *others = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    duration = [math.ceil(round(100 * one, 6)) * 10 for one in seconds]
    how = {"quality": 75, "method": 4} if ending == ".webp" else {"optimize": False}
    file = io.BytesIO()
    first.save(file, ending[1:], save_all=True, append_images=others, duration=duration, loop=0, **how)
    write_atomically(path, file.getvalue())
