"""The cost of checking every loss and gradient before each update, and of saving after every epoch."""

import io
import time
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from tinygan import backend, machine, step
from tinygan.data import Dataset
from tinygan.fast.threads import POOL
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import Training
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import schedule, trainer


def check_cost(engine: str, steps: int) -> dict[str, float]:
    """The time of a step of the tutorial's model, batch 256, and of `step.check_finite` in it.

    The check is the first to read the gradients, and so brings them into the cache for Adam: leaving it out
    would save less time than is measured here.
    """
    settings, device = Settings(), backend.cpu(engine)
    pixels = np.random.default_rng(0).integers(0, 256, (settings.batch_size, 28, 28, 1), dtype=np.uint8)
    taking = trainer(State(settings, device), Dataset("noise", pixels, "nowhere"))
    check, spent = step.check_finite, 0.0

    def timed(*given: Any) -> None:
        nonlocal spent
        began = time.perf_counter()
        check(*given)
        spent += time.perf_counter() - began

    shares, checks, whole = [], [], []
    with patch.object(step, "check_finite", timed):
        taking.steps(2)  # warms up
        for _ in range(steps):
            began, spent = time.perf_counter(), 0.0
            taking.steps(1)
            whole.append(time.perf_counter() - began)
            checks.append(spent)
            shares.append(spent / whole[-1])
    taking.close()
    assert min(checks) > 0
    return {
        "steps": steps,
        "step_ms": round(1000 * median(whole), 1),
        "check_ms": round(1000 * median(checks), 3),
        "percent": round(100 * median(shares), 2),
    }


def save_cost(place: Path, steps: int) -> dict[str, float]:
    """The time of `Training.save` in the tutorial's run, as a share of its epochs of 60,000 images."""
    settings, device = Settings(), backend.cpu("fast")
    POOL.resize(machine.usable_cores())
    machine.keep_memory()  # as the command does
    pixels = np.random.default_rng(0).integers(0, 256, (settings.batch_size, 28, 28, 1), dtype=np.uint8)
    data, epoch = Dataset("noise", pixels, "nowhere"), schedule(settings, 60_000).steps_per_epoch
    state, run = State(settings, device), RunFolder.create(place, "run")
    taking, progress = trainer(state, data), Progress(io.StringIO(), 1)
    training = Training(run, state, data, schedule(settings, 60_000), taking, progress, print, print)
    taking.steps(2)  # warms up
    seconds: dict[str, list[float]] = {"step": [], "save": []}
    for _ in range(steps):
        for name, work in (("step", lambda: taking.steps(1)), ("save", training.save)):
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    taking.close()
    step, save = median(seconds["step"]), median(seconds["save"])
    found = {"step_ms": round(1000 * step, 1), "save_ms": round(1000 * save, 1)}
    return {"steps": steps, **found, "percent": round(100 * save / (save + epoch * step), 2)}


def check_costs(steps: int) -> dict[str, Any]:
    """Both engines, on all cores."""
    POOL.resize(machine.usable_cores())
    return {engine: check_cost(engine, steps) for engine in ("fast", "readable")}
