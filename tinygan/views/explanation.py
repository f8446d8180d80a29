"""One training step in words, with the numbers of a real step and the place of the code that made each.

It takes the very step that the run would take next, with the readable engine, and tells what happens
on the way: noise, picture, logit, both losses, gradients, new weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
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
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import StepByStep, schedule

PACKAGE = Path(models.__file__).parent.parent


def place(module: ModuleType, code: str) -> str:
    """Where `code` stands in a module: ``[tinygan/gan.py:58]``. Nothing where a reader changed it."""
    for number, line in enumerate(inspect.getsource(module).splitlines(), start=1):
        if code in line:
            return f"[{Path(str(module.__file__)).relative_to(PACKAGE).as_posix()}:{number}]"
    return ""


def explain(state: State, data: Dataset, settings: Settings) -> Iterator[tuple[str, list[str]]]:
    """The next step of `state`, which it takes: pairs of a title and the sentences below it.

    `state` is of the readable engine; afterwards it is where `gan.train_step` would have left it.

    Raises:
        UsageError: the words do not fit the code, for a function was changed.
    """
    in_words = ("gan.", "ops.loss.", "autograd.grad", "optim.")
    if edits := [name for name in changed() if name.startswith(in_words)]:
        raise UsageError(f"{described(edits)}: --explain has words for the original alone.")
    G, D, step = state.G, state.D, state.step
    steps_per_epoch, _ = schedule(settings, len(data.images))
    stepping = StepByStep(state, data, settings, G.backend)
    batch = stepping.batch()
    images, noise = batch.images, batch.noise
    N, M = len(images), len(noise)
    name = [key for key in G.parameters if key.endswith("kernel")][-1]  # of which one weight is followed
    number, adam = list(G.parameters).index(name), state.adam_G
    middle = tuple(side // 2 for side in G.parameters[name].shape[:2]) + (0, 0)
    old = [float(array[middle]) for array in (G.parameters[name].data, adam.m[name], adam.v[name])]
    found = gan.train_step(G, D, adam, state.adam_D, *batch)
    fakes, real_logits, fake_logits, d_loss, g_loss, d_gradients, g_gradients = found
    yield (
        f"Step {step + 1:,}, in epoch {step // steps_per_epoch + 1}",
        [f"It sees {N} real images and {M} vectors of noise. {place(gan, 'def train_step')}"],
    )

    numbers = " ".join(f"{number:+.2f}" for number in noise[0][:6])
    yield (
        "Noise",
        [
            f"G starts from {M} vectors of {noise.shape[1]} random numbers, normally distributed. "
            f"{place(trainer, 'noise = stream(')} The first begins {numbers}. "
            f"{place(gan, 'fakes = G(noise')}",
        ],
    )

    shapes = ["x".join(map(str, shape)) for shape in (G.input_shape, *G.shapes.values())]
    stations = " -> ".join(shape for i, shape in enumerate(shapes) if i == 0 or shape != shapes[i - 1])
    yield (
        "G paints",
        [
            f"Layer by layer each vector becomes a picture: {stations}. {place(models, 'layers.Network(')}",
            f"Its pixels lie between -1, dark, and 1, bright. {place(models, 'Tanh()')} Their mean is "
            f"{fakes.data.mean():+.2f} in the fakes and {images.mean():+.2f} in the real images; the fakes' "
            f"spread is {fakes.data.std():.2f}, the real images' {images.std():.2f}. "
            f"{place(dataset, 'def normalise')}",
        ],
    )

    dropout = any(getattr(layer, "rate", 0) for layer in D.layers.values())
    why = f"Dropout makes it less sure while it learns. {place(models, 'Dropout(')}" if dropout else ""
    real, fake = float(real_logits.data[0, 0]), float(fake_logits.data[0, 0])
    p_real, p_fake = (float(loss.sigmoid(np.asarray(logit))) for logit in (real, fake))
    right = int((real_logits.data > 0).sum()), int((fake_logits.data < 0).sum())
    yield (
        "D judges",
        [
            f"It gives the first real image the logit {real:+.3f}: as a probability of being real, "
            f"1 / (1 + exp({-real:.3f})) = {p_real:.3f}. {place(gan, 'real_logits = D(')} "
            f"{place(loss, 'def sigmoid')}",
            f"The first fake gets {fake:+.3f}: {p_fake:.3f}. {place(gan, 'fake_logits = D(')}",
            f"It is right about {right[0]} of {N} real images and {right[1]} of {M} fakes: those with a "
            f"logit above 0, and below. {why}",
        ],
    )

    real_half, fake_half = (
        float(loss.bce_with_logits(logits, target=target))
        for logits, target in ((real_logits, 1.0), (fake_logits, 0.0))
    )
    yield (
        "The losses",
        [
            f"D should say 1 to a real image. For the first that costs -log({p_real:.3f}) = "
            f"{-np.log(p_real):.3f}, on "
            f"average over the batch {real_half:.3f}. {place(loss, 'losses = xp.maximum')}",
            f"D should say 0 to a fake: -log(1 - {p_fake:.3f}) = {-np.log(1 - p_fake):.3f}, on average "
            f"{fake_half:.3f}. {place(gan, 'bce_with_logits(fake_logits, target=0.0')}",
            f"D's loss is the sum of both averages: {float(d_loss):.3f}. If it could only guess, it "
            f"would be -2 log(1/2) = {2 * log(2):.3f}. {place(gan, 'def discriminator_loss')}",
            f"G wants D to say 1 to its fakes: -log({p_fake:.3f}) = {-np.log(p_fake):.3f} for the "
            f"first, on average {float(g_loss):.3f}: G's loss; {log(2):.3f} if D could only guess. "
            f"{place(gan, 'def generator_loss')}",
        ],
    )

    to_logit, to_picture = grad(g_loss, [fake_logits, fakes])
    (d_to_logit,) = grad(d_loss, [fake_logits])
    _, row, column, _ = np.unravel_index(np.abs(to_picture[:1]).argmax(), to_picture[:1].shape)
    push = float(to_picture[0, row, column, 0])
    yield (
        "The gradients",
        [
            f"By how much does G's loss change with the first fake's logit? (sigmoid - wanted) / batch = "
            f"({p_fake:.3f} - 1) / {M} = {float(to_logit[0, 0]):+.5f}: it falls as the logit rises. "
            f"{place(loss, 'error = xp.where')}",
            f"D's loss changes by ({p_fake:.3f} - 0) / {M} = {float(d_to_logit[0, 0]):+.5f}: the two "
            f"want opposite things. {place(loss, 'error = xp.where')}",
            f"The chain rule carries G's wish back through D to the picture. The pixel in row {row}, "
            f"column {column} of the first fake gets the most of it, {push:+.6f}: it should become "
            f"{'darker' if push > 0 else 'brighter'}. {place(autograd, 'op.backward(')}",
            "And on through G, to every weight; D's own weights stay out of it. The lengths of the "
            f"gradients, kernel by kernel: {lengths(G, g_gradients)}. {place(gan, 'g_gradients = grad(')}",
            f"D's, of its own loss: {lengths(D, d_gradients)}. {place(gan, 'd_gradients = grad(')}",
        ],
    )

    new = [float(array[middle]) for array in (G.parameters[name].data, adam.m[name], adam.v[name])]
    state.step += 1
    if state.average:
        state.average.update(state.step)
    gradient = float(g_gradients[number][middle])
    rate = adam.lr * sqrt(1 - adam.beta2**adam.t) / (1 - adam.beta1**adam.t)
    sentences = [
        f"Take one weight of G, {name}{list(middle)}: {old[0]:+.6f}. Its gradient is {gradient:+.3e}. "
        f"{place(gan, 'adam_G.step(')}",
        f"The average of its gradients goes from {old[1]:+.3e} to {new[1]:+.3e}: "
        f"{adam.beta1:g} of the old, {1 - adam.beta1:g} of the new. {place(optim, 'm = self.m[name] =')}",
        f"The average of their squares goes from {old[2]:.3e} to {new[2]:.3e}: {adam.beta2:g} of "
        f"the old, {1 - adam.beta2:g} of the new. {place(optim, 'v = self.v[name] =')}",
        f"Adam's step number {adam.t} is {adam.lr:g} sqrt(1 - {adam.beta2:g}^{adam.t})"
        f" / (1 - {adam.beta1:g}^{adam.t}) = {rate:.3e} long: both averages began at 0, and the fraction "
        f"makes up for it. {place(optim, 'rate = self.lr')}",
        f"So the weight moves by -{rate:.3e} x {new[1]:+.3e} / (sqrt({new[2]:.3e}) + {adam.eps:g}) = "
        f"{new[0] - old[0]:+.3e}, to {new[0]:+.6f}. How long gradients are divides out: what "
        "counts is how steadily they point one way. "
        f"{place(optim, 'parameter.data = parameter.data')}",
    ]
    if state.average:
        sentences.append(
            "The average of G's weights, which makes the pictures you see, follows every "
            f"{state.average.EVERY} steps. {place(average, 'average.data = average.data')}"
        )
    yield "Adam", sentences

    statistics = {name: tensor.data for name, tensor in G.statistics.items()}
    after = gan.losses_and_gradients(G, D, *stepping.batch())  # the same batch once more
    for name, tensor in G.statistics.items():  # this second look is no part of the training
        tensor.data = statistics[name]
    yield (
        "What came of it",
        [
            f"The same batch once more: D's loss goes from {float(d_loss):.4f} to {float(after.d_loss):.4f}, "
            f"G's from {float(g_loss):.4f} to {float(after.g_loss):.4f}. Both have moved at once, each "
            "against the other, so one of the losses may well rise. "
            f"{place(gan, 'd_loss = discriminator_loss')}",
        ],
    )


def lengths(network: Network, gradients: list[np.ndarray]) -> str:
    """The Euclidean length of each kernel's gradient."""
    found = zip(network.parameters, gradients, strict=True)
    return ", ".join(f"{name} {np.linalg.norm(g):.4f}" for name, g in found if name.endswith("kernel"))
