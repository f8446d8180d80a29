"""The evaluation of a run's generator, while training and afterwards: which pictures meet which."""

from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygan import data
from tinygan.backend import cpu
from tinygan.errors import DataError, Printer, UsageError, say
from tinygan.evaluation.classifier import CLASSES, features_and_classes, load_classifier, new_classifier
from tinygan.evaluation.distance import frechet, moments, standard_error
from tinygan.evaluation.neighbours import overlap
from tinygan.fast.originals import unlike
from tinygan.layers import Network
from tinygan.runs.settings import Settings
from tinygan.runs.state import pictures_of, sample_noise
from tinygan.views.pictures import to_uint8

SAMPLES = 10_000  # pictures; a Fréchet distance of fewer is larger, so it must always be as many


def unmeasurable() -> str:
    """Why FCD cannot be measured: a reader changed what its classifier is made of. Else nothing."""
    edits = unlike(new_classifier())
    return edits and f"{edits}: FCD cannot be measured, since its classifier needs the original."


def classifier_of(settings: Settings) -> Network:
    """The classifier of the pictures of a run with these `settings`. Raises UsageError where none fits."""
    if why := unmeasurable():
        raise UsageError(why)
    shape = f"{settings.size}x{settings.size}x{settings.channels}"
    return load_classifier(settings.data if shape == "28x28x1" else f"pictures of {shape}", cpu("fast"))


class Compared(NamedTuple):
    figures: dict[str, float]  # fcd, the Fréchet distance, its standard error, and the shares of `overlap`
    classes: np.ndarray  # (10,) shares of the pictures


class Comparison:
    """Compares pictures with real ones that no generator was trained on."""

    def __init__(self, classifier: Network, test: np.ndarray) -> None:
        """`test`: the images (M, 28, 28, 1) uint8 of the set's test half."""
        self.classifier = classifier
        self.features, chosen = features_and_classes(classifier, test)
        self.classes = np.bincount(chosen, minlength=CLASSES) / len(chosen)

    def compare(self, pictures: np.ndarray) -> Compared:
        """Compare pictures (N, 28, 28, 1) uint8 with min(N, M) of the real ones."""
        features, chosen = features_and_classes(self.classifier, pictures)
        real = self.features[: len(features)]
        distance = {"fcd": frechet(moments(features), moments(real)), "error": standard_error(features, real)}
        classes = np.bincount(chosen, minlength=CLASSES) / len(chosen)
        return Compared(distance | overlap(real, features), classes)

    def fcd(self, pictures: np.ndarray) -> float:
        """The distance alone: `compare` without its error and the rest, which take ten times as long."""
        features, _ = features_and_classes(self.classifier, pictures)
        return frechet(moments(features), moments(self.features[: len(features)]))


def noise(count: int, seed: int) -> np.ndarray:
    """Pictures without any sense, (count, 28, 28, 1) uint8: every pixel any brightness."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)


class Evaluation:
    """What is needed to evaluate a run's generators: the classifier and the test half of the data set."""

    def __init__(
        self, settings: Settings, data_dir: Path | None = None, say: Printer = say,
        samples: int = SAMPLES, seed: int | None = None,
    ) -> None:  # fmt: skip
        """`seed`, of all that is drawn here, is by default one more than the run's own. Raises UsageError
        where no classifier fits, DataError where there are not enough test images."""
        classifier = classifier_of(settings)
        folder = data_dir or (Path(settings.data_dir) if settings.data_dir else None)
        self._load = partial(data.load, settings.data, data_dir=folder)
        self.test = self._load(split="test", say=say).images
        count = len(self.test)
        if samples > count:
            raise DataError(f"{samples:,} pictures are more than the {count:,} test images. Use fewer.")
        self.samples, self.comparison = samples, Comparison(classifier, self.test)
        # Not the previews' noise, by which models are chosen.
        self.seed = settings.seed + 1 if seed is None else seed

    def pictures(self, G: Network) -> np.ndarray:
        """The pictures that are evaluated (samples, 28, 28, 1) uint8; the same ones for the same seed."""
        return to_uint8(pictures_of(G, sample_noise(self.seed, self.samples, G)))

    def train_images(self, say: Printer = say) -> np.ndarray:
        """All training images (N, 28, 28, 1) uint8, however few of them the run has seen."""
        return self._load(say=say).images

    def others(self, train: np.ndarray) -> dict[str, np.ndarray]:
        """For comparison: real images (samples, 28, 28, 1) from `train`, and as much noise."""
        chosen = np.random.default_rng(self.seed).choice(len(train), self.samples, replace=False)
        return {"real images": train[chosen], "noise": noise(self.samples, self.seed)}

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The floor of the distance, which real training images get, and its ceiling, which noise gets."""
        others = self.others(self.train_images(say=lambda line: None)).values()
        return dict(zip(("floor", "ceiling"), map(self.comparison.fcd, others), strict=True))

    def __call__(self, G: Network) -> dict[str, float]:
        """For the statistics: the figures of G's pictures, the `bounds` and the number of samples."""
        found = self.comparison.compare(self.pictures(G)).figures | self.bounds
        return {**{name: round(number, 4) for name, number in found.items()}, "samples": self.samples}
