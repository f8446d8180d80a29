"""What the tests of the fast engine share: running an op or a whole game on either engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.checks import OPS, arrays_in, numbers
from tinygan import models
from tinygan.arrays import Backend
from tinygan.backend import cpu
from tinygan.fast import conv as fast_conv
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Frequencies, axis_choices
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.rng import Stream, stream
from tinygan.step import AS_A_WHOLE, Measured, Step

READABLE, FAST = cpu("readable"), cpu("fast")
CONVOLUTIONS = ("conv2d", "conv2d_transpose")


def contents(*values: Any) -> list[bytes]:
    """The bytes of all arrays and numbers in nested tuples, lists and dicts."""
    return [a.tobytes() for a in arrays_in(values) if isinstance(a, (np.ndarray, np.generic))]


def same_bits(found: Any, expected: Any) -> None:
    """Arrays of one dtype, one shape and the same bytes; None for None."""
    assert (found is None) == (expected is None)
    if expected is not None:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


# Ops.


def run(
    backend: Backend, name: str, arrays: Any, dy: Any = None, **attributes: Any
) -> tuple[Any, list[Any], Any]:
    """(y, all gradients, saved); `dy` is standard normal where it is not given."""
    op = backend.twin(OPS[name])
    y, saved = op.forward(*arrays, **attributes)
    if dy is None:
        dy = np.asarray(numbers(11, *y.shape)).astype(y.dtype)
    wanted = tuple(a is not None for a in arrays)
    return y, list(op.backward(saved, dy, wanted)), saved


def conv_case(name: str, case: tuple[Any, ...], dtype: Any = "d", bias: bool = True) -> tuple[Any, Any]:
    """(x, w, b) and the attributes for (N, (H, W), C, F, (KH, KW), stride, padding)."""
    N, size, C, F, kernel, stride, padding = case
    channels = (C, F) if name == "conv2d" else (F, C)
    arrays = [numbers(1, N, *size, C), numbers(2, *kernel, *channels), numbers(3, F) if bias else None]
    arrays = [None if a is None else a.astype(dtype) for a in arrays]
    return arrays, {"stride": stride, "padding": padding}


def op_case(name: str, shapes: Any, attributes: dict[str, Any], dtype: Any = "d") -> tuple[Any, Any]:
    """Arrays of the `shapes` (None: no array) for another op, and its attributes."""
    arrays = [None if s is None else np.asarray(numbers(i, *s), dtype) for i, s in enumerate(shapes)]
    if name == "batch_norm":
        x = numbers(0, *shapes[0])
        axes = tuple(range(x.ndim - 1))
        moments = {"mean": x.mean(axis=axes), "variance": x.var(axis=axes)}
        attributes = attributes | {key: value.astype(dtype) for key, value in moments.items()}
    if name == "dropout":
        attributes = attributes | {"mask": np.asarray(numbers(7, *shapes[0])) > 0.5}
    return arrays, attributes


PLANS = ("windows", "whole", "tiles")


def force_plan(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Make every convolution use windows, or products of pictures that are whole or cut into tiles."""

    def plan(large: Any, kernel: Any, stride: Any, pads: Any, dtype: str, small: Any = None) -> Any:
        _, *size, C = large
        if small is None:
            axes = zip(size, pads, kernel, stride, strict=False)
            small = tuple((side + sum(pad) - K) // S + 1 for side, pad, K, S in axes)
        shapes = (*size, C), (*small, kernel[3]), kernel[:2]
        if kind == "windows":
            return Direct(*shapes, stride, pads, dtype)
        rows, columns = (
            axis_choices(size[a], small[a], kernel[a], stride[a], pads[a][0])[0 if kind == "whole" else -1]
            for a in (0, 1)
        )
        return Frequencies(*shapes, rows, columns, dtype)

    monkeypatch.setattr(fast_conv, "conv_plan", plan)


# One small case of each op, for what must hold whatever its numbers are: (op, plan, case).
SMALL: list[tuple[str, str, Any]] = [
    *((name, plan, (5, (9, 8), 3, 5, (4, 3), (2, 1), "same")) for name in CONVOLUTIONS for plan in PLANS),
    ("dense", "", ([(40, 30), (30, 50), (50,)], {})),
    ("dense", "", ([(50, 30), (30, 1), (1,)], {})),
    ("batch_norm", "", ([(60, 3), (3,), (3,)], {"of_batch": True})),
    ("batch_norm", "", ([(6, 4, 5, 3), (3,), (3,)], {"of_batch": False})),
    ("leaky_relu", "", ([(40, 13)], {"slope": 0.3})),
    ("tanh", "", ([(40, 13)], {})),
    ("dropout", "", ([(40, 13)], {"rate": 0.3})),
]
EVERY_SMALL_CASE = pytest.mark.parametrize(
    ("name", "plan", "case"), SMALL, ids=[f"{name}-{plan}{at}" for at, (name, plan, _) in enumerate(SMALL)]
)


def small_case(
    monkeypatch: pytest.MonkeyPatch, name: str, plan: str, case: Any, dtype: Any
) -> tuple[Any, Any]:
    """Arrays and attributes; a convolution is computed by the plan from now on."""
    if plan:
        force_plan(monkeypatch, plan)
        return conv_case(name, case, dtype)
    shapes, attributes = case
    return op_case(name, shapes, attributes, dtype)


# The game.

NOISE = 5


class Game:
    """Both networks with their Adams, on one engine."""

    WHOLE = False  # whether the fast engine has to take its steps as a whole

    def __init__(
        self, engine: str, size: int = 8, channels: int = 1, width: int = 2, dtype: Any = "d"
    ) -> None:
        sizes: dict[str, Any] = {"size": size, "channels": channels, "width": width}
        sizes |= {"dtype": np.dtype(dtype), "backend": cpu(engine)}
        self.engine = engine
        self.play(models.generator(noise_dim=NOISE, **sizes), models.discriminator(**sizes))
        # Somewhere else than where training begins: there, biases and shifts are 0.
        for at, tensor in enumerate([*self.G.parameters.values(), *self.D.parameters.values()]):
            tensor.data = (tensor.data + 0.1 * numbers(at, *tensor.shape)).astype(dtype)

    def play(self, G: Network, D: Network) -> None:
        self.G, self.D = G, D
        self.adam_G, self.adam_D = Adam(G.parameters, 1e-3), Adam(D.parameters, 1e-3)

    def step(self, images: Any, noise: Any, real: Any, fake: Any) -> Measured:
        batches = [(len(images), len(noise))]
        step = Step(self.G, self.D, self.adam_G, self.adam_D, batches)
        assert step.how == AS_A_WHOLE or not (self.WHOLE and self.engine == "fast"), step.how
        return step.take(images, noise, real, fake)

    def state(self) -> dict[str, np.ndarray]:
        """Every array the game has, by name."""
        state = {}
        for name, net, adam in (("G", self.G, self.adam_G), ("D", self.D, self.adam_D)):
            state |= {f"{name}/{key}": t.data for key, t in (net.parameters | net.statistics).items()}
            state |= {f"{name}/{key}/m": a for key, a in adam.m.items()}
            state |= {f"{name}/{key}/v": a for key, a in adam.v.items()}
        return state


def batch(t: int, size: int, channels: int, N: int, M: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """(images, noise) of step t."""
    images = np.tanh(numbers(100 + t, N, size, size, channels)).astype(dtype)
    return images, numbers(200 + t, M, NOISE).astype(dtype)


def streams(t: int, which: int) -> list[Stream]:
    place = stream(0, "dropout").at(t, which)
    return [place.at(0), place.at(1)]


def masks(t: int, which: int, size: int, width: int, N: int, kind: Any = bool) -> list[np.ndarray]:
    shapes = (N, size // 2, size // 2, width), (N, size // 4, size // 4, 2 * width)
    return [(numbers(1000 * t + 10 * which + at, *s) > -0.5).astype(kind) for at, s in enumerate(shapes)]


def play(
    engine: str,
    steps: int = 3,
    N: int = 4,
    M: int = 6,
    sources: str = "streams",
    size: int = 8,
    channels: int = 1,
    width: int = 2,
    dtype: Any = "d",
) -> tuple[Game, list[Measured]]:
    """A game after `steps` steps with "streams", "masks" or "masks of numbers", and what each measured."""
    game, measured = Game(engine, size, channels, width, dtype), []
    for t in range(steps):
        if sources == "streams":
            real, fake = streams(t, 0), streams(t, 1)
        else:
            kind = bool if sources == "masks" else dtype
            real, fake = masks(t, 0, size, width, N, kind), masks(t, 1, size, width, M, kind)
        measured.append(game.step(*batch(t, size, channels, N, M, dtype), real, fake))
    return game, measured


def same_state(found: Game, expected: Game, tolerance: float, floor: float = 0.0) -> None:
    """Every array agrees, relative to its largest number (or to `floor`), and so do the numbers of steps."""
    arrays, others = found.state(), expected.state()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        other = others[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        assert np.abs(array - other).max() <= tolerance * max(np.abs(other).max(), floor), name
    assert (found.adam_G.t, found.adam_D.t) == (expected.adam_G.t, expected.adam_D.t)
