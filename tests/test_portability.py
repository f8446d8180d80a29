"""Unusual pictures, paths, terminals and permissions: a command works, or says in one line why it cannot."""

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.commands import RUN, TINY, copy_of, ended, fails, start, tinygan, works

FLAT = ("--device", "cpu", "--width", "2", "--noise-dim", "5")


def saved(name: str, cwd: Path, images: np.ndarray) -> str:
    np.save(cwd / name, images.astype(np.uint8))
    return name


# Degenerate images.


@pytest.mark.parametrize("grey", [0, 97, 255])
def test_training_works_on_identical_images(grey: int, tmp_path: Path) -> None:
    name = saved("flat.npy", tmp_path, np.full((20, 28, 28), grey))
    done = works("train", *FLAT, "--data", name, "--batch-size", 8, "--epochs", 2, cwd=tmp_path)
    assert done.stderr == "" and "only one picture to learn from, repeated 20 times" in done.stdout
    assert (tmp_path / "runs/0001-flat/training.gif").exists()
    assert (tmp_path / "runs/0001-flat/report.html").exists()


def test_training_works_on_a_single_image_and_prints_what_batch_size_1_does(tmp_path: Path) -> None:
    name = saved("one.npy", tmp_path, np.arange(784).reshape(1, 28, 28) % 256)
    fails(tinygan("train", *FLAT, "--data", name, cwd=tmp_path), 4, "1 image < --batch-size 256", "Use")
    done = works("train", *FLAT, "--data", name, "--batch-size", 1, "--epochs", 2, cwd=tmp_path)
    assert done.stderr == "" and "cancels G's noise" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    ["--width 1", "--size 4", "--batch-size 1 --limit 3", "--epochs 0", "--size 12 --channels 3"],
)
def test_the_smallest_sizes_train(arguments: str, tmp_path: Path) -> None:
    assert works("train", *TINY, "--epochs", 1, *arguments.split(), cwd=tmp_path).stderr == ""
    works("sample", "--num", 2, cwd=tmp_path)


# Places.


def test_paths_with_spaces_and_unicode_and_a_moved_run(tmp_path: Path) -> None:
    cwd = tmp_path / 'my  pictures, größer 漢字 \'n "such" & $HOME;'
    if os.name == "nt":
        cwd = tmp_path / "my pictures, größer 漢字 'n such & $HOME;"
    cwd.mkdir()
    name = saved("blüten 花.npy", cwd, np.random.default_rng(0).integers(0, 256, (16, 28, 28)))
    train = ("train", *FLAT, "--data", name, "--batch-size", 8, "--epochs", 1, "--out", "läufe 1")
    assert works(*train, cwd=cwd).stderr == ""
    (run,) = (cwd / "läufe 1").iterdir()
    assert re.fullmatch(r"0001-[a-z0-9-]+", run.name)  # a name valid on every file system
    moved = run.rename(cwd / "my best run")
    assert works("train", "--resume", moved, "--epochs", 2, cwd=cwd).stderr == ""
    for command in ("sample", "report"):
        assert works(command, moved, cwd=cwd).stderr == ""
    assert (moved / "checkpoints/epoch_0002.npz").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux allows file names that are not Unicode")
def test_folder_names_that_are_not_unicode_work(tmp_path: Path) -> None:
    out = os.fsdecode(b"a\xff b")
    works("train", *TINY, "--epochs", 1, "--out", out, cwd=tmp_path)
    run = tmp_path / out / "0001-strokes"
    assert (run / "report.html").exists() and (run / "training.gif").exists()
    assert "a\\udcff b/0001-strokes" in (run / "log.txt").read_text()
    for command in ("sample", "explain", "report"):
        works(command, run, cwd=tmp_path)
    works("train", "--resume", run, "--epochs", 2, cwd=tmp_path)


WITHOUT = """
import os, runpy, signal, sys
for name in ("resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGUSR1", "sched_getaffinity", "fork", "getuid", "fchmod", "mkfifo"):
    for module in (os, signal):
        vars(module).pop(name, None)
runpy.run_module("tinygan.train", run_name="__main__")
"""


def test_training_needs_no_system_specific_modules(tmp_path: Path) -> None:
    """Windows lacks these names. Its file locks are tested in `test_files.py`."""
    done = ended(start("-c", WITHOUT, *TINY, "--epochs", 1, cwd=tmp_path))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "done     3 steps" in done.stdout


