"""One training step on any engine: losses and gradients, their sum over ranks, a check, both Adams."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from math import isfinite
from typing import NamedTuple, cast

from tinygan import gan
from tinygan.arrays import Array
from tinygan.errors import NonFiniteError, UsageError
from tinygan.fast import gan as fast_gan
from tinygan.fast.conv import by_definition
from tinygan.fast.optim import adam_steps
from tinygan.fast.originals import CARD_ORIGINALS, ORIGINALS, added, changed, described, twins
from tinygan.fast.threads import POOL
from tinygan.gan import LossesAndGradients
from tinygan.layers import Conv2DTranspose, Mask, Network
from tinygan.ops.conv import conv2d, conv2d_transpose
from tinygan.ops.loss import sigmoid
from tinygan.optim import Adam
from tinygan.penalty import r1_gradients, strength_in
from tinygan.penalty import unfit as unfit_for_penalty
from tinygan.ranks.alone import Ranks
from tinygan.ranks.twins import number

BY_OPS = "op by op (tinygan/gan.py)"
AS_A_WHOLE = "as a whole (tinygan/fast/gan.py)"
ON_A_CARD = "as a whole (tinygan/cuda/gan.py)"
# Code that can combine the examples of a batch, of which each rank has only a part: see `ranks.twins`.
SHARED = ("gan.", "autograd.", "ops.batchnorm.", "ops.loss.", "layers.BatchNorm")


class Measured(NamedTuple):
    """The measurements of one step, before the update: numbers of shape (), on the device."""

    generator_loss: Array
    discriminator_loss: Array
    real_score: Array  # mean of sigmoid(D(x)): how real D finds the real images
    fake_score: Array  # mean of sigmoid(D(G(z)))


class Step:
    """The kind of step that a run takes, chosen once, when this object is made. `how` names it, and says why
    it is not the fast one. (If it is `ON_A_CARD`, `runs.trainer` takes the steps in another way.)"""

    def __init__(
        self, G: Network, D: Network, adam_G: Adam, adam_D: Adam, batches: Iterable[tuple[int, int]],
        strict: bool = False, penalty: float = 0.0,
    ) -> None:  # fmt: skip
        """`batches`: the numbers (N, M) of real images and noise vectors that a step can have. `penalty`: the
        strength of R1. Raises: UsageError for a changed function that several ranks (or the fast engine, if
        `strict`) would replace, and for a D whose layers R1 does not support."""
        self.G, self.D, self.adam_G, self.adam_D, self.penalty = G, D, adam_G, adam_D, penalty
        self.backend, self.batches, edits = G.backend, sorted(batches), changed()
        shared = added(G, D) or described([name for name in edits if name.startswith(SHARED)])
        if self.backend.ranks.size > 1 and shared:
            why = "it might need the whole batch, but a rank has only a part"
            raise UsageError(f"{shared}: {why}. Start one process.")
        if penalty and (layer := unfit_for_penalty(D)):
            raise UsageError(f"--penalty does not support D's layer {layer}. Use --penalty 0.")
        self.compute: Callable[..., LossesAndGradients] = partial(gan.losses_and_gradients, G, D)
        self.moves_weights = "gan.train_step" in edits  # then it is called, and moves the weights itself
        if self.moves_weights:
            self.compute = partial(gan.train_step, G, D, adam_G, adam_D)
        self.how, self.in_pieces = BY_OPS, False
        if self.backend.engine == "fast":
            why = unfit(G, D, self.backend.device)
            if why and strict:
                raise UsageError(f"--engine fast: {why}. Use --engine auto.")
            if why:
                convolutions = any(name.startswith(("ops.conv.", "ops.geometry.")) for name in edits)
                self.how = f"{BY_OPS}: {why}; {'up to 4' if convolutions else 'about 1.3'} times slower"
            elif self.backend.device == "gpu":
                self.how = ON_A_CARD
            else:
                self.how = AS_A_WHOLE
                self.compute = fast_gan.FusedStep(G, D, self.batches).losses_and_gradients
            for op in twins([]).keys() - twins(edits):  # replaced since the backend was made
                cast(dict, self.backend.twins).pop(op, None)
            # `adam_steps` stands in for exactly this class.
            plain = all(type(adam) is Adam and "step" not in vars(adam) for adam in (adam_G, adam_D))
            self.in_pieces = self.backend.device == "cpu" and plain and "optim.Adam" not in edits
        if self.moves_weights and penalty:
            self.how += "; the changed gan.train_step ignores --penalty"

    def plans(self) -> Iterator[str]:
        """A line for each convolution: how a processor computes it."""
        N, M = self.batches[-1]
        passes = (self.G, M), (self.D, N + M if self.how == AS_A_WHOLE else M)
        for network, count in passes if self.backend.device == "cpu" else ():
            for name, plan in fast_gan.plans(network, count).items():
                op = conv2d_transpose if isinstance(network.layers[name], Conv2DTranspose) else conv2d
                planned = op in self.backend.twins and (self.how == AS_A_WHOLE or not by_definition(plan))
                yield f"{network.name}/{name}: {plan if planned else 'its definition (tinygan/ops/conv.py)'}"

    def take(
        self, images: Array, noise: Array, real_masks: Iterable[Mask], fake_masks: Iterable[Mask]
    ) -> Measured:
        """Take one step. The arguments are the batch of `gan.train_step`, or this rank's part of it. Raises:
        NonFiniteError if a loss or a gradient is not finite. Then no weight has changed, except by a
        `gan.train_step` that a reader replaced, which moves the weights itself."""
        # If BLAS's own threads woke up, they would spin for milliseconds and take cores from the pool's.
        with POOL.blas_alone() if self.how == AS_A_WHOLE else nullcontext():
            found = self.compute(images, noise, real_masks, fake_masks)
            if not isinstance(found, LossesAndGradients):
                name = "train_step" if self.moves_weights else "losses_and_gradients"
                raise UsageError(f"gan.{name} returned a {type(found).__name__}, not LossesAndGradients.")
            if (strength := strength_in(self.adam_D.t, self.penalty)) and not self.moves_weights:
                (count,) = self.backend.ranks.sum(number(len(images), found.d_loss.data))
                if len(images):
                    steep = r1_gradients(self.D, images, strength, float(count))
                    both = zip(found.d_gradients, steep, strict=True)
                    found = found._replace(d_gradients=[own + more for own, more in both])
            measured, for_D, for_G = summed(self.backend.ranks, found)
            check_finite([("G's loss", measured.generator_loss), ("D's loss", measured.discriminator_loss)])
            if self.moves_weights:
                return measured
            for network, gradients in ((self.D, for_D), (self.G, for_G)):
                names = (f"the gradient of {network.name}/{name}" for name in network.parameters)
                check_finite(zip(names, gradients, strict=True), POOL.each if self.in_pieces else map)
            if self.in_pieces:
                adam_steps((self.adam_D, for_D), (self.adam_G, for_G))
            else:
                self.adam_D.step(for_D)
                self.adam_G.step(for_G)
        return measured


def unfit(G: Network, D: Network, device: str) -> str:
    """Why the fast engine's step on `device` cannot stand in for `gan.train_step`, or "" if it can."""
    if device == "cpu":
        return described(changed()) or fast_gan.unfit(G, D)
    from tinygan.cuda.buffers import LARGEST_SIDE, sizes_of  # not loaded on a processor

    if edits := changed(ORIGINALS | CARD_ORIGINALS):
        return described(edits)
    if D.input_shape[0] > 4 * LARGEST_SIDE:
        return f"on a GPU the fast engine takes pictures up to --size {4 * LARGEST_SIDE}"
    return "" if sizes_of(G, D) else "models.py has layers that the fast engine lacks on a GPU"


def summed(ranks: Ranks, found: LossesAndGradients) -> tuple[Measured, list[Array], list[Array]]:
    """The results of all ranks: losses (each already has these), mean scores, gradients of D and of G."""
    real, fake = found.real_logits.data, found.fake_logits.data
    scores = sigmoid(real).sum(), sigmoid(fake).sum(), number(real.size, real), number(fake.size, fake)
    *both, real_sum, fake_sum, N, M = ranks.sum(*found.d_gradients, *found.g_gradients, *scores)
    cut = len(found.d_gradients)
    measured = Measured(found.g_loss.data, found.d_loss.data, real_sum / N, fake_sum / M)
    return measured, both[:cut], both[cut:]


def check_finite(arrays: Iterable[tuple[str, Array]], each: Callable[..., Iterable[float]] = map) -> None:
    """Raise NonFiniteError with the name of the first array whose sum of squares is not finite: it has a NaN,
    an infinity, or numbers whose squares, which Adam needs, overflow. `each` is called like `map`."""
    rows = [(name, array.reshape(-1)) for name, array in arrays]
    for (name, _), squares in zip(rows, each(lambda row: float(row[1] @ row[1]), rows), strict=True):
        if not isfinite(squares):
            raise NonFiniteError(f"{name} is not finite")
