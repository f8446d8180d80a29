"""One training step on a graphics card with a given batch, for comparison with other engines."""

from collections.abc import Iterable

from tinygan.arrays import Array
from tinygan.cuda.buffers import STEPS_KEPT
from tinygan.cuda.gan import CardStep
from tinygan.errors import NonFiniteError
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.rng import Stream
from tinygan.step import Measured


def step_on_a_card(
    G: Network,
    D: Network,
    adam_G: Adam,
    adam_D: Adam,
    images: Array,
    noise: Array,
    real_masks: Iterable[Stream],
    fake_masks: Iterable[Stream],
) -> Measured:
    """`step.Step.take` with the kernels of a graphics card. (A run also keeps its data there.)

    Raises: NonFiniteError if a loss or a gradient is not finite. No weight has changed then.
    """
    at, xp = next(iter(real_masks)), G.backend.xp  # stream "dropout" at (step, pass, layer)
    step = CardStep(G, D, adam_G, adam_D, len(noise), step=at.path[1], seed=at.seed)
    try:
        nothing = xp.zeros((1, *images.shape[1:]), dtype=xp.uint8)
        order = xp.zeros(len(images), dtype=xp.int32)
        step.wait_for_default_stream()
        with step.stream:
            step.begin(nothing, order, len(images))  # for the masks and the clock
            step.stream.synchronize()
        step.buffers.pictures[: len(images)] = images
        step.buffers.noise[...] = step.buffers.noise_lifted[...] = noise
        step.wait_for_default_stream()
        with step.stream:
            step.train_step(len(images))
            step.stream.synchronize()
        if found := step.trouble():
            raise NonFiniteError(found[1])
        measured = step.buffers.measured[at.path[1] % STEPS_KEPT]
    finally:
        step.stop()
        step.close()
    for adam in (adam_G, adam_D):
        adam.t += 1
    return Measured(*measured)
