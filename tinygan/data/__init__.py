"""Pictures to learn from: by name, from a folder, or from an array file.

    dataset.py    what a set is: images, digest, where it came from; bytes to -1 .. 1
    sources.py    the named sets, their mirrors, where they are found, and the `auto` rule
    idx.py        the file format of MNIST and Fashion-MNIST
    download.py   the cache folder; fetching a pinned file, so that nothing wrong is ever kept
    strokes.py    the built-in set: digits drawn by a random hand
    templates.py  the ways to write each digit, which that hand varies
    folder.py     a folder of PNG and JPEG pictures
    arrays.py     .npy and .npz files, and the range of their numbers
    mapped.py     arrays that stay in their files, of which parts are read
    converted.py  large sets of another size: converted once, into the cache
    resize.py     crop and resize to the model's size
"""

from tinygan.data.dataset import Dataset, normalise
from tinygan.data.sources import load

__all__ = ["Dataset", "load", "normalise"]
