"""``python -m benchmarks``: the seed's training step, tinygan beside TensorFlow, in turns.

Each competitor runs in a process of its own, with the same batch and the same number of threads.
They take turns, A B A B ..., because other work on the machine would otherwise hit one more than
the other; medians are reported.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tinygan.backend import processor_name, usable_cores

COMPETITORS = {"tinygan": "benchmarks.tinygan_dcgan", "tensorflow": "benchmarks.tensorflow_dcgan"}


class Competitor:
    """A worker process: see `benchmarks.worker` for what it is told and answers."""

    def __init__(self, module: str, batch: int, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.setup = self.ask({"batch": batch, "threads": threads})

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"error: the worker {self.process.args} died.")
        return json.loads(answer)

    def close(self) -> None:
        self.process.communicate()


def measure(names: list[str], batch: int, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Seconds a step of each competitor, from `rounds` turns of `steps` steps; medians and extremes."""
    competitors = {name: Competitor(COMPETITORS[name], batch, threads) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, int] = {}
    for _ in range(rounds):
        for name, competitor in competitors.items():
            answer = competitor.ask({"steps": steps})
            seconds[name] += answer["seconds"]
            peaks[name] = answer["peak_bytes"]
    for competitor in competitors.values():
        competitor.close()
    return {
        name: {
            "version": competitors[name].setup["version"],
            "median_seconds": statistics.median(seconds[name]),
            "min_seconds": min(seconds[name]),
            "max_seconds": max(seconds[name]),
            "ratio_to_tinygan": statistics.median(seconds[name]) / statistics.median(seconds[names[0]]),
            "peak_bytes": peaks[name],
            "steps": len(seconds[name]),
        }
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time a training step.")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a turn")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    options = parser.parse_args()

    names = ["tinygan"]
    if importlib.util.find_spec("tensorflow"):
        names.append("tensorflow")
    else:
        print("tensorflow is not installed; pip install -e '.[bench]' brings it.")
    result = {
        "hardware": processor_name(),
        "threads": options.threads,
        "batch": options.batch,
        "python": platform.python_version(),
        "competitors": measure(names, options.batch, options.threads, options.rounds, options.steps),
    }
    print(f"{result['hardware']}, {options.threads} threads, batch {options.batch}, float32")
    print(f"{'':<12}{'s/step':>8}{'min':>8}{'max':>8}{'ratio':>7}{'peak MB':>9}  version")
    for name, row in result["competitors"].items():
        print(
            f"{name:<12}{row['median_seconds']:>8.3f}{row['min_seconds']:>8.3f}{row['max_seconds']:>8.3f}"
            f"{row['ratio_to_tinygan']:>7.2f}{row['peak_bytes'] / 1e6:>9.0f}  {row['version']}"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
