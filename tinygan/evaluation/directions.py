"""What a report shows about a generator: meaningful directions of its noise, and pictures ranked by D."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tinygan.autograd import no_grad
from tinygan.errors import UsageError
from tinygan.evaluation.classifier import NAMES
from tinygan.evaluation.evaluation import classifier_of
from tinygan.evaluation.neighbours import ranked
from tinygan.fast.originals import unlike
from tinygan.layers import Network
from tinygan.runs.state import State, pictures_of, sample_noise
from tinygan.views.health import SOON
from tinygan.views.webpage import rounded

RANKED = 256  # pictures that D ranks
VECTORS, FRESH = 1000, 64  # noise vectors: to find directions, and to try them on
PUSH = 2.0  # how far a direction is tried, in standard deviations of the noise
WORTH, LEAST = 0.5, 0.05  # deviations by which a push must change a feature; the least one assumed
PARALLEL = 0.85  # cosine above which two directions count as the same
DIRECTIONS = 8  # the most directions to show
MEASURES = {"brighter": "brightness", "wider": "width", "more symmetric": "symmetry",
            "more contrast": "contrast"}  # by name; else the probability of a class  # fmt: skip

Features: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]  # pictures -> (N,) in [0, 1] by name


def for_report(state: State, images: Any = None) -> dict[str, Any]:
    """For `write_report`: `directions` of the generator that people see, if all its layers are original; and
    its pictures, `ranked`, with the nearest training `images`. Empty while these pictures are still blots."""
    if state.step < SOON:
        return {}
    G = state.shown_G
    noise = sample_noise(state.settings.seed + 1, VECTORS + FRESH, G)  # not the previews'
    pictures = pictures_of(G, noise[:VECTORS])
    found = [] if unlike(G) else directions(G, noise, pictures, features_of(state))
    return {"directions": found, "ranked": ranked(state.D, pictures[:RANKED], images)}


def directions(
    G: Network, noise: np.ndarray, pictures: np.ndarray, features: Features
) -> list[dict[str, Any]]:
    """Up to `DIRECTIONS` unit vectors of the `noise` along which a push changes the mean of a feature, the
    strongest first: each with the feature's `name` and `measure`, and its mean `before` and `after`, on fresh
    noise (the rows after those of the `pictures`). The direction of f is E[z (f(G(z)) - mean f)]; for normal
    z it is the mean gradient of f(G(z)) (Stein 1981, "Estimation of the mean of a multivariate normal
    distribution", lemma 2)."""
    seen, fresh = noise[: len(pictures)], noise[len(pictures) :]
    base, found = features(pictures_of(G, fresh)), list[tuple[float, dict[str, Any]]]()
    for name, values in features(pictures).items():
        way = ((values - values.mean())[:, None] * seen).mean(axis=0)
        unit = (way / (np.linalg.norm(way) or 1)).astype(np.float32)
        pushed = features(pictures_of(G, fresh + np.float32(PUSH) * unit))
        before, after = base[name].mean(), pushed[name].mean()
        effect = float(after - before) / max(float(values.std()), LEAST)
        words = {"measure": MEASURES.get(name, "probability"), "before": f"{100 * before:.0f}%"}
        found.append((effect, {"name": name, **words, "after": f"{100 * after:.0f}%", "noise": unit}))
    kept: list[dict[str, Any]] = []
    for effect, one in sorted(found, key=lambda both: -both[0]):
        new = all(abs(one["noise"] @ other["noise"]) < PARALLEL for other in kept)
        if effect >= WORTH and one["before"] != one["after"] and new and len(kept) < DIRECTIONS:
            kept.append(one)
    return [{**one, "noise": rounded(one["noise"])} for one in kept]


def features_of(state: State) -> Features:
    """The features to find directions for: `appearance` and, if tinygan has a classifier for the run's data,
    the probability of each class."""
    try:
        classifier, names = classifier_of(state.settings), NAMES[state.settings.data]
    except UsageError:
        return appearance

    def classes_and_appearance(pictures: np.ndarray) -> dict[str, np.ndarray]:
        with no_grad():
            logits = classifier(pictures).data
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = (powers / powers.sum(axis=1, keepdims=True)).T
        classes = {f"towards {name}": share for name, share in zip(names, shares, strict=True)}
        return classes | appearance(pictures)

    return classes_and_appearance


def appearance(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Four features of pictures (N, H, W, C) in [-1, 1], each (N,) float32 in [0, 1]: mean brightness; the
    width of an even bar with the same horizontal variance of light, relative to the picture's; the share of
    light that has a mirror image; and contrast, twice the standard deviation of brightness."""
    grey = (pictures.mean(axis=3) + 1) / 2
    columns = grey.sum(axis=1) + 1e-6  # (N, W)
    light, at = columns.sum(axis=1), np.arange(columns.shape[1], dtype=np.float32)
    centre = columns @ at / light
    variance = (columns * (at - centre[:, None]) ** 2).sum(axis=1) / light
    return {
        "brighter": grey.mean(axis=(1, 2)),
        "wider": np.sqrt(12 * variance) / len(at),
        "more symmetric": 1 - np.abs(grey - grey[:, :, ::-1]).sum(axis=(1, 2)) / (2 * light),
        "more contrast": 2 * grey.std(axis=(1, 2)),
    }
