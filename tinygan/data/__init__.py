"""Pictures to learn from: by name, from a folder or an archive, from arrays or a table."""

from tinygan.data.dataset import Dataset, normalise
from tinygan.data.sources import load

__all__ = ["Dataset", "load", "normalise"]
