"""The built-in data set: random handwritten digits, white on black like MNIST's; needs no file or network.

Each digit is a template with its points moved at random, then bent, stretched, slanted and turned as a whole.
A pen draws it: pixels closer to its path than its radius are ink, with a soft edge."""

from functools import cache
from itertools import pairwise

import numpy as np

SIDE = 28  # pixels
BOX = 20.0  # pixels: the longer side of a digit, which is centred on its mass, as in MNIST
MARGIN = 2.0  # pixels between pen and border, for its varying pressure and soft edge
BLOCK = 500  # images drawn together, from a single random generator
TRAIL = 72  # points along the pen's path, closer together than the pen is wide
FINE = 64  # points tried between two points of a template to find evenly spaced ones

# A digit and one way to write it: points x,y on a sheet of 100 x 100, y downwards, joined by a smooth curve.
# The pen turns sharply at a "!" and is lifted at a "|".
TEMPLATES = """\
0 58,6 30,10 14,46 26,88 50,97 76,82 86,45 70,12 46,5
0 66,13 44,4 23,24 18,62 36,95 60,90 78,60 76,26 58,7 44,13
0 40,12 62,4 84,30 82,70 56,97 26,86 15,52 25,18 52,5 66,13
1 52,4 50,35 50,65 48,96
1 57,4 54,50 46,96
1 30,26 52,5! 51,50 50,96
1 32,22 52,5! 51,50 50,94 | 27,95 52,94 75,95
2 18,28 34,7 62,8 75,28 62,54 38,76 14,95! 48,92 84,94
2 20,24 40,5 68,12 74,36 54,66 30,92 13,88 22,75 46,84 66,95 90,86
2 16,30 30,8 60,6 72,27 58,54 16,92! 40,86 64,94 88,87
3 20,15 48,4 72,16 68,36 40,47! 70,56 78,78 54,96 18,88
3 18,20 42,4 70,14 66,38 46,47 72,58 74,84 46,97 14,84
3 20,8 50,9 76,7! 46,42! 74,56 74,84 44,97 16,86
4 26,6 18,56! 48,57 84,52 | 67,10 63,50 58,97
4 62,97 64,50 66,5! 40,36 12,66! 50,66 88,63
4 25,8 20,40 34,54 58,50 70,36 | 74,8 68,50 62,97
5 30,9 26,44! 54,38 77,58 70,86 42,97 14,86 | 30,9 52,9 80,6
5 80,8 52,8 32,10! 26,44! 56,40 78,62 66,90 38,97 14,84
5 78,10 50,6 30,20 36,42 62,54 75,74 56,95 18,88
6 66,6 40,22 20,56 24,86 47,97 70,84 69,63 48,55 25,70
6 56,4 32,32 19,68 34,95 60,94 71,75 56,60 32,66 21,80
6 74,10 48,10 23,40 17,74 38,97 68,90 75,66 56,52 30,62 19,78
7 16,12 48,10 80,8! 60,44 42,97
7 16,14 46,10 80,9! 60,46 44,97 | 36,54 56,51 78,50
7 18,27 19,11! 50,10 80,9! 58,50 48,97
7 14,18 36,8 68,9 78,18 66,40 50,68 46,97
8 73,18 50,4 27,16 32,37 56,52 76,75 54,97 26,88 25,68 50,48 71,30 72,14
8 50,48 27,28 47,4 72,22 50,48 25,73 47,97 75,79 51,49
8 76,10 48,5 28,24 50,47 71,73 50,97 25,80 44,54 68,30 75,16
9 72,20 50,6 25,22 29,46 54,47 72,22! 71,55 64,97
9 74,20 48,6 23,26 35,50 61,44 73,20 74,50 66,84 42,97 20,89
9 70,13 44,8 25,30 40,50 63,37 72,12! 67,52 57,97
"""


def strokes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `count` digits, (count, 28, 28, 1) uint8; return them and their labels, (count,) uint8. With the
    same `seed`, a larger `count` only adds digits."""
    images, labels = [], []
    for start in range(0, max(1, count), BLOCK):  # whole blocks, so that `count` changes no image
        random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(start // BLOCK,)))
        digits, way, radius = write(random)
        labels.append(digits.astype(np.uint8))
        images.append(ink(random, way, radius))
    return np.concatenate(images)[:count, ..., None], np.concatenate(labels)[:count]


def write(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose the digits (B,), the pen's path (B, T, 2) in pixels, and its radius there (B, T)."""
    digits = random.integers(0, 10, BLOCK)
    curves, points, ends, first, ways = templates()
    chosen = first[digits] + random.integers(0, ways[digits])
    shape = points[chosen]  # (B, K, 2), the sheet from -1 to 1

    # Move every point a little, the ends of a stroke most.
    shape = shape + random.normal(0, 0.05, shape.shape) * (1 + 0.7 * ends[chosen])[..., None]

    # Bend the whole, as if written on rubber.
    x, y = shape[..., 0], shape[..., 1]
    bend = random.normal(0, 0.1, (6, BLOCK, 1))
    x, y = (x + bend[0] * y * y + bend[1] * x * y + bend[2] * x * x,
            y + bend[3] * x * x + bend[4] * x * y + 0.5 * bend[5] * y * y)  # fmt: skip

    # Make it narrow or wide, slant it (more often to the right) and turn it a little.
    x = x * np.exp(random.normal(-0.08, 0.16, (BLOCK, 1)))
    x = x - y * random.normal(0.18, 0.22, (BLOCK, 1))
    turn = random.normal(0, 0.09, (BLOCK, 1))
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)

    way = curves[chosen] @ np.stack([x, y], -1)  # (B, T, 2)

    # As in MNIST, fit the longer side to the box and centre the mass, but neither exactly.
    extent = np.ptp(way, axis=1).max(1)
    pen = np.clip(random.normal(1.35, 0.33, BLOCK), 0.7, 2.3)
    size = BOX * random.uniform(0.9, 1.02, BLOCK) - 2 * pen
    way = way * (size / extent)[:, None, None]
    way = way + SIDE / 2 - way.mean(1, keepdims=True) + random.normal(0, 0.5, (BLOCK, 1, 2))
    rim = MARGIN + pen[:, None, None]
    way = way + np.maximum(rim - way.min(1, keepdims=True), 0)  # keep the ink on the paper
    way = way - np.maximum(way.max(1, keepdims=True) - (SIDE - rim), 0)

    # Vary the pen's pressure; it is often lifted early at the end.
    along = np.linspace(0, 1, TRAIL)
    speed, phase = random.uniform(0.5, 2, (BLOCK, 1)), random.uniform(0, 1, (BLOCK, 1))
    pressure = random.uniform(0, 0.2, (BLOCK, 1)) * np.sin(2 * np.pi * (speed * along + phase))
    lifted = random.uniform(0, 0.35, (BLOCK, 1)) * along**6
    return digits, way, pen[:, None] * (1 + pressure - lifted)


