"""The DCGAN: a generator that paints, a discriminator that judges.

The generator turns random numbers into a picture, from a small map with many channels to a large
one with few; the discriminator goes the other way. Sizes are those of TensorFlow's DCGAN
tutorial when nothing is given; the design is Radford, Metz & Chintala 2015, arXiv 1511.06434.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygan.backend import Backend, cpu
from tinygan.errors import UsageError
from tinygan.layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    LeakyReLU,
    Network,
    New,
    Reshape,
    Tanh,
)
from tinygan.rng import Stream, stream


def generator(
    init: Stream | None = None,
    *,
    size: int = 28,
    channels: int = 1,
    width: int = 64,
    noise_dim: int = 100,
    dtype: Any = np.float32,
    backend: Backend | None = None,
) -> Network:
    """Noise (N, noise_dim), standard normal -> pictures (N, size, size, channels) in (-1, 1).

    Raises:
        UsageError: size is not divisible by 4, or a number is not at least 1.
    """
    check_sizes(size, channels, width, noise_dim)
    new = New(init or stream(0, "init").at(0), backend or cpu(), dtype)
    s, h, f = size // 4, size // 2, size  # sides: quarter, half, full
    w, w2, w4 = width, 2 * width, 4 * width
    # No layer before a batch norm has a bias: the normalisation would subtract it again.
    return Network("generator", (noise_dim,), [  # for the seed: 100 numbers
        (Dense(new, noise_dim, s * s * w4, bias=False), (s * s * w4,)),                 # 12544
        (BatchNorm(new, s * s * w4), (s * s * w4,)),
        (LeakyReLU(), (s * s * w4,)),
        (Reshape(s, s, w4), (s, s, w4)),                                                # 7, 7, 256
        (Conv2DTranspose(new, w4, w2, kernel=5, stride=1, bias=False), (s, s, w2)),     # 7, 7, 128
        (BatchNorm(new, w2), (s, s, w2)),
        (LeakyReLU(), (s, s, w2)),
        (Conv2DTranspose(new, w2, w, kernel=5, stride=2, bias=False), (h, h, w)),       # 14, 14, 64
        (BatchNorm(new, w), (h, h, w)),
        (LeakyReLU(), (h, h, w)),
        (Conv2DTranspose(new, w, channels, kernel=5, stride=2, bias=False), (f, f, channels)),  # 28, 28, 1
        (Tanh(), (f, f, channels)),
    ])  # fmt: skip


def discriminator(
    init: Stream | None = None,
    *,
    size: int = 28,
    channels: int = 1,
    width: int = 64,
    dtype: Any = np.float32,
    backend: Backend | None = None,
) -> Network:
    """Pictures (N, size, size, channels) in [-1, 1] -> logits (N, 1): above 0 means "real".

    Raises:
        UsageError: size is not divisible by 4, or a number is not at least 1.
    """
    check_sizes(size, channels, width)
    new = New(init or stream(0, "init").at(1), backend or cpu(), dtype)
    s, h, f = size // 4, size // 2, size
    w, w2 = width, 2 * width
    return Network("discriminator", (f, f, channels), [  # for the seed: 28, 28, 1
        (Conv2D(new, channels, w, kernel=5, stride=2), (h, h, w)),                      # 14, 14, 64
        (LeakyReLU(), (h, h, w)),
        (Dropout(0.3), (h, h, w)),
        (Conv2D(new, w, w2, kernel=5, stride=2), (s, s, w2)),                           # 7, 7, 128
        (LeakyReLU(), (s, s, w2)),
        (Dropout(0.3), (s, s, w2)),
        (Reshape(s * s * w2), (s * s * w2,)),                                           # 6272
        (Dense(new, s * s * w2, 1), (1,)),                                              # a logit
    ])  # fmt: skip


def check_sizes(size: int, *others: int) -> None:
    """Raise the `UsageError` that names what is wrong with a model's sizes, if anything is."""
    if size < 4 or size % 4:
        raise UsageError(f"size {size} is not divisible by 4. Use --size {max(4, round(size / 4) * 4)}.")
    if min(others) < 1:
        raise UsageError("channels, width and noise size must be at least 1.")
