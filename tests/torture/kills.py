"""Saving while being killed: whatever the instant, the newest checkpoint or the one before it loads."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import CheckpointError
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder


def state(number: int) -> dict[str, np.ndarray]:
    """What the save with this number keeps: 200 KB that tell the number everywhere."""
    return {"weights": np.full(50_000, number, np.float32), "step": np.array(number)}


def save_for_ever(run: RunFolder, told: int, before: Callable[[], None] = lambda: None) -> None:
    """One checkpoint after the other, each number told through the pipe `told` once its save is over."""
    number = 0
    while True:
        number += 1
        before()
        checkpoint.save(run.checkpoint_path(number, None), state(number), {})
        os.write(told, number.to_bytes(4, "little"))
        for old in run.checkpoints()[3:]:
            old.unlink()


def survived(run: RunFolder, finished: int) -> str | None:
    """None if what is on disk holds save `finished` or a later one, whole; else what is wrong."""
    try:
        _, arrays, _ = checkpoint.newest_intact(run.checkpoints(), lambda line: None)
    except CheckpointError as problem:
        return None if finished == 0 else f"save {finished} was over, and: {problem}"
    number = int(arrays["step"])
    if number < finished:
        return f"save {finished} was over, and {number} is the newest"
    return None if (arrays["weights"] == number).all() else f"save {number} is not what was saved"


def kill_once(folder: Path, seconds: float) -> tuple[int, str | None]:
    """Kill a saving process after so many seconds: how many saves it had told of, and what is wrong."""
    run = RunFolder(folder)
    run.checkpoints_dir.mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(run, writing)
    os.close(writing)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        finished = len(pipe.read()) // 4
    return finished, survived(run, finished)


def kills(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """So many kills at random instants."""
    instants, saves, wrong = random.Random(seed), 0, []
    for number in range(count):
        finished, problem = kill_once(folder / str(number), instants.uniform(0.0, 0.03))
        saves += finished
        if problem:
            wrong.append(problem)
    return {"kills": count, "seed": seed, "saves": saves, "lost": len(wrong), "first": wrong[:5]}
