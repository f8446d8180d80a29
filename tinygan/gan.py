"""The game between the two networks: both losses, and one training step, on one page.

The discriminator D looks at a picture and answers with a logit: above 0 for "real", below 0 for
"fake". The generator G turns noise into pictures. D learns to tell G's pictures from real ones;
G learns to make pictures that D takes for real (Goodfellow et al. 2014, arXiv 1406.2661, with
the generator's loss of its section 3: maximise log D(G(z))).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import NamedTuple

from tinygan.autograd import Tensor, grad, no_grad
from tinygan.errors import NonFiniteError
from tinygan.layers import DropoutSource, Network, bce_with_logits
from tinygan.ops import Array
from tinygan.ops.loss import sigmoid
from tinygan.optim import Adam


class Step(NamedTuple):
    """What one step measured, before its update: numbers of shape (), on the device."""

    generator_loss: Array
    discriminator_loss: Array
    real_score: Array  # mean of sigmoid(D(x)): how real the real pictures look to D
    fake_score: Array  # mean of sigmoid(D(G(z)))


def discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, N: int | None = None, M: int | None = None
) -> Tensor:
    """D wants to say 1 to real pictures and 0 to fakes. 2 ln 2 = 1.39 when it cannot tell them apart.

    N and M: of how many logits these are a part; None: they are all.
    """
    return bce_with_logits(real_logits, 1.0, N) + bce_with_logits(fake_logits, 0.0, M)


def generator_loss(fake_logits: Tensor, M: int | None = None) -> Tensor:
    """G wants D to say 1 to its fakes. ln 2 = 0.69 when D cannot tell them apart."""
    return bce_with_logits(fake_logits, 1.0, M)


def train_step(
    G: Network,
    D: Network,
    adam_G: Adam,
    adam_D: Adam,
    images: Array,
    noise: Array,
    dropout_real: Iterable[DropoutSource],
    dropout_fake: Iterable[DropoutSource],
    whole: tuple[int, int] | None = None,
) -> Step:
    """One step of the game: look, measure, and let both networks learn from the same look.

    Shapes: images (N, H, W, C) real ones in [-1, 1]; noise (M, noise_dim), standard normal; the
    last batch of an epoch may have N < M. `dropout_real` and `dropout_fake` give each of D's
    dropout layers its mask, or a stream to draw it from, for the two passes.

    Where several `ranks` share the batch, images, noise and masks are this one's part of it, fewer than
    `whole`, which is (N, M) of all parts together.

    Raises:
        NonFiniteError: a loss or a gradient is no finite number. No weight has moved then.
    """
    N, M = whole or (len(images), len(noise))

    # Forward: G paints, D judges real pictures and painted ones.
    fakes = G(noise, training=True)  # (M, H, W, C)
    real_logits = D(images, training=True, dropout=dropout_real)  # (N, 1)
    fake_logits = D(fakes, training=True, dropout=dropout_fake)  # (M, 1)

    d_loss = discriminator_loss(real_logits, fake_logits, N, M)
    g_loss = generator_loss(fake_logits, M)

    # Backward: two gradients through one graph. G's goes back through D, whose weights it leaves
    # alone: D serves as the teacher that says how each pixel should change.
    d_gradients = grad(d_loss, list(D.parameters.values()))
    g_gradients = grad(g_loss, list(G.parameters.values()))

    # What this process found is its share of the sums over the batch, and of the means.
    xp, ranks = G.backend.xp, G.backend.ranks
    scores = (sigmoid(xp, real_logits.data) / N).sum(), (sigmoid(xp, fake_logits.data) / M).sum()
    *d_gradients, g_loss, d_loss, real, fake = ranks.sum(*d_gradients, g_loss.data, d_loss.data, *scores)
    g_gradients = ranks.sum(*g_gradients)

    # Update: only now, so that neither network has moved while the other was judged.
    check_finite([("G's loss", g_loss), ("D's loss", d_loss)])
    check_finite(named(D, d_gradients))
    check_finite(named(G, g_gradients))
    adam_D.step(d_gradients)
    adam_G.step(g_gradients)
    return Step(g_loss, d_loss, real, fake)


def check_finite(arrays: Iterable[tuple[str, Array]]) -> None:
    """Raise NonFiniteError with the name of the first array that has no finite sum of squares.

    A NaN or an infinity makes that sum one, too; so do numbers whose squares, which Adam needs, overflow.
    """
    for name, array in arrays:
        flat = array.reshape(-1)
        if not isfinite(float(flat @ flat)):
            raise NonFiniteError(f"{name} is not finite")


def named(network: Network, gradients: Iterable[Array]) -> Iterator[tuple[str, Array]]:
    """The gradients of all parameters, with words for each."""
    for name, gradient in zip(network.parameters, gradients, strict=True):
        yield f"the gradient of {network.name}/{name}", gradient


def generate(G: Network, noise: Array, batch_size: int = 256) -> Array:
    """Pictures for `noise` (N, noise_dim): (N, H, W, C) in [-1, 1], from the running statistics.

    Not in training mode, so each picture depends on its own noise alone; `batch_size` bounds memory.
    """
    with no_grad():
        parts = [G(noise[at : at + batch_size]).data for at in range(0, max(1, len(noise)), batch_size)]
    return G.backend.xp.concatenate(parts)
