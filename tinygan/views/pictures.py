"""Turns arrays of images into pictures: values to bytes, images to a grid and back, PNG files."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from tinygan.data.collection import opened
from tinygan.data.dataset import reading
from tinygan.data.pictures import FORMATS, decode
from tinygan.errors import CheckpointError, DataError, ShapeError, TinyganError
from tinygan.files import write_atomically

_BACKGROUND = 255  # white: images of both MNISTs have dark edges, so the tiles stay distinct
_GAP = 2  # pixels between two tiles
_WIDTH = 500  # a grid is magnified to at least this many pixels: 28x28 images are tiny
_LINE = 20  # height of a line of text, in pixels
_APART = 12  # pixels between two panels
_WIDEST = 1000  # width of a page of panels, in pixels, if they fit


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Convert finite images in [-1, 1], of any shape, to uint8: ``round(127.5 x + 127.5)``, clipped."""
    return np.clip(np.rint(images * 127.5 + 127.5), 0, 255).astype(np.uint8)


def grid(images: np.ndarray, columns: int | None = None, scale: int = 0, gap: int = _GAP) -> np.ndarray:
    """Images (N, H, W, C), uint8 or float in [-1, 1], C 1 or 3 -> one uint8 picture (rows, columns, C).
    Without `columns` the layout is as square as possible (16 images: 4x4; 10: rows of 4, 4 and 2); empty
    places are white. Each pixel becomes `scale` x `scale`, by default the smallest scale that makes the grid
    500 pixels wide. `gap` white pixels separate the tiles. Raises: ShapeError for any other shape."""
    if images.ndim != 4 or 0 in images.shape or images.shape[3] not in (1, 3):
        raise ShapeError(f"no grid of images {images.shape}. Pass (N, H, W, C) with C 1 or 3, and N > 0.")
    N, H, W, C = images.shape
    columns = columns or math.ceil(math.sqrt(N))
    scale = scale or math.ceil(_WIDTH / (columns * W))
    pixels = images if images.dtype == np.uint8 else to_uint8(images)
    rows = math.ceil(N / columns)
    down, right = H * scale + gap, W * scale + gap  # from one tile to the next
    tiles = np.full((rows * columns, down, right, C), _BACKGROUND, dtype=np.uint8)
    tiles[:N, : H * scale, : W * scale] = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    page = tiles.reshape(rows, columns, down, right, C).swapaxes(1, 2).reshape(rows * down, -1, C)
    return page[: rows * down - gap, : columns * right - gap]


def tiles(page: np.ndarray, count: int, height: int, width: int) -> np.ndarray:
    """The inverse of `grid` with its defaults: the `count` images (count, height, width, C) in `page`
    (H, W, C). Raises: ShapeError if `page` is not such a grid."""
    columns = math.ceil(math.sqrt(count))
    rows, scale = math.ceil(count / columns), math.ceil(_WIDTH / (columns * width))
    down, right = height * scale + _GAP, width * scale + _GAP
    expected = (rows * down - _GAP, columns * right - _GAP)
    if page.shape[:2] != expected:
        raise ShapeError(f"the picture is {page.shape[:2]}; a grid of {count} images is {expected}.")
    corners = (divmod(number, columns) for number in range(count))  # in rows and columns of tiles
    return np.stack([page[y * down :: scale, x * right :: scale][:height, :width] for y, x in corners])


def captioned(page: np.ndarray, text: str) -> np.ndarray:
    """`page`, uint8 (H, W, C), with a line of `text` below it, as large as fits: (H + 20, W, C)."""
    line = Image.new("L", (page.shape[1], _LINE), _BACKGROUND)
    # Without FreeType there is only one size; the default font needs no file.
    fonts = [ImageFont.load_default(n) for n in ((14, 12, 10, 8) if features.check("freetype2") else [None])]
    font = next((font for font in fonts if font.getlength(text) < line.width), fonts[-1])
    ImageDraw.Draw(line).text((1, 2), text, fill=0, font=font)
    return np.concatenate([page, np.asarray(line)[:, :, None].repeat(page.shape[2], axis=2)])


def panels(groups: np.ndarray, titles: Sequence[str]) -> np.ndarray:
    """Arrange groups of images (K, N, H, W, C), uint8 or float in [-1, 1], on one uint8 page (rows, columns,
    C): a grid of `grid`s with titles below, magnified as far as 1000 pixels allow."""
    K, N, _, W, _ = groups.shape
    columns = math.ceil(math.sqrt(K)) * math.ceil(math.sqrt(N))
    scale = max(1, _WIDEST // (columns * (W + _GAP)))
    pages = [captioned(grid(part, scale=scale), title) for part, title in zip(groups, titles, strict=True)]
    return grid(np.stack(pages), scale=1, gap=_APART)


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 `pixels` (H, W, C), C 1 or 3, as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, format="PNG")
    return file.getvalue()


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 `pixels` (H, W, C), C 1 or 3, as a PNG file, atomically. Raises: CheckpointError."""
    write_atomically(path, png(pixels))


def read_picture(path: Path, kind: type[TinyganError] = CheckpointError) -> np.ndarray:
    """Read a picture file as uint8 (H, W, C): C is 1 for greyscale, else 3. Raises: `kind` if it cannot."""
    try:
        with reading(), opened(path) as file, Image.open(file, formats=FORMATS) as picture:
            pixels = np.array(decode(picture)[0])
    except DataError as problem:
        reason = str(problem).rstrip(".")
        raise kind(f"cannot read {path}: {reason}. Replace it, or name another one.") from problem
    return pixels.reshape(*pixels.shape[:2], -1)
