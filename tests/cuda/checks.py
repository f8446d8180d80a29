"""Games to play on a card and, for reference, in float64 on the CPU."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tests.checks import numbers
from tests.cuda.card import step_on_a_card
from tests.game import Players
from tinygan import models
from tinygan.backend import Backend, cpu
from tinygan.cuda import buffers
from tinygan.cuda.blas import WORKSPACE
from tinygan.optim import Adam
from tinygan.rng import Stream, stream
from tinygan.step import ON_A_CARD, Measured, Step


class Sizes(NamedTuple):
    size: int
    channels: int
    width: int
    noise: int
    N: int  # real pictures
    M: int  # fakes


TUTORIAL = Sizes(28, 1, 64, 100, 256, 256)
SMALL = Sizes(8, 1, 3, 5, 4, 4)
CASES = [
    Sizes(28, 1, 4, 10, 6, 6),
    Sizes(28, 1, 8, 20, 3, 7),  # a partial batch
    Sizes(12, 3, 2, 7, 2, 3),
    Sizes(4, 1, 1, 1, 1, 2),
    Sizes(32, 3, 5, 11, 4, 4),
    Sizes(36, 1, 4, 3, 2, 2),  # maps in two strips: see TRANSPOSED
    Sizes(4, 1, 4, 3, 100, 130),  # the first map's rows in several chunks
]


def players(backend: Backend, sizes: Sizes, dtype: Any = np.float32, seed: int = 0) -> Players:
    """Networks with weights as in the middle of training, and Adams to match."""
    size, channels, width, noise, *_ = sizes
    G = models.generator(
        size=size, channels=channels, width=width, noise_dim=noise, dtype=dtype, backend=backend
    )
    D = models.discriminator(size=size, channels=channels, width=width, dtype=dtype, backend=backend)
    adams = [Adam(net.parameters, lr=1e-3, beta1=0.8) for net in (G, D)]

    def place(values: np.ndarray) -> Any:
        return backend.array(values.astype(np.float32).astype(dtype))

    for number, (net, adam) in enumerate(zip((G, D), adams, strict=True)):
        for at, (name, tensor) in enumerate(net.parameters.items()):
            base = backend.numpy(tensor.data)
            tensor.data = place(base + 0.05 * numbers(seed + 100 * number + at, *tensor.shape))
            adam.m[name] = place(1e-3 * numbers(seed + 100 * number + at + 50, *tensor.shape))
            # Never near 0: among a million such numbers one would turn rounding into a long step.
            squares = 0.1 + numbers(seed + 100 * number + at + 70, *tensor.shape) ** 2
            adam.v[name] = place(1e-4 * squares)
        adam.t = 5
    return Players(G, D, *adams)


def batch(sizes: Sizes, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W, C) and noise (M, noise), float32."""
    images = np.tanh(numbers(seed + 1, sizes.N, sizes.size, sizes.size, sizes.channels))
    return images.astype(np.float32), numbers(seed + 2, sizes.M, sizes.noise).astype(np.float32)


def take(ours: Players, *batch: Any) -> Measured:
    """Take a step of these networks; on a card with its kernels, if these support them."""
    step = Step(*ours, batches=[(len(batch[0]), len(batch[1]))])
    return step_on_a_card(*ours, *batch) if step.how == ON_A_CARD else step.take(*batch)


def masks(step: int = 3, seed: int = 0) -> tuple[Sequence[Stream], Sequence[Stream]]:
    """The dropout streams of a step, for real pictures and fakes."""
    place = stream(seed, "dropout").at(step)
    return [place.at(0, layer) for layer in range(2)], [place.at(1, layer) for layer in range(2)]


def reference(sizes: Sizes, steps: int = 1) -> tuple[list[list[float]], dict[str, np.ndarray]]:
    """The readable engine's measurements and arrays in float64, from the same float32 start."""
    return play(cpu(), sizes, steps, np.float64)


def play(
    backend: Backend, sizes: Sizes, steps: int = 1, dtype: Any = np.float32
) -> tuple[list[list[float]], dict[str, np.ndarray]]:
    """The measurements and arrays of some steps on a backend."""
    ours, measured = players(backend, sizes, dtype), []
    for step in range(steps):
        images, noise = (backend.array(values.astype(dtype)) for values in batch(sizes, step))
        measured.append([float(number) for number in take(ours, images, noise, *masks(step))])
    return measured, ours.arrays()


def gradients(arrays: dict[str, np.ndarray], sizes: Sizes) -> dict[str, np.ndarray]:
    """The gradients of one step, recovered from the averages of `players`."""
    before = players(cpu(), sizes, np.float64).arrays()
    return {name: (arrays[name] - 0.8 * before[name]) / 0.2 for name in arrays if name.endswith("/m")}


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The length of the difference, relative to the expected length."""
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def memory(sizes: buffers.Sizes, batch: int, weights: int, images: int) -> int:
    """Bytes on the card for a step, the weights of both networks and the images."""
    data = images * (prod(sizes.picture(1)) + 4)
    return buffers.counted(sizes, batch).bytes + 4 * 4 * weights + data + WORKSPACE
