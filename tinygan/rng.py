"""Random numbers without hidden state: each is a function of (seed, stream, step, ...).

A run that resumes at step 1234 asks for the noise of step 1234 and gets the numbers it would
have got without the interruption; there is no generator whose state could be lost.

>>> a = stream(0, "noise").at(7).normal((2,))
>>> b = stream(0, "noise").at(7).normal((2,))
>>> bool((a == b).all())
True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

STREAMS = ("init", "shuffle", "noise", "dropout", "samples")
MASK_STEPS = 1 << 16


def mask_rate(rate: float) -> float:
    """The probability with which `Stream.keep` really drops: `rate` to the nearest 1/65536 below 1."""
    return min(round(rate * MASK_STEPS), MASK_STEPS - 1) / MASK_STEPS


def mask_groups(shape: tuple[int, ...]) -> list[slice]:
    """A mask's examples, in groups of about 262,144 elements."""
    size = max(1, (1 << 18) // max(1, prod(shape[1:])))
    return [slice(start, start + size) for start in range(0, shape[0], size)]


@dataclass(frozen=True)
class Stream:
    """A place in the tree of random streams; drawing twice from one place gives the same numbers."""

    seed: int
    path: tuple[int, ...]

    def at(self, *numbers: int) -> Stream:
        """The stream below this one at `numbers`, such as an epoch or a step."""
        return Stream(self.seed, (*self.path, *numbers))

    def split(self) -> Iterator[Stream]:
        """Endless streams below this one: 0, 1, 2, ..."""
        number = 0
        while True:
            yield self.at(number)
            number += 1

    def generator(self) -> np.random.Generator:
        """A fresh NumPy generator (PCG64), seeded by the seed and the path alone."""
        # spawn_key keeps paths apart that a plain list of numbers would not: (1, 2) and (1, 2, 0).
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=self.path))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float32."""
        return self.generator().standard_normal(shape, dtype=np.float32)

    def uniform(self, shape: tuple[int, ...], limit: float) -> np.ndarray:
        """Numbers spread evenly over [-limit, limit), float64."""
        return self.generator().uniform(-limit, limit, shape)

    def keep(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """A dropout mask, bool: each element True with probability 1 - `mask_rate(rate)`.

        Each of the `mask_groups` has a stream of its own, so that several threads can draw at once.
        """
        mask = np.empty(shape, dtype=bool)
        for number, group in enumerate(mask_groups(shape)):
            self.keep_group(number, rate, mask[group])
        return mask

    def keep_group(self, number: int, rate: float, out: np.ndarray) -> None:
        """Draw one group's part of a mask into `out`, from 16 random bits an element."""
        source = np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=(*self.path, number)))
        words = np.random.Generator(source).integers(
            0, 2**64 - 1, -(-out.size // 4), dtype=np.uint64, endpoint=True
        )
        bits = words.astype("<u8", copy=False).view("<u2")[: out.size].reshape(out.shape)
        np.greater_equal(bits, np.uint16(mask_rate(rate) * MASK_STEPS), out=out)

    def permutation(self, count: int) -> np.ndarray:
        """The numbers 0 .. count-1 in random order, int64."""
        return self.generator().permutation(count)


def stream(seed: int, name: str) -> Stream:
    """The root of the stream `name` (one of `STREAMS`) for a run's `seed` (>= 0)."""
    return Stream(seed, (STREAMS.index(name),))
