"""What a report measures of a generator: directions of its noise that mean something, and ranks."""

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

RANKED = 256  # of the pictures of the noise, which D puts in order
VECTORS, FRESH = 1000, 64  # of noise: to find directions by, and to try them on
PUSH = 2.0  # how far along a direction it is tried, in standard deviations of the noise
WORTH, LEAST = 0.5, 0.05  # how many standard deviations that must change a feature by; the least one counted
PARALLEL = 0.85  # the cosine of two directions that are nearly one
DIRECTIONS = 8  # at most
MEASURES = {"brighter": "brightness", "wider": "width", "more symmetric": "symmetry",
            "more contrast": "contrast"}  # by the name; else the probability of a class  # fmt: skip

Features: TypeAlias = Callable[[np.ndarray], dict[str, np.ndarray]]  # pictures -> (N,) in [0, 1] by name


def for_report(state: State, images: Any = None) -> dict[str, Any]:
    """What `write_report` shows of the generator that people see, unless its pictures are still blots: its
    `directions`, where all layers are the original ones; its pictures, `ranked`, beside training `images`."""
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
    """Up to `DIRECTIONS` unit vectors of the `noise`, those first along which a push changes the mean of a
    feature most: its `name`, its `measure`, and the mean of that `before` and `after`, on the noise behind
    that of the `pictures`. The direction of f is E[z (f(G(z)) - mean f)], for standard normal z the mean
    gradient of f(G(z)) (Stein 1981, "Estimation of the mean of a multivariate normal distribution", lemma
    2)."""
    seen, fresh = noise[: len(pictures)], noise[len(pictures) :]
    base, found = features(pictures_of(G, fresh)), list[tuple[float, dict[str, Any]]]()
    for name, values in features(pictures).items():
        way = ((values - values.mean())[:, None] * seen).mean(axis=0)
        unit = (way / (np.linalg.norm(way) or 1)).astype(np.float32)
        pushed = features(pictures_of(G, fresh + np.float32(PUSH) * unit))
        before, after = base[name].mean(), pushed[name].mean()
        effect = float(after - before) / max(float(values.std()), LEAST)
        words = {"measure": MEASURES.get(name, "probability"), "before": f"{100 * before:.0f}\u00a0%"}
        found.append((effect, {"name": name, **words, "after": f"{100 * after:.0f}\u00a0%", "noise": unit}))
    kept: list[dict[str, Any]] = []
    for effect, one in sorted(found, key=lambda both: -both[0]):
        new = all(abs(one["noise"] @ other["noise"]) < PARALLEL for other in kept)
        if effect >= WORTH and one["before"] != one["after"] and new and len(kept) < DIRECTIONS:
            kept.append(one)
    return [{**one, "noise": rounded(one["noise"])} for one in kept]


def features_of(state: State) -> Features:
    """What pictures are judged by: their looks; and the probabilities of the classes, where tinygan has a
    classifier for the run's data."""
    try:
        classifier, names = classifier_of(state.settings), NAMES[state.settings.data]
    except UsageError:
        return looks

    def classes_and_looks(pictures: np.ndarray) -> dict[str, np.ndarray]:
        with no_grad():
            logits = classifier(pictures).data
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = (powers / powers.sum(axis=1, keepdims=True)).T
        return {f"towards {name}": share for name, share in zip(names, shares, strict=True)} | looks(pictures)

    return classes_and_looks


def looks(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What is seen of pictures (N, H, W, C) in [-1, 1] without knowing what they show, (N,) float32 from 0 to
    1: the mean brightness; the width of an even bar whose light scatters about its centre as theirs does, as
    a share of the picture's; the share of light that has its mirror image; twice the spread of brightness."""
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
