"""What ``mpiexec -n N python -m tests.ranks.play FILE [card]`` runs: steps of both engines, in both dtypes.

FILE takes what they leave. With "card" they run on the stand-ins for CuPy, cuBLAS and NCCL.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.standin import cupy as standin
from tests.standin import nccl
from tinygan import models
from tinygan.backend import choose, cpu, use_threads
from tinygan.data import Dataset
from tinygan.fast.cuda import blas
from tinygan.fast.gan import Judge, Painter
from tinygan.optim import Adam
from tinygan.ranks import Ranks, started
from tinygan.rng import stream
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.training import StepByStep, trainer

STEPS = 20
# Batches of 88, 88 and 2 images: a quarter of 88 is enough for the fast step, and the last batch has no
# image at all for some of 3 or 4 ranks, which leave that step to the readable one.
SETTINGS = Settings(size=8, width=4, noise_dim=5, batch_size=88)
DATA = Dataset("noise", np.random.default_rng(1).integers(0, 256, (178, 8, 8, 1), dtype=np.uint8), "nowhere")


def played(ranks: Ranks, engine: str, dtype: str) -> dict[str, np.ndarray]:
    """All that 20 steps leave: weights, running statistics, Adam's averages, and what was measured."""
    backend = replace(cpu(engine), ranks=ranks)
    picture = {"size": SETTINGS.size, "width": SETTINGS.width, "dtype": dtype, "backend": backend}
    G = models.generator(stream(0, "init").at(0), noise_dim=SETTINGS.noise_dim, **picture)
    D = models.discriminator(stream(0, "init").at(1), **picture)
    adams = Adam(G.parameters, 1e-3), Adam(D.parameters, 1e-3)
    batches = StepByStep(State(SETTINGS, backend), DATA, SETTINGS, backend)
    measured = []
    for batches.step in range(STEPS):
        batch = batches.batch()
        batch = batch._replace(images=batch.images.astype(dtype), noise=batch.noise.astype(dtype))
        if engine == "fast" and batch.whole[0] == SETTINGS.batch_size:
            assert Painter.of(G, batch.noise) and Judge.of(D, batch.images, len(batch.noise))
        measured.append(backend.train_step(G, D, *adams, *batch))
    left = {"measured": np.array(measured)}
    for network, adam in zip((G, D), adams, strict=True):
        left |= {f"{network.name}/{k}": t.data for k, t in (network.parameters | network.statistics).items()}
        left |= {f"{network.name}/{k}/m": m for k, m in adam.m.items()}
        left |= {f"{network.name}/{k}/v": v for k, v in adam.v.items()}
    return left


def stand_in() -> None:
    """From now on CuPy, cuBLAS and NCCL are the stand-ins."""
    module, card, make_library = standin.make()
    library = make_library(blas.SIGNATURES)
    sys.modules |= {"cupy": module, "cupy.cuda.nccl": nccl.make(card)}
    blas.load = lambda: blas.declared(library)


def trained_on_a_card(ranks: Ranks, engine: str) -> dict[str, np.ndarray]:
    """All that three epochs leave, taken by the engine's trainer: captured as graphs in the second."""
    backend = choose("gpu", engine, precision="float32", number=ranks.number_here)
    backend = replace(backend, ranks=ranks.with_cards(backend.xp))
    state = State(SETTINGS, backend)
    taking = trainer(state, DATA, SETTINGS, backend)
    measured = np.concatenate([taking.steps(3) for _ in range(3)])
    left = {f"{engine}/{name}": array for name, array in state.arrays().items()}
    taking.close()
    return left | {f"{engine}/measured": measured}


def both(ranks: Ranks) -> dict[str, np.ndarray]:
    return {
        f"{engine}/{dtype}/{name}": array
        for engine in ("readable", "fast")
        for dtype in ("float32", "float64")
        for name, array in played(ranks, engine, dtype).items()
    }


if __name__ == "__main__":
    ranks = started()
    use_threads(1)
    with ranks.together():
        if sys.argv[2:] == ["card"]:
            stand_in()
            left = trained_on_a_card(ranks, "readable") | trained_on_a_card(ranks, "fast")
        else:
            left = both(ranks)
        # Every rank's numbers must be those of rank 0, to the last bit.
        digest = {name: array.tobytes() for name, array in left.items()}
        assert ranks.from_first(digest) == digest, f"rank {ranks.rank} has other numbers"
        if ranks.writes:
            arrays: dict[str, Any] = left  # of any type, or they might be taken for the function's options
            np.savez(Path(sys.argv[1]), **arrays)
