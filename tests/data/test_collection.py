"""Folders and archives: every file is read, or counted with the reason it is not."""

import bz2
import gzip
import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.peak import peak
from tinygan.data import Dataset, collection, load
from tinygan.data.collection import collected
from tinygan.errors import DataError

CONFIG = b'{"commands": [], "versions": {"tinygan": "0.1.0"}}'
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names or pipes")
TARS = ("w", "w:gz", "w:bz2")


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def read(path: Path, **options) -> Dataset:
    return load(str(path), size=4, say=str, **options)


def values(data: Dataset) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DataError) as error:
        read(path)
    text = str(error.value)
    assert text.isprintable() and all(word in text for word in words), text


MIXED = {
    "b/x.png": png(120),
    "a.jpg": png(110),
    "c.PNG": png(130),
    "d": png(140),  # a picture by its content
    "notes.txt": b"no picture",
    "LICENSE": b"no picture",
    ".hidden.png": png(1),
    ".ipynb_checkpoints/x.png": png(2),
    "runs/0001-x/config.json": CONFIG,
    "runs/0001-x/samples/epoch_0000.png": png(3),
    "else/config.json": b'{"architecture": "of another program"}',
    "else/e.png": png(150),
    "data_batch_1": pickle.dumps(1),
}


def everything(root: Path, kind: str) -> Path:
    if kind == "folder":
        return folder(root / "all", MIXED)
    if kind == "zip":
        return zipped(root / "all.zip", MIXED)
    return tarred(root / "all.tar", {f"./{name}": content for name, content in MIXED.items()}, kind)


@pytest.mark.parametrize("kind", ["folder", "zip", *TARS])
def test_every_file_is_read_or_counted(tmp_path, kind):
    data = read(everything(tmp_path, kind))
    order = [110, 120, 130, 140, 150] if kind == "folder" else [120, 110, 130, 140, 150]
    assert values(data) == order and len(data.files) == 5
    note = data.notes[0]
    reasons = "2 hidden", "3 of other types", ".txt", "LICENSE", ".json", "2 in runs of tinygan", "1 pickles"
    assert note.startswith("left out ") and all(reason in note for reason in reasons), note
    counted = re.findall(r"(\d+) (?:hidden|of|in|pickles)", note)
    assert sum(map(int, counted)) + len(data.files) == len(MIXED)


def test_a_run_is_recognised_by_its_configuration_at_any_depth_even_damaged(tmp_path):
    run = {"out/deep/0001-a/config.json": CONFIG[:-9], "out/deep/0001-a/reals.png": png(1)}
    assert values(read(folder(tmp_path, {"a.png": png(100), **run}))) == [100]


@pytest.mark.parametrize("inside", ["", "samples"])
def test_pictures_of_a_run_are_not_data(tmp_path, inside):
    folder(tmp_path, {"config.json": CONFIG, "samples/epoch_0000.png": png(1)})
    refused(tmp_path / inside, "belongs to a run")


