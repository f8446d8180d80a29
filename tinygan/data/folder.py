"""A folder of pictures, nested or not: PNG and JPEG, by content, in the order of their paths."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinygan.data.dataset import Dataset
from tinygan.data.resize import fit
from tinygan.errors import DataError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 64_000_000  # pixels of one picture; a small file may unpack to far more
NAMED = 5  # so many unreadable files are named, the others counted


def load_folder(folder: Path, size: int, channels: int, limit: int | None) -> Dataset:
    """The pictures below `folder`, cropped and resized; `limit` takes the first so many.

    Raises:
        DataError: there is no readable picture.
    """
    images: list[np.ndarray] = []
    unreadable: list[str] = []
    converted = 0
    for path in picture_files(folder):
        if len(images) == limit:
            break
        try:
            picture = open_picture(path)
        except DataError as problem:
            unreadable.append(str(problem))
            continue
        converted += picture.size != (size, size)
        images.append(fit(picture, size, channels))
    if not images:
        reason = f" The first of {len(unreadable)}: {unreadable[0]}." if unreadable else ""
        raise DataError(f"no readable PNG or JPEG picture in {folder}.{reason} Name a folder with pictures.")
    notes = [f"skipped  {line}" for line in unreadable[:NAMED]]
    if len(unreadable) > NAMED:
        notes.append(f"skipped  {len(unreadable) - NAMED} more pictures that cannot be read")
    if converted:
        notes.append(f"resized  {converted:,} pictures to {size}x{size}, from their centre squares")
    return Dataset(folder.resolve().name or "pictures", np.stack(images), str(folder), tuple(notes))


def picture_files(folder: Path) -> Iterator[Path]:
    """The files below `folder` with a picture's suffix, sorted; links that lead out of it are left out."""
    root = folder.resolve()
    found = []
    for parent, _, names in os.walk(root):
        found += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES)]
    # Not Path.resolve, which raises where a link leads to itself.
    return (path for path in sorted(found) if Path(os.path.realpath(path)).is_relative_to(root))


def open_picture(path: Path) -> Image.Image:
    """The picture in `path`, turned upright and put on white where it is transparent.

    Raises:
        DataError: it is no PNG or JPEG, is damaged, or has too many pixels.
    """
    if not path.is_file():  # to open a named pipe would be to wait for ever
        raise DataError(f"{path}: not a file, or a link to none")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels are what counts
            with Image.open(path, formats=["PNG", "JPEG"]) as file:
                if file.width * file.height > LARGEST:
                    raise DataError(f"{path}: {file.width}x{file.height} pixels, more than {LARGEST:,}")
                picture = ImageOps.exif_transpose(file)
                if picture.has_transparency_data:
                    picture = picture.convert("RGBA")
                    white = Image.new("RGBA", picture.size, "white")
                    return Image.alpha_composite(white, picture).convert("RGB")
                if picture.mode.startswith("I"):  # 16 bits, which convert would clip to 8, not scale
                    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
                return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    except DataError:
        raise
    except Exception as problem:  # Pillow's decoders raise nearly anything, SyntaxError included
        raise DataError(f"{path}: {one_line(problem)}") from problem
