"""From any picture to the size and the number of channels of the model: crop, pad or stretch."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

WAYS = {
    "crop": "from their centre squares",
    "pad": "whole, between black bars where they are not square",
    "stretch": "stretched to squares where they are none",
}
BAND = 256  # rows
GREYISH = 32  # of 255: more than that between red, green and blue is a colour
LOST = "pictures are in colour and become grey: --channels 3 keeps their colours"


class Shape(NamedTuple):
    """What pictures are brought to, and how: `resize` is one of `WAYS`; `flip` adds their mirror images."""

    size: int
    channels: int  # 1 or 3
    resize: str = "crop"
    flip: bool = False

    @property
    def image(self) -> tuple[int, int, int]:
        return self.size, self.size, self.channels

    def mirrored(self, images: np.ndarray) -> np.ndarray:
        """`images` (N, H, W, C), followed by their mirror images if those were asked for."""
        return np.concatenate([images, images[:, :, ::-1]]) if self.flip else images

    def remarks(self, what: str, area: int, square: int, small: int) -> Iterator[str]:
        """Notes on `what` was resized: `area`, `square` and `small` as `converted.Tally` has them."""
        yield f"resized  {what}, {WAYS[self.resize]}"
        if self.resize == "crop" and 3 * square < 2 * area:
            lost = f"{1 - square / area:.0%} of the pictures' area lies outside their centre squares"
            yield f"note     {lost}: --resize pad or stretch keeps all of it"
        if small:
            yield f"note     {small:,} pictures are smaller than half of --size {self.size}: they get blurred"


def fit(picture: Image.Image, shape: Shape) -> np.ndarray:
    """`picture`, (size, size, channels) uint8."""
    side, target = min(picture.size), (shape.size, shape.size)
    if shape.resize == "crop" and picture.size != (side, side):
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    picture = picture.convert("L" if shape.channels == 1 else "RGB")
    if shape.resize == "pad":
        picture = ImageOps.pad(picture, target, Image.Resampling.LANCZOS)
    elif picture.size != target:
        picture = picture.resize(target, Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(shape.image)


def coloured(images: np.ndarray, shape: Shape) -> int:
    """How many of `images` (N, H, W, C) uint8, grey ones stored as RGB aside, lose their colours in `fit`."""
    return int((np.ptp(images[..., :3], axis=3).max((1, 2)) > GREYISH).sum()) if shape.channels == 1 else 0


def on_white(picture: Image.Image) -> tuple[Image.Image, bool]:
    """`picture` in grey or colour, on white where it is transparent; and whether it was so anywhere."""
    if not picture.has_transparency_data:
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB"), False
    result, transparent = Image.new("RGB", picture.size), False
    for top in range(0, picture.height, BAND):  # whole, it would take five times the memory
        band = picture.crop((0, top, picture.width, min(top + BAND, picture.height))).convert("RGBA")
        transparent = transparent or band.getchannel("A").getextrema() != (255, 255)
        white = Image.new("RGBA", band.size, "white")
        result.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return result, transparent


def fit_all(images: np.ndarray, shape: Shape) -> np.ndarray:
    """`images` (N, H, W, C) uint8, C 1, 3 or 4 (with opacity), each fitted: (N, size, size, channels)."""
    if images.shape[1:] == shape.image:
        return images
    fitted = np.empty((len(images), *shape.image), np.uint8)
    for target, image in zip(fitted, images, strict=True):
        target[:] = fit(on_white(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))[0], shape)
    return fitted
