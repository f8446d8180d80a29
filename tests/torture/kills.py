"""Saving while being killed: at any instant, the newest checkpoint or the one before it loads."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tests.torture.disk import asked
from tinygan.errors import CheckpointError
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder

DEAD = 9  # the exit code of a process that ended where it should


def state(number: int) -> dict[str, np.ndarray]:
    """The arrays of save `number`: 200 KB, filled with that number."""
    return {"weights": np.full(50_000, number, np.float32), "step": np.array(number)}


def save(run: RunFolder, number: int) -> None:
    """Save and prune as a run does after epoch `number`; it keeps the last even epoch."""
    run.save(state(number), {}, *[run.checkpoint_path(number)] * (1 - number % 2))
    run.prune(1)


def save_for_ever(run: RunFolder, pipe: int) -> None:
    """Save one checkpoint after another, and write each number to the `pipe` when its save is complete."""
    number = 0
    while True:
        number += 1
        save(run, number)
        os.write(pipe, number.to_bytes(4, "little"))


def survived(run: RunFolder, finished: int) -> str | None:
    """What is wrong, or None if the disk holds save `finished` or a later one intact."""
    try:
        _, arrays, _ = checkpoint.newest_intact(run.checkpoints(), lambda line: None)
    except CheckpointError as problem:
        return None if finished == 0 else f"save {finished} was complete, but: {problem}"
    number = int(arrays["step"])
    if number < finished:
        return f"save {finished} was complete, but {number} is the newest"
    return None if (arrays["weights"] == number).all() else f"save {number} is not what was saved"


def kill_once(folder: Path, saves: int, seconds: float) -> tuple[int, bool, str | None]:
    """Kill a saving process `seconds` after it has reported `saves` complete saves.

    Returns how many it had reported by then, whether it had a temporary file open, and what is wrong.
    """
    run = RunFolder(folder)
    run.checkpoints_dir.mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        save_for_ever(run, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pipe.read(4 * saves)  # a busy machine starts the process late, so its saves are the clock
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        finished = saves + len(pipe.read()) // 4
    return finished, any(run.checkpoints_dir.glob(".*.tmp")), survived(run, finished)


def exits(folder: Path) -> dict[str, Any]:
    """The process of the fourth save ends just before, or just after, each of its disk operations."""
    tally, wrong = {"before": 0, "after": 0}, []
    for when in tally:
        for nth in count(1):
            run = RunFolder(folder / f"{when} {nth}")
            run.checkpoints_dir.mkdir(parents=True)
            for number in (1, 2, 3):
                save(run, number)
            child = os.fork()
            if child == 0:
                with dying(nth, when):
                    save(run, 4)
                os._exit(0)
            if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != DEAD:
                break
            tally[when] += 1
            if problem := survived(run, 3):
                wrong.append(f"{when} operation {nth}: {problem}")
    return {"exits": sum(tally.values()), **tally, "lost": len(wrong), "first": wrong[:5]}


def dying(nth: int, when: str) -> AbstractContextManager[None]:
    """Within this the process ends at its `nth` disk operation: open, write, fsync, rename and so on."""
    counted = 0

    def take(do: Callable[[], Any]) -> Any:
        nonlocal counted
        counted += 1
        if counted == nth and when == "before":
            os._exit(DEAD)
        result = do()
        if counted == nth:
            os._exit(DEAD)
        return result

    return asked(("fsync", "replace", "open", "close", "unlink"), take)


def kills(folder: Path, times: int, seed: int) -> dict[str, Any]:
    """`times` kills at random instants during one of the first five saves."""
    began = time.monotonic()
    for number in range(5):
        checkpoint.save(folder / f"{number}.npz", state(number), {})
    one_save = (time.monotonic() - began) / 5
    instants, saves, inside, wrong = random.Random(seed), 0, 0, []
    for number in range(times):
        instant = instants.randrange(5), instants.uniform(0.0, one_save)
        finished, within, problem = kill_once(folder / str(number), *instant)
        saves += finished
        inside += within
        if problem:
            wrong.append(problem)
    found = {"kills": times, "seed": seed, "saves": saves, "with_a_file_half_written": inside}
    return found | {"lost": len(wrong), "first": wrong[:5]}
