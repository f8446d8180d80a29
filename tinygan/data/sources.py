"""Which data sets there are by name, where they are looked for, and what `auto` means."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from os.path import exists, isdir, isfile  # they answer False where pathlib raises: names too long
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.data.dataset import Dataset
from tinygan.data.download import Pinned, fetch, is_intact
from tinygan.data.idx import read_images, read_labels
from tinygan.data.mapped import chunks
from tinygan.data.strokes import labelled_strokes, strokes
from tinygan.errors import DataError, UsageError, printable

_FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"

# The official files: name, mirrors, bytes, SHA-256.
PINNED = {
    ("fashion-mnist", "train"): Pinned(
        TRAIN, _FASHION, 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    ("fashion-mnist", "test"): Pinned(
        TEST, _FASHION, 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    ("mnist", "train"): Pinned(
        TRAIN, _MNIST, 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    ("mnist", "test"): Pinned(
        TEST, _MNIST, 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
}
# Which garment each image shows; only the classifiers of tinygan.evaluation learnt from them.
LABELS = {
    "train": Pinned(
        "train-labels-idx1-ubyte.gz", _FASHION, 29515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    "test": Pinned(
        "t10k-labels-idx1-ubyte.gz", _FASHION, 5148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}  # fmt: skip
NAMES = ("auto", "fashion-mnist", "mnist", "strokes")
STROKES = {"train": (60_000, 0), "test": (10_000, 1)}  # how many, and the seed they are drawn with


def load(
    name: str = "auto",
    *,
    data_dir: Path | None = None,
    size: int = 28,
    channels: int = 1,
    limit: int | None = None,
    split: str = "train",
    say: Callable[[str], object] = print,
    open_address: Callable[[str], Any] | None = None,
) -> Dataset:
    """The data set `name`: one of `NAMES`, a folder of pictures, or an .npy or .npz file.

    Its images are (N, size, size, channels) uint8; `limit` takes the first N; `split` is "train" or
    "test" and counts for the named sets. `data_dir`, or else the environment's TINYGAN_DATA, holds
    ``<name>/train-images-idx3-ubyte.gz`` (or the same unpacked). "auto" is fashion-mnist, or strokes
    where that cannot be had; `say` then says so. `open_address` stands in for the network in tests.

    Raises:
        DataError: the set is missing or damaged. A name other than "auto" never becomes another.
        UsageError: a size, channels, a limit or a split that cannot be.
    """
    if size < 1 or channels not in (1, 3) or (limit is not None and limit < 1):
        raise UsageError(f"size {size}, channels {channels}, limit {limit}: use 1 or more; channels 1 or 3.")
    if split not in STROKES:
        raise UsageError(f"split {split!r} is neither of {', '.join(STROKES)}.")
    try:
        data = find(name, data_dir, size, channels, limit, split, say, open_address)
    except DataError as problem:  # a path may hold anything, a line break included
        raise DataError(printable(str(problem))) from problem
    notes = tuple(map(printable, data.notes))
    count, one = len(data.images), data.images[0]
    # The last one mostly tells.
    if (
        count > 1
        and (data.images[-1] == one).all()
        and all((part == one).all() for part in chunks(data.images))
    ):
        notes += (f"note     there is only one picture to learn from, {count:,} times",)
    return replace(data, source=printable(data.source), notes=notes)


def find(
    name: str,
    data_dir: Path | None,
    size: int,
    channels: int,
    limit: int | None,
    split: str,
    say: Callable[[str], object],
    open_address: Callable[[str], Any] | None,
) -> Dataset:
    """As `load`, with arguments that make sense."""
    if data_dir is not None and not isdir(data_dir):
        raise DataError(f"--data-dir {data_dir} is no folder. Name the one that holds fashion-mnist/.")
    if name == "auto":
        try:
            data = named("fashion-mnist", split, data_dir, say, open_address)
        except DataError as problem:
            reason = printable(str(problem).partition(". ")[0])
            say(f"no Fashion-MNIST ({reason}): using the built-in strokes.")
            data = built_in(split, limit)
    elif name in ("fashion-mnist", "mnist"):
        data = named(name, split, data_dir, say, open_address)
    elif name == "strokes":
        data = built_in(split, limit)
    else:
        return from_path(Path(name), size, channels, limit, lambda line: say(printable(line)))
    images = data.images[:limit]
    if images.shape[1:] != (size, size, channels):
        from tinygan.data.resize import fit_all  # Pillow is needed only now

        images = fit_all(images, size, channels)
    return replace(data, images=images)


def built_in(split: str, limit: int | None) -> Dataset:
    """The strokes."""
    count, seed = STROKES[split]
    return Dataset("strokes", strokes(min(count, limit or count), seed), "built in, drawn by strokes.py")


def from_path(
    path: Path, size: int, channels: int, limit: int | None, say: Callable[[str], object]
) -> Dataset:
    """A folder of pictures or an array file."""
    try:
        cache = cache_folder() / "pictures"
    except DataError:  # no home; who needs a cache can do without
        cache = None
    if isdir(path):
        from tinygan.data.folder import load_folder

        return load_folder(path, size, channels, limit, cache, say)
    if path.suffix in (".npy", ".npz") and isfile(path):
        from tinygan.data.arrays import load_array

        return load_array(path, size, channels, limit, cache, say)
    found = "is neither a folder nor an .npy or .npz file" if exists(path) else "does not exist"
    raise DataError(f"--data {path} {found}. Use {', '.join(NAMES)}, or the path of such a one.")


def named(
    name: str,
    split: str,
    data_dir: Path | None,
    say: Callable[[str], object],
    open_address: Callable[[str], Any] | None,
) -> Dataset:
    """fashion-mnist or mnist from the first place that has it: data folder, cache, network."""
    file = PINNED[name, split]
    return from_idx(name, located(name, file, data_dir, say, open_address), file)


def labels(
    name: str, split: str, data_dir: Path | None = None, say: Callable[[str], object] = print
) -> np.ndarray:
    """What each image of "fashion-mnist" or "strokes" shows, 0 to 9: (N,) uint8; else as `load`.

    Raises:
        DataError: the file is missing or damaged.
    """
    if name == "strokes":
        return labelled_strokes(*STROKES[split])[1]
    return read_labels(located(name, LABELS[split], data_dir, say, None))


def located(
    name: str,
    file: Pinned,
    data_dir: Path | None,
    say: Callable[[str], object],
    open_address: Callable[[str], Any] | None,
) -> Path:
    """Where a file of the set `name` lies now: in the data folder, or in the cache, perhaps just fetched."""
    given = data_dir or (Path(os.environ["TINYGAN_DATA"]) if os.environ.get("TINYGAN_DATA") else None)
    for path in local_files(given, name, file.name) if given else ():
        return path
    if data_dir:
        raise DataError(f"{data_dir / name / file.name} is missing. Put it there, or leave out --data-dir.")
    if given:
        say(printable(f"no {name}/{file.name} in TINYGAN_DATA ({given}); looking elsewhere."))
    try:
        return fetch(file, cache_folder() / name, say, open_address)
    except DataError as problem:
        raise DataError(
            f"{problem}. Get it by hand from {file.mirrors[0]}{file.name}, put it into DIR/{name}/ and use "
            "--data-dir DIR; or use --data strokes."
        ) from problem


def local_files(folder: Path, name: str, file_name: str) -> list[Path]:
    """Where the file lies in a user's folder, packed or not: in the set's own subfolder, or beside it."""
    names = (file_name, file_name.removesuffix(".gz"))
    places = [place / file for place in (folder / name, folder) for file in names]
    return [place for place in places if isfile(place)]


def from_idx(name: str, path: Path, file: Pinned) -> Dataset:
    """The images of an IDX file; a note if it is a packed file, but not the official one."""
    images = read_images(path)[..., None]
    notes = ()
    if path.suffix == ".gz" and not is_intact(path, file):
        notes = (f"note     {path} is not the official {name} file (its SHA-256 differs); using it as it is",)
    return Dataset(name, images, str(path), notes)


def cache_folder() -> Path:
    """Where downloads and converted pictures are kept: TINYGAN_CACHE, or ``tinygan`` in the user's cache."""
    if os.environ.get("TINYGAN_CACHE"):
        return Path(os.environ["TINYGAN_CACHE"])
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or Path.home() / ".cache") / "tinygan"
    except RuntimeError:  # a user without a home, as in some containers
        raise DataError("there is no home folder to keep downloads in. Set TINYGAN_CACHE.") from None
