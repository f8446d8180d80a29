"""Fast competitors that compute nothing: ``python -m tests.benchmarks.fakes KINDS ARGUMENT...``

KINDS is a JSON object, such as {"tinygan": "quick", "jax": "hangs at start"}. ``python -m benchmarks`` then
compares these instead of the real competitors. Each puts its process number in its version, and logs the
requests it gets to the file that FAKES_LOG names.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import competitors
from benchmarks.competitors import COMPETITORS, PARITY_STEPS, Competitor, Outcome


def compare(kinds: dict[str, str], arguments: list[str]) -> None:
    for name in list(COMPETITORS):
        COMPETITORS.pop(name)
    for name, kind in kinds.items():
        COMPETITORS[name] = Competitor("tests.benchmarks.fakes", f"{name}:{kind}", "tinygan", ())
    competitors.reference = reference
    competitors.SECONDS_A_TURN = 0.1
    sys.argv = ["benchmarks", "--only", ",".join(kinds), *arguments]
    runpy.run_module("benchmarks", run_name="__main__")


def reference(folder: Path) -> tuple[Path, Outcome]:
    np.savez(folder / "start.npz", weight=np.zeros(1))
    return folder / "start.npz", ([[1.0, 1.0]] * PARITY_STEPS, {"weight": np.ones(1)})


def work() -> None:
    setup = json.loads(sys.stdin.readline())
    name, _, kind = setup["variant"].partition(":")
    first, turns = "proof" if setup["weights"] else "start", 0

    def log(what: str) -> None:
        with open(os.environ["FAKES_LOG"], "a") as file:
            file.write(f"{name} {what}\n")
        if kind == f"hangs at {what}":
            time.sleep(60)

    def answer(**values: Any) -> None:
        print(json.dumps(values), flush=True)

    log(first)
    answer(version=f"process {os.getpid()}", started=time.time())
    for line in sys.stdin:
        request = json.loads(line)
        if "save" in request:
            np.savez(request["save"], weight=np.ones(1))
            answer()
        elif "losses" in request:
            answer(losses=[[1.0, 1.0]] * PARITY_STEPS)
        else:
            log(f"turn {turns}")  # turn 0 warms up
            turns += 1
            time.sleep(0.05)
            answer(seconds=[0.05] * request["steps"], peak_bytes=1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        compare(json.loads(sys.argv[1]), sys.argv[2:])
    else:
        work()
