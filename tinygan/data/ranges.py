"""What the numbers of an array mean, 0 .. 1, -1 .. 1, 0 .. 255 or others, and how they become bytes."""

from typing import Any, NamedTuple

import numpy as np

from tinygan.data.mapped import chunks
from tinygan.errors import DataError

# The highest number of pictures with fewer levels than 256, or more: 1, 4, 10, 12 and 14 bits; 0 to 16 are
# those of scikit-learn's digits.
LEVELS = (1, 15, 16, 1023, 4095, 16383)
SLACK = 0.001  # of a range: floating-point numbers may leave it by so much


class Scale(NamedTuple):
    """How numbers become bytes: ``(numbers + add) * times``."""

    add: float
    times: float
    words: str  # the range they are taken to be in; empty for bytes that stay as they are

    def pixels(self, numbers: np.ndarray) -> np.ndarray:
        """`numbers` as uint8, of the same shape."""
        if not self.words:
            return numbers
        wide = numbers.astype(np.result_type(numbers, np.float32), copy=False)
        return np.clip(np.rint((wide + self.add) * self.times), 0, 255).astype(np.uint8)


def scale_of(array: Any, where: str) -> Scale:
    """The `Scale` for all numbers of `array`, which is `where`. Raises DataError where they are in no range
    that can mean one thing only, or some are not finite."""
    low, high, whole = np.inf, -np.inf, True
    for part in chunks(array):
        if array.dtype == np.uint8 and part.max() > 16:
            return Scale(0, 1, "")
        whole = whole and (part.dtype.kind in "bui" or bool((part == np.rint(part)).all()))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        if not np.isfinite(high - low):
            raise DataError(f"{where} holds numbers that are not finite (NaN or infinity). Replace them.")

    def within(bottom: float, top: float) -> bool:
        slack = 0 if whole else SLACK * (top - bottom)
        return bottom - slack <= low and high <= top + slack

    if whole and low >= 0 and high in LEVELS:
        return Scale(0, 255 / high, f"[0, {high:g}]")
    if within(0, 1) and not whole:
        return Scale(0, 255, "[0, 1]")
    if within(-1, 1) and low < 0:
        return Scale(1, 127.5, "[-1, 1]")
    if within(0, 255):
        return Scale(0, 1, "" if array.dtype == np.uint8 else "[0, 255]")
    if within(-128, 128) and low < -64:
        return Scale(128, 1, "[-128, 127]")
    if within(0, 65535) and high > LEVELS[-1]:
        return Scale(0, 255 / 65535, "[0, 65535]")
    wanted = "[0, 1], [-1, 1] or [0, 255]"
    raise DataError(f"{where} holds numbers from {low:g} to {high:g}. Bring them to {wanted}.")
