"""The picture grids of a run as a film: which ones to show, and how; animations as GIF, WebP and MP4."""

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

LEAST_SECONDS = 4.0  # that a film of the training lasts


def frame_indices(count: int) -> list[int]:
    """Which of `count` pictures to show: many early ones, where much happens, and ever fewer later. As in the
    tutorial: picture i is kept when ``round(2 sqrt(i))`` grows; at the end the last one of all (once more, if
    it was kept). No pictures give an empty list."""
    _, kept = np.unique(np.rint(2 * np.sqrt(np.arange(count))), return_index=True)
    return [*kept.tolist(), count - 1] if count else []


def title(stem: str) -> str:
    """The title of the pictures in a file: ``epoch_0000_step_0000040`` -> ``epoch 1, step 40``."""
    if not (match := re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", stem)):
        return stem
    epoch, step = int(match[1]), int(match[2] or 0)
    return f"epoch {epoch + 1}, step {step}" if step else f"epoch {epoch}" if epoch else "before training"


def endings() -> list[str]:
    """The endings of the animations that can be written here, the one of the smallest files first."""
    Image.init()
    found = [".webp", ".gif"] if "WEBP" in Image.SAVE_ALL else [".gif"]
    with suppress(ImportError, RuntimeError):  # no package, no program
        importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        return [".mp4", *found]
    return found


def film_frames(run: RunFolder) -> list[Path]:
    """A film's grids: by `frame_indices` those of epochs, and those made inside. Raises CheckpointError."""
    samples, chosen = run.samples(), set[Sample]()
    for group in ([s for s in samples if not s.step], [s for s in samples if s.step]):
        chosen |= {group[index] for index in frame_indices(len(group))}
    return [sample.path for sample in samples if sample in chosen]


def write_film(path: Path, frames: Sequence[Path], warn: Printer) -> None:
    """Write the training whose `frames` are PNG files as a looping GIF, each with its `title` below. It opens
    with the last one, for previews; both ends are held, the whole lasts 4 seconds at least. Files that cannot
    be read, or have another size than most, are left out: a line each through `warn`. Raises CheckpointError
    when none is left, or the GIF cannot be written."""
    pictures = load_frames(frames, warn)
    pictures = [*pictures[-1:] * (len(pictures) > 1), *pictures]
    count = len(pictures)
    held = max(1.0, LEAST_SECONDS / count)
    between = max(0.2, min(held, (LEAST_SECONDS - 3 * held) / max(1, count - 3)))
    write_animation(path, pictures, [held, held, *[between] * (count - 3), held][:count])


def load_frames(frames: Sequence[Path], warn: Printer) -> list[np.ndarray]:
    """The pictures uint8 (H, W, C) of a film, with their titles; see `write_film`."""
    pictures: dict[Path, np.ndarray] = {}
    for frame in frames:
        try:
            pictures[frame] = read_picture(frame)
        except CheckpointError as problem:
            warn(f"warning: {problem} The animation does without it.")
    if not pictures:
        raise CheckpointError("there are no pictures. Train for another epoch to make some.")
    shape = mode(picture.shape for picture in pictures.values())  # of two equally common ones the first
    for frame in [frame for frame, picture in pictures.items() if picture.shape != shape]:
        odd = f"{frame} is {pictures.pop(frame).shape}, and not {shape} (height, width, channels)"
        warn(f"warning: {odd}. The animation does without it.")
    return [captioned(picture, title(frame.stem)) for frame, picture in pictures.items()]


def write_animation(path: Path, frames: Iterable[np.ndarray], seconds: Sequence[float]) -> None:
    """Write `frames`, uint8 (H, W, C), as a looping animation in the format that the ending of `path` names.
    `seconds`: how long each lasts, in an MP4 as long as the first; a GIF counts in 1/100 s. Pillow joins
    equal successive frames, and the time stays right. Raises CheckpointError when it cannot be written."""
    ending = path.suffix.lower()
    if ending == ".mp4":
        how: Any = {"extension": ending, "is_batch": True, "fps": 1 / seconds[0], "macro_block_size": 2}
        # H.264 wants even sides.
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
