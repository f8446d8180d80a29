"""How the training is going, in words: measured once an epoch, on a few pictures.

A GAN's losses need not fall, so they do not say it. These numbers do better: whom D believes, how
different G's pictures are from each other, and how much of the networks is at work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinygan.autograd import Tensor, no_grad
from tinygan.layers import LeakyReLU, Network
from tinygan.ops import Array
from tinygan.ops.loss import sigmoid

LOOKED_AT = 64  # real pictures, and as many fakes: a quarter of a step's work


class Health(NamedTuple):
    """What is measured; every number but the diversity lies in [0, 1]."""

    real_accuracy: float  # share of real pictures that D takes for real
    fake_accuracy: float  # share of fakes that D rejects
    real_spread: float  # standard deviation of D(x): 0 where D says the same of every picture
    fake_spread: float  # of D(G(z))
    diversity: float  # mean distance between two of G's pictures, 1 = as far as two real ones
    dead: float  # share of LeakyReLU channels that none of these pictures makes positive


def measure(G: Network, D: Network, images: Array, noise: Array) -> Health:
    """Look at `images` (n, H, W, C) in [-1, 1] and at G's pictures for `noise` (m, noise_dim), n, m >= 1.

    Nothing is in training mode: the pictures are those that `generate` makes.
    """
    backend, xp = G.backend, G.backend.xp
    with no_grad():
        fakes, alive_G = _run(G, noise)
        logits, alive_D = _run(D, xp.concatenate([images, fakes]))
    logits = backend.numpy(logits)[:, 0].astype(np.float64)
    real, fake = logits[: len(images)], logits[len(images) :]
    alive = [backend.numpy(some).reshape(-1) for some in (*alive_G, *alive_D)]
    apart = _distance(backend.numpy(images))
    return Health(
        real_accuracy=float((real > 0).mean()),
        fake_accuracy=float((fake < 0).mean()),
        real_spread=float(sigmoid(np, real).std()),
        fake_spread=float(sigmoid(np, fake).std()),
        diversity=_distance(backend.numpy(fakes)) / apart if apart else 1.0,
        dead=float(1 - np.concatenate(alive).mean()) if alive else 0.0,
    )


def _run(network: Network, x: Array) -> tuple[Array, list[Array]]:
    """The network's output, and for each LeakyReLU which channels are positive for any of `x`."""
    alive, tensor = [], Tensor(x, network.backend)
    for layer in network.layers.values():
        tensor = layer(tensor, False, iter(()))
        if isinstance(layer, LeakyReLU):
            alive.append((tensor.data > 0).any(axis=tuple(range(tensor.data.ndim - 1))))
    return tensor.data, alive


def _distance(pictures: np.ndarray) -> float:
    """The mean Euclidean distance between two different ones of `pictures` (n, ...); 0 if there is one."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float64)
    norms = (flat * flat).sum(axis=1)
    squares = norms[:, None] + norms[None] - 2 * flat @ flat.T
    pairs = max(1, len(flat) * (len(flat) - 1))
    np.fill_diagonal(squares, 0)  # where rounding leaves something
    return float(np.sqrt(np.maximum(squares, 0)).sum() / pairs)


# When a number is worth a warning. In a run that goes well D takes about 60 to 90 of 100 pictures
# for what they are, and G's pictures differ about as much as real ones.
COLLAPSED = 0.4  # of the distance between real pictures; garments of one kind are 0.6 to 0.7 apart
CERTAIN = 0.98  # of both kinds told apart: then the gradients that reach G are next to nothing
FOOLED = 0.1  # of the fakes rejected: D teaches nothing either
ASLEEP = 0.02  # spread of D's scores: it says the same of every picture
DEAD = 0.25  # of the channels

AGAIN = "start again with --recipe best, or where this is that one, with a smaller --lr"


class Verdict(NamedTuple):
    """A few words, and what to try; nothing to try where all is well."""

    words: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.words}. {self.advice}" if self.advice else self.words


def verdict(health: Health) -> Verdict:
    """The worst that these numbers show."""
    real, fake = round(100 * health.real_accuracy), round(100 * health.fake_accuracy)
    if health.diversity < COLLAPSED:
        return Verdict(
            f"samples look alike: mode collapse? They differ {health.diversity:.0%} as much as real pictures",
            f"Go on for some epochs; if it stays, {AGAIN}.",
        )
    if min(health.real_accuracy, health.fake_accuracy) >= CERTAIN:
        return Verdict(
            f"D is winning: {fake} % of fakes are rejected",
            f"Usual in the first epochs; if it stays, {AGAIN}.",
        )
    if health.fake_accuracy <= FOOLED and health.real_accuracy > FOOLED:
        return Verdict(
            f"G is winning: D rejects {fake} % of fakes only",
            "D often catches up; if it does not, start again with a smaller --lr.",
        )
    if max(health.real_spread, health.fake_spread) < ASLEEP:
        return Verdict(
            "D says the same of every picture",
            "Go on for an epoch; if it stays, start again with a smaller --lr.",
        )
    if health.dead > DEAD:
        return Verdict(
            f"{health.dead:.0%} of the LeakyReLU channels are dead",
            "They learn slowly; if the pictures do not get better, start again with a smaller --lr.",
        )
    return Verdict(f"healthy: D knows {real} % of real pictures and {fake} % of fakes")