def test_a_config_json_that_is_a_folder_is_ignored(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert values(read(folder(tmp_path, {"a.png": png(100), "b/config.json/c.png": png(110)}))) == [100, 110]


def test_other_folders_with_a_configuration_are_data(tmp_path):
    assert values(read(folder(tmp_path, {"config.json": b"{}", "a.png": png(100)}))) == [100]


def test_links_to_pictures_are_followed_but_never_in_circles(tmp_path):
    outside = folder(tmp_path / "outside", {"more/x.png": png(120), "y.png": png(130)})
    root = folder(tmp_path / "in", {"a.png": png(110)})
    (root / "b.png").symlink_to(outside / "y.png")
    (root / "c").symlink_to(outside / "more")
    (root / "d").symlink_to(root)
    (root / "e").symlink_to(outside / "more")
    (root / "f.png").symlink_to("nowhere")
    (root / "g.png").symlink_to("g.png")
    data = read(root)
    assert values(data) == [110, 130, 120]
    for reason in ("2 broken links", "2 links to folders already read"):
        assert reason in data.notes[0]


def test_many_links_to_pictures_elsewhere_are_a_data_set(tmp_path):
    outside = folder(tmp_path / "outside", {f"{n}.png": png(100 + n) for n in range(9)})
    (tmp_path / "in").mkdir()
    for n in range(9):
        (tmp_path / "in" / f"{n}.png").symlink_to(outside / f"{n}.png")
    assert values(read(tmp_path / "in")) == list(range(100, 109))


@linux
def test_pipes_are_never_opened(tmp_path):
    folder(tmp_path, {"good.png": png(100)})
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    assert "2 pipes or devices" in read(tmp_path).notes[0]


@linux
def test_files_whose_names_are_not_unicode_are_read(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(png(100))
    assert values(read(tmp_path)) == [100]


def test_an_empty_folder_is_refused(tmp_path):
    refused(tmp_path, "no pictures (")


def test_a_folder_without_pictures_is_refused_with_a_list_of_its_files(tmp_path):
    refused(folder(tmp_path, {"a.txt": b"x", ".b.png": png(1)}), "1 hidden", "1 of other types (.txt)")


def test_pickles_of_cifar_name_the_version_to_use(tmp_path):
    refused(folder(tmp_path, {"data_batch_1": pickle.dumps({})}), "1 pickles", "binary version")


HOSTILE = {"../up.png": png(1), "/root.png": png(2), "a/../../b.png": png(3), "good.png": png(100)}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_paths_outside_an_archive_are_left_out_and_nothing_is_written(tmp_path, pack):
    before = {path for path in tmp_path.parent.rglob("*") if path.suffix == ".png"}
    data = read(pack(tmp_path / "a", HOSTILE))
    assert values(data) == [100] and "3 with paths outside the archive" in data.notes[0]
    assert {path for path in tmp_path.parent.rglob("*") if path.suffix == ".png"} == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_left_out(tmp_path, kind):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("good.png")
        info.size = len(png(100))
        archive.addfile(info, io.BytesIO(png(100)))
        odd = tarfile.TarInfo("odd.png")
        odd.type, odd.linkname = kind, "/etc/passwd"
        archive.addfile(odd)
    data = read(tmp_path / "a.tar")
    assert values(data) == [100] and "1 links or devices" in data.notes[0]


def test_links_in_a_zip_are_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("good.png", png(100))
    data = read(tmp_path / "a.zip")
    assert values(data) == [100] and "1 links" in data.notes[0]


@pytest.mark.parametrize("pack", [zipped, lambda path, files: tarred(path, files, "w:gz")])
def test_bombs_are_refused_in_one_line_and_little_memory(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(collection, "EXPANSION", 2)
    monkeypatch.setattr(collection, "SPARE", 1 << 20)
    path = pack(tmp_path / "a", {"a.png": png(100), "b.txt": bytes(100_000_000), "c.png": png(100)})
    before = peak()
    refused(path, "unpacks to more than")
    assert peak() - before < 50_000_000


def test_a_member_of_a_zip_with_another_compression_is_left_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png(100))
        archive.writestr("b.png", png(101), zipfile.ZIP_BZIP2)  # which can take unbounded memory
    data = read(tmp_path / "a.zip")
    assert values(data) == [100] and "1 encrypted or compressed in an unknown way" in data.notes[0]


def test_a_damaged_member_of_a_zip_is_named(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": png(100), "b.png": png(101)})
    content = bytearray(path.read_bytes())
    content[content.index(b"a.png") + 20] ^= 255
    path.write_bytes(content)
    data = read(path)
    assert values(data) == [101] and "1 that cannot be read: a.png (" in data.notes[0]


@pytest.mark.parametrize("mode", TARS)
@pytest.mark.parametrize("damage", ["cut", "header"])
def test_a_damaged_tar_is_refused_and_never_ends_early(tmp_path, mode, damage):
    content = tarred(tmp_path / "plain", {"a.png": png(100), "b.png": png(101)}).read_bytes()
    if damage == "header":
        content = content[:1024] + b"\xff" * 512 + content[1536:]
    packed = tmp_path / "a.tar"
    if mode == "w":
        packed.write_bytes(content[:1300] if damage == "cut" else content)
    else:
        pack = {"w:gz": gzip.compress, "w:bz2": bz2.compress}[mode]
        packed.write_bytes(pack(content)[:-30] if damage == "cut" else pack(content))
    refused(packed, "a.tar")


def test_the_header_of_a_tar_cannot_take_memory(tmp_path):
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 3 << 30
    block = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tgz").write_bytes(gzip.compress(block + bytes(300 << 20), 1))
    before = peak()
    refused(tmp_path / "a.tgz", "declares 3,221,225,472 bytes")
    assert peak() - before < 100_000_000


def test_the_state_of_an_archive_changes_with_it(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": png(100)})
    before = collected(path).state
    os.utime(path, ns=(1, 1))
    assert collected(path).state != before


def test_the_batches_of_cifar_are_read_from_a_folder_and_a_tar(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    rows = np.concatenate([np.full((6, 1), 7, np.uint8), pixels.reshape(6, -1)], axis=1)
    batches = {f"bin/data_batch_{i + 1}.bin": rows[2 * i : 2 * i + 2].tobytes() for i in range(3)}
    batches |= {"bin/test_batch.bin": rows.tobytes(), "bin/readme.html": b""}
    for path in (folder(tmp_path / "all", batches), tarred(tmp_path / "a.tgz", batches, "w:gz")):
        data = load(str(path), size=32, channels=3, say=str)
        assert (data.images == pixels.transpose(0, 2, 3, 1)).all()
    refused(folder(tmp_path / "bad", {"data_batch_1.bin": b"short"}), "not a CIFAR-10 batch")


@pytest.mark.parametrize("place", ["", "MNIST/raw/"])
def test_the_folder_of_mnist_files_is_read(tmp_path, place):
    raw = struct.pack(">4BIII", 0, 0, 8, 3, 2, 4, 4) + bytes(range(100, 132))
    folder(tmp_path, {f"{place}{name}-images-idx3-ubyte": raw for name in ("train", "t10k")})
    assert read(tmp_path).images.ravel().tolist() == list(range(100, 132))


@linux
def test_a_large_archive_takes_little_memory(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "BMP")
    path = tarred(tmp_path / "a.tar", {f"{n}.bmp": file.getvalue() for n in range(100)})
    code = (
        "from tests.data.peak import peak; from tinygan.data import load; "
        f"load({str(path)!r}, say=str); print(peak())"
    )
    environment = os.environ | {"TINYGAN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 280_000_000 < path.stat().st_size
