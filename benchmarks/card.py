"""One training step on a graphics card with a given batch, so that it can be compared with another's."""

from collections.abc import Iterable
from itertools import islice

from tinygan.arrays import Array
from tinygan.cuda.gan import CardStep, part
from tinygan.errors import NonFiniteError
from tinygan.layers import Dropout, Network
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
    """`step.Step.take` with the kernels of a graphics card. (A run keeps its data there as well.)

    Raises:
        NonFiniteError: a loss or a gradient is not finite. No weight has changed then.
    """
    drops = {name: layer for name, layer in D.layers.items() if isinstance(layer, Dropout)}
    N, M, xp = len(images), len(noise), G.backend.xp
    masks = [list(islice(some, len(drops))) for some in (real_masks, fake_masks)]
    step = CardStep(G, D, adam_G, adam_D, M)
    try:
        step.buffers.pictures[:N] = images
        step.buffers.noise[...] = noise
        of_all = step.buffers.activation1.mask, step.buffers.activation2.mask
        for first, count, some in ((0, N, masks[0]), (N, M, masks[1])):
            for buffer, mask, (name, layer) in zip(of_all, some, drops.items(), strict=True):
                drawn = xp.asarray(mask.keep((count, *D.shapes[name]), layer.rate))
                _put_mask(step.sizes.side, buffer, drawn, first, N + M)
        step.wait_for_default_stream()
        with step.stream:
            step.tick()
            step.train_step(N, N)
            step.stream.synchronize()
        if found := step.trouble():
            raise NonFiniteError(found[1])
    finally:
        step.blas.close()
    for adam in (adam_G, adam_D):
        adam.t += 1
    return Measured(*step.buffers.measured[0])


def _put_mask(side: int, buffer: Array, mask: Array, first: int, T: int) -> None:
    """Put `mask` (N, y, x, C) bool for the examples from `first` of T on into that of the whole batch."""
    N, height, _, C = mask.shape
    scale = height // side
    parts = mask.reshape(N, side, scale, side, scale, C).transpose(1, 3, 0, 2, 4, 5)
    of_all = part(buffer, side * side, T, scale * scale, C)
    of_all[:, first : first + N] = parts.reshape(side * side, N, scale * scale, C)
