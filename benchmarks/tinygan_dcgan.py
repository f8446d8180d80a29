"""tinygan's side of the benchmark: what a training run does, on the fast or the readable engine."""

from typing import Any

import numpy as np

import tinygan
from benchmarks import floor, worker
from benchmarks.worker import SIZE, Weights, serve
from tinygan import backend, gan, rng
from tinygan.fast.threads import POOL
from tinygan.layers import Dropout
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
            "discriminator": tinygan.models.discriminator(backend=self.backend),
        }
        for layer in self.networks["discriminator"].layers.values():
            if isinstance(layer, Dropout):
                layer.rate = dropout
        self.adams = [tinygan.optim.Adam(network.parameters) for network in self.networks.values()]
        self.images, self.noise = self.backend.array(images), self.backend.array(noise)
        self.masks = rng.stream(0, "dropout")
        (G, D), (adam_G, adam_D) = self.networks.values(), self.adams
        self.taking = Step(G, D, adam_G, adam_D, [(len(images), len(noise))], variant == "fast")
        self.trainer: Any = None  # on a card; made when steps are timed

    def step(self) -> tuple[float, float]:
        masks = self.masks.at(self.adams[0].t)
        batch = self.images, self.noise, masks.at(0).split(), masks.at(1).split()
        if self.taking.how == ON_A_CARD:
            (G, D), (adam_G, adam_D) = self.networks.values(), self.adams
            from benchmarks.card import step_on_a_card  # not loaded, and not waited for, on a processor

            step = step_on_a_card(G, D, adam_G, adam_D, *batch)
        else:
            step = self.taking.take(*batch)
        return float(step.generator_loss), float(step.discriminator_loss)

    def run(self, count: int) -> None:
        if self.taking.how != ON_A_CARD:
            super().run(count)
            return
        if self.trainer is None:
            from tinygan.cuda.trainer import Trainer

            batch = len(self.images)
            images = np.random.default_rng(0).integers(
                0, 256, (batch * -(-60_000 // batch), SIZE, SIZE, 1), np.uint8
            )
            (G, D), (adam_G, adam_D) = self.networks.values(), self.adams
            self.trainer = Trainer(G, D, adam_G, adam_D, images, batch, 0)
        self.trainer.steps(count)

    def card_bytes(self) -> int | None:
        if self.backend.device == "cpu":
            return None
        return self.backend.xp.get_default_memory_pool().total_bytes()

    def facts(self) -> dict[str, Any]:
        facts = floor.rates(self.backend) | {"card": self.backend.card()}
        if self.trainer:
            weights = sum(p.data.size for net in self.networks.values() for p in net.parameters.values())
            facts |= {
                "launches": self.trainer.launches,
                "operations": self.trainer.operations,
                "bytes": floor.step_bytes(self.trainer.card.memory.bytes, weights),
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
