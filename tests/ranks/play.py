"""Steps of all engines in both dtypes: ``mpiexec -n N python -m tests.ranks.play FILE [card]``.

Their results go to FILE. With "card" they run on the stand-ins for CuPy, cuBLAS and NCCL.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.standin.processes import stand_in
from tinygan import models
from tinygan.backend import choose, cpu, shared_by
from tinygan.data import Dataset
from tinygan.fast.threads import POOL
from tinygan.optim import Adam
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import started
from tinygan.rng import stream
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import StepByStep, trainer
from tinygan.step import AS_A_WHOLE, BY_OPS, Step

STEPS = 20
ENGINES = ("readable", "fast")
# Batches of 24, 24 and 2 images: the last one has no image at all for some of 3 or 4 ranks.
SETTINGS = Settings(size=8, width=4, noise_dim=5, batch_size=24, penalty=0.5)
DATA = Dataset("noise", np.random.default_rng(1).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8), "nowhere")


def played(ranks: Ranks, engine: str, dtype: str) -> dict[str, np.ndarray]:
    """The results of 20 steps: weights, running statistics, Adam's averages, and the measurements."""
    backend = shared_by(cpu(engine), ranks)
    picture = {"size": SETTINGS.size, "width": SETTINGS.width, "dtype": dtype, "backend": backend}
    G = models.generator(stream(0, "init").at(0), noise_dim=SETTINGS.noise_dim, **picture)
    D = models.discriminator(stream(0, "init").at(1), **picture)
    adams = Adam(G.parameters, 1e-3), Adam(D.parameters, 1e-3)
    batches = StepByStep(State(SETTINGS, backend), DATA)
    taking = Step(G, D, *adams, batches.one.batches, penalty=SETTINGS.penalty)
    assert taking.how == (BY_OPS if engine == "readable" else AS_A_WHOLE)
    measured = []
    for batches.step in range(STEPS):
        batch = batches.batch()
        batch = batch._replace(images=batch.images.astype(dtype), noise=batch.noise.astype(dtype))
        measured.append(taking.take(*batch))
    left = {"measured": np.array(measured)}
    for network, adam in zip((G, D), adams, strict=True):
        left |= {f"{network.name}/{k}": t.data for k, t in (network.parameters | network.statistics).items()}
        left |= {f"{network.name}/{k}/m": m for k, m in adam.m.items()}
        left |= {f"{network.name}/{k}/v": v for k, v in adam.v.items()}
    return left


def trained_on_a_card(ranks: Ranks, engine: str) -> dict[str, np.ndarray]:
    """The results of three epochs by the engine's trainer, which captures graphs in the second one."""
    backend = choose("gpu", engine, precision="float32", number=ranks.number_here)
    backend = shared_by(backend, ranks)
    state = State(SETTINGS, backend)
    taking = trainer(state, DATA)
    measured = np.concatenate([taking.steps(3) for _ in range(3)])
    left = {f"{engine}/{name}": array for name, array in state.arrays().items()}
    taking.close()
    return left | {f"{engine}/measured": measured}


def both(ranks: Ranks) -> dict[str, np.ndarray]:
    return {
        f"{engine}/{dtype}/{name}": array
        for engine in ENGINES
        for dtype in ("float32", "float64")
        for name, array in played(ranks, engine, dtype).items()
    }


if __name__ == "__main__":
    ranks = started()
    POOL.resize(1)
    with ranks.together():
        if sys.argv[2:] == ["card"]:
            stand_in()
            left = trained_on_a_card(ranks, "readable") | trained_on_a_card(ranks, "fast")
        else:
            left = both(ranks)
        # Every rank's numbers must be those of rank 0, to the last bit.
        digest = {name: array.tobytes() for name, array in left.items()}
        assert ranks.by_first(lambda: digest) == digest, f"rank {ranks.rank} has different numbers"
        if ranks.writes:
            arrays: dict[str, Any] = left  # not typed, or pyright takes them for the function's options
            np.savez(Path(sys.argv[1]), **arrays)
