"""Helpers that run commands: in this process, which takes a fifth of the time, or in a new one."""

import io
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tinygan import cli
from tinygan.fast.threads import POOL
from tinygan.runs.checkpoint import content_digest, read

ROOT = Path(__file__).parent.parent
# A run takes a third of a second. Its last batch is partial: 3 steps of 32, 32 and 16 images.
TINY = ("--data", "strokes", "--limit", "80", "--batch-size", "32", "--width", "2", "--noise-dim", "5")
TINY_STEPS = 3
RUN = Path("runs/0001-strokes")  # the first run with these options

Result = subprocess.CompletedProcess[str]


def tinygan(
    command: str, *arguments: object, cwd: Path, encoding: str = "utf-8", **environment: str
) -> Result:
    """Run ``python -m tinygan.<command>`` with the working directory `cwd`, inside this process.

    The output has this `encoding`. `environment` is added to `clean_environment`.
    """
    module, before, threads = import_module(f"tinygan.{command}"), os.getcwd(), POOL.threads
    printed = io.TextIOWrapper(io.BytesIO(), encoding)
    errors = io.TextIOWrapper(io.BytesIO(), encoding, errors="backslashreplace")
    with patch.dict(os.environ, clean_environment(cwd) | environment, clear=True):
        os.chdir(cwd)
        try:
            with redirect_stdout(printed), redirect_stderr(errors):
                code = cli.run(module.main, [*map(str, arguments)])
        except SystemExit as stop:  # of --help
            code = int(stop.code or 0)
        finally:
            os.chdir(before)
            POOL.resize(threads)
    texts = []
    for stream in (printed, errors):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))  # pyright: ignore[reportAttributeAccessIssue]
    return subprocess.CompletedProcess([command, *map(str, arguments)], code, *texts)


def start(
    *arguments: object, cwd: Path, environment: dict[str, str] | None = None, **named: Any
) -> subprocess.Popen[str]:
    """Start a new Python process in `cwd`; `named` arguments are for `subprocess.Popen`."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(cwd) | (environment or {}),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **named},
    )


def ended(process: subprocess.Popen[str]) -> Result:
    """Wait for a started process to end, and return its result."""
    printed, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, printed, errors)


def clean_environment(cwd: Path) -> dict[str, str]:
    """An environment without network or external data, with a separate cache and with buffered output."""
    left_out = ("TINYGAN_DATA", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    # Port 9 refuses connections at once, so that no test reaches a real server.
    own = {"PYTHONPATH": str(ROOT), "TINYGAN_CACHE": str(cwd / "cache"), "HTTPS_PROXY": "http://127.0.0.1:9"}
    return kept | own


def works(command: str, *arguments: object, cwd: Path, encoding: str = "utf-8", **environment: str) -> Result:
    """Run `tinygan`, which must succeed."""
    result = tinygan(command, *arguments, cwd=cwd, encoding=encoding, **environment)
    assert result.returncode == 0, result
    return result


def fails(result: Result, code: int, *words: str) -> None:
    """Assert that a command ended with `code` and a one-line error that contains `words`."""
    assert result.returncode == code, result
    errors = [line for line in result.stderr.splitlines() if line]
    assert len(errors) == 1 and errors[0].startswith("error: "), result.stderr
    for word in words:
        assert word in errors[0]


def digest(checkpoint: Path) -> str:
    """A digest of the contents of a checkpoint."""
    return content_digest(*read(checkpoint))


def checkpoint(cwd: Path, epoch: int) -> Path:
    """The path of a checkpoint of the first run in `cwd`."""
    return cwd / RUN / f"checkpoints/epoch_{epoch:04}.npz"


def copy_of(trained: Path, place: Path) -> Path:
    """Copy the runs in `trained` to `place`, where a test may change them; returns the first run's folder."""
    shutil.copytree(trained / "runs", place / "runs")
    return place / RUN
