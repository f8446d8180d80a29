"""Explains one training step in words, with the numbers of a real step and the lines of code behind them."""

import inspect
from collections.abc import Iterator
from itertools import groupby
from math import log, sqrt
from pathlib import Path
from types import ModuleType

import numpy as np

from tinygan import autograd, average, gan, models, optim, penalty
from tinygan.autograd import Tensor, grad
from tinygan.data import dataset
from tinygan.errors import UsageError, plural
from tinygan.fast.originals import changed, described
from tinygan.layers import Network
from tinygan.ops import loss
from tinygan.runs import trainer
from tinygan.runs.trainer import StepByStep
from tinygan.views.inspection import PACKAGE


def place(module: ModuleType, code: str) -> str:
    """The line of a module that contains `code`: ``[tinygan/gan.py:58]``; empty if a reader changed it."""
    for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
        if code in line:
            return f"[{Path(str(module.__file__)).relative_to(PACKAGE).as_posix()}:{number}]"
    return ""


def explain(stepping: StepByStep) -> Iterator[tuple[str, list[str]]]:
    """Take the next step on the readable engine; yield titles, each with its sentences. Afterwards only the
    weights and both Adams are valid. Raises: UsageError if a function that the words describe was changed."""
    in_words = ("gan.", "ops.loss.", "autograd.grad", "optim.")
    if edits := [name for name in changed() if name.startswith(in_words)]:
        raise UsageError(f"{described(edits)}: only the original step can be explained. Use --layers.")
    state = stepping.state
    G, D, adam = state.G, state.D, state.adam_G
    name = [key for key in G.parameters if key.endswith("kernel")][-1]  # follow the weight in its middle
    middle = (*(side // 2 for side in G.parameters[name].shape[:2]), 0, 0)

    def weight_m_v() -> list[float]:
        """The followed weight, and Adam's running means of its gradients and of their squares."""
        return [float(array[middle]) for array in (G.parameters[name].data, adam.m[name], adam.v[name])]

    batch, before = stepping.batch(), weight_m_v()
    found = gan.train_step(G, D, adam, state.adam_D, *batch)
    images, noise, fakes = batch.images, batch.noise, found.fakes.data
    seen = f"{plural(len(images), 'real image')} and {plural(len(noise), 'vector')} of noise"
    step = f"The next step, {state.step + 1:,} (epoch {stepping.epoch + 1})"
    yield step, [f"It uses {seen}. {place(gan, 'def train_step')}"]
    numbers = " ".join(f"{number:+.2f}" for number in noise[0][:6])
    yield "Noise", [
        f"G starts from {plural(len(noise), 'vector')} of {noise.shape[1]} normally distributed numbers. "
        f"{place(trainer, 'noise = stream(')} The first starts {numbers}. {place(gan, 'fakes = G(noise')}"
    ]
    shapes = ["x".join(map(str, shape)) for shape in (G.input_shape, *G.shapes.values())]
    changes = " -> ".join(shape for shape, _ in groupby(shapes))
    yield "The generator", [
        f"Layer by layer, each vector becomes a picture: {changes}. {place(models, 'layers.Network(')}",
        f"Its pixels range from -1 (dark) to 1 (bright). {place(models, 'Tanh()')} Their mean is "
        f"{fakes.mean():+.2f} in the fakes and {images.mean():+.2f} in the real images; their standard "
        f"deviations are {fakes.std():.2f} and {images.std():.2f}. {place(dataset, 'def normalise')}",
    ]
    yield from _answers(D, found)
    gradients = _gradients(G, D, found)
    if state.settings.penalty:
        every = f"Every {penalty.EVERY} steps, D also gets a penalty for steep answers around real images"
        gradients.append(f"{every}; it is left out here. {place(penalty, 'def r1_gradients')}")
    yield "The gradients", gradients
    slope = float(found.g_gradients[list(G.parameters).index(name)][middle])
    sentences = _adam(adam, f"{name}{list(middle)}", slope, before, weight_m_v())
    if state.average:
        often = f"every {state.average.EVERY} steps. {place(average, 'average.data = average.data')}"
        sentences.append(f"The pictures you see come from a running average of G's weights, updated {often}")
    yield "Adam", sentences
    after = gan.losses_and_gradients(G, D, *stepping.batch())
    yield "After the step", [
        f"On the same batch again, D's loss goes from {float(found.d_loss):.4f} to "
        f"{float(after.d_loss):.4f}, G's from {float(found.g_loss):.4f} to {float(after.g_loss):.4f}. "
        "Both networks changed at once, each against the other, so either loss can rise. "
        f"{place(gan, 'd_loss = discriminator_loss')}"
    ]


def _answers(D: Network, found: gan.LossesAndGradients) -> Iterator[tuple[str, list[str]]]:
    """D's answers, above all to the first real image and the first fake; then the losses."""
    (real, p_real), (fake, p_fake) = _first(found.real_logits), _first(found.fake_logits)
    dropout = any(getattr(layer, "rate", 0) for layer in D.layers.values())
    why = f"Dropout makes it less certain during training. {place(models, 'Dropout(')}" if dropout else ""
    right_real, right_fake = (found.real_logits.data > 0).sum(), (found.fake_logits.data < 0).sum()
    yield "The discriminator", [
        f"It gives the first real image the logit {real:+.3f}: a probability of being real of 1 / (1 + "
        f"exp({-real:.3f})) = {p_real:.3f}. {place(gan, 'real_logits = D(')} {place(loss, 'def sigmoid')}",
        f"The first fake gets {fake:+.3f}, a probability of {p_fake:.3f}. {place(gan, 'fake_logits = D(')}",
        f"It is right about {right_real} of {plural(len(found.real_logits.data), 'real image')} (logits "
        f"above 0) and {right_fake} of {plural(len(found.fake_logits.data), 'fake')} (logits below 0). {why}",
    ]
    real_half = float(loss.bce_with_logits(found.real_logits, target=1.0))
    fake_half = float(loss.bce_with_logits(found.fake_logits, target=0.0))
    yield "The losses", [
        f"D's target for a real image is 1. The first loss is -log({p_real:.3f}) = "
        f"{-np.log(p_real):.3f}; the average over the batch is {real_half:.3f}. "
        f"{place(loss, 'losses = xp.maximum')}",
        f"D's target for a fake is 0. The first loss is -log(1 - {p_fake:.3f}) = {-np.log(1 - p_fake):.3f};"
        f" the average is {fake_half:.3f}. {place(gan, 'bce_with_logits(fake_logits, target=0.0')}",
        f"D's loss is the sum of the two averages: {float(found.d_loss):.3f}. If D only guesses, it is "
        f"-2 log(1/2) = {2 * log(2):.3f}. {place(gan, 'def discriminator_loss')}",
        f"G's target for a fake is 1. The first loss is -log({p_fake:.3f}) = {-np.log(p_fake):.3f}; "
        f"the average, {float(found.g_loss):.3f}, is G's loss. If D only guesses, it is {log(2):.3f}. "
        f"{place(gan, 'def generator_loss')}",
    ]


def _gradients(G: Network, D: Network, found: gan.LossesAndGradients) -> list[str]:
    to_logit, to_picture = grad(found.g_loss, [found.fake_logits, found.fakes])
    (d_to_logit,) = grad(found.d_loss, [found.fake_logits])
    row, column, channel = np.unravel_index(np.abs(to_picture[0]).argmax(), to_picture[0].shape)
    slope = float(to_picture[0, row, column, channel])
    (_, p_fake), M = _first(found.fake_logits), len(to_picture)
    return [
        f"The gradient of G's loss with respect to the first fake's logit is (sigmoid - target) / batch = "
        f"({p_fake:.3f} - 1) / {M} = {float(to_logit[0, 0]):+.5f}: the loss falls as the logit rises. "
        f"{place(loss, 'error = xp.where')}",
        f"For D's loss it is ({p_fake:.3f} - 0) / {M} = {float(d_to_logit[0, 0]):+.5f}: the two losses "
        f"pull the logit in opposite directions. {place(loss, 'error = xp.where')}",
        f"The chain rule carries the gradient of G's loss back through D to the picture. In the first "
        f"fake it is largest at row {row}, column {column}, {slope:+.6f}: this pixel should become "
        f"{'darker' if slope > 0 else 'brighter'}. {place(autograd, 'op.backward(')}",
        "From there it continues through G to every weight; D's weights do not use it. The norms of G's "
        f"gradients, kernel by kernel: {lengths(G, found.g_gradients)}. {place(gan, 'g_gradients = grad(')}",
        f"Of D's, from D's loss: {lengths(D, found.d_gradients)}. {place(gan, 'd_gradients = grad(')}",
    ]


def _adam(adam: optim.Adam, which: str, slope: float, before: list[float], after: list[float]) -> list[str]:
    (old, old_m, old_v), (new, m, v) = before, after
    rate = adam.lr * sqrt(1 - adam.beta2**adam.t) / (1 - adam.beta1**adam.t)
    return [
        f"Take one weight of G, {which}: {old:+.6f}. Its gradient is {slope:+.3e}. "
        f"{place(gan, 'adam_G.step(')}",
        f"The running mean of its gradients goes from {old_m:+.3e} to {m:+.3e}: {adam.beta1:g} times the old "
        f"mean plus {1 - adam.beta1:g} times the new gradient. {place(optim, 'm = self.m[name] =')}",
        f"The running mean of their squares goes from {old_v:.3e} to {v:.3e}: {adam.beta2:g} times the old "
        f"mean plus {1 - adam.beta2:g} times the new square. {place(optim, 'v = self.v[name] =')}",
        f"The step size of Adam's step {adam.t} is {adam.lr:g} sqrt(1 - {adam.beta2:g}^{adam.t})"
        f" / (1 - {adam.beta1:g}^{adam.t}) = {rate:.3e}: both means start at 0, and the fraction corrects "
        f"that. {place(optim, 'rate = self.lr')}",
        f"So the weight moves by -{rate:.3e} x {m:+.3e} / (sqrt({v:.3e}) + {adam.eps:g}) = "
        f"{new - old:+.3e}, to {new:+.6f}. The size of the gradients cancels out; what counts is how "
        f"consistently they point one way. {place(optim, 'parameter.data = parameter.data')}",
    ]


def _first(logits: Tensor) -> tuple[float, float]:
    """The first of D's logits, and the probability of "real" that it means."""
    logit = np.float64(logits.data[0, 0])
    return float(logit), float(loss.sigmoid(logit))


def lengths(network: Network, gradients: list[np.ndarray]) -> str:
    """The Euclidean norm of each kernel's gradient, as text."""
    found = zip(network.parameters, gradients, strict=True)
    return ", ".join(f"{name} {np.linalg.norm(g):.4f}" for name, g in found if name.endswith("kernel"))
