"""Training images: a named data set, a folder or archive of pictures, arrays, or a CSV table."""

from tinygan.data.dataset import Dataset, normalise
from tinygan.data.sources import load

__all__ = ["Dataset", "load", "normalise"]
