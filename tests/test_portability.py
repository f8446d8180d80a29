"""Whatever the place, the terminal or the pictures: a command does its work, or says in one line why not."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_commands import TINY, clean_environment, fails, tinygan

FLAT = ("--device", "cpu", "--width", "2", "--noise-dim", "5")


def slow(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def saved(name: str, cwd: Path, images: np.ndarray) -> str:
    np.save(cwd / name, images.astype(np.uint8))
    return name


# Images that are hardly any.


@pytest.mark.parametrize("grey", [slow(0), 97, slow(255)])
def test_images_that_are_all_alike_train(grey: int, tmp_path: Path) -> None:
    name = saved("flat.npy", tmp_path, np.full((20, 28, 28), grey))
    done = tinygan("train", *FLAT, "--data", name, "--batch-size", 8, "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "only one picture to learn from, 20 times" in done.stdout
    assert (tmp_path / "runs/0001-flat/training.gif").exists()
    assert (tmp_path / "runs/0001-flat/report.html").exists()


def test_a_single_image_trains_one_at_a_time_and_is_told_what_that_does(tmp_path: Path) -> None:
    name = saved("one.npy", tmp_path, np.arange(784).reshape(1, 28, 28) % 256)
    fails(tinygan("train", *FLAT, "--data", name, cwd=tmp_path), 4, "1 images < --batch-size 256", "Use")
    done = tinygan("train", *FLAT, "--data", name, "--batch-size", 1, "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "takes G's noise away" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    ["--width 1", slow("--size 4"), "--batch-size 1 --limit 3", "--epochs 0", slow("--size 12 --channels 3")],
)
def test_the_smallest_sizes_train(arguments: str, tmp_path: Path) -> None:
    done = tinygan("train", *TINY, "--epochs", 1, *arguments.split(), cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert tinygan("sample", "--num", 2, cwd=tmp_path).returncode == 0


# Places.


def test_paths_with_spaces_and_letters_of_any_alphabet(tmp_path: Path) -> None:
    cwd = tmp_path / 'my  pictures, größer 漢字 \'n "such" & $HOME;'
    if os.name == "nt":
        cwd = tmp_path / "my pictures, größer 漢字 'n such & $HOME;"
    cwd.mkdir()
    name = saved("blüten 花.npy", cwd, np.random.default_rng(0).integers(0, 256, (16, 28, 28)))
    done = tinygan(
        "train", *FLAT, "--data", name, "--batch-size", 8, "--epochs", 1, "--out", "läufe 1", cwd=cwd
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    (run,) = (cwd / "läufe 1").iterdir()
    assert re.fullmatch(r"0001-[a-z0-9-]+", run.name)  # a name for every file system
    for command, more in (
        ("train", ("--resume", run, "--epochs", 2)),
        ("sample", (run,)),
        ("report", (run,)),
    ):
        done = tinygan(command, *more, cwd=cwd)
        assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_run_that_was_moved_and_renamed_goes_on(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 1, cwd=tmp_path).returncode == 0
    moved = tmp_path / "elsewhere" / "my best run"
    moved.parent.mkdir()
    (tmp_path / "runs/0001-strokes").rename(moved)
    done = tinygan("train", "--resume", moved, "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (moved / "checkpoints/epoch_0002.npz").exists()


def test_a_home_that_cannot_be_written_needs_another_cache_and_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("a file: nobody can write below it, root included")
    env = {"HOME": str(home), "USERPROFILE": str(home), "XDG_CACHE_HOME": "", "TINYGAN_CACHE": ""}
    named = tinygan("train", *TINY[2:], "--data", "fashion-mnist", cwd=tmp_path, **env)
    fails(named, 4, "cannot use the cache", "Set TINYGAN_CACHE")
    auto = tinygan("train", *TINY[2:], "--epochs", 1, cwd=tmp_path, **env)
    assert auto.returncode == 0 and auto.stderr == "" and "using the built-in strokes" in auto.stdout


WITHOUT = """
import os, runpy, signal, sys
for name in ("resource", "pwd", "grp", "termios", "pty"):
    sys.modules[name] = None
for name in ("SIGHUP", "sched_getaffinity", "fork", "getuid", "fchmod", "mkfifo"):
    for module in (os, signal):
        vars(module).pop(name, None)
runpy.run_module("tinygan.train", run_name="__main__")
"""


def test_nothing_is_needed_that_only_some_systems_have(tmp_path: Path) -> None:
    """The names are those Windows lacks; that of its locks is tested beside the lock."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *TINY, "--epochs", "1"],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert "done     3 steps" in done.stdout


# Terminals.


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_output_in_any_encoding(encoding: str, tmp_path: Path) -> None:
    name = saved("花.npy", tmp_path, np.zeros((8, 28, 28)))
    done = subprocess.run(
        [sys.executable, "-m", "tinygan.train", *FLAT, "--data", name, "--batch-size", "8", "--epochs", "1"],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | {"PYTHONIOENCODING": encoding, "LC_ALL": "C"},
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "done     1 steps" in done.stdout.decode(encoding)


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [40, slow(1)])
def test_the_line_that_moves_fits_a_narrow_terminal_and_has_no_colours(tmp_path: Path, columns: int) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tinygan.train", *TINY, "--limit", "640", "--epochs", "3", "--no-report"],
        cwd=tmp_path,
        env=clean_environment(tmp_path) | {"NO_COLOR": "1"},
        stdout=theirs,
        stderr=subprocess.STDOUT,
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            chunk = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        output += chunk
    os.close(ours)
    assert process.wait(timeout=60) == 0, output
    assert b"\x1b" not in output.replace(b"\x1b[K", b"")
    rewritten = [part for line in output.split(b"\n") for part in line.split(b"\r")[:-1]]
    moving = [part.replace(b"\x1b[K", b"").rstrip() for part in rewritten if re.search(rb"step \d", part)]
    assert columns == 1 or len(moving) > 3
    assert all(len(part) < columns for part in moving)


# Folders that may only be read.


def bound_by_permissions() -> None:
    """In a child that is about to start: root loses what lets it write into read-only folders."""
    libc = ctypes.CDLL(None)
    for dac_override in (1, 2):
        libc.prctl(24, dac_override, 0, 0, 0)  # PR_CAPBSET_DROP; fails for others than root, who need it not


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' capabilities, or a user who is not root")
@pytest.mark.parametrize(
    ("locked", "command"),
    [
        (".", ("train", *TINY, "--epochs", "1")),
        ("runs", ("train", *TINY, "--epochs", "1")),
        ("runs/0001-strokes", ("train", "--resume", "--epochs", "2")),
        ("runs/0001-strokes/checkpoints", ("train", "--resume", "--epochs", "2")),
        slow("runs/0001-strokes/samples", ("train", "--resume", "--epochs", "2")),
        ("runs/0001-strokes", ("sample",)),
        slow("runs/0001-strokes", ("report",)),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[::3]),
)
def test_a_folder_that_may_only_be_read_is_told_in_one_line(
    tmp_path: Path, locked: str, command: tuple[str, ...]
) -> None:
    if locked != ".":
        assert tinygan("train", *TINY, "--epochs", 1, cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npz")}
    (tmp_path / locked).chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"tinygan.{command[0]}", *command[1:]],
            cwd=tmp_path,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=bound_by_permissions,
        )
    finally:
        (tmp_path / locked).chmod(0o755)
    fails(done, 5, "Permission denied")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.npz")} == before
    assert not list(tmp_path.rglob("*.tmp"))
