"""What a data set is: pictures as bytes, in memory or in a file, and where they came from."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinygan.data.mapped import chunks
from tinygan.errors import DataError, one_line

FINGERPRINTED = 64  # images that a fingerprint is made of


@dataclass(frozen=True)
class Dataset:
    """Pictures, and what a user should know about them."""

    name: str  # "fashion-mnist", "strokes", or the name of a folder or file
    images: Any  # (N, H, W, C) uint8: an array, or a `Mapped` one, of which parts are taken
    source: str  # where they came from, in words
    notes: tuple[str, ...] = ()  # lines the user should see: what was skipped, converted, assumed

    @cached_property
    def sha256(self) -> str:
        """A digest of the shape and every pixel: two sets are the same if and only if these are."""
        return _digest(self.images.shape, chunks(self.images))


def fingerprint(images: Any) -> str:
    """A digest of the shape of `images`, and of some spread evenly over them: enough to notice others."""
    numbers = np.linspace(0, len(images) - 1, min(len(images), FINGERPRINTED)).astype(int)
    return _digest(images.shape, [images[numbers]])


def _digest(shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(str(shape).encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


@contextmanager
def reading(before: str, after: str = "") -> Iterator[None]:
    """Within this, whatever a reader raises on a damaged or hostile file becomes a `DataError`.

    Its text is `before`, a colon, the reason, `after`. Warnings are dropped: of old headers, of odd metadata.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except MemoryError as full:
        remedy = after and ". Free some, or use other data."
        raise DataError(f"{before}: more than there is memory for{remedy}") from full
    except Exception as problem:  # SyntaxError and tokenize.TokenError included
        raise DataError(f"{before}: {one_line(problem)}{after}") from problem


def normalise(images: Any) -> Any:
    """Bytes 0 .. 255 to float32 in [-1, 1], the range of the generator's tanh: (x - 127.5) / 127.5.

    >>> normalise(np.array([0, 51, 255], np.uint8))
    array([-1. , -0.6,  1. ], dtype=float32)
    """
    return (images.astype(np.float32) - 127.5) / 127.5
