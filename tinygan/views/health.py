"""How the training is going, in words: measured once an epoch, on a few pictures.

A GAN's losses need not fall, so they do not show it. These numbers do better: how often D is right, how
different G's pictures are from each other, and how much of the networks is at work.
"""

from typing import NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor, no_grad
from tinygan.layers import LeakyReLU, Mode, Network
from tinygan.ops.loss import sigmoid

MEASURED_ON = 256  # real pictures, and as many fakes
PART = 64  # at a time: that takes no more memory than a step


class Health(NamedTuple):
    """What is measured; every number but the two distances between pictures lies in [0, 1]."""

    real_accuracy: float  # share of real pictures that D takes for real
    fake_accuracy: float  # share of fakes that D rejects
    real_spread: float  # standard deviation of D(x): 0 where D says the same of every picture
    fake_spread: float  # of D(G(z))
    diversity: float  # mean distance between two of G's pictures, 1 = as far as two real ones
    nearest: float  # mean distance from one to the one most like it, 1 = as far as among real ones
    dead: float  # share of LeakyReLU channels that none of these pictures makes positive


def measure(G: Network, D: Network, images: Array, noise: Array) -> Health:
    """Measure on `images` (n, H, W, C) in [-1, 1] and on G's pictures for `noise` (m, noise_dim), n, m >= 1.

    Nothing is in training mode: the pictures are those that `generate` makes of this G (a run with averaged
    weights shows people those of another one, and measures the one that is trained).
    """
    backend, xp = G.backend, G.backend.xp
    with no_grad():
        fakes, alive_G = _run(G, noise)
        logits, alive_D = _run(D, xp.concatenate([images, fakes]))
    logits = backend.numpy(logits)[:, 0].astype(np.float64)
    real, fake = logits[: len(images)], logits[len(images) :]
    alive = np.concatenate([alive_G, alive_D])
    count = min(len(images), len(fakes))  # among more pictures the nearest is nearer
    apart, nearest = _distances(backend.numpy(images)[:count])
    fakes_apart, fakes_nearest = _distances(backend.numpy(fakes)[:count])
    return Health(
        real_accuracy=float((real > 0).mean()), fake_accuracy=float((fake < 0).mean()),
        real_spread=float(sigmoid(real).std()), fake_spread=float(sigmoid(fake).std()),
        diversity=fakes_apart / apart if apart else 1.0,
        nearest=fakes_nearest / nearest if nearest else 1.0,
        dead=float(1 - alive.mean()) if len(alive) else 0.0,
    )  # fmt: skip


def _run(network: Network, x: Array) -> tuple[Array, np.ndarray]:
    """The network's output for `x`, and which channels of its LeakyReLUs are positive for any of it."""
    xp, outputs, alive = network.backend.xp, [], []
    for at in range(0, len(x), PART):
        y, positive = x[at : at + PART], [np.zeros(0, bool)]
        for name, tensor in network.outputs(Tensor(y, network.backend), Mode()):
            y = tensor.data
            if isinstance(network.layers[name], LeakyReLU):
                positive.append(network.backend.numpy((y > 0).any(axis=tuple(range(y.ndim - 1)))))
        outputs.append(y)
        alive.append(np.concatenate(positive))
    return xp.concatenate(outputs), np.any(alive, axis=0)


def _distances(pictures: np.ndarray) -> tuple[float, float]:
    """Euclidean distances between `pictures` (n, ...): the mean of all pairs, and the mean of each picture
    from the one nearest to it; 0 and 0 if there is one."""
    count, flat = len(pictures), pictures.reshape(len(pictures), -1).astype(np.float64)
    if count == 1:
        return 0.0, 0.0
    distances = np.sqrt(squared_distances(flat, flat))[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    # Rounding leaves something between two that are equal: far less than one step of one pixel.
    distances[distances < 1 / 255] = 0
    return float(distances.mean()), float(distances.min(axis=1).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 for a (N, F) and b (M, F): (N, M)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)  # where rounding leaves something below


# When a number is worth a warning. In a run that goes well D takes about 60 to 90 of 100 pictures
# for what they are, and G's pictures differ about as much as real ones.
COLLAPSED = 0.4  # of the distance between real pictures; garments of one kind are 0.57 to 0.95 apart
REPEATED = 0.35  # of that between nearest ones: a few pictures, however far apart, come again and again
CERTAIN = 0.98  # of both kinds recognised: then the gradients that reach G are next to nothing
FOOLED = 0.1  # of the fakes rejected: D teaches nothing either
ASLEEP = 0.02  # spread of D's scores: it says the same of every picture
DEAD = 0.25  # of the channels

AGAIN = "start again with --recipe best, or where this is that one, with a smaller --lr."
SLOWER = "start again with a smaller --lr."


class Verdict(NamedTuple):
    """A few words, and what to try; nothing to try where all is well."""

    words: str
    advice: str

    def __str__(self) -> str:
        return f"{self.words}. {self.advice}" if self.advice else self.words


def verdict(health: Health) -> Verdict:
    """The worst that these numbers show."""
    real, fake = round(100 * health.real_accuracy), round(100 * health.fake_accuracy)
    alike = health.diversity < COLLAPSED
    if alike or health.nearest < REPEATED:
        found = f"They differ {100 * health.diversity:.0f} % as much as real pictures"
        if not alike:
            found = f"Nearest ones differ {100 * health.nearest:.0f} % as much as among real pictures"
        words = f"samples look alike: mode collapse? {found}"
        return Verdict(words, f"Go on for some epochs; if it stays, {AGAIN}")
    if min(health.real_accuracy, health.fake_accuracy) >= CERTAIN:
        words = f"D is winning: {fake} % of fakes are rejected"
        return Verdict(words, f"Usual in the first epochs; if it stays, {AGAIN}")
    if max(health.real_spread, health.fake_spread) < ASLEEP:
        return Verdict("D says the same of every picture", f"Go on for an epoch; if it stays, {SLOWER}")
    if health.fake_accuracy <= FOOLED:
        words = f"G is winning: D rejects {fake} % of fakes only"
        return Verdict(words, f"D often catches up; if it does not, {SLOWER}")
    if health.dead > DEAD:
        words = f"{100 * health.dead:.0f} % of the LeakyReLU channels are dead"
        return Verdict(words, f"They learn slowly; if the pictures do not get better, {SLOWER}")
    return Verdict(f"healthy: D recognises {real} % of real pictures and {fake} % of fakes", "")
