"""One training step in words, with the numbers of a real step and the place of the code that made each.

It takes the step that the run would take next, with the readable engine, and describes what happens on
the way: noise, picture, logit, both losses, gradients, new weights.
"""

import inspect
from collections.abc import Iterator
from itertools import groupby
from math import log, sqrt
from pathlib import Path
from types import ModuleType

import numpy as np

from tinygan import autograd, average, gan, models, optim
from tinygan.autograd import grad
from tinygan.data import Dataset, dataset
from tinygan.errors import UsageError
from tinygan.fast.originals import changed, described
from tinygan.layers import Network
from tinygan.ops import loss
from tinygan.runs import trainer
from tinygan.runs.state import State
from tinygan.runs.trainer import StepByStep
from tinygan.views.inspection import PACKAGE


def place(module: ModuleType, code: str) -> str:
    """Where `code` stands in a module: ``[tinygan/gan.py:58]``. Nothing where a reader changed it."""
    for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
        if code in line:
            return f"[{Path(str(module.__file__)).relative_to(PACKAGE).as_posix()}:{number}]"
    return ""


def explain(state: State, data: Dataset) -> Iterator[tuple[str, list[str]]]:
    """The next step of `state`, of the readable engine: pairs of a title and the sentences below it.

    The weights and both Adams of `state` take the step; the rest of it is spoilt.

    Raises:
        UsageError: the words do not fit the code, for a function was changed.
    """
    in_words = ("gan.", "ops.loss.", "autograd.grad", "optim.")
    if edits := [name for name in changed() if name.startswith(in_words)]:
        raise UsageError(f"{described(edits)}: tinygan.explain has words for the original alone.")
    step = _Step(state, data)
    yield f"Step {state.step + 1:,}, in epoch {step.epoch}", step.batch()
    yield "Noise", step.from_noise()
    yield "The generator", step.generator()
    yield "The discriminator", step.discriminator()
    yield "The losses", step.losses()
    yield "The gradients", step.gradients()
    yield "Adam", step.adam()
    yield "After the step", step.afterwards()


