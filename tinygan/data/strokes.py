"""The built-in set: digits drawn by a random hand, white on black like MNIST's; no file, no network.

A digit starts as a template, a few points a pen passes through. A random hand moves the points,
slants, bends, stretches and turns the whole, then draws it: a pixel is ink where the pen came closer
than its radius, with a soft edge.
"""

import numpy as np

from tinygan.data.templates import TRAIL, templates

SIDE = 28  # pixels
BOX = 20.0  # pixels; a digit is as high or as wide as that and centred on its mass, as in MNIST
MARGIN = 2.0  # pixels between the pen and the border; its pressure and soft edge need some
BLOCK = 500  # images drawn together, from one random generator


def strokes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` digits of the set `seed`, (count, 28, 28, 1) uint8, and which digit each is, (count,) uint8;
    a larger `count` adds to them."""
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    labels = np.empty(count, np.uint8)
    for start in range(0, count, BLOCK):
        random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(start // BLOCK,)))
        stop = min(start + BLOCK, count)  # whole blocks are drawn, so that `count` changes no image
        digits, way, radius = write(random)
        labels[start:stop] = digits[: stop - start]
        images[start:stop, ..., 0] = ink(random, way, radius)[: stop - start]
    return images, labels


def write(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hand: what is written, (B,), where the pen goes, (B, T, 2) pixels, its radius there, (B, T)."""
    digits = random.integers(0, 10, BLOCK)
    known = templates()
    chosen = known.first[digits] + random.integers(0, known.ways[digits])
    shape = known.points[chosen]  # (B, K, 2), the sheet from -1 to 1

    # No point is quite where it should be, the ends of a stroke least of all.
    shape = shape + random.normal(0, 0.05, shape.shape) * (1 + 0.7 * known.ends[chosen])[..., None]

    # The whole is bent, as if written on rubber.
    x, y = shape[..., 0], shape[..., 1]
    bend = random.normal(0, 0.1, (6, BLOCK, 1))
    x, y = (
        x + bend[0] * y * y + bend[1] * x * y + bend[2] * x * x,
        y + bend[3] * x * x + bend[4] * x * y + 0.5 * bend[5] * y * y,
    )

    # It is narrow or wide, slanted (more often to the right), turned a little.
    x = x * np.exp(random.normal(-0.08, 0.16, (BLOCK, 1)))
    x = x - y * random.normal(0.18, 0.22, (BLOCK, 1))
    turn = random.normal(0, 0.09, (BLOCK, 1))
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)

    way = known.curves[chosen] @ np.stack([x, y], -1)  # (B, T, 2)

    # As in MNIST, the larger side fills the box and the mass is in the middle; neither quite so.
    extent = np.ptp(way, axis=1).max(1)
    pen = np.clip(random.normal(1.35, 0.33, BLOCK), 0.7, 2.3)
    size = BOX * random.uniform(0.9, 1.02, BLOCK) - 2 * pen
    way = way * (size / extent)[:, None, None]
    way = way + SIDE / 2 - way.mean(1, keepdims=True) + random.normal(0, 0.5, (BLOCK, 1, 2))
    rim = MARGIN + pen[:, None, None]
    way = way + np.maximum(rim - way.min(1, keepdims=True), 0)  # no ink leaves the paper
    way = way - np.maximum(way.max(1, keepdims=True) - (SIDE - rim), 0)

    # The pen presses now more, now less, and is often lifted early at the end.
    along = np.linspace(0, 1, TRAIL)
    speed, phase = random.uniform(0.5, 2, (BLOCK, 1)), random.uniform(0, 1, (BLOCK, 1))
    pressure = random.uniform(0, 0.2, (BLOCK, 1)) * np.sin(2 * np.pi * (speed * along + phase))
    lifted = random.uniform(0, 0.35, (BLOCK, 1)) * along**6
    return digits, way, pen[:, None] * (1 + pressure - lifted)


def ink(random: np.random.Generator, way: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """What the pen leaves on the paper: (B, 28, 28) uint8.

    Only sums, products and roots of rounded numbers from here on, which are the same on every machine.
    """
    middle = np.arange(SIDE, dtype=np.float32)[:, None] + np.float32(0.5)
    x, y = (np.round(way[..., axis].T * 256).astype(np.float32) / 256 for axis in (0, 1))  # (T, B)
    radius = np.round(radius.T * 256).astype(np.float32) / 256
    nearest = np.full((SIDE, SIDE, BLOCK), np.inf, np.float32)
    for step in range(TRAIL):
        across = (middle - x[step]) ** 2  # (28, B)
        down = (middle - y[step]) ** 2 - radius[step] ** 2
        np.minimum(nearest, down[:, None] + across, out=nearest)  # distance squared less radius squared
    mean = radius.mean(0)
    outside = np.sqrt(np.maximum(nearest + mean * mean, 0)) - mean  # pixels; negative within the stroke
    edge = np.round(random.uniform(1.0, 1.7, BLOCK) * 256).astype(np.float32) / 256
    dark = np.round(random.uniform(240, 280, BLOCK)).astype(np.float32)
    coverage = np.clip(np.float32(0.5) - outside / edge, 0, 1)
    return np.ascontiguousarray(np.minimum(coverage * dark, 255).astype(np.uint8).transpose(2, 0, 1))
