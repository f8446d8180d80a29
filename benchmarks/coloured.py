"""A folder of 500 small colour pictures, for trials of recipes: images of Fashion-MNIST, coloured."""

from pathlib import Path

import numpy as np

from tinygan import data
from tinygan.data import Dataset
from tinygan.evaluation.evaluation import Evaluation
from tinygan.layers import Network
from tinygan.views.pictures import save_png

COUNT, EDGE = 500, 2  # pictures; black pixels around each
DARKEST = 0.2  # the least that a channel of a colour may be; its brightest is 1


def coloured(images: np.ndarray, folder: Path) -> Dataset:
    """The first `COUNT` of the images (N, 28, 28, 1) uint8, each in a colour of its own and 32x32, written to
    `folder` as PNG files and read from there as a user's own pictures are."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images[:COUNT]):
        colour = random.uniform(DARKEST, 1, 3)
        pixels = np.rint(image * (colour / colour.max())).astype(np.uint8)
        save_png(folder / f"{number:03}.png", np.pad(pixels, ((EDGE, EDGE), (EDGE, EDGE), (0, 0))))
    return data.load(str(folder), size=images.shape[1] + 2 * EDGE, channels=3)


def in_grey(pictures: np.ndarray) -> np.ndarray:
    """What `coloured` was given (N, H, W, 1), from its pictures (N, H + 4, W + 4, 3)."""
    return pictures[:, EDGE:-EDGE, EDGE:-EDGE].max(axis=3, keepdims=True)


class InGrey(Evaluation):
    """Compares pictures (N, 32, 32, 3) with the test half of Fashion-MNIST, by their brightest channel."""

    def pictures(self, G: Network) -> np.ndarray:
        return in_grey(super().pictures(G))
