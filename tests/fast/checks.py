"""Helpers for the tests of the fast engine: running an op or a whole game on either engine."""

from typing import Any

import numpy as np
import pytest

from tests.checks import OPS, arrays_in, numbers
from tests.game import Game
from tinygan.arrays import Backend
from tinygan.backend import cpu
from tinygan.fast import conv as fast_conv
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Frequencies, axis_choices
from tinygan.step import Measured

READABLE, FAST = cpu("readable"), cpu("fast")
CONVOLUTIONS = ("conv2d", "conv2d_transpose")


def contents(*values: Any) -> list[bytes]:
    """The bytes of all arrays and numbers in nested tuples, lists and dicts."""
    return [a.tobytes() for a in arrays_in(values) if isinstance(a, (np.ndarray, np.generic))]


def same_bits(found: Any, expected: Any) -> None:
    """Both are arrays of the same dtype, shape and bytes, or both are None."""
    assert (found is None) == (expected is None)
    if expected is not None:
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()


# Ops.


def run(
    backend: Backend, name: str, arrays: Any, dy: Any = None, **attributes: Any
) -> tuple[Any, list[Any], Any]:
    """(y, all gradients, saved); `dy` is standard normal by default."""
    op = backend.twin(OPS[name])
    y, saved = op.forward(*arrays, **attributes)
    if dy is None:
        dy = np.asarray(numbers(11, *y.shape)).astype(y.dtype)
    wanted = tuple(a is not None for a in arrays)
    return y, list(op.backward(saved, dy, wanted)), saved


def conv_case(name: str, case: tuple[Any, ...], dtype: Any = "d", bias: bool = True) -> tuple[Any, Any]:
    """(x, w, b) and attributes for the case (N, (H, W), C, F, (KH, KW), stride, padding)."""
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
    """Make every convolution use windows, or frequencies of whole pictures or of tiles."""

    def plan(large: Any, small: Any, kernel: Any, stride: Any, pads: Any, dtype: str) -> Any:
        _, *size, C = large
        shapes = (*size, C), (*small, kernel[3]), kernel[:2]
        if kind == "windows":
            return Direct(*shapes, stride, pads, dtype)
        rows, columns = (
            axis_choices(size[a], small[a], kernel[a], stride[a], pads[a][0])[0 if kind == "whole" else -1]
            for a in (0, 1)
        )
        return Frequencies(*shapes, (rows, columns), dtype)

    monkeypatch.setattr(fast_conv, "conv_plan", plan)


# One small case of each op, for properties that hold for any numbers: (op, plan, case).
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
    """Arrays and attributes of a case; from now on convolutions use `plan`."""
    if plan:
        force_plan(monkeypatch, plan)
        return conv_case(name, case, dtype)
    shapes, attributes = case
    return op_case(name, shapes, attributes, dtype)


# The game.

def play(
    engine: str, steps: int = 3, N: int = 4, M: int = 6, size: int = 8,
    channels: int = 1, width: int = 2, dtype: Any = "d",
) -> tuple[Game, list[Measured]]:  # fmt: skip
    """A game after `steps` steps, and the measurements of each step."""
    game = Game(engine, size, channels, width, dtype)
    return game, [game.take(game.batch(t, N, M)) for t in range(steps)]


def same_state(found: Game, expected: Game, tolerance: float, floor: float = 0.0) -> None:
    """Every array agrees, relative to its largest number (or to `floor`), and so does Adam's step count."""
    arrays, others = found.state(), expected.state()
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        other = others[name]
        assert (array.dtype, array.shape) == (other.dtype, other.shape), name
        assert np.abs(array - other).max() <= tolerance * max(np.abs(other).max(), floor), name
    assert (found.adam_G.t, found.adam_D.t) == (expected.adam_G.t, expected.adam_D.t)
