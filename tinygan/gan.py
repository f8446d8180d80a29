"""The game between the two networks: both losses and one training step, on one page.

The discriminator D takes an image and returns a logit: above 0 for "real", below 0 for "fake", its sigmoid
being the probability of "real". The generator G turns noise into images, the fakes. D learns to separate them
from real images; G learns to make fakes that D takes for real (Goodfellow et al. 2014, arXiv 1406.2661; as at
the end of its section 3, G maximises log D(G(z)), where D is the probability and z the noise)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tinygan.arrays import Array
from tinygan.autograd import Tensor, grad, no_grad
from tinygan.layers import Mask, Network
from tinygan.ops.loss import bce_with_logits
from tinygan.optim import Adam


class LossesAndGradients(NamedTuple):
    """What one batch gives, before either network learns from it."""

    fakes: Tensor  # (M, H, W, C): M images of height H and width W, with C channels (1: grey)
    real_logits: Tensor  # (N, 1): N real images
    fake_logits: Tensor  # (M, 1)
    d_loss: Tensor  # ()
    g_loss: Tensor  # ()
    d_gradients: list[Array]  # for each of D's parameters, an array of its shape
    g_gradients: list[Array]  # the same for G


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Binary cross-entropy, target 1 for real images and 0 for fakes: 2 ln 2 = 1.39 if every logit is 0."""
    return bce_with_logits(real_logits, target=1.0) + bce_with_logits(fake_logits, target=0.0)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Binary cross-entropy, target 1 for fakes: ln 2 = 0.69 if every logit is 0."""
    return bce_with_logits(fake_logits, target=1.0)


def losses_and_gradients(
    G: Network, D: Network, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """Run both networks on one batch, and compute what each should learn from it.

    Shapes: images (N, H, W, C), real, in [-1, 1]; noise (M, noise_dim), standard normal. N < M in an
    epoch's last batch. `real_masks`, `fake_masks`: what D's dropout keeps of real images, and of fakes."""
    # Forward: G makes fakes; D answers to real images and to fakes.
    fakes = G(noise, training=True)
    real_logits = D(images, training=True, masks=real_masks)
    fake_logits = D(fakes, training=True, masks=fake_masks)
    d_loss = discriminator_loss(real_logits, fake_logits)
    g_loss = generator_loss(fake_logits)

    # Backward: both losses use one graph, the record of the lines above. G's gradients go through D to the
    # pixels of the fakes and on to G's weights. D's weights are not asked for: g_loss cannot change them.
    d_gradients = grad(d_loss, list(D.parameters.values()))
    g_gradients = grad(g_loss, list(G.parameters.values()))
    return LossesAndGradients(fakes, real_logits, fake_logits, d_loss, g_loss, d_gradients, g_gradients)


def train_step(
    G: Network, D: Network, adam_G: Adam, adam_D: Adam, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """One training step. Both gradients are computed first, so neither sees the other network's update.

    ``step.py`` takes these steps for the command, checks between them, and calls yours if you edit this."""
    found = losses_and_gradients(G, D, images, noise, real_masks, fake_masks)
    adam_D.step(found.d_gradients)
    adam_G.step(found.g_gradients)
    return found


def generate(G: Network, noise: Array, batch_size: int = 256) -> Array:
    """Images (N, H, W, C) in [-1, 1] for `noise` (N, noise_dim), with batch norm's running mean and variance.

    So an image depends on its own noise only, not on its batch; `batch_size` bounds memory. N may be 0."""
    with no_grad():
        parts = [G(noise[at : at + batch_size]).data for at in range(0, max(1, len(noise)), batch_size)]
    return G.backend.xp.concatenate(parts)