# Terminals.


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_output_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    name = saved("花.npy", tmp_path, np.zeros((8, 28, 28)))
    arguments = (*FLAT, "--data", name, "--batch-size", "8", "--epochs", "1")
    assert "done     1 step." in works("train", *arguments, cwd=tmp_path, encoding=encoding).stdout


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_the_moving_line_fits_a_narrow_terminal_and_has_no_colours(tmp_path: Path, columns: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    arguments = (*TINY, "--limit", "640", "--epochs", "3", "--no-report")
    process = start("-m", "tinygan.train", *arguments, cwd=tmp_path, stdout=theirs, stderr=subprocess.STDOUT)
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # on Linux: the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0, output
    assert b"\x1b" not in output.replace(b"\x1b[K", b"")
    rewritten = [part for line in output.split(b"\n") for part in line.split(b"\r")[:-1]]
    moving = [part.replace(b"\x1b[K", b"").rstrip() for part in rewritten if re.search(rb"\d%", part)]
    assert columns == 1 or len(moving) > 3
    assert all(len(part) < columns for part in moving)


# Read-only folders.


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Inside, even root cannot write into read-only folders: the thread drops that capability."""
    version_and_thread = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc, kept = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 6)()
    assert libc.capget(version_and_thread, kept) == 0
    effective = (ctypes.c_uint32 * 6)(*kept)
    effective[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(version_and_thread, effective) == 0
    try:
        yield
    finally:
        assert libc.capset(version_and_thread, kept) == 0


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folder.chmod(0o555)
    try:
        with bound_by_permissions():
            yield
    finally:
        folder.chmod(0o755)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("trained")
    works("train", *TINY, "--epochs", 1, cwd=cwd)
    return cwd


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' capabilities")
@pytest.mark.parametrize(
    ("locked", "command"),
    [
        (".", ("train", *TINY, "--out", "other")),
        ("runs", ("train", *TINY)),
        (RUN, ("train", "--resume", "--epochs", "2")),
        (RUN / "checkpoints", ("train", "--resume", "--epochs", "2")),
        (RUN, ("sample",)),
        (RUN, ("report",)),
    ],
)
def test_a_read_only_folder_is_reported_in_one_line(
    trained: Path, tmp_path: Path, locked: Path, command: tuple[str, ...]
) -> None:
    copy_of(trained, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npz")}
    with read_only(tmp_path / locked):
        done = tinygan(*command, cwd=tmp_path)
    fails(done, 5, "Permission denied")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npz")} == before
    assert not list(tmp_path.rglob("*.tmp"))


LAYER = ("explain", "--layer", "generator/04_conv_transpose")


@pytest.mark.usefixtures("few_strokes")
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' capabilities")
@pytest.mark.parametrize(
    ("locked", "command", "printed"),
    [
        (RUN, ("evaluate", "--samples", "100"), "nearest   the first 24 "),
        (RUN, LAYER, "method: "),
        (RUN / "samples", ("train", "--resume", "--epochs", "2"), "done     6 steps"),
    ],
)
def test_a_picture_that_cannot_be_written_is_only_a_warning(
    trained: Path, tmp_path: Path, locked: Path, command: tuple[str, ...], printed: str
) -> None:
    copy_of(trained, tmp_path)
    with read_only(tmp_path / locked):
        done = works(*command, cwd=tmp_path)
    # An evaluation also prints its progress.
    warned = [line for line in done.stderr.splitlines() if not line.endswith(" of 6")]
    assert printed in done.stdout and warned
    assert all(line.startswith("warning: no picture of ") and "Permission denied" in line for line in warned)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' capabilities")
def test_every_command_writes_where_out_says(trained: Path, tmp_path: Path) -> None:
    """Into a folder, under default names, or to a file; the run is read-only."""
    copy_of(trained, tmp_path)
    with read_only(tmp_path / RUN):
        for command in (
            LAYER, ("sample",), ("sample", "--out", "few.npy"),
            ("sample", "--num", "2", "--interpolate", "2", "--out", "new/place/walk.gif"),
            ("sample", "--through-training"), ("sample", "--separate", "--num", "2", "--out", "new/apart"),
            ("report",), ("report", "--out", "page.html"),
        ):  # fmt: skip
            out = () if "--out" in command else ("--out", "new/place")
            assert works(*command, *out, cwd=tmp_path).stderr == ""
    assert sorted(path.name for path in (tmp_path / "new/place").iterdir()) == [
        "generator_04_conv_transpose_kernels.png", "generator_04_conv_transpose_maps.png",
        "report.html", "samples_epoch_0001_seed_1_num_16.png",
        "through_training_epoch_0001_seed_1_num_16.png", "training.gif", "walk.gif",
    ]  # fmt: skip
    files = ("few.npy", "new/apart/0.png", "new/apart/1.png", "page.html")
    assert all((tmp_path / name).is_file() for name in files)
    for command, words in (
        (("explain", "--out", "x"), "--layer"), (("report", "--out", "page.htm"), "does not end in .html"),
        (("export", "--onnx", "--safetensors", "--out", "both.onnx"), "does not end in .safetensors"),
        (("export", "--onnx", "g.onnx", "--out", "new"), "both say where to write"),
    ):  # fmt: skip
        fails(tinygan(*command, cwd=tmp_path), 2, words)
    assert not list(tmp_path.glob("both*")) + list(tmp_path.glob("page.htm"))
    works("report", "--out", "v1.2", cwd=tmp_path)
    assert (tmp_path / "v1.2/report.html").is_file()
