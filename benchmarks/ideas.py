"""Ideas that a trial of `benchmarks.recipes` can add to a recipe, for which tinygan has no setting.

They patch the fast engine's step from outside, each as little as possible; those that pay become settings.
r and f are D's logits, (N, 1) for real images and (M, 1) for fakes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, partialmethod
from math import cos, pi
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from tinygan import penalty
from tinygan.arrays import Array
from tinygan.average import Average
from tinygan.errors import UsageError
from tinygan.fast import gan
from tinygan.fast.dcgan import layers_of
from tinygan.ops.loss import sigmoid
from tinygan.rng import stream
from tinygan.runs.settings import Settings
from tinygan.runs.state import State


def softplus(x: Array) -> Array:
    return np.logaddexp(x, np.zeros_like(x))


class Losses(NamedTuple):
    """Both losses, and the gradients of D's loss by r and by f and of G's loss by f."""

    d_loss: Any
    g_loss: Any
    by_real: Array
    by_fake: Array
    by_fooled: Array


def logistic(r: Array, f: Array, smooth: float = 1.0) -> Losses:
    """The tutorial's loss. `smooth` is D's target for real images (Salimans et al. 2016, arXiv 1606.03498,
    section 3.4)."""
    d_loss = (softplus(r) - smooth * r).mean() + softplus(f).mean()
    return Losses(
        d_loss, softplus(-f).mean(),
        (sigmoid(r) - smooth) / r.size, sigmoid(f) / f.size, (sigmoid(f) - 1) / f.size,
    )  # fmt: skip


def hinge(r: Array, f: Array) -> Losses:
    """Lim & Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957, equations 16 and 17."""
    d_loss = np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean()
    by_real, by_fake = (r < 1) * (-1 / r.size), (f > -1) * (1 / f.size)
    return Losses(d_loss, -f.mean(), by_real, by_fake, np.full_like(f, -1 / f.size))


def squares(r: Array, f: Array) -> Losses:
    """Least squares: twice equation 2 of Mao et al. 2016, arXiv 1611.04076, with a = -1, b = c = 1."""
    d_loss = ((r - 1) ** 2).mean() + ((f + 1) ** 2).mean()
    by_real, by_fake, by_fooled = 2 * (r - 1) / r.size, 2 * (f + 1) / f.size, 2 * (f - 1) / f.size
    return Losses(d_loss, ((f - 1) ** 2).mean(), by_real, by_fake, by_fooled)


def pairs(r: Array, f: Array) -> Losses:
    """Compares each fake with one real image (relativistic): Jolicoeur-Martineau 2018, arXiv 1807.00734."""
    n = min(len(r), len(f))
    apart = r[:n] - f[:n]
    by_real, by_fake, by_fooled = np.zeros_like(r), np.zeros_like(f), np.zeros_like(f)
    by_fake[:n] = sigmoid(-apart) / n
    by_real[:n], by_fooled[:n] = -by_fake[:n], -sigmoid(apart) / n
    return Losses(softplus(-apart).mean(), softplus(apart).mean(), by_real, by_fake, by_fooled)


def means(r: Array, f: Array) -> Losses:
    """Compares each logit with the other kind's mean (relativistic average): arXiv 1807.00734."""
    real, fake = r - f.mean(), f - r.mean()
    a, b = -sigmoid(-real) / r.size, sigmoid(fake) / f.size  # gradients of D's loss by `real` and by `fake`
    c, d = sigmoid(real) / r.size, -sigmoid(-fake) / f.size  # the same for G's loss
    return Losses(
        softplus(-real).mean() + softplus(fake).mean(), softplus(real).mean() + softplus(-fake).mean(),
        a - b.sum() / r.size, b - a.sum() / f.size, d - c.sum() / f.size,
    )  # fmt: skip


LOSSES: dict[str, Callable[..., Losses]] = {
    "logistic": logistic, "hinge": hinge, "squares": squares, "pairs": pairs, "means": means,
}  # fmt: skip
FALLS: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: 1 - progress,
    "half": lambda progress: min(1, 2 * (1 - progress)),
    "cosine": lambda progress: (1 + cos(pi * progress)) / 2,
}
IDEAS: dict[str, str] = {
    "falls": "the learning rates fall to 0: linear, cosine, or half, which is linear over the last half",
    "every": f"steps between penalties; tinygan: {penalty.EVERY}",
    "reach": "average the weights over the training so far divided by this; tinygan: 9",
    "loss": f"instead of logistic: {', '.join(list(LOSSES)[1:])}",
    "smooth": "D's target for real images, such as 0.9",
    "top": "G learns only from this share of the fakes, those that D finds most real; the share falls from 1 "
    "over the first half of the time (Sinha et al. 2020, arXiv 2002.06224)",
    "noise": "add normal noise of this standard deviation to all of D's input; it fades to 0 "
    "(Sønderby et al. 2016, arXiv 1610.04490)",
    "fades": "1: dropout falls to 0",
    "init": "standard deviation of the kernels' normal initial values, such as 0.02 (Radford et al. 2015)",
    "eps": "Adam's epsilon; tinygan: 1e-7",
    "grows": "train in this number of equal parts, each with twice the batch size of the one before",
}


