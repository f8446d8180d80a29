"""Training interrupted by signals at random instants, and resumed: bit for bit as without them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinygan.runs.checkpoint import content_digest, read

ROOT = Path(__file__).parents[2]
# Twelve steps of four epochs, each of which closes with pictures, a report and a checkpoint.
TRAIN = (
    "--data", "strokes", "--limit", "80", "--batch-size", "32", "--width", "2", "--noise-dim", "5",
    "--epochs", "4", "--checkpoint-every", "1", "--average", "0.9",
)  # fmt: skip
LAST = "runs/0001-strokes/checkpoints/epoch_0004.npz"


def start(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tinygan.train", *arguments, "--engine", "fast", "--device", "cpu"],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts something in the background has it ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def begun(cwd: Path) -> subprocess.Popen[str]:
    """A training that has just told of its run."""
    process = start(cwd, *TRAIN)
    assert process.stdout
    while process.stdout.readline()[:3] not in ("run", ""):
        pass
    return process


def finished(cwd: Path) -> str:
    """The digest of everything that the end of the training left."""
    return content_digest(*read(cwd / LAST))


def interrupt_once(
    cwd: Path, number: int, seconds: float, twice: bool, expected: str
) -> tuple[str, str | None]:
    """One interrupted run: how it ended, and what is wrong, if anything is."""
    process = begun(cwd)
    time.sleep(seconds)
    for _ in range(1 + twice):
        process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    code = process.returncode
    if code not in (0, 128 + number, -number) or "Traceback" in errors:
        return "wrong", f"exit code {code}: {errors[-500:]}"
    if not list((cwd / "runs/0001-strokes/checkpoints").glob("*.npz")):
        # A second signal, or one before training began: nothing was claimed, and nothing is lost.
        claimed = code == 0 or "everything is saved" in errors
        return "before the first checkpoint", "no checkpoint" if claimed else None
    if code and not twice and "everything is saved" not in errors and not (cwd / LAST).exists():
        return "wrong", f"not saved at once: exit code {code}: {errors[-500:]}"
    again = start(cwd, "--resume")
    _, errors = again.communicate(timeout=120)
    if again.returncode:
        return "wrong", f"resuming: exit code {again.returncode}: {errors[-500:]}"
    if finished(cwd) != expected:
        return "wrong", "the resumed run differs"
    return "complete" if code == 0 else "resumed", None


def signals(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """So many signals at random instants; every fourth time a second one follows at once."""
    chance, tally, wrong = random.Random(seed), {}, []
    whole = folder / "whole"
    whole.mkdir()
    process = begun(whole)
    began = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    length, expected = time.monotonic() - began, finished(whole)
    for number in range(count):
        cwd = folder / str(number)
        cwd.mkdir()
        kind = chance.choice((signal.SIGINT, signal.SIGTERM))
        ending, problem = interrupt_once(cwd, kind, chance.uniform(0, length), number % 4 == 3, expected)
        tally[ending] = tally.get(ending, 0) + 1
        if problem:
            wrong.append(problem)
    return {"signals": count, "seed": seed, **tally, "wrong": len(wrong), "first": wrong[:5]}
