"""tinygan's side of the benchmark: the seed's training step on the readable engine."""

from __future__ import annotations

import numpy as np

from benchmarks.worker import Step, serve
from tinygan.backend import cpu, keep_memory, limit_blas_threads
from tinygan.gan import train_step
from tinygan.models import discriminator, generator
from tinygan.optim import Adam
from tinygan.rng import stream


def build(threads: int) -> tuple[str, Step]:
    """A version and a step on fresh networks."""
    keep_memory()
    limit_blas_threads(threads)
    G, D = generator(backend=cpu()), discriminator(backend=cpu())
    adam_G, adam_D = Adam(G.parameters), Adam(D.parameters)
    dropout = stream(0, "dropout")

    def step(images: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
        masks = dropout.at(adam_G.t)
        measured = train_step(
            G, D, adam_G, adam_D, images, noise, masks.at(0).split(), masks.at(1).split()
        )
        return float(measured.generator_loss), float(measured.discriminator_loss)

    return f"NumPy {np.__version__}", step


if __name__ == "__main__":
    serve(build)
