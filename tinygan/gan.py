"""The game between the two networks: both losses and one training step, on one page.

The discriminator D takes an image and answers with a logit: above 0 for "real", below 0 for "fake". The
generator G turns noise into images. D learns to tell G's images, the fakes, from real ones; G learns to make
images that D takes for real (Goodfellow et al. 2014, arXiv 1406.2661; G's loss is the one at the end of its
section 3: maximise log D(G(z))).
"""

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

    fakes: Tensor  # (M, H, W, C)
    real_logits: Tensor  # (N, 1)
    fake_logits: Tensor  # (M, 1)
    d_loss: Tensor  # ()
    g_loss: Tensor  # ()
    d_gradients: list[Array]  # one for each of D's parameters, of its shape
    g_gradients: list[Array]


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D should answer 1 to real images and 0 to fakes. 2 ln 2 = 1.39 when it cannot tell them apart."""
    return bce_with_logits(real_logits, target=1.0) + bce_with_logits(fake_logits, target=0.0)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """G wants D to answer 1 to its fakes. ln 2 = 0.69 when D cannot tell them apart."""
    return bce_with_logits(fake_logits, target=1.0)


def losses_and_gradients(
    G: Network, D: Network, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """Run both networks on one batch, and compute what each should learn from it.

    Shapes: images (N, H, W, C), real ones in [-1, 1]; noise (M, noise_dim), standard normal. The last batch
    of an epoch may have N < M. The masks are those of D's dropout layers, for each of its two passes.
    """
    # Forward: G makes fakes; D answers to real images and to fakes.
    fakes = G(noise, training=True)
    real_logits = D(images, training=True, masks=real_masks)
    fake_logits = D(fakes, training=True, masks=fake_masks)
    d_loss = discriminator_loss(real_logits, fake_logits)
    g_loss = generator_loss(fake_logits)

    # Backward: two gradients from one graph. G's passes through D and leaves D's weights alone: D only says
    # how each pixel of a fake should change to look more real.
    d_gradients = grad(d_loss, list(D.parameters.values()))
    g_gradients = grad(g_loss, list(G.parameters.values()))
    return LossesAndGradients(fakes, real_logits, fake_logits, d_loss, g_loss, d_gradients, g_gradients)


def train_step(
    G: Network, D: Network, adam_G: Adam, adam_D: Adam, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """One step of training. Both gradients come first, so each network learns from the other as it was."""
    found = losses_and_gradients(G, D, images, noise, real_masks, fake_masks)
    adam_D.step(found.d_gradients)
    adam_G.step(found.g_gradients)
    return found


def generate(G: Network, noise: Array, batch_size: int = 256) -> Array:
    """Images (N, H, W, C) in [-1, 1] for `noise` (N, noise_dim), made with the running mean and variance.

    So each image depends on its own noise alone, and not on its batch; `batch_size` only bounds memory.
    """
    with no_grad():
        parts = [G(noise[at : at + batch_size]).data for at in range(0, max(1, len(noise)), batch_size)]
    return G.backend.xp.concatenate(parts)
