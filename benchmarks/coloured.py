"""A folder of 500 small colour pictures for trials of recipes: coloured images of Fashion-MNIST."""

from pathlib import Path

import numpy as np

from tinygan.evaluation.evaluation import Evaluation
from tinygan.layers import Network
from tinygan.views.pictures import save_png

COUNT, SIDE, EDGE = 500, 32, 2  # pictures, their side, and the width of their black border
DARKEST = 0.2  # the smallest channel of a colour; its largest is 1


def write_coloured(images: np.ndarray, folder: Path) -> None:
    """Write the first `COUNT` of the images (N, 28, 28, 1) uint8 to `folder` as PNG files of 32x32, each in a
    random colour."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images[:COUNT]):
        colour = random.uniform(DARKEST, 1, 3)
        pixels = np.rint(image * (colour / colour.max())).astype(np.uint8)
        save_png(folder / f"{number:03}.png", np.pad(pixels, ((EDGE, EDGE), (EDGE, EDGE), (0, 0))))


def in_grey(pictures: np.ndarray) -> np.ndarray:
    """Recover the images (N, 28, 28, 1) from the pictures (N, 32, 32, 3) that `write_coloured` made."""
    return pictures[:, EDGE:-EDGE, EDGE:-EDGE].max(axis=3, keepdims=True)


class InGrey(Evaluation):
    """Compares the brightest channel of pictures (N, 32, 32, 3) with the test images of Fashion-MNIST. Only
    shapes count, neither colours nor the border."""

    def pictures(self, G: Network) -> np.ndarray:
        return in_grey(super().pictures(G))