class _Step:
    """A training step, taken when this object is made; each method describes a part of it in sentences."""

    def __init__(self, state: State, data: Dataset) -> None:
        self.G, self.D, self.adam_G, self.average = state.G, state.D, state.adam_G, state.average
        self.stepping = StepByStep(state, data)
        batch = self.stepping.batch()
        self.epoch = self.stepping.epoch + 1
        self.images, self.noise = batch.images, batch.noise
        self.N, self.M = len(self.images), len(self.noise)
        # The weight that is followed: in the middle of G's last kernel.
        self.name = [key for key in self.G.parameters if key.endswith("kernel")][-1]
        self.middle = (*(side // 2 for side in self.G.parameters[self.name].shape[:2]), 0, 0)
        self.old = self._weight_m_v()
        self.found = gan.train_step(self.G, self.D, self.adam_G, state.adam_D, *batch)
        self.new = self._weight_m_v()
        self.d_loss, self.g_loss = float(self.found.d_loss), float(self.found.g_loss)
        # D's answers to the first real image and to the first fake.
        self.real = float(self.found.real_logits.data[0, 0])
        self.fake = float(self.found.fake_logits.data[0, 0])
        self.p_real, self.p_fake = (float(loss.sigmoid(np.asarray(x))) for x in (self.real, self.fake))

    def _weight_m_v(self) -> list[float]:
        """The followed weight, and Adam's averages of its gradients and of their squares."""
        arrays = self.G.parameters[self.name].data, self.adam_G.m[self.name], self.adam_G.v[self.name]
        return [float(array[self.middle]) for array in arrays]

    def batch(self) -> list[str]:
        return [
            f"It sees {self.N} real images and {self.M} vectors of noise. {place(gan, 'def train_step')}"
        ]

    def from_noise(self) -> list[str]:
        numbers = " ".join(f"{number:+.2f}" for number in self.noise[0][:6])
        return [
            f"G starts from {self.M} vectors of {self.noise.shape[1]} random numbers, normally distributed. "
            f"{place(trainer, 'noise = stream(')} The first begins {numbers}. {place(gan, 'fakes = G(noise')}"
        ]

    def generator(self) -> list[str]:
        shapes = ["x".join(map(str, shape)) for shape in (self.G.input_shape, *self.G.shapes.values())]
        changes = " -> ".join(shape for shape, _ in groupby(shapes))
        fakes, images = self.found.fakes.data, self.images
        return [
            f"Layer by layer each vector becomes a picture: {changes}. {place(models, 'layers.Network(')}",
            f"Its pixels lie between -1, dark, and 1, bright. {place(models, 'Tanh()')} Their mean is "
            f"{fakes.mean():+.2f} in the fakes and {images.mean():+.2f} in the real images; their standard "
            f"deviation is {fakes.std():.2f} and {images.std():.2f}. {place(dataset, 'def normalise')}",
        ]

    def discriminator(self) -> list[str]:
        dropout = any(getattr(layer, "rate", 0) for layer in self.D.layers.values())
        why = f"Dropout makes it less certain in training. {place(models, 'Dropout(')}" if dropout else ""
        real, fake = (self.found.real_logits.data > 0).sum(), (self.found.fake_logits.data < 0).sum()
        return [
            f"It gives the first real image the logit {self.real:+.3f}: as a probability of being real, "
            f"1 / (1 + exp({-self.real:.3f})) = {self.p_real:.3f}. {place(gan, 'real_logits = D(')} "
            f"{place(loss, 'def sigmoid')}",
            f"The first fake gets {self.fake:+.3f}: {self.p_fake:.3f}. {place(gan, 'fake_logits = D(')}",
            f"It is right about {real} of {self.N} real images and {fake} of {self.M} fakes: those with a "
            f"logit above 0, and below. {why}",
        ]

    def losses(self) -> list[str]:
        p_real, p_fake, log_p_fake = self.p_real, self.p_fake, np.log(self.p_fake)
        real_half = float(loss.bce_with_logits(self.found.real_logits, target=1.0))
        fake_half = float(loss.bce_with_logits(self.found.fake_logits, target=0.0))
        return [
            f"D's target for a real image is 1. The first one's loss is -log({p_real:.3f}) = "
            f"{-np.log(p_real):.3f}, on average over the batch {real_half:.3f}. "
            f"{place(loss, 'losses = xp.maximum')}",
            f"D's target for a fake is 0: -log(1 - {p_fake:.3f}) = {-np.log(1 - p_fake):.3f}, on average "
            f"{fake_half:.3f}. {place(gan, 'bce_with_logits(fake_logits, target=0.0')}",
            f"D's loss is the sum of both averages: {self.d_loss:.3f}. For a D that guesses it is "
            f"-2 log(1/2) = {2 * log(2):.3f}. {place(gan, 'def discriminator_loss')}",
            f"G's target for a fake is 1: -log({p_fake:.3f}) = {-log_p_fake:.3f} for the first, on average "
            f"{self.g_loss:.3f}: G's loss; {log(2):.3f} where D guesses. {place(gan, 'def generator_loss')}",
        ]

    def gradients(self) -> list[str]:
        found, p_fake, M = self.found, self.p_fake, self.M
        to_logit, to_picture = grad(found.g_loss, [found.fake_logits, found.fakes])
        (d_to_logit,) = grad(found.d_loss, [found.fake_logits])
        row, column, channel = np.unravel_index(np.abs(to_picture[0]).argmax(), to_picture[0].shape)
        slope = float(to_picture[0, row, column, channel])
        return [
            f"By how much does G's loss change with the first fake's logit? (sigmoid - target) / batch = "
            f"({p_fake:.3f} - 1) / {M} = {float(to_logit[0, 0]):+.5f}: it falls as the logit rises. "
            f"{place(loss, 'error = xp.where')}",
            f"D's loss changes by ({p_fake:.3f} - 0) / {M} = {float(d_to_logit[0, 0]):+.5f}: the two "
            f"losses pull the logit in opposite directions. {place(loss, 'error = xp.where')}",
            f"The chain rule carries the gradient of G's loss back through D to the picture. In the first "
            f"fake it is largest at row {row}, column {column}, {slope:+.6f}: this pixel should become "
            f"{'darker' if slope > 0 else 'brighter'}. {place(autograd, 'op.backward(')}",
            "It goes on through G, to every weight; D's own weights stay out of it. The lengths of the "
            f"gradients, kernel by kernel: {lengths(self.G, found.g_gradients)}. "
            f"{place(gan, 'g_gradients = grad(')}",
            f"D's, of its own loss: {lengths(self.D, found.d_gradients)}. "
            f"{place(gan, 'd_gradients = grad(')}",
        ]

    def adam(self) -> list[str]:
        adam, (old, old_m, old_v), (new, m, v) = self.adam_G, self.old, self.new
        gradient = float(self.found.g_gradients[list(self.G.parameters).index(self.name)][self.middle])
        rate = adam.lr * sqrt(1 - adam.beta2**adam.t) / (1 - adam.beta1**adam.t)
        sentences = [
            f"Take one weight of G, {self.name}{list(self.middle)}: {old:+.6f}. Its gradient is "
            f"{gradient:+.3e}. {place(gan, 'adam_G.step(')}",
            f"The average of its gradients goes from {old_m:+.3e} to {m:+.3e}: {adam.beta1:g} of the old, "
            f"{1 - adam.beta1:g} of the new. {place(optim, 'm = self.m[name] =')}",
            f"The average of their squares goes from {old_v:.3e} to {v:.3e}: {adam.beta2:g} of the old, "
            f"{1 - adam.beta2:g} of the new. {place(optim, 'v = self.v[name] =')}",
            f"Adam's step number {adam.t} is {adam.lr:g} sqrt(1 - {adam.beta2:g}^{adam.t})"
            f" / (1 - {adam.beta1:g}^{adam.t}) = {rate:.3e} long: both averages began at 0, and the fraction "
            f"makes up for it. {place(optim, 'rate = self.lr')}",
            f"So the weight moves by -{rate:.3e} x {m:+.3e} / (sqrt({v:.3e}) + {adam.eps:g}) = "
            f"{new - old:+.3e}, to {new:+.6f}. The length of the gradients cancels: what counts is how "
            f"steadily they point one way. {place(optim, 'parameter.data = parameter.data')}",
        ]
        if self.average:
            sentences.append(
                "The average of G's weights, which makes the pictures you see, follows every "
                f"{self.average.EVERY} steps. {place(average, 'average.data = average.data')}"
            )
        return sentences

    def afterwards(self) -> list[str]:
        after = gan.losses_and_gradients(self.G, self.D, *self.stepping.batch())
        return [
            f"The same batch once more: D's loss goes from {self.d_loss:.4f} to {float(after.d_loss):.4f}, "
            f"G's from {self.g_loss:.4f} to {float(after.g_loss):.4f}. Both networks have changed at once, "
            f"each against the other, so one of the losses may rise. "
            f"{place(gan, 'd_loss = discriminator_loss')}",
        ]


def lengths(network: Network, gradients: list[np.ndarray]) -> str:
    """The Euclidean length of each kernel's gradient."""
    found = zip(network.parameters, gradients, strict=True)
    return ", ".join(f"{name} {np.linalg.norm(g):.4f}" for name, g in found if name.endswith("kernel"))
