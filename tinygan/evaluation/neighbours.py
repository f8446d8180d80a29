"""What a distance between distributions does not show: are the pictures good, of all kinds, and new?

A set of features stands for the union of balls around its members, each as far as the K-th nearest other."""

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
MEMORISED = 0.5  # of the distance of real images from the training set; nearer than this is not chance
EACH = 8  # pictures to show of the best, the middle and the worst
MOST_NUMBERS = 1 << 26  # most numbers in the training images that are searched for the nearest
ROWS = 1000  # of a table of distances at a time: all 10,000 by 10,000 would take 800 MB


def overlap(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """How features (N, F) of real pictures and (M, F) of fakes overlap, for N, M > `K`: three shares.

        precision  share of fakes inside a ball of a real picture: are they good?
        recall     share of real pictures inside a ball of a fake: are all kinds there? outliers inflate it
        coverage   share of real pictures whose ball contains a fake: the same question, robust to outliers

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
    """The squared distance (N,) from each member of x (N, F) to its K-th nearest other member."""
    tables = (squared_distances(x[start : start + ROWS], x) for start in range(0, len(x), ROWS))
    # Index 0 is the member itself.
    return np.concatenate([np.partition(distances, K, axis=1)[:, K] for distances in tables])


def realism(real: np.ndarray, fake: np.ndarray) -> np.ndarray:
    """How deep each fake (M, F) is inside the balls of real pictures (N, F): the largest ratio, (M,), of a
    ball's radius to the distance from its centre; above 1 is inside. Only the smaller half of the balls
    counts: a large one, around an odd picture, holds anything (Kynkäänniemi et al. 2019, section 5)."""
    real, fake = real.astype(np.float64), fake.astype(np.float64)
    squared = _radii(real)
    small = squared <= np.median(squared)
    real, squared, least = real[small], squared[small], np.finfo(np.float64).tiny
    parts = (squared_distances(fake[start : start + ROWS], real) for start in range(0, len(fake), ROWS))
    return np.sqrt(np.concatenate([(squared / np.maximum(part, least)).max(axis=1) for part in parts]))


def good_typical_bad(scores: np.ndarray) -> np.ndarray:
    """The indices (24,) of the 8 highest, 8 middle and 8 lowest `scores` (N,), N >= 24."""
    order = np.argsort(-scores, kind="stable")
    middle = (len(order) - EACH) // 2
    return np.concatenate([order[:EACH], order[middle : middle + EACH], order[-EACH:]])


def nearest(pictures: np.ndarray, images: np.ndarray, place: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of `images` (M, H, W, C) to each of `pictures` (N, H, W, C), all uint8, N small: its index
    (N,) and distance (N,), the root mean square difference of pixels in units of 1/255. For `pictures` that
    are among the `images`, `place` 1 gives the nearest other image. M > place."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    parts = (images[start : start + ROWS] for start in range(0, len(images), ROWS))
    tables = [squared_distances(flat, part.reshape(len(part), -1).astype(np.float32)) for part in parts]
    index = np.argpartition(np.concatenate(tables, axis=1), place, axis=1)[:, place]
    apart = pictures.astype(np.float64) - images[index]  # exact; in `tables`, copies can be apart
    return index, np.sqrt((apart**2).mean(axis=(1, 2, 3)))


def memorised(apart: np.ndarray, usual: np.ndarray) -> bool:
    """Whether pictures might be copies: mean(apart) <= MEMORISED mean(usual). `apart` (N,) is their distance
    from the nearest training images, `usual` (M,) the same for other real images."""
    return bool(apart.mean() <= MEMORISED * usual.mean())


def ranked(D: Network, pictures: np.ndarray, images: Any) -> dict[str, Any]:
    """What a report shows of `pictures` (N, H, W, C) in [-1, 1], N >= 24: a `sprite` of the 8 each that D
    scores highest, in the middle and lowest, their `probabilities` of being real, and `of` how many.
    `nearest` compares with the training `images` (uint8, an array or a mapped one, or None): a `sprite` of
    the nearest images, the `mean` distance in units of 1/255, the `usual` distance of an image from its
    nearest other image, whether `memorised`, and `among`, the number of images searched."""
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
