"""Pictures as rows of numbers: tables of text (CSV), and the binary version of CIFAR-10."""

import itertools
import math
import re
from pathlib import Path

import numpy as np

from tinygan.data.arrays import LARGEST, Stack
from tinygan.data.collection import Collection
from tinygan.data.dataset import reading
from tinygan.errors import DataError

ROWS = 1000  # that are parsed at once
LINE = 1 << 20  # characters; longer lines are cut, and then have too few numbers
LABELS = ("label", "labels", "class", "target", "y")
CIFAR = 3 * 32 * 32  # bytes of a picture, in front of which its label stands


def read_csv(path: Path) -> Stack:
    """The pictures in a CSV file, as Kaggle has MNIST: one a row, side * side numbers, and perhaps a label.

    The label is the column of that name; without names, the first one if only the others are a square. Raises
    DataError.
    """
    with reading(f"{path} cannot be read", ". Give a number for each pixel, and commas between them."):
        with path.open(encoding="utf-8-sig") as file:
            lines = iter(lambda: file.readline(LINE), "")
            first = next(lines, "")
            names = [name.strip(' "\r\n').lower() for name in first.split(",")]
            if not re.search("[a-df-z]", first.lower()):  # numbers, which may have an exponent
                lines = itertools.chain([first], lines)
            is_square = math.isqrt(len(names)) ** 2 == len(names)
            label = next((i for i, name in enumerate(names) if name in LABELS), None if is_square else 0)
            side = math.isqrt(len(names) - (label is not None))
            if side < 4 or side**2 != len(names) - (label is not None):
                wanted = "side * side numbers, and perhaps a label, such as 785"
                raise DataError(f"{path} has rows of {len(names)} ({first.strip():.40}...), not of {wanted}.")
            parts = []
            while block := list(itertools.islice(lines, ROWS)):
                rows = np.loadtxt(block, np.float32, comments=None, delimiter=",", ndmin=2)
                if rows.shape[1] != len(names):
                    raise DataError(f"{path} has rows of {len(names)} and of {rows.shape[1]}. Get it again.")
                parts.append(rows if label is None else np.delete(rows, label, axis=1))
                if len(parts) * parts[0].nbytes > LARGEST:
                    raise DataError(f"{path} has more than {LARGEST:,} bytes of numbers. Save it as .npy.")
            return Stack(np.concatenate(parts).reshape(-1, side, side, 1), str(path))


def read_cifar(collection: Collection) -> Stack:
    """The pictures in all batches of CIFAR-10's binary version: for each a label, then red, green and blue.

    Source: Krizhevsky 2009, https://www.cs.toronto.edu/~kriz/cifar.html. Raises DataError.
    """
    batches = []
    with reading(f"{collection.source} cannot be read", ". Get it again."):
        for entry in collection.entries(0):
            with entry.open() as file:
                data = np.frombuffer(file.read(), np.uint8)
            if len(data) % (1 + CIFAR):
                raise DataError(f"{entry.name}, {len(data):,} bytes, is no batch of CIFAR-10. Get it again.")
            batches.append(data.reshape(-1, 1 + CIFAR)[:, 1:].reshape(-1, 3, 32, 32))
    return Stack(np.concatenate(batches), str(collection.source), planes=True)
