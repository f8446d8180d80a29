"""Evaluates a run's generator, during training and afterwards: which pictures are compared with which."""

from bisect import bisect_left
from functools import cache, cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinygan import data
from tinygan.backend import cpu
from tinygan.errors import DataError, Printer, UsageError, say
from tinygan.evaluation.classifier import CLASSES, features_and_classes, load_classifier, new_classifier
from tinygan.evaluation.distance import frechet, moments, standard_error
from tinygan.evaluation.neighbours import overlap, realism
from tinygan.fast.originals import unlike
from tinygan.layers import Network
from tinygan.runs.settings import Settings
from tinygan.runs.state import pictures_of, sample_noise
from tinygan.views.pictures import to_uint8

SIDES = (24, 20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2)  # pixels to which real images are shrunk for comparison
SAMPLES = 10_000  # pictures; a Fréchet distance of fewer is larger, so compare equal numbers


def unmeasurable() -> str:
    """Why FCD cannot be measured: a reader changed code that its classifier uses. Empty if it can."""
    edits = unlike(new_classifier())
    return edits and f"{edits}: FCD cannot be measured, since its classifier needs the original."


def classifier_of(settings: Settings) -> Network:
    """The classifier for the pictures of a run with these `settings`. Raises: UsageError if there is none."""
    if why := unmeasurable():
        raise UsageError(why)
    shape = f"{settings.size}x{settings.size}x{settings.channels}"
    return load_classifier(settings.data if shape == "28x28x1" else f"pictures of {shape}", cpu("fast"))


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, H, W, 1) uint8, shrunk to `side` x `side` pixels and enlarged to H x W again."""
    sizes = (side, side), images.shape[2:0:-1]
    small = (Image.fromarray(image[:, :, 0]).resize(sizes[0], Image.Resampling.BOX) for image in images)
    return np.stack([np.asarray(one.resize(sizes[1], Image.Resampling.BICUBIC))[:, :, None] for one in small])


class Compared(NamedTuple):
    figures: dict[str, float]  # fcd: Fréchet distance; error: its standard error; shares of `overlap`
    classes: np.ndarray  # (10,) share of the pictures in each class


class Evaluation:
    """Compares a run's generators with the test images of its data set, on which none of them was trained."""

    def __init__(
        self, settings: Settings, data_dir: Path | None = None, say: Printer = say,
        samples: int = SAMPLES, seed: int | None = None,
    ) -> None:  # fmt: skip
        """`seed` of all random numbers here: by default, one more than the run's. Raises: UsageError if no
        classifier fits; DataError if there are fewer test images than `samples`."""
        self._classifier = classifier_of(settings)
        folder = data_dir or (Path(settings.data_dir) if settings.data_dir else None)
        self.load = partial(data.load, settings.data, data_dir=folder)  # all, even if the run saw fewer
        self.test = self.load(split="test", say=say).images
        if samples > (count := len(self.test)):
            raise DataError(f"{samples:,} pictures are more than the {count:,} test images. Use fewer.")
        self.samples = samples
        # Not the previews' noise, by which models are chosen.
        self.seed = settings.seed + 1 if seed is None else seed
        self._real, self.classes = self._measured(self.test)

    def _measured(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The features (N, 64) of images (N, 28, 28, 1) uint8, and the share of each class (10,)."""
        features, chosen = features_and_classes(self._classifier, images)
        return features, np.bincount(chosen, minlength=CLASSES) / len(chosen)

    def compare(self, pictures: np.ndarray) -> Compared:
        """Compare pictures (N, 28, 28, 1) uint8 with the first N test images, or all if there are fewer."""
        features, classes = self._measured(pictures)
        real = self._real[: len(features)]
        distance = {"fcd": frechet(moments(features), moments(real)), "error": standard_error(features, real)}
        return Compared(distance | overlap(real, features), classes)

    def fcd(self, pictures: np.ndarray) -> float:
        """The distance only: `compare` without the error and the shares, which take ten times as long."""
        features, _ = self._measured(pictures)
        return frechet(moments(features), moments(self._real[: len(features)]))

    def realism(self, pictures: np.ndarray) -> np.ndarray:
        """How real each of the pictures (N, 28, 28, 1) uint8 is, (N,): see `neighbours.realism`."""
        return realism(self._real, self._measured(pictures)[0])

    def side_as_far(self, fcd: float, real: np.ndarray) -> tuple[str, int]:
        """The side, in pixels, to which images `real` (N, 28, 28, 1) uint8 must be shrunk, and then enlarged,
        for the distance `fcd` from the test images: ``"about"`` and one of `SIDES`, ``"nearer"`` and the
        first of these, or ``"farther"`` and the last."""
        distance = cache(lambda side: self.fcd(shrunk(real, side)))
        at = bisect_left(SIDES, fcd, key=distance)
        if at in (0, len(SIDES)):
            return ("farther", SIDES[-1]) if at else ("nearer", SIDES[0])
        return "about", min(SIDES[at - 1 : at + 1], key=lambda side: abs(np.log(distance(side) / fcd)))

    def pictures(self, G: Network) -> np.ndarray:
        """The pictures to evaluate, (samples, 28, 28, 1) uint8. The same seed gives the same pictures."""
        return to_uint8(pictures_of(G, sample_noise(self.seed, self.samples, G)))

    def others(self, train: np.ndarray) -> dict[str, np.ndarray]:
        """For comparison: real images from `train`, and noise, both (samples, 28, 28, 1) uint8."""
        random = partial(np.random.default_rng, self.seed)
        chosen = random().choice(len(train), self.samples, replace=False)
        noise = random().integers(0, 256, (self.samples, 28, 28, 1), dtype=np.uint8)
        return {"real images": train[chosen], "noise": noise}

    @cached_property
    def bounds(self) -> dict[str, float]:
        """The floor of the distance, that of real training images, and its ceiling, that of noise."""
        others = self.others(self.load(say=lambda line: None).images).values()
        return dict(zip(("floor", "ceiling"), map(self.fcd, others), strict=True))

    def __call__(self, G: Network) -> dict[str, float]:
        """For stats.jsonl: the figures of G's pictures, the `bounds` and the number of samples."""
        found = self.compare(self.pictures(G)).figures | self.bounds | {"samples": self.samples}
        return {name: round(number, 4) for name, number in found.items()}
