"""A folder of pictures, nested or not: PNG and JPEG, by content, in the order of their paths."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinygan.data.converted import NAMED, Conversion, Tally, converted
from tinygan.data.dataset import Dataset, reading
from tinygan.data.resize import fit
from tinygan.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST = 64_000_000  # pixels of one picture; a small file may unpack to far more
FEW = 1000  # pictures that are not worth a file in the cache: they take a second or two


def load_folder(
    folder: Path, size: int, channels: int, limit: int | None, say: Callable[[str], object]
) -> Dataset:
    """The pictures below `folder`, cropped and resized; the first `limit` of them.

    Up to `FEW` of them are converted in memory, every time; more are stored in the cache once.

    Raises:
        DataError: no picture can be read.
    """
    files = picture_files(folder)

    def pieces(tally: Tally) -> Iterator[np.ndarray]:
        for path in files[tally.done :]:
            if tally.images == limit:
                break
            tally.done += 1
            try:
                picture = open_picture(path)
            except DataError as problem:
                tally.unreadable += 1
                if len(tally.named) < NAMED:
                    tally.named.append(str(problem))
                continue
            tally.resized += picture.size != (size, size)
            yield fit(picture, size, channels)[None]

    most = min(len(files), limit or len(files))
    limited = most if most < len(files) else None
    state = listing(folder, files) if most > FEW else ""
    conversion = Conversion(folder.resolve(), state, most, (size, size, channels), pieces, limited)
    images, tally, stored = converted(conversion, most > FEW, say)
    if not len(images):
        reason = f" The first of {tally.unreadable}: {tally.named[0]}." if tally.named else ""
        raise DataError(f"no readable PNG or JPEG picture in {folder}.{reason} Name a folder with pictures.")
    notes = [f"skipped  {line}" for line in tally.named]
    if tally.unreadable > len(tally.named):
        notes.append(f"skipped  {tally.unreadable - len(tally.named)} more pictures that cannot be read")
    if tally.resized:
        notes.append(f"resized  {tally.resized:,} pictures to {size}x{size}, from their centre squares")
    return Dataset(folder.resolve().name or "pictures", images, str(folder), (*notes, *stored))


def listing(folder: Path, files: Sequence[Path]) -> str:
    """A digest of the names, sizes and times of the `files` below `folder`."""
    digest, root = hashlib.sha256(), folder.resolve()
    for path in files:
        try:
            facts = os.stat(path)
            text = f"{facts.st_size} {facts.st_mtime_ns}"
        except OSError:  # a link to nothing
            text = "none"
        digest.update(os.fsencode(path.relative_to(root)) + f"\0{text}\n".encode())
    return digest.hexdigest()


def picture_files(folder: Path) -> list[Path]:
    """The files below `folder` with a picture's suffix, sorted; links that lead out of it are left out."""
    root = folder.resolve()
    found = []
    for parent, _, names in os.walk(root):
        found += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES)]
    # Not Path.resolve, which raises where a link leads to itself. No folder is a link: none was followed.
    return [
        path
        for path in sorted(found)
        if not path.is_symlink() or Path(os.path.realpath(path)).is_relative_to(root)
    ]


def open_picture(path: Path) -> Image.Image:
    """The picture in `path`, turned upright and put on white where it is transparent.

    Raises:
        DataError: it is not a PNG or JPEG, is damaged, or has too many pixels.
    """
    if not path.is_file():  # to open a named pipe would be to wait for ever
        raise DataError(f"{path}: not a file, or a link to none")
    with reading(str(path)), Image.open(path, formats=["PNG", "JPEG"]) as file:
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
