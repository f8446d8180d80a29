"""Pictures to learn from: by name, from a folder or an archive, from arrays or a table.

    dataset.py    what a set is: images, in memory or in a file, digest, where from; bytes to -1 .. 1
    sources.py    the named sets, their mirrors, where they are found, and the `auto` rule
    download.py   the cache folder; fetching a pinned file, so that nothing wrong is ever kept
    strokes.py    the built-in set: templates of digits, and a random hand that varies and draws them
    collection.py which files of a folder, a zip or a tar are pictures, and why others are left out
    pictures.py   what such files hold, decoded on all cores
    arrays.py     pictures as numbers: .npy, .npz, CSV, MNIST's IDX, CIFAR-10's binary version; their ranges
    foreign.py    formats that are not read, and commands that convert them
    converted.py  large sets of another size: converted once, into the cache
    resize.py     crop, pad or stretch to the model's size; mirror images
"""

from tinygan.data.dataset import Dataset, normalise
from tinygan.data.sources import load

__all__ = ["Dataset", "load", "normalise"]
