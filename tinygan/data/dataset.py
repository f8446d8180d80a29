"""What a data set is: pictures in memory, as bytes, and where they came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Dataset:
    """Pictures, and what to tell about them."""

    name: str  # "fashion-mnist", "strokes", or the name of a folder or file
    images: np.ndarray  # (N, H, W, C) uint8
    source: str  # where they came from, in words
    notes: tuple[str, ...] = ()  # lines the user should see: what was skipped, converted, assumed

    @cached_property
    def sha256(self) -> str:
        """A digest of the shape and every pixel: two sets are the same if and only if these are."""
        return hashlib.sha256(str(self.images.shape).encode() + self.images.tobytes()).hexdigest()


def normalise(xp: ModuleType, images: Any, dtype: Any = np.float32) -> Any:
    """Bytes 0 .. 255 to [-1, 1], the range of the generator's tanh: (x - 127.5) / 127.5.

    Shapes: any; `images` uint8 on the device of `xp`, the result of `dtype`.

    >>> normalise(np, np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)
    """
    return (images.astype(dtype) - 127.5) / 127.5
