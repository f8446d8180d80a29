"""The game that tests play: both networks with their Adams, and a batch for every step."""

from itertools import islice
from typing import Any

import numpy as np

from tests.checks import numbers
from tinygan import gan, models
from tinygan.arrays import Backend
from tinygan.backend import cpu
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.rng import stream
from tinygan.step import AS_A_WHOLE, Measured, Step

Batch = tuple[np.ndarray, np.ndarray, Any, Any]  # images, noise, and what dropout keeps of real and fake


class Game:
    """Both networks, narrow, on a backend or an engine of the processor."""

    WHOLE = False  # whether the fast engine has to take its steps as a whole

    def __init__(
        self, backend: Backend | str = "readable", size: int = 8, channels: int = 1, width: int = 2,
        dtype: Any = "f",
    ) -> None:  # fmt: skip
        self.backend = cpu(backend) if isinstance(backend, str) else backend
        sizes: dict[str, Any] = {"size": size, "channels": channels, "width": width}
        sizes |= {"dtype": np.dtype(dtype), "backend": self.backend}
        self.play(models.generator(noise_dim=5, **sizes), models.discriminator(**sizes))
        # Somewhere else than where training begins: there, biases and shifts are 0.
        for at, tensor in enumerate([*self.G.parameters.values(), *self.D.parameters.values()]):
            tensor.data = (tensor.data + 0.1 * numbers(at, *tensor.shape)).astype(dtype)

    def play(self, G: Network, D: Network) -> None:
        self.G, self.D = G, D
        self.adam_G, self.adam_D = Adam(G.parameters, 1e-3), Adam(D.parameters, 1e-3)

    @property
    def players(self) -> tuple[Network, Network, Adam, Adam]:
        return self.G, self.D, self.adam_G, self.adam_D

    def batch(self, t: int, N: int = 4, M: int = 6) -> Batch:
        """That of step t."""
        images = np.tanh(numbers(100 + t, N, *self.D.input_shape)).astype(self.D.dtype)
        noise = numbers(200 + t, M, *self.G.input_shape).astype(self.G.dtype)
        dropouts = sum("dropout" in name for name in self.D.layers)
        real, fake = (list(islice(stream(0, "dropout").at(t, which).split(), dropouts)) for which in (0, 1))
        return images, noise, real, fake

    def step(self, batch: Batch) -> gan.LossesAndGradients:
        return gan.train_step(*self.players, *batch)

    def take(self, batch: Batch) -> Measured:
        """The same step as a run takes it: what it measured."""
        step = Step(*self.players, [(len(batch[0]), len(batch[1]))])
        assert step.how == AS_A_WHOLE or not (self.WHOLE and self.backend.engine == "fast"), step.how
        return step.take(*batch)

    def state(self) -> dict[str, np.ndarray]:
        """Every array the game has, by name."""
        state = {}
        for name, net, adam in (("G", self.G, self.adam_G), ("D", self.D, self.adam_D)):
            state |= {f"{name}/{key}": t.data for key, t in (net.parameters | net.statistics).items()}
            state |= {f"{name}/{key}/m": a for key, a in adam.m.items()}
            state |= {f"{name}/{key}/v": a for key, a in adam.v.items()}
        return state

    def bytes(self) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in self.state().items()}
