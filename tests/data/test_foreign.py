"""Formats that tinygan does not read: the command in the message converts each into one that it does."""

import gzip
import importlib.util
import lzma
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygan.data import load
from tinygan.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 4), dtype=np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (7, 3, 32, 32), dtype=np.uint8)


def png() -> bytes:
    from tinygan.views.pictures import png

    return png(PIXELS[0][..., None])


def hdf5(path: Path) -> None:
    with __import__("h5py").File(path, "w") as file:
        file["labels"], file["group/images"] = np.zeros(7), PIXELS


def parquet(path: Path) -> None:
    images = [{"bytes": png(), "path": None}]
    __import__("pandas").DataFrame({"image": images, "label": [0]}).to_parquet(path)


def matlab(path: Path) -> None:
    __import__("scipy.io").io.savemat(path, {"X": np.moveaxis(PIXELS, 0, -1), "y": np.zeros(7)})


def tfrecord(path: Path) -> None:
    tf = __import__("tensorflow")
    image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[png()]))
    with tf.io.TFRecordWriter(str(path)) as file:
        example = tf.train.Example(features=tf.train.Features(feature={"image": image}))
        file.write(example.SerializeToString())


def pickled(path: Path) -> None:
    """An array; a batch of CIFAR-10; or pairs of pictures and labels, as MNIST was once distributed."""
    labels = np.zeros(7)
    batch, sets = {"data": COLOURS.reshape(7, -1)}, ((PIXELS, labels), (PIXELS[:2], labels))
    contents = {"a": PIXELS, "b": batch, "c": sets}
    path.write_bytes(pickle.dumps(contents[path.stem]))


def packed(path: Path) -> None:
    np.save(path.with_suffix(""), PIXELS)
    pack = lzma.compress if path.suffix == ".xz" else gzip.compress
    path.write_bytes(pack(path.with_suffix("").read_bytes()))
    path.with_suffix("").unlink()


@pytest.mark.parametrize(
    ("name", "make", "module", "kind"),
    [
        ("my a.h5", hdf5, "h5py", "HDF5"),
        ("a.parquet", parquet, "pyarrow", "Parquet"),
        ("a.mat", matlab, "scipy", "MATLAB"),
        ("set-train.tfrecord-00000-of-00001", tfrecord, "tensorflow", "TFRecord"),
        ("a.pkl", pickled, "pickle", "pickle"),
        ("b.pkl", pickled, "pickle", "pickle"),
        ("c.pickle", pickled, "pickle", "pickle"),
        ("a.npy.xz", packed, "lzma", "xz"),
        ("a.npy.gz", packed, "gzip", "gzip"),
        ("ARRAY in FOLDER $.npy.gz", packed, "gzip", "gzip"),
    ],
)
def test_the_command_in_the_message_converts_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[[Path], Any],
    module: str,
    kind: str,
) -> None:
    if not importlib.util.find_spec(module):
        pytest.skip(f"{module} is not installed")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / name)
    with pytest.raises(DataError, match=kind) as error:
        load(name, size=4)
    text = str(error.value)
    assert text.isprintable()
    command, _, data = text.partition("Convert it with ")[2].partition(" and use --data ")
    words = shlex.split(command)
    assert words[0] == "python"
    subprocess.run([sys.executable, *words[1:]], check=True)
    if name == "b.pkl":
        assert (load("b.npy", size=32, channels=3).images == COLOURS.transpose(0, 2, 3, 1)).all()
        return
    images = load(data.rstrip("."), size=4).images
    expected = PIXELS[:1] if "png" in command else PIXELS
    assert (images == expected[..., None]).all()


def test_a_suffix_in_the_middle_of_a_name_does_not_count(tmp_path: Path) -> None:
    np.save(tmp_path / "set.h5.materials.npy", PIXELS)
    assert (load(str(tmp_path / "set.h5.materials.npy"), size=4).images == PIXELS[..., None]).all()


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\x89HDF\r\n\x1a\n", "HDF5"), (b"PAR1", "Parquet"), (b"MATLAB 5.0", "MATLAB"), (b"\x80\x04", "pick")],
)
def test_they_are_recognised_by_content_and_never_run(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(DataError, match=kind):
        load(str(tmp_path / "data"))
