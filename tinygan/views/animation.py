"""The picture grids of a run as an animation: which ones to show, and the GIF (and MP4) file."""

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from tinygan.errors import CheckpointError, Printer, by_product
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.views.pictures import read_picture


def frame_indices(count: int) -> list[int]:
    """Which of `count` pictures to show: many early ones, where much happens, and ever fewer later.

    As in the tutorial: picture i is kept when ``round(2 sqrt(i))`` grows; at the end the last one of all
    (once more, if it was kept). No pictures give an empty list.
    """
    _, kept = np.unique(np.rint(2 * np.sqrt(np.arange(count))), return_index=True)
    return [*kept.tolist(), count - 1] if count else []


def write_gif(path: Path, pixels: np.ndarray, warn: Printer, seconds_per_frame: float = 0.2) -> None:
    """Write `pixels`, uint8 (frames, H, W, C), as a looping GIF.

    Where the package imageio_ffmpeg is installed, an .mp4 of the same name is written beside it, or a line
    through `warn` says why not. A GIF counts in 1/100 s. Pillow joins equal successive frames into one that
    lasts as long as all of them, so a reader may count fewer frames; the time is right.
    Raises CheckpointError when the GIF cannot be written.
    """
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    how = {"is_batch": True, "loop": 0, "duration": round(seconds_per_frame * 100) * 10}
    write_atomically(path, iio.imwrite("<bytes>", shown, plugin="pillow", extension=".gif", **how))
    if importlib.util.find_spec("imageio_ffmpeg"):
        video = path.with_suffix(".mp4")
        with by_product(f"{video} with imageio_ffmpeg", warn):  # a foreign process: missing, killed, too old
            _, H, W, C = pixels.shape
            # h264 has blocks of 16x16 pixels: imageio would stretch the picture, a margin keeps it sharp.
            margin = (0, 0), (0, -H % 16), (0, -W % 16), (0, 0)
            padded = np.pad(pixels, margin, constant_values=255).repeat(3 // C, axis=-1)
            fps = 1 / seconds_per_frame
            data = iio.imwrite("<bytes>", padded, plugin="FFMPEG", extension=".mp4", fps=fps)
            assert data is not None
            write_atomically(video, data)


def load_frames(frames: Sequence[Path], warn: Printer) -> np.ndarray:
    """The PNG files `frames`, in order, as one uint8 array (frames, H, W, C).

    Those that cannot be read, or have another size than most, are left out: a line each through `warn`.
    Raises CheckpointError when none is left.
    """
    pictures: dict[Path, np.ndarray] = {}
    for frame in dict.fromkeys(frames):
        try:
            pictures[frame] = read_picture(frame)
        except CheckpointError as problem:
            warn(f"warning: {problem} The animation does without it.")
    if not pictures:
        raise CheckpointError("there are no pictures. Train for another epoch to make some.")
    (shape, _), *_ = Counter(picture.shape for picture in pictures.values()).most_common(1)
    for frame in [frame for frame, picture in pictures.items() if picture.shape != shape]:
        odd = f"{frame} is {pictures.pop(frame).shape}, and not {shape} (height, width, channels)"
        warn(f"warning: {odd}. The animation does without it.")
    return np.stack([pictures[frame] for frame in frames if frame in pictures])


def film_frames(run: RunFolder) -> list[tuple[str, Path]]:
    """The frames of a run's film, each a label and a grid: those of the first epoch, and of all epochs those
    that `frame_indices` chooses. Raises CheckpointError."""
    samples = run.samples()
    epochs = [sample for sample in samples if not sample.step]
    chosen = {epochs[index] for index in frame_indices(len(epochs))}
    names = {sample: f"step {sample.step}" if sample.step else f"epoch {sample.epoch}" for sample in samples}
    shown = [sample for sample in samples if sample.step or sample in chosen]
    return [(names[sample] if sample.epoch or sample.step else "untrained", sample.path) for sample in shown]


def write_film(path: Path, frames: Sequence[tuple[str, Path]], warn: Printer) -> None:
    write_gif(path, load_frames([file for _, file in frames], warn), warn)
