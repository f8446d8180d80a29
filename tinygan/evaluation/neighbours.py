"""What a distance between distributions does not show: are the pictures good, of all kinds, and new?

A set of features is taken as the union of balls around its members, each up to the K-th nearest other one."""

from typing import Any

import numpy as np

from tinygan.autograd import no_grad
from tinygan.data.dataset import spread
from tinygan.layers import Network
from tinygan.ops.loss import sigmoid
from tinygan.views.health import squared_distances
from tinygan.views.pictures import to_uint8
from tinygan.views.webpage import rounded, sprite

K = 5
MEMORISED = 0.5  # of the distance that real images have from the training set: half of it is no chance
EACH = 8  # pictures that are shown of the best, the middle and the worst
MOST_NUMBERS = 1 << 26  # numbers in the training images among which the nearest are looked for
ROWS = 1000  # of a table of distances made at a time: 10,000 by 10,000 would take 800 MB


def overlap(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """How features (N, F) of real pictures and (M, F) of fakes overlap, N and M above `K`: shares by name.

        precision  of the fakes in the balls of real pictures: are they good?
        recall     of the real pictures in the balls of fakes: all kinds? one outlier covers much
        coverage   of the real pictures in whose ball lies a fake: the same, not deceived by outliers

    Each is in [0, 1], and near 1 for two halves of one set. Precision and recall as in Kynkäänniemi et al.
    2019 (arXiv 1904.06991, equation 1), coverage as in Naeem et al. 2020 (arXiv 2002.09797, equation 3)."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    real_radius, fake_radius = _radii(real), _radii(fake)
    precise, recalled, covered = (np.zeros(len(x), bool) for x in (fake, real, real))
    for start in range(0, len(real), ROWS):
        rows = slice(start, start + ROWS)
        distances = squared_distances(real[rows], fake)  # (rows, M)
        near = distances <= real_radius[rows, None]
        precise |= near.any(axis=0)
        recalled[rows] = (distances <= fake_radius).any(axis=1)
        covered[rows] = near.any(axis=1)
    return {"precision": precise.mean(), "recall": recalled.mean(), "coverage": covered.mean()}


def _radii(x: np.ndarray) -> np.ndarray:
    """The squared distance from each of x (N, F) to its K-th nearest other."""
    tables = (squared_distances(x[start : start + ROWS], x) for start in range(0, len(x), ROWS))
    # Each is its own nearest, at place 0.
    return np.concatenate([np.partition(distances, K, axis=1)[:, K] for distances in tables])


def realism(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """How deep in the balls of real pictures, features (N, F), each fake (M, F) lies: the largest ratio of a
    radius to the distance from its centre (M,); above 1: inside. Only the smaller half of the balls counts:
    in a large one, of an odd picture, anything would be real (Kynkäänniemi et al. 2019, section 5)."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    squared = _radii(real)
    small = squared <= np.median(squared)
    real, squared, least = real[small], squared[small], np.finfo(np.float64).tiny
    parts = (squared_distances(fake[start : start + ROWS], real) for start in range(0, len(fake), ROWS))
    return np.sqrt(np.concatenate([(squared / np.maximum(part, least)).max(axis=1) for part in parts]))


def good_typical_bad(scores: np.ndarray) -> np.ndarray:
    """Which of the `scores` (N,), N >= 24, are the highest, in the middle, and the lowest: 8 each (24,)."""
    order = np.argsort(-scores, kind="stable")
    middle = (len(order) - EACH) // 2
    return np.concatenate([order[:EACH], order[middle : middle + EACH], order[-EACH:]])


def nearest(pictures: np.ndarray, images: np.ndarray, place: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of `images` (M, H, W, C) to each of `pictures` (N, H, W, C), all uint8, N small: indices
    (N,) and distances (N,), each the root of the mean squared difference of a pixel, in units of 1/255. For
    `pictures` that are some of the `images`, `place` 1 gives the nearest other one; M > place."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    parts = (images[start : start + ROWS] for start in range(0, len(images), ROWS))
    tables = [squared_distances(flat, part.reshape(len(part), -1).astype(np.float32)) for part in parts]
    index = np.argpartition(np.concatenate(tables, axis=1), place, axis=1)[:, place]
    apart = pictures.astype(np.float64) - images[index]  # `tables` are rounded: there copies may be apart
    return index, np.sqrt((apart**2).mean(axis=(1, 2, 3)))


def memorised(apart: np.ndarray, usual: np.ndarray) -> bool:
    """Whether pictures may be copies: mean(apart) <= MEMORISED mean(usual). `apart` (N,) is how far they are
    from their nearest training images, `usual` (M,) how far other real images are."""
    return bool(apart.mean() <= MEMORISED * usual.mean())


def ranked(D: Network, pictures: np.ndarray, images: Any) -> dict[str, Any]:
    """What a report shows of `pictures` (N, H, W, C) in [-1, 1], N >= 24, and the training `images`, uint8,
    an array or a mapped one, or None: a `sprite` of those that D scores highest, in the middle and lowest, 8
    each, its `probabilities` of their being real, and how many they are `of`; `nearest`, or None: a `sprite`
    of the nearest images, the `mean` distance in units of 1/255, the `usual` one of an image from the nearest
    other one, whether `memorised`, and `among` how many they were looked for."""
    with no_grad():
        logits = D.backend.numpy(D(D.backend.array(pictures)).data)[:, 0]
    chosen = good_typical_bad(logits)
    shown, near = to_uint8(pictures[chosen]), None
    if images is not None and len(images) > 1:
        among = spread(images, max(2, MOST_NUMBERS // shown[0].size))
        index, apart = nearest(shown, among)
        usual = nearest(spread(among, len(shown)), among, place=1)[1]
        near = {"sprite": sprite(among[index], EACH), "among": len(among), "mean": float(apart.mean())}
        near |= {"usual": float(usual.mean()), "memorised": memorised(apart, usual)}
    probabilities = rounded(sigmoid(logits[chosen]))
    return {"of": len(logits), "sprite": sprite(shown, EACH), "probabilities": probabilities, "nearest": near}
