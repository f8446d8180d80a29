"""The data sets with names, the places where they may lie, and what `auto` means."""

import os
from collections.abc import Callable
from dataclasses import replace
from os.path import exists, isdir, isfile  # they answer False where pathlib raises: names too long
from pathlib import Path

from tinygan.data.dataset import Dataset
from tinygan.data.download import Pinned, cache_folder, fetch, is_intact
from tinygan.data.idx import read_idx
from tinygan.data.mapped import chunks
from tinygan.data.strokes import strokes
from tinygan.errors import CheckpointError, DataError, UsageError, first_sentence, printable

FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
)
MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"

# The official files: name, mirrors, bytes, SHA-256.
PINNED = {
    ("fashion-mnist", "train"): Pinned(
        TRAIN, FASHION, 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
    ),
    ("fashion-mnist", "test"): Pinned(
        TEST, FASHION, 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
    ),
    ("mnist", "train"): Pinned(
        TRAIN, MNIST, 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    ("mnist", "test"): Pinned(
        TEST, MNIST, 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
}
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
) -> Dataset:
    """The data set `name`: one of `NAMES`, a folder of pictures, or an .npy or .npz file.

    Its images are (N, size, size, channels) uint8; `limit` takes the first N; `split` is "train" or
    "test" and counts for the named sets. `data_dir`, or else the environment's TINYGAN_DATA, holds
    ``<name>/train-images-idx3-ubyte.gz`` (or the same unpacked). "auto" is fashion-mnist, or strokes
    where that cannot be had; `say` then says so.

    Raises:
        DataError: the set is missing or damaged. A name other than "auto" never becomes another.
        UsageError: a size, channels, a limit or a split that cannot be.
    """
    if size < 1 or channels not in (1, 3) or (limit is not None and limit < 1):
        raise UsageError(f"size {size}, channels {channels}, limit {limit}: use 1 or more; channels 1 or 3.")
    if split not in STROKES:
        raise UsageError(f"split {split!r} is neither of {', '.join(STROKES)}.")

    def say_printable(line: str) -> None:  # a path may hold anything, a line break included
        say(printable(line))

    try:
        if data_dir is not None and not isdir(data_dir):
            raise DataError(f"--data-dir {data_dir} is no folder. Name the one that holds fashion-mnist/.")
        if name in NAMES:
            data = named(name, split, limit, data_dir, say_printable)
            images = data.images[:limit]
            if images.shape[1:] != (size, size, channels):
                from tinygan.data.resize import fit_all  # Pillow is needed only now

                images = fit_all(images, size, channels)
            data = replace(data, images=images)
        else:
            data = from_path(Path(name), size, channels, limit, say_printable)
    except DataError as problem:
        raise DataError(printable(str(problem))) from problem
    notes = tuple(map(printable, data.notes))
    count, one = len(data.images), data.images[0]
    if count > 1 and all((part == one).all() for part in chunks(data.images)):
        notes += (f"note     there is only one picture to learn from, {count:,} times",)
    return replace(data, source=printable(data.source), notes=notes)


def from_path(
    path: Path, size: int, channels: int, limit: int | None, say: Callable[[str], object]
) -> Dataset:
    """A folder of pictures or an array file."""
    if isdir(path):
        from tinygan.data.folder import load_folder

        return load_folder(path, size, channels, limit, say)
    if path.suffix in (".npy", ".npz") and isfile(path):
        from tinygan.data.arrays import load_array

        return load_array(path, size, channels, limit, say)
    found = "is neither a folder nor an .npy or .npz file" if exists(path) else "does not exist"
    raise DataError(f"--data {path} {found}. Use {', '.join(NAMES)}, or the path of such a one.")


def named(
    name: str, split: str, limit: int | None, data_dir: Path | None, say: Callable[[str], object]
) -> Dataset:
    """One of `NAMES`, with a note if its file is packed, but not the official one. Of the strokes only the
    first `limit` are drawn."""
    if name != "strokes":
        official = "fashion-mnist" if name == "auto" else name
        try:
            file, notes = PINNED[official, split], ()
            path = located(official, file, data_dir, say)
            images = read_idx(path)[..., None]
            if path.suffix == ".gz" and not is_intact(path, file):
                which = f"{path} is not the official {official} file (its SHA-256 differs)"
                notes = (f"note     {which}; using it as it is",)
            return Dataset(official, images, str(path), notes)
        except DataError as problem:
            if name != "auto":
                raise
            reason = first_sentence(str(problem))
            say(f"no Fashion-MNIST ({reason}): using the built-in strokes.")
    count, seed = STROKES[split]
    images, _ = strokes(min(count, limit or count), seed)
    return Dataset("strokes", images, "built in, drawn by strokes.py")


def located(name: str, file: Pinned, data_dir: Path | None, say: Callable[[str], object]) -> Path:
    """Where a file of the set `name` lies, packed or not: in the data folder, in the set's subfolder of it,
    or in the cache, perhaps just fetched."""
    environment = os.environ.get("TINYGAN_DATA")
    given = data_dir or (Path(environment) if environment else None)
    if given:
        for place in (given / name, given):
            for path in (place / file.name, place / file.name.removesuffix(".gz")):
                if isfile(path):
                    return path
        if data_dir:
            missing = given / name / file.name
            raise DataError(f"{missing} is missing. Put it there, or leave out --data-dir.")
        say(f"no {name}/{file.name} in TINYGAN_DATA ({given}); looking elsewhere.")
    try:
        return fetch(file, cache_folder() / name, say)
    except (DataError, CheckpointError) as problem:
        raise DataError(
            f"{problem} Get it by hand from {file.mirrors[0]}{file.name}, put it into DIR/{name}/ and "
            "use --data-dir DIR; or use --data strokes."
        ) from problem
