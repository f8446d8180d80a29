"""The picture grids of a run as a film: which ones to show, and how; animations as GIF, WebP and MP4."""

import importlib.util
import io
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from PIL import Image

from tinygan.errors import CheckpointError, Printer, one_line
from tinygan.files import write_atomically
from tinygan.views.pictures import captioned, read_picture

LEAST_SECONDS = 4.0  # that a film of the training lasts


def frame_indices(count: int) -> list[int]:
    """Which of `count` pictures to show: many early ones, where much happens, and ever fewer later.

    As in the tutorial: picture i is kept when ``round(2 sqrt(i))`` grows; at the end the last one of all
    (once more, if it was kept). No pictures give an empty list.
    """
    _, kept = np.unique(np.rint(2 * np.sqrt(np.arange(count))), return_index=True)
    return [*kept.tolist(), count - 1] if count else []


def title(stem: str) -> str:
    """What to write below the pictures of a file called `stem`.

    >>> title("epoch_0000"), title("epoch_0020"), title("epoch_0000_step_0000040")
    ('untrained', 'epoch 20', 'epoch 1, step 40')
    """
    match = re.fullmatch(r"epoch_(\d+)(?:_step_(\d+))?", stem)
    if not match:
        return stem
    epoch = int(match[1])
    if match[2]:
        return f"epoch {epoch + 1}, step {int(match[2])}"
    return f"epoch {epoch}" if epoch else "untrained"


def endings() -> list[str]:
    """The endings of the animations that can be written here, the one of the smallest files first."""
    Image.init()
    webp = [".webp"] if "WEBP" in Image.SAVE_ALL else []
    return [".mp4"] * bool(importlib.util.find_spec("imageio_ffmpeg")) + webp + [".gif"]


def write_film(path: Path, frames: Sequence[tuple[str, Path]], warn: Printer) -> None:
    """Write a training, the titles and PNG files of its `frames`, as a looping GIF.

    The title stands below each; one frame that follows itself counts once. The first and the last are held
    for a second or more, and the whole lasts 4 seconds at least. Files that cannot be read, or have another
    size than most, are left out: a line each through `warn`. Raises CheckpointError when none is left, or
    the GIF cannot be written.
    """
    pictures = load_frames(list(dict.fromkeys(frames)), warn)
    count = len(pictures)
    ends = max(1.0, LEAST_SECONDS / count)
    between = max(0.2, min(ends, (LEAST_SECONDS - 2 * ends) / max(1, count - 2)))
    seconds = [ends, *[between] * (count - 2), ends][:count]
    write_animation(path, pictures, seconds)


def load_frames(frames: Sequence[tuple[str, Path]], warn: Printer) -> list[np.ndarray]:
    """The pictures uint8 (H, W, C) of a film, with their titles; see `write_film`."""
    pictures: dict[tuple[str, Path], np.ndarray] = {}
    for frame in frames:
        try:
            pictures[frame] = read_picture(frame[1])
        except CheckpointError as problem:
            warn(f"warning: {problem} The animation does without it.")
    if not pictures:
        raise CheckpointError("there are no pictures. Train for another epoch to make some.")
    (shape, _), *_ = Counter(picture.shape for picture in pictures.values()).most_common(1)
    for frame in [frame for frame, picture in pictures.items() if picture.shape != shape]:
        odd = f"{frame[1]} is {pictures.pop(frame).shape}, and not {shape} (height, width, channels)"
        warn(f"warning: {odd}. The animation does without it.")
    return [captioned(picture, text) for (text, _), picture in pictures.items()]


def write_animation(path: Path, frames: Iterable[np.ndarray], seconds: float | Sequence[float]) -> None:
    """Write `frames`, uint8 (H, W, C), as a looping animation, in the format that the ending of `path` names.

    `seconds`: how long a frame lasts, or each of them (not in an MP4). A GIF counts in 1/100 s. Equal frames
    that follow each other become one that lasts as long as all of them. Raises CheckpointError when it cannot
    be written.
    """
    if path.suffix.lower() == ".mp4":
        assert isinstance(seconds, float)
        write_atomically(path, _mp4(path, frames, seconds))
        return
    first, *others = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in frames]
    each = seconds if isinstance(seconds, Sequence) else [seconds] * (1 + len(others))
    duration = [math.ceil(round(100 * one, 6)) * 10 for one in each]
    how = {"optimize": True} if path.suffix.lower() == ".gif" else {"quality": 75, "method": 4}
    file, format = io.BytesIO(), path.suffix[1:]
    first.save(file, format, save_all=True, append_images=others, duration=duration, loop=0, **how)
    write_atomically(path, file.getvalue())


def _mp4(path: Path, frames: Iterable[np.ndarray], seconds: float) -> bytes:
    """The bytes of a video. H.264 wants even sides: a white margin makes them."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video.mp4"
            how = {"fps": 1 / seconds, "quality": 7, "macro_block_size": 2}
            writer: Any = imageio.get_writer(file, format="FFMPEG", mode="I", **how)
            with writer:
                for frame in frames:
                    H, W, _ = frame.shape
                    margin = (0, H % 2), (0, W % 2), (0, 0)
                    writer.append_data(np.pad(frame, margin, constant_values=255))
            return file.read_bytes()
    except (RuntimeError, OSError) as problem:  # a foreign program: missing, killed, too old
        reason = f"cannot write {path} with imageio_ffmpeg: {one_line(problem).rstrip('.')}"
        raise CheckpointError(f"{reason}. Name a .gif with --out.") from problem
