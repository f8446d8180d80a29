"""The DCGAN (deep convolutional GAN): its two networks, the generator and the discriminator.

The generator turns random numbers into an image: a small grid of pixels with many numbers each (channels)
grows into a large one with few. The discriminator goes the other way. The default sizes are those of
TensorFlow's DCGAN tutorial; the command passes its own. Source: Radford et al. 2015, arXiv 1511.06434."""

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

    `width`: channels at half size. `start`: random stream of the first weights. Bad sizes raise UsageError.
    """
    check_sizes(size, channels=channels, width=width, noise_dim=noise_dim)
    init = layers.Init(start or stream(0, "init").at(0), backend, dtype)
    s, w = size // 4, width  # side of the smallest grid; channels at half size
    # Right: shapes, without N. No bias before a batch norm, which would subtract it; nor in the last layer.
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

    `width`: channels at half size. `dropout`: the share of numbers that training drops after a convolution.
    `start`: random stream of the first weights. Bad sizes raise UsageError.
    """
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
    """Raise a UsageError unless `size` is a positive multiple of 4 and all `others` are at least 1."""
    if size < 4 or size % 4:
        raise UsageError(f"size {size} is not 4, 8, 12, ... Use --size {max(4, round(size / 4) * 4)}.")
    if small := [f"{name} {value}" for name, value in others.items() if value < 1]:
        raise UsageError(f"{', '.join(small)}: use at least 1.")