def check_ideas(chosen: Mapping[str, Any], settings: Settings) -> None:
    """Raises: UsageError if an idea cannot have its value, or changes nothing with these settings."""
    known = {"loss": LOSSES, "falls": FALLS}
    for name, value in chosen.items():
        if name in known and value not in known[name]:
            raise UsageError(f"{name}={value} is unknown. Use one of: {', '.join(known[name])}.")
        if name not in known and not (isinstance(value, int | float) and value > 0):
            raise UsageError(f"{name}={value} is not a number above 0.")
    idle = {
        "fades": settings.dropout == 0, "every": settings.penalty == 0, "reach": settings.average == 0,
        "smooth": chosen.get("loss", "logistic") != "logistic",
    }  # fmt: skip
    for name in chosen:
        if idle.get(name):
            raise UsageError(f"{name} changes nothing in this trial. Leave it out.")


class Ideas:
    """Applies the `chosen` ideas of a trial, which passed `check_ideas`, to the training of `state`."""

    def __init__(self, chosen: Mapping[str, Any], state: State) -> None:
        self.chosen, self.state, self.progress, self.step = chosen, state, 0.0, state.step
        self.rates = {adam: adam.lr for adam in state.adams.values()}
        self.random = stream(state.settings.seed, "samples").at(2)  # no other code draws from it
        for adam in self.rates:
            adam.eps = chosen.get("eps", adam.eps)
        for network in (state.G, state.D) if "init" in chosen and not state.step else ():
            for number, (name, tensor) in enumerate(network.parameters.items()):
                if name.endswith("kernel"):
                    start = self.random.at(int(network is state.D), number).normal(tensor.shape)
                    tensor.data = np.float32(chosen["init"]) * start

    def batch_size(self, first: int, progress: float) -> int:
        """The batch size at `progress`, from 0 to 1; it starts at `first`."""
        return first << int(min(progress, 0.999) * self.chosen.get("grows", 1))

    @contextmanager
    def at(self, progress: float, number: int) -> Iterator[None]:
        """Apply the ideas to the steps in this context, from step `number` on; `progress` is from 0 to 1."""
        self.progress, self.step, chosen = progress, number, self.chosen
        for adam, rate in self.rates.items():
            adam.lr = rate * FALLS.get(chosen.get("falls", ""), lambda _: 1)(progress)
        for stage in layers_of(self.state.G, self.state.D).down if chosen.get("fades") else ():
            stage.dropout.rate = self.state.settings.dropout * (1 - progress)
        with ExitStack() as changed:
            if {"loss", "smooth", "top"} & chosen.keys():
                changed.enter_context(patch.object(gan, "losses_and_slopes", self.losses_and_slopes))
            if "noise" in chosen:
                see = gan.discriminator
                changed.enter_context(patch.object(gan, "discriminator", partial(self.through_noise, see)))
            if "every" in chosen:
                changed.enter_context(patch.object(penalty, "EVERY", chosen["every"]))
            if "reach" in chosen:
                changed.enter_context(patch.object(Average, "update", partialmethod(update, chosen["reach"])))
            yield

    def losses_and_slopes(self, bce: Any, logits: Array, N: int) -> tuple[Array, Array, Array]:
        """Replaces `fast.gan.losses_and_slopes`."""
        smooth = {"smooth": self.chosen["smooth"]} if "smooth" in self.chosen else {}
        losses = LOSSES[self.chosen.get("loss", "logistic")](logits[:N], logits[N:], **smooth)
        by_fooled, fakes = losses.by_fooled, logits[N:, 0]
        if "top" in self.chosen:
            share = 1 - (1 - self.chosen["top"]) * min(1, 2 * self.progress)
            count = max(1, round(share * len(fakes)))
            by_fooled = np.zeros_like(by_fooled)
            chosen = np.argsort(-fakes)[:count]
            by_fooled[chosen] = losses.by_fooled[chosen] * (len(fakes) / count)
        slopes = np.concatenate([losses.by_real, losses.by_fake, by_fooled])
        kind = logits.dtype.type
        return kind(losses.d_loss), kind(losses.g_loss), slopes.astype(logits.dtype)

    def through_noise(self, see: Any, line: Any, layers: Any, plans: Any, pictures: Array, *more: Any) -> Any:
        """Replaces `fast.gan.discriminator`, which is `see`."""
        deviation = np.float32(self.chosen["noise"] * (1 - self.progress))
        noise = self.random.at(self.step).normal(pictures.shape)
        return see(line, layers, plans, pictures + deviation * noise, *more)


def update(average: Average, reach: float, step: int) -> None:
    """Replaces `Average.update`, where `reach` is 9."""
    t, rest = divmod(step, average.EVERY)
    if rest == 0:
        d = min(average.decay, (1 + t) / (1 + reach + t))
        for name, source in average.sources.items():
            averaged = average.averaged[name]
            averaged.data = averaged.data + (1 - d) * (source.data - averaged.data)