def ink(random: np.random.Generator, way: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Draw the pen's path, (B, 28, 28) uint8, with only sums, products and roots of rounded numbers, which
    are the same on every machine."""
    middle = np.arange(SIDE, dtype=np.float32)[:, None] + np.float32(0.5)
    x, y = (np.round(way[..., axis].T * 256).astype(np.float32) / 256 for axis in (0, 1))  # (T, B)
    radius = np.round(radius.T * 256).astype(np.float32) / 256
    nearest = np.full((SIDE, SIDE, BLOCK), np.inf, np.float32)
    for step in range(TRAIL):
        across = (middle - x[step]) ** 2  # (28, B)
        down = (middle - y[step]) ** 2 - radius[step] ** 2
        np.minimum(nearest, down[:, None] + across, out=nearest)  # squared distance minus squared radius
    mean = radius.mean(0)
    outside = np.sqrt(np.maximum(nearest + mean * mean, 0)) - mean  # pixels; negative inside the stroke
    edge = np.round(random.uniform(1.0, 1.7, BLOCK) * 256).astype(np.float32) / 256
    dark = np.round(random.uniform(240, 280, BLOCK)).astype(np.float32)
    coverage = np.clip(np.float32(0.5) - outside / edge, 0, 1)
    return np.ascontiguousarray(np.minimum(coverage * dark, 255).astype(np.uint8).transpose(2, 0, 1))


@cache
def templates() -> tuple[np.ndarray, ...]:
    """Parse `TEMPLATES` into arrays, V ways to write a digit of K points each, padded with zeros: curves
    (V, TRAIL, K), which map points to the pen's path; points (V, K, 2) in [-1, 1]; ends (V, K), 1 where a
    stroke begins or ends; each digit's first way, and its number of ways, (10,)."""
    rows = TEMPLATES.splitlines()
    most = max(row.count(",") for row in rows)
    curves, points, ends = map(np.stack, zip(*(parse(row[1:], most) for row in rows), strict=True))
    ways = np.bincount([int(row[0]) for row in rows])
    return curves, points, ends, np.cumsum(ways) - ways, ways


def parse(text: str, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parse a template into its curve (TRAIL, count), points (count, 2) and ends (count,), padded with zeros.

    >>> curve, points, ends = parse("0,0 100,0! 100,100", 4)
    >>> (curve @ points)[[0, -1]].tolist(), ends.tolist()
    ([[-1.0, -1.0], [1.0, 1.0]], [1.0, 0.0, 1.0, 0.0])"""
    points, ends, stop = np.zeros((count, 2)), np.zeros(count), 0
    pieces = []  # each holds the indices of the points on one smooth curve
    for stroke in text.split("|"):
        words, first, stop = stroke.split(), stop, stop + stroke.count(",")
        turns = [number for number, word in enumerate(words, first) if word.endswith("!")]
        points[first:stop] = np.array([word.rstrip("!").split(",") for word in words], float) / 50 - 1
        ends[[first, stop - 1]] = 1
        pieces += [range(here, there + 1) for here, there in pairwise([first, *turns, stop - 1])]
    fine = np.concatenate([smooth(piece, count) for piece in pieces])
    steps = np.linalg.norm(np.diff(fine @ points, axis=0), axis=1)
    borders = np.cumsum([FINE * (len(piece) - 1) for piece in pieces])[:-1] - 1
    steps[borders] = 0  # a lifted pen uses no ink
    distance = np.concatenate([[0], np.cumsum(steps)])
    even = np.linspace(0, distance[-1], TRAIL)
    return fine[np.abs(distance[:, None] - even).argmin(0)], points, ends


def smooth(piece: range, count: int) -> np.ndarray:
    """Return the Catmull-Rom curve through `piece` of `count` points: (FINE (len(piece) - 1), count)."""
    unit, t = np.eye(count)[piece], np.linspace(0, 1, FINE)[:, None]
    # The curve continues straight past its ends.
    way = np.concatenate([2 * unit[:1] - unit[1:2], unit, 2 * unit[-1:] - unit[-2:-1]])
    a, b, c, d = (way[start : start + len(piece) - 1, None] for start in range(4))
    cubic = t**3 * (1.5 * (b - c) + (d - a) / 2)
    return (b + t * (c - a) / 2 + t**2 * (a - 2.5 * b + 2 * c - d / 2) + cubic).reshape(-1, count)
