"""tinygan in the benchmark: the training step of a run, on the fast or the readable engine."""

from typing import Any

import numpy as np

import tinygan
from benchmarks import floor, worker
from benchmarks.worker import PROOF_SEED, SIZE, Weights, serve
from tinygan import backend, gan, rng
from tinygan.fast.threads import POOL
from tinygan.machine import keep_memory
from tinygan.step import ON_A_CARD, Step


class Player(worker.Player):
    def __init__(
        self,
        variant: str,
        threads: int,
        device: str,
        precision: str,
        dropout: float,
        images: np.ndarray,
        noise: np.ndarray,
    ) -> None:
        keep_memory()
        given = precision if device == "gpu" and variant == "fast" else "float32"
        POOL.resize(threads)
        self.backend = backend.choose(device, variant, precision=given)
        self.version = (
            f"tinygan {tinygan.__version__}, {self.backend.xp.__name__} {self.backend.xp.__version__}"
        )
        self.networks = {
            "generator": tinygan.models.generator(backend=self.backend),
            "discriminator": tinygan.models.discriminator(dropout=dropout, backend=self.backend),
        }
        self.adams = [tinygan.optim.Adam(network.parameters) for network in self.networks.values()]
        self.images, self.noise = self.backend.array(images), self.backend.array(noise)
        self.masks = rng.stream(0, "dropout")
        (G, D), (adam_G, adam_D) = self.networks.values(), self.adams
        self.taking = Step(G, D, adam_G, adam_D, [(len(images), len(noise))], variant == "fast")
        self.trainer: Any = None  # on a card

    def step(self) -> tuple[float, float]:
        """On a card, take a step of the trainer that `run` times. Its batch is the same images, as bytes, and
        always the noise of its first step. The first step is launched; later ones replay a graph."""
        if self.taking.how == ON_A_CARD:
            if self.trainer is None:
                values = np.rint(self.backend.numpy(self.images) * 127.5 + 127.5)
                self.trainer = self.trainer_of(values.astype(np.uint8))
            self.trainer.step = 0
            self.trainer.card.buffers.clock[0] = 0  # the step's number, for the kernels; clock[1] is Adam's
            g_loss, d_loss, *_ = self.trainer.steps(1)[0]
            return float(g_loss), float(d_loss)
        masks = self.masks.at(self.adams[0].t)
        step = self.taking.take(self.images, self.noise, masks.at(0).split(), masks.at(1).split())
        return float(step.generator_loss), float(step.discriminator_loss)

    def run(self, count: int) -> None:
        if self.taking.how != ON_A_CARD:
            super().run(count)
            return
        if self.trainer is None:
            batch = len(self.images)
            shape = batch * -(-60_000 // batch), SIZE, SIZE, 1
            self.trainer = self.trainer_of(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        self.trainer.steps(count)

    def trainer_of(self, images: np.ndarray) -> Any:
        from tinygan.cuda.trainer import Trainer  # loaded only for a card

        (G, D), (adam_G, adam_D) = self.networks.values(), self.adams
        return Trainer(G, D, adam_G, adam_D, images, len(self.images), PROOF_SEED)

    def card_bytes(self) -> int | None:
        if self.backend.device == "cpu":
            return None
        return self.backend.xp.get_default_memory_pool().total_bytes()

    def facts(self) -> dict[str, Any]:
        facts = floor.rates(self.backend) | {"card": self.backend.card()}
        if self.trainer:
            from benchmarks import roofline

            launches = roofline.count(roofline.Model(), len(self.images), self.backend.precision)
            facts |= {
                "launches": len(launches),
                "operations": sum(launch.operations for launch in launches),
                "bytes": roofline.total_bytes(launches),
            }
        return facts

    def generate(self, noise: np.ndarray) -> np.ndarray:
        return self.backend.numpy(gan.generate(self.networks["generator"], self.backend.array(noise)))

    def set_weights(self, weights: Weights) -> None:
        for network, name, tensor in self.table():
            tensor.data = self.backend.array(weights[f"{network}/{name}"])

    def get_weights(self) -> Weights:
        return {
            f"{network}/{name}": self.backend.numpy(tensor.data) for network, name, tensor in self.table()
        }

    def table(self) -> list[tuple[str, str, tinygan.Tensor]]:
        return [
            (network, name, tensor)
            for network, layers in self.networks.items()
            for name, tensor in layers.parameters.items()
        ]


if __name__ == "__main__":
    serve(Player)
