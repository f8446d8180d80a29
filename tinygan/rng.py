"""Random numbers without hidden state: each is a function of (seed, stream, step, ...).

A run that resumes at step 1234 asks for the noise of step 1234, and gets what an uninterrupted run gets.

A step's noise and dropout masks come from Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3", doi 10.1145/2063384.2063405). It encrypts a counter, so any thread of a CPU or GPU can compute any
part of a stream.

>>> a = stream(0, "noise").at(7).normal((2,))
>>> b = stream(0, "noise").at(7).normal((2,))
>>> bool((a == b).all())
True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from math import prod

import numpy as np

from tinygan.errors import UsageError

STREAMS = ("init", "shuffle", "noise", "dropout", "samples")
MASK_STEPS = 1 << 16


def mask_rate(rate: float) -> float:
    """The rate at which `Stream.keep` drops: the multiple of 1/65536 that is nearest to `rate` and below 1.

    Raises: UsageError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise UsageError(f"dropout rate {rate} is not in [0, 1).")
    return min(round(rate * MASK_STEPS), MASK_STEPS - 1) / MASK_STEPS


@lru_cache(maxsize=64)
def key(seed: int, path: tuple[int, ...], numbers: int) -> tuple[int, int]:
    """Philox's key (two 64-bit words) for all streams whose path is `path` and `numbers` more numbers."""
    # spawn_key separates paths that a plain list of numbers would confuse: (1, 2) and (1, 2, 0).
    first, second = np.random.SeedSequence(seed, spawn_key=(*path, numbers)).generate_state(2, np.uint64)
    return int(first), int(second)


@dataclass(frozen=True)
class Stream:
    """A place in the tree of random streams. Drawing twice from one place gives the same numbers."""

    seed: int
    path: tuple[int, ...]
    first: int = 0  # index in the batch of the first example that `keep` draws for

    def at(self, *numbers: int) -> Stream:
        """The stream below this one with these `numbers`, such as an epoch and a step."""
        return replace(self, path=(*self.path, *numbers))

    def of_examples_from(self, first: int) -> Stream:
        """The same stream, for the part of a batch that starts at example `first`."""
        return replace(self, first=first)

    def split(self) -> Iterator[Stream]:
        """Endless streams below this one: 0, 1, 2, ..."""
        return map(self.at, count())

    def generator(self) -> np.random.Generator:
        """A new NumPy generator (PCG64), seeded by seed and path: for initial weights and image order."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=self.path))

    def words(self, count: int, block: int = 0) -> np.ndarray:
        """`count` random words (uint64) of the stream, starting at word 4 `block`. Block i is the counter
        (i + 1, a, b, c), encrypted by Philox 4x64-10 under `key`; a, b, c are the last three numbers of the
        path after its first, padded with 0."""
        numbers = self.path[1:][-3:]
        counter = np.array([block, *numbers, *[0] * (3 - len(numbers))], np.uint64)
        own_key = key(self.seed, self.path[: len(self.path) - len(numbers)], len(numbers))
        source = np.random.Philox(key=np.array(own_key, np.uint64), counter=counter)
        # The raw 64-bit words. Unlike `random_raw`, this lets other threads run meanwhile.
        return np.random.Generator(source).integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float32. Two words give u in (0, 1] and v in [0, 1), and these two numbers
        (Box & Muller 1958, in float64): sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v)."""
        pairs = self.words(2 * -(-prod(shape) // 2)).reshape(-1, 2) >> np.uint64(11)
        radius = np.sqrt(-2 * np.log((pairs[:, 0] + np.uint64(1)) * 2.0**-53))
        angle = 2 * np.pi * (pairs[:, 1] * 2.0**-53)
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).astype(np.float32)
        return both.reshape(-1)[: prod(shape)].reshape(shape)

    def keep(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """A dropout mask, bool: each element is True (keep) with probability 1 - `mask_rate(rate)`."""
        # 16 bits per element: each word holds four, the lowest first, and each Philox block 16.
        block, skipped = divmod(self.first * prod(shape[1:]), 16)
        words = self.words(-(-(skipped + prod(shape)) // 4), block).astype("<u8", copy=False)
        bits = words.view("<u2")[skipped : skipped + prod(shape)].reshape(shape)
        return bits >= np.uint16(mask_rate(rate) * MASK_STEPS)


def stream(seed: int, name: str) -> Stream:
    """A run's stream `name`. Raises: UsageError if it is not in `STREAMS`, or `seed` is not an int >= 0."""
    if name not in STREAMS:
        raise UsageError(f"no stream is named {name!r}. Use one of {', '.join(STREAMS)}, or add it.")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"the seed is {seed!r}. Use a whole number >= 0.")
    return Stream(seed, (STREAMS.index(name),))
