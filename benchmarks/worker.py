"""A competitor's worker process, which takes training steps on request.

It reads one JSON object per line from standard input and answers with one on standard output:

    {"variant": "jit", "threads": 2, "device": "cpu", "precision": "float32", "batch": 256,
     "dropout": 0.3, "weights": null}
                               ->  {"version": "JAX 0.10.2", "started": 1766000000.1}, after one step
    {"steps": 3}               ->  {"seconds": [0.61, 0.59, 0.63], "peak_bytes": 760000000}
    {"steps": 1, "losses": 1}  ->  the same and {"losses": [[0.71, 1.39]]}, of G and D
    {"save": "after.npz"}      ->  {}: all parameters are in that file, under tinygan's names and shapes
    {"generate": 1000}         ->  {"seconds": 1.9} for 1000 pictures, made 256 at a time and not kept
    {"facts": 1}               ->  the result of `Player.facts`

`weights` names such a file to start from; then no step is taken at the start. The process ends with its
input. On a GPU steps are timed in blocks of 20, since waiting for every step would make them slower.
`seconds` then has the mean of each block, and `peak_bytes` is memory of the card.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE, NOISE_DIM = 28, 100
# With most seeds some input of a leaky ReLU is so close to 0 that rounding decides its sign. One such input
# alters the change of a kernel by 1 or 2 %. With this seed none is closer than 7e-7 in two steps.
PROOF_SEED = 52
Weights = dict[str, np.ndarray]  # "generator/00_dense/kernel" and so on


STEPS_A_BLOCK = {"cpu": 1, "gpu": 20}


class Player:
    """A framework's two networks, their Adams, and a batch in the memory of the device."""

    version: str

    def step(self) -> tuple[float, float]:
        """Take one training step on the batch, as `run` does. Returns the losses of G and D."""
        raise NotImplementedError

    def run(self, count: int) -> None:
        """Take `count` steps, and wait until they are finished."""
        for _ in range(count):
            self.step()

    def generate(self, noise: np.ndarray) -> np.ndarray:
        """Generate pictures, with batch norm's running statistics."""
        raise NotImplementedError

    def set_weights(self, weights: Weights) -> None:
        raise NotImplementedError

    def get_weights(self) -> Weights:
        raise NotImplementedError

    def card_bytes(self) -> int | None:
        """The peak memory taken on a card; None on a processor."""
        return None

    def facts(self) -> dict[str, Any]:
        """Other facts: "launches", the kernels in a step; a step's "operations" and "bytes"; the "card"; and
        the machine's rates, measured now, "operations_a_second" and "bytes_a_second"."""
        return {}


# variant, threads, device, precision, dropout rate, images, noise
Make = Callable[[str, int, str, str, float, np.ndarray, np.ndarray], Player]


def serve(make: Make) -> None:
    """Answer requests until the input ends."""
    # Frameworks print to standard output, so the answers go to a private copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    setup = json.loads(sys.stdin.readline())
    images, noise = batch(setup["batch"], proof=bool(setup["weights"]))
    player = make(
        setup["variant"],
        setup["threads"],
        setup["device"],
        setup["precision"],
        setup["dropout"],
        images,
        noise,
    )
    if setup["weights"]:
        with np.load(setup["weights"]) as weights:
            player.set_weights(dict(weights))
    else:
        player.run(1)
    answer({"version": player.version, "started": time.time()})
    for line in sys.stdin:
        request = json.loads(line)
        if "save" in request:
            np.savez(request["save"], **player.get_weights())  # pyright: ignore[reportArgumentType]
            answer({})
            continue
        if "facts" in request:
            answer(player.facts())
            continue
        if "generate" in request:
            noise = np.random.default_rng(1).standard_normal((request["generate"], NOISE_DIM), np.float32)
            start = time.perf_counter()
            for at in range(0, len(noise), 256):
                player.generate(noise[at : at + 256])
            answer({"seconds": time.perf_counter() - start})
            continue
        seconds, losses, count = [], [], request["steps"]
        while count > 0:
            block = 1 if "losses" in request else min(count, STEPS_A_BLOCK[setup["device"]])
            start = time.perf_counter()
            if "losses" in request:
                losses.append(player.step())
            else:
                player.run(block)
            seconds.append((time.perf_counter() - start) / block)
            count -= block
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
        figures = {"seconds": seconds, "peak_bytes": player.card_bytes() or resident}
        answer(figures | ({"losses": losses} if "losses" in request else {}))


def batch(size: int, proof: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images (size, 28, 28, 1) in [-1, 1] and noise (size, 100), float32, the same for every competitor.

    The images come from bytes, and for a `proof` the noise is that of a training run's first step. tinygan
    accepts nothing else on a card.
    """
    rng = np.random.default_rng(0)
    images = (rng.integers(0, 256, (size, SIZE, SIZE, 1)).astype(np.float32) - 127.5) / 127.5
    if proof:
        from tinygan.rng import stream  # imported here, so timed starts do not wait for it

        return images, stream(PROOF_SEED, "noise").at(0).normal((size, NOISE_DIM))
    return images, rng.standard_normal((size, NOISE_DIM), dtype=np.float32)
