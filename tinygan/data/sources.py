"""Load data by name or path: the named sets, the places they are found in, and what `auto` means."""

import gzip
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from os.path import exists, isdir, isfile  # False for names too long, where pathlib raises
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.arrays import ARRAY
from tinygan.data import arrays
from tinygan.data.collection import OTHERS, collected, is_batch, state_of
from tinygan.data.dataset import WAYS, Dataset, Shape, chunks, reading, spread
from tinygan.data.download import Pinned, cache_folder, fetch, is_intact
from tinygan.data.foreign import remedy
from tinygan.data.pictures import fit_all, load_pictures
from tinygan.data.strokes import strokes
from tinygan.errors import CheckpointError, DataError, Printer, UsageError, meant, plural, say

FASHION = ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
           "https://storage.googleapis.com/tensorflow/tf-keras-datasets/")  # fmt: skip
MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/",
         "https://storage.googleapis.com/cvdf-datasets/mnist/")  # fmt: skip
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"
TORCHVISION = {"fashion-mnist": "FashionMNIST/raw", "mnist": "MNIST/raw"}
CONTRAST = 32  # of 255: the least difference between a picture's darkest and brightest pixel

# The official files: name, mirrors, bytes, SHA-256.
PINNED = {
    ("fashion-mnist", "train"): Pinned(
        TRAIN, FASHION, 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("fashion-mnist", "test"): Pinned(
        TEST, FASHION, 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("mnist", "train"): Pinned(
        TRAIN, MNIST, 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("mnist", "test"): Pinned(
        TEST, MNIST, 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
}  # fmt: skip
NAMES = ("auto", "fashion-mnist", "mnist", "strokes")
STROKES = {"train": (60_000, 0), "test": (10_000, 1)}  # how many are drawn, and the seed


def load(
    name: Any = "auto", *, data_dir: Path | None = None, size: int = 28, channels: int = 1,
    limit: int | None = None, resize: str = "crop", flip: bool = False, split: str = "train",
    say: Printer = say,
) -> Dataset:  # fmt: skip
    """Load the data set `name`: one of `NAMES`, a path that `from_path` reads, or an array of pictures.

    Its images are (N, size, size, channels) uint8; `resize`, "crop", "pad" or "stretch", converts others.
    `limit` takes the first N; `flip` adds their mirror images. `split`, "train" or "test", applies to named
    sets. `data_dir`, or else TINYGAN_DATA, holds ``<name>/train-images-idx3-ubyte.gz`` (or unpacked, or
    torchvision's folder). "auto" is fashion-mnist, or strokes if that is unavailable; `say` then reports it.

    Raises: DataError if the set is missing or damaged (only "auto" ever falls back to another one);
    UsageError if size, channels, limit, resize or split is invalid."""
    if size < 1 or channels not in (1, 3) or (limit is not None and limit < 1):
        wrong = f"size {size}, channels {channels} or limit {limit} is invalid"
        raise UsageError(f"{wrong}. Use a size and a limit of 1 or more, and 1 or 3 channels.")
    if split not in STROKES or resize not in WAYS:
        known = f"{', '.join(STROKES)}; {', '.join(WAYS)}"
        raise UsageError(f"split {split!r} or resize {resize!r} is unknown. Use one of {known}.")
    shape = Shape(size, channels, resize, flip)
    if data_dir is not None and not isdir(data_dir):
        raise DataError(f"--data-dir {data_dir} is not a folder. Use the one that holds fashion-mnist/.")
    if not isinstance(name, str):
        data = arrays.from_array(name, shape, limit, say)
    elif not name:
        raise DataError(f"--data is empty. Use {', '.join(NAMES)}, or a path.")
    elif name == ARRAY:
        raise DataError("the images were an array in a Python program. Resume there, with data=ARRAY.")
    elif name in NAMES:
        data = named(name, split, limit, data_dir, say)
        data = replace(data, images=shape.mirrored(fit_all(data.images[:limit], shape)))
    else:
        data = from_path(Path(name), shape, limit, say)
    return replace(data, notes=(*data.notes, *remarks(data.images)))


def remarks(images: Any) -> Iterator[str]:
    """Yield notes on images that teach a model little or nothing."""
    count, one, some = len(images), images[0], spread(images, 4096)
    if count > 1 and all((part == one).all() for part in chunks(images)):
        yield f"note     there is only one picture to learn from, repeated {count:,} times"
    faint = some[np.ptp(some, axis=(1, 2, 3)) < CONTRAST]
    if len(faint):
        how = f"nearly black or of a single colour (brightest pixel: {faint.max()} of 255)"
        yield f"note     {len(faint):,} of {plural(len(some), 'picture')}: {how}"


def from_path(path: Path, shape: Shape, limit: int | None, say: Printer) -> Dataset:
    """Load the pictures in a folder or a file, whose first bytes show its format. Raises: DataError."""
    if isdir(path):
        return from_collection(path, shape, limit, say)
    if not isfile(path):  # opening a named pipe would wait for ever
        problem = "is neither a folder nor a file" if exists(path) else "does not exist"
        near = meant(str(path), NAMES)
        raise DataError(f"--data {path} {problem}.{near} Use {', '.join(NAMES)}, or a path to pictures.")
    with reading(f"{path} cannot be read", ". Get a fresh copy or use other data."):
        facts, head = path.stat(), beginning(path)
        ending, zipped = path.suffix.lower(), head.startswith(b"PK")
        if zipped and ending == ".npz":
            stack = arrays.read_npz(path, "train")
        elif head.startswith(b"\x93NUMPY"):
            with path.open("rb") as file:
                stack = arrays.read_npy(file, facts.st_size, str(path), limit, math.prod(shape.image))
        elif head.startswith(arrays.MAGIC):
            stack = arrays.read_idx(path)[..., None], str(path)
        elif ending == ".csv":
            stack = arrays.read_csv(path)
        elif zipped or head.startswith(b"BZh") or head[257:262] == b"ustar":
            return from_collection(path, shape, limit, say)
        elif foreign := remedy(path, head):
            raise DataError(f"{path} is {foreign}.")
        else:
            kinds = "a folder, zip or tar of pictures, or a .npy, .npz, IDX or .csv file"
            raise DataError(f"--data {path} starts like no known format. Use {', '.join(NAMES)}, {kinds}.")
    return arrays.from_stack(stack, path, state_of(facts), shape, limit, say)


def from_collection(path: Path, shape: Shape, limit: int | None, say: Printer) -> Dataset:
    """Load a folder or an archive of pictures or of CIFAR-10's batches, or a folder with MNIST's files."""
    with reading(f"{path} cannot be read", ". Get a fresh copy."):
        collection = collected(path)
        if all(map(is_batch, collection.names or [""])):
            stack = arrays.read_cifar(collection)
            return arrays.from_stack(stack, path, collection.state, shape, limit, say)
    for name in () if collection.names else collection.left_out.get(OTHERS, ()):
        if isdir(path) and Path(name).name in (TRAIN, TRAIN.removesuffix(".gz")):  # torchvision's folder
            return from_path(path / name, shape, limit, say)
    return load_pictures(collection, shape, limit, say)


def beginning(path: Path) -> bytes:
    """Return a file's first bytes, or those of the IDX file or tar archive that is gzipped in it."""
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"\x1f\x8b"):
        with gzip.open(path) as file:
            packed = file.read(512)
        head = packed if packed.startswith(arrays.MAGIC) or packed[257:262] == b"ustar" else head
    return head


def named(name: str, split: str, limit: int | None, data_dir: Path | None, say: Printer) -> Dataset:
    """Load one of `NAMES`, with a note if its packed file is not the official one; draw `limit` strokes."""
    if name != "strokes":
        official = "fashion-mnist" if name == "auto" else name
        try:
            file, notes = PINNED[official, split], ()
            path = located(official, file, data_dir, say)
            if path.suffix == ".npz":  # Keras' MNIST
                with reading(f"{path} cannot be read", ". Get a fresh copy."):
                    stack = arrays.read_npz(path, split)
                return replace(arrays.from_stack(stack, path, "", Shape(28, 1), limit, say), name=official)
            images = arrays.read_idx(path)[..., None]
            if path.suffix == ".gz" and not is_intact(path, file):
                which = f"{path} is not the official {official} file (its SHA-256 differs)"
                notes = (f"note     {which}; using it anyway",)
            return Dataset(official, images, str(path), notes)
        except DataError as problem:
            if name != "auto":
                raise
            say(f"Fashion-MNIST is unavailable; using the built-in strokes instead: {problem}")
    count, seed = STROKES[split]
    images, _ = strokes(min(count, limit or count), seed)
    return Dataset("strokes", images, "built in, drawn by strokes.py")


def located(name: str, file: Pinned, data_dir: Path | None, say: Printer) -> Path:
    """Find the file of the set `name`: in the data folder, the cache, Keras' or torchvision's, or online."""
    if given := data_dir or os.environ.get("TINYGAN_DATA"):
        given = Path(given)
        if path := found_in((given / name, given, given / TORCHVISION.get(name, name)), name, file):
            return path
        if data_dir:
            raise DataError(f"{given / name / file.name} is missing. Put it there, or leave out --data-dir.")
        say(f"no {name}/{file.name} in TINYGAN_DATA ({given}); searching elsewhere.")
    try:
        cache = cache_folder() / name
        others = [Path("data") / TORCHVISION.get(name, name)]  # where its examples put it
        with suppress(RuntimeError):  # there is no home folder
            keras = Path.home() / ".keras" / "datasets"
            others += [keras / name, keras]
        if not isfile(cache / file.name) and (path := found_in(others, name, file)):
            return path
        return fetch(file, cache, say)
    except (DataError, CheckpointError) as problem:
        records = f"{name.replace('-', '_')}/*/*-train.tfrecord*"  # of TensorFlow Datasets
        with suppress(RuntimeError):
            for found in sorted((Path.home() / "tensorflow_datasets").glob(records)):
                raise DataError(f"{problem} Use --data {found} to see how to convert that file.") from problem
        by_hand = f"{file.mirrors[0]}{file.name} into DIR/{name}/ and use --data-dir DIR"
        other = "or TINYGAN_DATA=DIR; or use --data strokes"
        raise DataError(f"{problem} Download {by_hand} {other}.") from problem


def found_in(places: Iterable[Path], name: str, file: Pinned) -> Path | None:
    """Return the first file of the set `name` in `places`, packed or not, or Keras' ``mnist.npz``."""
    names = [file.name, file.name.removesuffix(".gz"), *(["mnist.npz"] if name == "mnist" else [])]
    return next((place / name for place in places for name in names if isfile(place / name)), None)
