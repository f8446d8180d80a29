"""The two networks of the DCGAN (deep convolutional GAN): the generator and the discriminator.

The generator arranges random numbers as a small grid of pixels with many channels, and enlarges it layer by
layer into an image with few: 1 (grey) or 3 (colour). The discriminator goes the other way, from an image to
one number. Default sizes: TensorFlow's DCGAN tutorial. Source: Radford et al. 2015, arXiv 1511.06434."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygan import layers
from tinygan.arrays import CPU, Backend
from tinygan.errors import UsageError
from tinygan.rng import Stream, stream


def generator(
    start: Stream | None = None, *, size: int = 28, channels: int = 1, width: int = 64, noise_dim: int = 100,
    dtype: Any = np.float32, backend: Backend = CPU,
) -> layers.Network:  # fmt: skip
    """Noise (N, noise_dim), standard normal -> images (N, size, size, channels) in [-1, 1].

    `width`: channels at half size. `start`: stream for the initial weights. Raises: as `check_sizes`."""
    check_sizes(size, channels=channels, width=width, noise_dim=noise_dim)
    init = layers.Init(start or stream(0, "init").at(0), backend, dtype)
    s, w = size // 4, width  # side of the smallest grid; channels at half size
    # Right: output shapes, without N. No bias before batch norm, which would subtract it, nor at the end.
    return layers.Network("generator", (noise_dim,), [                               # 100
        layers.Dense(init, noise_dim, s * s * 4 * w, bias=False),                    # 12544
        layers.BatchNorm(init, s * s * 4 * w),                                       # 12544
        layers.LeakyReLU(),                                                          # 12544
        layers.Reshape(s, s, 4 * w),                                                 # 7, 7, 256
        layers.Conv2DTranspose(init, 4 * w, 2 * w, kernel=5, stride=1, bias=False),  # 7, 7, 128
        layers.BatchNorm(init, 2 * w),                                               # 7, 7, 128
        layers.LeakyReLU(),                                                          # 7, 7, 128
        layers.Conv2DTranspose(init, 2 * w, w, kernel=5, stride=2, bias=False),      # 14, 14, 64
        layers.BatchNorm(init, w),                                                   # 14, 14, 64
        layers.LeakyReLU(),                                                          # 14, 14, 64
        layers.Conv2DTranspose(init, w, channels, kernel=5, stride=2, bias=False),   # 28, 28, 1
        layers.Tanh(),                                                               # 28, 28, 1
    ])  # fmt: skip


def discriminator(
    start: Stream | None = None, *, size: int = 28, channels: int = 1, width: int = 64,
    dropout: float = 0.3, dtype: Any = np.float32, backend: Backend = CPU,
) -> layers.Network:  # fmt: skip
    """Images (N, size, size, channels) in [-1, 1] -> logits (N, 1): above 0 means "real".

    `width`: channels at half size. `dropout`: share of each convolution's outputs that training sets to 0.
    `start`: stream for the initial weights. Raises: as `check_sizes`."""
    check_sizes(size, channels=channels, width=width)
    init = layers.Init(start or stream(0, "init").at(1), backend, dtype)
    s, w = size // 4, width
    return layers.Network("discriminator", (size, size, channels), [                 # 28, 28, 1
        layers.Conv2D(init, channels, w, kernel=5, stride=2),                        # 14, 14, 64
        layers.LeakyReLU(),                                                          # 14, 14, 64
        layers.Dropout(dropout),                                                     # 14, 14, 64
        layers.Conv2D(init, w, 2 * w, kernel=5, stride=2),                           # 7, 7, 128
        layers.LeakyReLU(),                                                          # 7, 7, 128
        layers.Dropout(dropout),                                                     # 7, 7, 128
        layers.Reshape(s * s * 2 * w),                                               # 6272
        layers.Dense(init, s * s * 2 * w, 1),                                        # 1
    ])  # fmt: skip


def check_sizes(size: int, **others: int) -> None:
    """Raises: UsageError if `size` is not a positive multiple of 4, or one of the `others` is below 1."""
    if size < 4 or size % 4:
        raise UsageError(f"size {size} is not a multiple of 4. Use --size {max(4, round(size / 4) * 4)}.")
    if small := [f"{name} {value}" for name, value in others.items() if value < 1]:
        raise UsageError(f"{' and '.join(small)} must be at least 1.")
