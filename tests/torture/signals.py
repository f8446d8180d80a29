"""A training that is interrupted or killed at a random instant and resumed ends with the same bits."""

import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.commands import RUN, TINY, TINY_STEPS, checkpoint, digest, ended, start
from tinygan.runs.folder import RunFolder

# Twelve steps in four epochs. Each ends with pictures and a save, every second one with a report.
TRAIN = (*TINY, "--epochs", "4", "--checkpoint-every", "2", "--average", "0.9")
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL)


def training(cwd: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A process that trains with the fast engine."""
    return start(
        "-m", "tinygan.train", *arguments, "--engine", "fast", "--device", "cpu", cwd=cwd,
        environment=environment,
        # A shell makes the processes that it starts in the background ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def begun(cwd: Path) -> subprocess.Popen[str]:
    """A training that has just printed the name of its run."""
    process = training(cwd, *TRAIN)
    assert process.stdout
    while process.stdout.readline()[:3] not in ("run", ""):
        pass
    return process


def interrupt_once(
    cwd: Path, number: int, seconds: float, twice: bool, expected: str
) -> tuple[str, str | None]:
    """One interrupted run: how it ended, and what is wrong, or None."""
    process = begun(cwd)
    time.sleep(seconds)
    for _ in range(1 + twice):
        process.send_signal(number)
    errors, code = ended(process).stderr, process.returncode
    unfinished = 7 if number == signal.SIGINT and "everything is saved" not in errors else 0
    if code not in (0, 128 + number, -number, unfinished) or "Traceback" in errors:
        return "wrong", f"exit code {code}: {errors[-500:]}"
    epochs, steps = len(RunFolder(cwd / RUN).read_stats()), len(RunFolder(cwd / RUN).read_losses())
    again = ended(training(cwd, "--resume"))
    if again.returncode:
        return "wrong", f"resuming: exit code {again.returncode}: {again.stderr[-500:]}"
    step = re.search(r"^resume .* at step (\d+) of 12$", again.stdout, re.M)
    if not step or int(step[1]) < TINY_STEPS * (epochs - 1):
        return "wrong", f"more than an epoch back after {epochs}: {again.stdout[-500:]}"
    if "everything is saved" in errors and int(step[1]) != steps:
        return "wrong", f"step {steps} was taken, and: {step[0]}"
    if digest(checkpoint(cwd, 4)) != expected:
        return "wrong", "the resumed run differs"
    return "complete" if code == 0 else "killed" if code == -signal.SIGKILL else "interrupted", None


def signals(folder: Path, count: int, seed: int) -> dict[str, Any]:
    """`count` signals at random instants, of all `KINDS`; every fourth time another one follows at once."""
    chance, tally, wrong = random.Random(seed), Counter(), []
    whole = folder / "whole"
    whole.mkdir()
    process, began = begun(whole), time.monotonic()
    done = ended(process)
    assert done.returncode == 0, done.stderr
    length, expected = time.monotonic() - began, digest(checkpoint(whole, 4))
    for number in range(count):
        cwd = folder / str(number)
        cwd.mkdir()
        kind = KINDS[number % len(KINDS)]
        ending, problem = interrupt_once(cwd, kind, chance.uniform(0, length), number // 4 % 4 == 3, expected)
        tally[ending] += 1
        if problem:
            wrong.append(problem)
    return {"signals": count, "seed": seed, **tally, "wrong": len(wrong), "first": wrong[:5]}
