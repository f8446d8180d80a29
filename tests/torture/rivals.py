"""Two processes compete for the same folder: one wins each time, and each gets a different run number."""

import multiprocessing
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tinygan.errors import CheckpointError
from tinygan.runs.folder import RunFolder


def rival(place: Path, count: int, gate: Any, results: Any) -> None:
    """Make a run and take a lock `count` times, each time at the same instant as the other process."""
    found = []
    for number in range(count):
        gate.wait(60)
        made = RunFolder.create(place / "runs", "run").path.name
        folder = place / str(number)
        folder.mkdir(exist_ok=True)
        gate.wait(60)
        with ExitStack() as held:
            try:
                held.enter_context(RunFolder(folder).locked())
                won = True
            except CheckpointError:
                won = False
            gate.wait(60)  # the winner holds it until both have tried
        found.append((made, won))
    results.put(found)


def rivals(place: Path, count: int) -> dict[str, Any]:
    """`count` meetings of two processes."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(2), context.Queue()
    (place / "runs").mkdir()
    both = [context.Process(target=rival, args=(place, count, gate, results)) for _ in range(2)]
    for process in both:
        process.start()
    one, other = (results.get(timeout=60 + count) for _ in both)
    for process in both:
        process.join()
    shared = sum(a[0] == b[0] for a, b in zip(one, other, strict=True))
    winners = [a[1] + b[1] for a, b in zip(one, other, strict=True)]
    return {
        "meetings": count,
        "shared_a_number": shared,
        "one_winner": winners.count(1),
        "two_winners": winners.count(2),
        "no_winner": winners.count(0),
    }
