"""Crop and resize: any picture to the size and the number of channels of the model."""

import numpy as np
from PIL import Image

MODES = {1: "L", 3: "RGB"}


def fit(picture: Image.Image, size: int, channels: int) -> np.ndarray:
    """The centre square of `picture`, resized: (size, size, channels) uint8. `channels` is 1 or 3."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.convert(MODES[channels]).crop((left, top, left + side, top + side))
    if side != size:
        square = square.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square).reshape(size, size, channels)


def fit_all(images: np.ndarray, size: int, channels: int) -> np.ndarray:
    """`images` (N, H, W, C) uint8, each fitted: (N, size, size, channels); unchanged if they fit already."""
    if images.shape[1:] == (size, size, channels):
        return images
    fitted = np.empty((len(images), size, size, channels), np.uint8)
    for target, image in zip(fitted, images, strict=True):
        target[:] = fit(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), size, channels)
    return fitted
