"""The game between two networks: both losses and one training step, on one page.

The generator G turns noise z into images G(z), the fakes. The discriminator D maps an image x to a logit:
above 0 means "real", below 0 "fake". Its sigmoid p(x) is the probability that x is real. D learns to separate
real images from fakes, G to make fakes that D takes for real (Goodfellow et al. 2014, arXiv 1406.2661).

G maximises log p(G(z)). Minimising log(1 - p(G(z))) has the same aim, but gives G almost no gradient while D
rejects every fake with confidence, as it does early in training (end of the paper's section 3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tinygan.arrays import Array
from tinygan.autograd import Tensor, grad, no_grad
from tinygan.layers import Mask, Network
from tinygan.ops.loss import bce_with_logits
from tinygan.optim import Adam


class LossesAndGradients(NamedTuple):
    """The results of one batch, before either network is updated."""

    fakes: Tensor  # (M, H, W, C): M images of height H and width W, with C channels (1: grey)
    real_logits: Tensor  # (N, 1): N real images
    fake_logits: Tensor  # (M, 1)
    d_loss: Tensor  # (), a scalar
    g_loss: Tensor  # ()
    d_gradients: list[Array]  # of d_loss: an array for each of D's parameters, of its shape
    g_gradients: list[Array]  # of g_loss: likewise for G


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log p(real) - mean log(1 - p(fake)): targets 1 and 0. It is 2 ln 2 = 1.39 if every p is 1/2."""
    return bce_with_logits(real_logits, target=1.0) + bce_with_logits(fake_logits, target=0.0)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """-mean log p(fake): target 1 for fakes. It is ln 2 = 0.69 if every p is 1/2."""
    return bce_with_logits(fake_logits, target=1.0)


def losses_and_gradients(
    G: Network, D: Network, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """Run both networks on one batch, and compute both losses and their gradients. No weight changes.

    Shapes: images (N, H, W, C), real, in [-1, 1]; noise (M, noise_dim), standard normal. N < M in an epoch's
    last batch. `real_masks`, `fake_masks`: a mask for each dropout layer of D, on real images, on fakes."""
    # Forward: G makes fakes; D scores real images and fakes.
    fakes = G(noise, training=True)
    real_logits = D(images, training=True, masks=real_masks)
    fake_logits = D(fakes, training=True, masks=fake_masks)
    d_loss = discriminator_loss(real_logits, fake_logits)
    g_loss = generator_loss(fake_logits)

    # Backward: both losses share one graph, recorded by the lines above. The gradient of g_loss flows through
    # D to the fakes' pixels and on to G's weights. None is asked for D's weights: g_loss never changes them.
    d_gradients = grad(d_loss, list(D.parameters.values()))
    g_gradients = grad(g_loss, list(G.parameters.values()))
    return LossesAndGradients(fakes, real_logits, fake_logits, d_loss, g_loss, d_gradients, g_gradients)


def train_step(
    G: Network, D: Network, adam_G: Adam, adam_D: Adam, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """One training step. Both gradients are computed first, so neither sees the other network's update.

    ``step.py`` runs this step for the command, with checks in between. If you edit it, your version runs."""
    found = losses_and_gradients(G, D, images, noise, real_masks, fake_masks)
    adam_D.step(found.d_gradients)
    adam_G.step(found.g_gradients)
    return found


def generate(G: Network, noise: Array, batch_size: int = 256) -> Array:
    """Images (N, H, W, C) in [-1, 1] from `noise` (N, noise_dim), with batch norm's running statistics.

    So an image depends on its own noise only, not on its batch. `batch_size` bounds memory. N can be 0."""
    with no_grad():
        parts = [G(noise[at : at + batch_size]).data for at in range(0, max(1, len(noise)), batch_size)]
    return G.backend.xp.concatenate(parts)
