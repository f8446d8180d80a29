"""A long run: its memory, open files and threads do not grow."""

import os
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.commands import RUN, ended
from tests.torture.signals import training

STEPS_PER_EPOCH = 20
SETTLED = 200  # steps after which nothing may grow


def measure(process: int) -> dict[str, int]:
    """Resident bytes, threads and open files of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line
    )
    return {
        "bytes": int(status["VmRSS"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{process}/fd")),
    }


def soak(folder: Path, steps: int, *options: str) -> dict[str, Any]:
    """Measure a run of `steps` steps while it trains, with a checkpoint, pictures and statistics every 20.

    Unless `options` has ``--no-report``, the report is written just as often. It holds the pictures of all
    epochs so far, and so does memory while it is written.
    """
    epochs = steps // STEPS_PER_EPOCH
    process = training(
        folder, "--data", "strokes", "--limit", "640", "--batch-size", "32", "--width", "16",
        "--epochs", str(epochs), "--checkpoint-every", "1", "--no-gif", "--quiet", *options,
        MALLOC_ARENA_MAX="1",  # glibc's heaps for other threads can grow once, at any time
    )  # fmt: skip
    statistics = folder / RUN / "stats.jsonl"
    measured: dict[int, dict[str, int]] = {}
    while process.poll() is None:
        time.sleep(0.05)
        done = statistics.read_bytes().count(b"\n") if statistics.exists() else 0
        if done < epochs and done not in measured:
            try:
                measured[done] = measure(process.pid)
            except (OSError, KeyError):  # it has just ended
                break
    done = ended(process)
    assert done.returncode == 0, done.stderr
    settled = {epoch: facts for epoch, facts in measured.items() if epoch * STEPS_PER_EPOCH >= SETTLED}
    ordered = [settled[epoch] for epoch in sorted(settled)]
    # A save takes memory for an instant, which some measurements hit. So growth is that of the median, from
    # the first quarter to the last one.
    quarter = max(1, len(ordered) // 4)
    resident = [facts["bytes"] for facts in ordered]
    growth = median(resident[-quarter:]) / median(resident[:quarter]) - 1
    # A file that is being written is open for a moment; one that is never closed is open every time.
    half = len(ordered) // 2

    def least(name: str) -> list[int]:
        return [min(facts[name] for facts in part) for part in (ordered[:half], ordered[half:])]

    return {
        "steps": steps,
        "measured": len(measured),
        "megabytes": round(resident[-1] / 1e6, 1),
        "growth_percent": round(100 * growth, 2),
        "threads": least("threads"),
        "files": least("files"),
    }
