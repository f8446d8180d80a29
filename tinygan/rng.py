"""Random numbers without hidden state: each is a function of (seed, stream, step, ...).

A run that resumes at step 1234 asks for the noise of step 1234 and gets the numbers it would have got.

A step's noise and dropout masks come from Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3", doi 10.1145/2063384.2063405): it encrypts a counter, so any thread of a processor or a graphics
card can make any part of a stream.

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
    """How often `Stream.keep` drops: `rate`, in [0, 1), to the nearest 1/65536. Raises UsageError."""
    if not 0 <= rate < 1:
        raise UsageError(f"dropout rate {rate} is not in [0, 1).")
    return min(round(rate * MASK_STEPS), MASK_STEPS - 1) / MASK_STEPS


@lru_cache(maxsize=64)
def key(seed: int, path: tuple[int, ...], numbers: int) -> tuple[int, int]:
    """Philox's key (2 words of 64 bits) for the streams that are `numbers` numbers below `path`."""
    # spawn_key keeps paths apart that a plain list of numbers would not: (1, 2) and (1, 2, 0).
    first, second = np.random.SeedSequence(seed, spawn_key=(*path, numbers)).generate_state(2, np.uint64)
    return int(first), int(second)


@dataclass(frozen=True)
class Stream:
    """A place in the tree of random streams; drawing twice from one place gives the same numbers."""

    seed: int
    path: tuple[int, ...]
    first: int = 0  # masks are those of a batch's examples from this one on

    def at(self, *numbers: int) -> Stream:
        """The stream below this one at `numbers`, such as an epoch or a step."""
        return replace(self, path=(*self.path, *numbers))

    def of_examples_from(self, first: int) -> Stream:
        """The same stream, for the part of a batch that begins with example number `first`."""
        return replace(self, first=first)

    def split(self) -> Iterator[Stream]:
        """Endless streams below this one: 0, 1, 2, ..."""
        return map(self.at, count())

    def generator(self) -> np.random.Generator:
        """A fresh NumPy generator (PCG64), seeded by the seed and the path: for weights, orders of images."""
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=self.path))

    def words(self, count: int, block: int = 0) -> np.ndarray:
        """`count` random words (uint64) of the stream, from the one with the number 4 `block` on. Philox
        4x64-10 under `key`: block i is the counter (i + 1, a, b, c) encrypted, where a, b, c are the last
        three numbers of the path, the first left out, and 0 where there are fewer."""
        numbers = self.path[1:][-3:]
        counter = np.array([block, *numbers, *[0] * (3 - len(numbers))], np.uint64)
        own_key = key(self.seed, self.path[: len(self.path) - len(numbers)], len(numbers))
        source = np.random.Philox(key=np.array(own_key, np.uint64), counter=counter)
        # All 64 bits as they come; unlike `random_raw` this lets other threads run meanwhile.
        return np.random.Generator(source).integers(0, 2**64 - 1, count, dtype=np.uint64, endpoint=True)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal numbers, float32: two words make two of them (Box & Muller 1958). With u in (0, 1]
        and v in [0, 1): sqrt(-2 ln u) cos(2 pi v), and the same with sin; in float64."""
        pairs = self.words(2 * -(-prod(shape) // 2)).reshape(-1, 2) >> np.uint64(11)
        radius = np.sqrt(-2 * np.log((pairs[:, 0] + np.uint64(1)) * 2.0**-53))
        angle = 2 * np.pi * (pairs[:, 1] * 2.0**-53)
        both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).astype(np.float32)
        return both.reshape(-1)[: prod(shape)].reshape(shape)

    def keep(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """A dropout mask, bool: each element True with probability 1 - `mask_rate(rate)`."""
        # 16 bits for each: four to a word, the lowest first; 16 to a block of Philox.
        block, skipped = divmod(self.first * prod(shape[1:]), 16)
        words = self.words(-(-(skipped + prod(shape)) // 4), block).astype("<u8", copy=False)
        bits = words.view("<u2")[skipped : skipped + prod(shape)].reshape(shape)
        return bits >= np.uint16(mask_rate(rate) * MASK_STEPS)


def stream(seed: int, name: str) -> Stream:
    """The stream `name`, one of `STREAMS`, of a run's `seed`, a whole number from 0 on. Raises UsageError."""
    if name not in STREAMS:
        raise UsageError(f"no stream is named {name!r}. Use one of {', '.join(STREAMS)}, or add it.")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"the seed is {seed!r}. Use a whole number from 0 on.")
    return Stream(seed, (STREAMS.index(name),))
