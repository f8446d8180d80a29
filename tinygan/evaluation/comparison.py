"""All that is measured of a set of pictures, beside what real images and noise would get.

A number alone says little. The floor is what other real images of the same set get: no generator need be
better. The ceiling is what noise gets.
"""

from typing import NamedTuple

import numpy as np

from tinygan.evaluation.classifier import Classifier
from tinygan.evaluation.distance import frechet, moments, standard_error
from tinygan.evaluation.neighbours import overlap


class Compared(NamedTuple):
    """What `Comparison.compare` finds."""

    figures: dict[str, float]  # fcd, the Fréchet distance, its standard error, and the shares of an `Overlap`
    classes: np.ndarray  # (10,) shares of the pictures


class Comparison:
    """Compares pictures with real ones that no generator was trained on."""

    def __init__(self, classifier: Classifier, test: np.ndarray) -> None:
        """`test`: the images (M, 28, 28, 1) uint8 of the set's test half."""
        self.classifier = classifier
        self.features, chosen = classifier.features_and_classes(test)
        self.classes = self._shares(chosen)

    def compare(self, pictures: np.ndarray) -> Compared:
        """Compare pictures (N, 28, 28, 1) uint8 with min(N, M) of the real ones."""
        features, chosen = self.classifier.features_and_classes(pictures)
        real = self.features[: len(features)]
        distance = {"fcd": frechet(moments(features), moments(real)), "error": standard_error(features, real)}
        return Compared(distance | overlap(real, features)._asdict(), self._shares(chosen))

    def fcd(self, pictures: np.ndarray) -> float:
        """The distance alone: `compare` without its error and the rest, which take ten times as long."""
        features, _ = self.classifier.features_and_classes(pictures)
        return frechet(moments(features), moments(self.features[: len(features)]))

    def _shares(self, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(chosen, minlength=len(self.classifier.classes)) / len(chosen)


def noise(count: int, seed: int) -> np.ndarray:
    """Pictures without any sense, (count, 28, 28, 1) uint8: every pixel any brightness."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
