"""The formats tinygan reads: small good files of each, and the function that reads one."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

import numpy as np
from PIL import Image

from tinygan.backend import cpu
from tinygan.data import arrays, converted, load
from tinygan.data.arrays import read_idx
from tinygan.data.collection import collected
from tinygan.data.dataset import Shape
from tinygan.data.pictures import load_pictures
from tinygan.data.sources import from_path
from tinygan.errors import DataError, FileError
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import State, restored, saved_settings
from tinygan.runs.trainer import schedule
from tinygan.views.webpage import write_report

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
SMALL = Settings(size=4, width=1, noise_dim=2, batch_size=2)
STATE = State(SMALL, cpu()).arrays()
SIGNED = [SMALL, replace(SMALL, lr_d=0.5, limit=9, metrics_every=2, threads=1, recipe="best")]
# The modes in which Pillow writes each format.
PICTURES = {
    "PNG": "L RGB RGBA P I;16",
    "JPEG": "L RGB CMYK",
    "WEBP": "RGB RGBA",
    "BMP": "1 L P RGB",
    "GIF": "L P",
    "TIFF": "1 L P RGB RGBA CMYK I;16",
}
TIFFS = ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")
SEAL = 64  # hexadecimal digits at the end of a checkpoint


class Format(NamedTuple):
    """`name`: of the file, in a separate folder; `seeds`: good files; `read` gets that folder."""

    name: str
    seeds: list[bytes]
    read: Callable[[Path], object]
    finish: Callable[[bytes], bytes] = bytes  # the last thing that an attacker does to a mutant
    exact: bool = False  # whether any change must be noticed


def formats() -> dict[str, Format]:
    """All formats, by name."""
    idx = b"".join([bytes([0, 0, 8, 3]), struct.pack(">3I", *PIXELS.shape), PIXELS.tobytes()])
    npy = [_saved(np.save, array) for array in (PIXELS, PIXELS / 255, PIXELS[..., None].astype(np.int16))]
    npz = [_saved(np.savez, images=PIXELS), _saved(np.savez_compressed, images=PIXELS, other=PIXELS[0])]
    saved = _checkpoint()
    config = json.dumps(_config(), indent=2).encode()
    row = {"epoch": 1, "step": 2, "g_loss": 0.7, "d_loss": 1.3, "real_score": 0.5, "fake_score": 0.4}
    rows = b"".join(json.dumps(row | {"epoch": e, "step": 2 * e}).encode() + b"\n" for e in (1, 2, 3))
    return {
        "idx": Format("images", [idx], lambda folder: read_idx(folder / "images")),
        "gz": Format(
            "images.gz",
            [gzip.compress(idx, 9, mtime=0), gzip.compress(idx, 0, mtime=0)],
            lambda folder: read_idx(folder / "images.gz"),
        ),
        "npy": Format("a.npy", npy, _read_and_mapped),
        "npz": Format("a.npz", npz, lambda folder: from_path(folder / "a.npz", Shape(8, 1), None, str)),
        **{
            kind.lower(): Format(f"a.{kind}", [_picture(mode, kind) for mode in modes.split()], _folder)
            for kind, modes in PICTURES.items()
        },
        "tiff, packed": Format(
            "a.tif", [_picture("RGB", "TIFF", compression=way) for way in TIFFS], _folder
        ),
        "zip": Format("a.zip", [_zip(method) for method in (0, 8)], partial(_load, "a.zip")),
        "tar": Format("a.tar", [_tar("w")], partial(_load, "a.tar")),
        "tar, packed": Format("a.tgz", [_tar("w:gz"), _tar("w:bz2")], partial(_load, "a.tgz")),
        "csv": Format("a.csv", [_csv(""), _csv("label" + ",pixel" * 64)], partial(_load, "a.csv")),
        "cifar": Format("data_batch_1.bin", [bytes(range(250)) * 12 + bytes(73)], partial(_load, ".")),
        "checkpoint": Format("epoch_0001.npz", [saved], _read_checkpoint, exact=True),
        "sealed checkpoint": Format("epoch_0001.npz", [saved], _read_checkpoint, _seal),
        "signed settings": Format(
            "epoch_0001.npz", [_meta(settings) for settings in SIGNED], _restore, _signed
        ),
        "config.json": Format("config.json", [config], _read_run),
        "stats.jsonl": Format("stats.jsonl", [rows], _read_run),
    }


def _saved(save: Callable[..., object], *values: Any, **named: Any) -> bytes:
    """Return the bytes that `save` writes."""
    file = io.BytesIO()
    save(file, *values, **named)
    return file.getvalue()


def _read_and_mapped(folder: Path) -> object:
    """A small array is read and a large one mapped: both must give the same result."""

    def found(large: int) -> str:
        try:
            with patch.object(arrays, "LARGE", large), patch.object(converted, "cache_folder", no_cache):
                return from_path(folder / "a.npy", Shape(8, 1), None, str).sha256
        except DataError as problem:
            refusals.append(problem)
            return "refused"

    no_cache = Mock(side_effect=FileError)
    refusals: list[DataError] = []
    assert found(1 << 20) == found(0)
    if refusals:
        raise refusals[-1]
    return None


def _picture(mode: str, kind: str, **options: Any) -> bytes:
    if mode == "I;16":
        return _saved(Image.fromarray(PIXELS[0].astype(np.uint16) * 257).save, kind)
    return _saved(Image.fromarray(PIXELS[0]).convert(mode).save, kind, **options)


def _members() -> dict[str, bytes]:
    """The files in an archive."""
    return {"a/1.png": _picture("L", "PNG"), "a/2.jpg": _picture("RGB", "JPEG"), "b.txt": b"no picture"}


def _tar(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # pyright: ignore
        for name, content in _members().items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _zip(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in _members().items():
            archive.writestr(name, content)
    return file.getvalue()


def _csv(header: str) -> bytes:
    rows = [",".join(map(str, [7, *image.ravel().tolist()])) for image in PIXELS]
    return "\n".join([*([header] if header else []), *rows]).encode()


def _load(name: str, folder: Path) -> object:
    return load(str(folder / name), size=8, say=str)


def _folder(folder: Path) -> object:
    return load_pictures(collected(folder), Shape(8, 1), None, str)


def _checkpoint() -> bytes:
    arrays = {"generator/a": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.array(3)}
    meta = {"settings": asdict(SMALL), "data_sha256": "00"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "it.npz")
        checkpoint.save(path, arrays, meta)
        return path.read_bytes()


def _seal(mutant: bytes) -> bytes:
    """Compute the seal anew, so that the reader gets past it."""
    body = mutant[:-SEAL]
    return body + hashlib.sha256(body).hexdigest().encode()


def _read_checkpoint(folder: Path) -> object:
    path = folder / "epoch_0001.npz"
    _, meta = checkpoint.read(path)
    return saved_settings(meta, path)


def _meta(settings: Settings) -> bytes:
    return json.dumps({"format": 1, "meta": {"settings": asdict(settings), "data_sha256": "00"}}).encode()


def _signed(meta: bytes) -> bytes:
    """A checkpoint with a valid digest and seal, in which only the meta is not from tinygan."""
    members = STATE | {"meta": np.frombuffer(meta, np.uint8)}
    return b"".join(checkpoint.packed(members))


def _restore(folder: Path) -> object:
    """As `tinygan.load` does."""
    state, _ = restored([folder / "epoch_0001.npz"], cpu(), lambda line: None)
    return schedule(state.settings, 4), state


def _config() -> dict[str, object]:
    return {
        "commands": [{"time": "2026-01-01T00:00:00+00:00", "command": "python -m tinygan.train"}],
        "settings": {"batch_size": 2, "epochs": 3, "recipe": "seed", "seed": 0},
        "data": {"name": "made up", "source": "nowhere", "shape": [4, 4, 4, 1], "sha256": "00"},
        "device": {"device": "cpu", "engine": "fast"},
        "versions": {"tinygan": "0.1.0"},
    }


def _read_run(folder: Path) -> object:
    """As a resumed run and its report do."""
    run = RunFolder(folder)
    if not run.config_path.exists():
        run.config_path.write_text(json.dumps(_config()))
    run.read_config()
    run.keep_stats_until(4)
    return write_report(run, State(SMALL, cpu()))
