"""A small game for tests: both networks with their Adams, and a batch for every step."""

from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tests.checks import numbers
from tinygan import gan, models
from tinygan.arrays import Backend
from tinygan.backend import cpu
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.rng import stream
from tinygan.step import AS_A_WHOLE, Measured, Step

Batch = tuple[np.ndarray, np.ndarray, Any, Any]  # images, noise, dropout masks for real images and for fakes


class Players(NamedTuple):
    G: Network
    D: Network
    adam_G: Adam
    adam_D: Adam

    def arrays(self) -> dict[str, np.ndarray]:
        """All their arrays, by name, as NumPy arrays."""
        found = {}
        for net, adam in ((self.G, self.adam_G), (self.D, self.adam_D)):
            take = net.backend.numpy
            for name, tensor in (net.parameters | net.statistics).items():
                found[f"{net.name}/{name}"] = take(tensor.data)
            for name in adam.parameters:
                found[f"{net.name}/{name}/m"] = take(adam.m[name])
                found[f"{net.name}/{name}/v"] = take(adam.v[name])
        return found


class Game:
    """Both networks, narrow, on a backend or on a CPU engine."""

    WHOLE = False  # whether the fast engine must run its steps as a whole

    def __init__(
        self, backend: Backend | str = "readable", size: int = 8, channels: int = 1, width: int = 2,
        dtype: Any = "f",
    ) -> None:  # fmt: skip
        self.backend = cpu(backend) if isinstance(backend, str) else backend
        sizes: dict[str, Any] = {"size": size, "channels": channels, "width": width}
        sizes |= {"dtype": np.dtype(dtype), "backend": self.backend}
        self.play(models.generator(noise_dim=5, **sizes), models.discriminator(**sizes))
        # Away from the initial weights, where biases and shifts are 0.
        for at, tensor in enumerate([*self.G.parameters.values(), *self.D.parameters.values()]):
            tensor.data = tensor.data + self.backend.array((0.1 * numbers(at, *tensor.shape)).astype(dtype))

    def play(self, G: Network, D: Network) -> None:
        self.G, self.D = G, D
        self.adam_G, self.adam_D = Adam(G.parameters, 1e-3), Adam(D.parameters, 1e-3)

    @property
    def players(self) -> Players:
        return Players(self.G, self.D, self.adam_G, self.adam_D)

    def batch(self, t: int, N: int = 4, M: int = 6) -> Batch:
        """The batch of step t: N images, M noise vectors."""
        images = np.tanh(numbers(100 + t, N, *self.D.input_shape)).astype(self.D.dtype)
        noise = numbers(200 + t, M, *self.G.input_shape).astype(self.G.dtype)
        dropouts = sum("dropout" in name for name in self.D.layers)
        real, fake = (list(islice(stream(0, "dropout").at(t, which).split(), dropouts)) for which in (0, 1))
        return self.backend.array(images), self.backend.array(noise), real, fake

    def step(self, batch: Batch) -> gan.LossesAndGradients:
        return gan.train_step(*self.players, *batch)

    def take(self, batch: Batch) -> Measured:
        """The same step, run as in a training run: its measurements."""
        step = Step(*self.players, [(len(batch[0]), len(batch[1]))])
        assert step.how == AS_A_WHOLE or not (self.WHOLE and self.backend.engine == "fast"), step.how
        return step.take(*batch)

    def state(self) -> dict[str, np.ndarray]:
        return self.players.arrays()

    def bytes(self) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in self.state().items()}
