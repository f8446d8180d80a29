"""A competitor's side of a benchmark: a process that times training steps when it is told to.

It reads one JSON object a line from standard input and answers with one on standard output:

    {"batch": 256, "threads": 2}   ->  {"version": "NumPy 2.4.6", "first_step": 1.9}
    {"steps": 3}                   ->  {"seconds": [1.31, 1.29, 1.33], "peak_bytes": 760000000}

The first line makes the model and takes one step, to warm up; the end of the input ends the process.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

import numpy as np

Step = Callable[[np.ndarray, np.ndarray], tuple[float, float]]  # images, noise -> losses of G and D
SIZE, NOISE_DIM = 28, 100


def serve(build: Callable[[int], tuple[str, Step]]) -> None:
    """Answer requests until there are no more. `build(threads)` gives a version and a training step."""
    # Frameworks chat on standard output; the answers go to a copy of it that only this function knows.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, object]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    setup = json.loads(sys.stdin.readline())
    images, noise = batch(setup["batch"])
    start = time.perf_counter()
    version, step = build(setup["threads"])
    step(images, noise)
    answer({"version": version, "first_step": time.perf_counter() - start})
    for line in sys.stdin:
        seconds = []
        for _ in range(json.loads(line)["steps"]):
            start = time.perf_counter()
            step(images, noise)
            seconds.append(time.perf_counter() - start)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
        answer({"seconds": seconds, "peak_bytes": peak})


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (size, 28, 28, 1) in [-1, 1] and noise (size, 100), float32; the same for every competitor."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (size, SIZE, SIZE, 1)).astype(np.float32)
    return images, rng.standard_normal((size, NOISE_DIM), dtype=np.float32)
