"""Adam in pieces against `Adam.step`."""

from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tests.fast.checks import contents, same_bits
from tinygan.autograd import Tensor
from tinygan.backend import cpu
from tinygan.fast import threads
from tinygan.fast.optim import adam_steps
from tinygan.optim import Adam
from tinygan.runs.settings import Settings
from tinygan.runs.state import State

SHAPES = {"kernel": (3, 5, 7), "bias": (4,), "number": (), "nothing": (0, 3), "one": (1, 1)}
SETTINGS = {"lr": 0.01, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}


def start(dtype: Any, **settings: float) -> Adam:
    tensors = {name: Tensor(np.asarray(numbers(1, *shape), dtype)) for name, shape in SHAPES.items()}
    return Adam(tensors, **settings)


def gradients(t: int, dtype: Any) -> list[np.ndarray]:
    """Gradients of very different sizes, some of them 0."""
    found = [np.asarray(numbers(10 + t, *s) * 10.0 ** (t - 3), dtype) for s in SHAPES.values()]
    found[1] *= 0
    return found


@pytest.mark.skipif(np.__version__ < "2", reason="NumPy 1 turns a weight of shape () into float64")
@pytest.mark.parametrize(("dtype", "settings", "piece"), [("f", {}, threads.PIECE), ("d", SETTINGS, 10)])
def test_several_steps_equal_those_of_adam(monkeypatch, dtype, settings, piece):
    monkeypatch.setattr(threads, "PIECE", piece)
    fast, readable = start(dtype, **settings), start(dtype, **settings)
    for t in range(7):
        given, held = gradients(t, dtype), [tensor.data for tensor in fast.parameters.values()]
        before = contents(given, held)
        adam_steps((fast, given))
        assert contents(given, held) == before
        readable.step(gradients(t, dtype))
        assert fast.t == readable.t == t + 1
        for name in SHAPES:
            for found, expected in (
                (fast.parameters[name].data, readable.parameters[name].data),
                (fast.m[name], readable.m[name]),
                (fast.v[name], readable.v[name]),
            ):
                assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
                eps = np.finfo(dtype).eps
                np.testing.assert_allclose(found, expected, rtol=20 * eps, atol=eps / 10)


@pytest.mark.parametrize("what", range(4), ids=["weights", "gradients", "m", "v"])
def test_arrays_with_another_memory_order_get_the_same_update(what):
    results = []
    for turned in (None, what):
        placed = [np.asfortranarray if which == turned else np.copy for which in range(4)]
        adam = Adam({"kernel": Tensor(placed[0](numbers(1, 6, 5)))}, lr=0.1)
        adam.m["kernel"], adam.v["kernel"] = placed[2](adam.m["kernel"]), placed[3](adam.v["kernel"])
        for t in range(3):
            adam_steps((adam, [placed[1](numbers(t, 6, 5))]))
        results.append((adam.parameters["kernel"].data, adam.m["kernel"], adam.v["kernel"]))
    for found, expected in zip(*results, strict=True):
        same_bits(found, expected)


@pytest.mark.parametrize("count", [0, 4, 6])
def test_too_few_or_too_many_gradients_are_refused(count):
    adam, given = start("d"), (gradients(3, "d") * 2)[:count]
    with pytest.raises(ValueError):
        adam_steps((adam, given))


@pytest.mark.parametrize("shared", ["by two names", "by two optimizers"])
def test_a_tensor_with_two_updates_gets_one_after_the_other(monkeypatch, shared):
    """A layer used twice has two names. Pieces can be computed in any order: here the last comes first."""
    monkeypatch.setattr(threads.POOL, "each", lambda do, pieces: [do(piece) for piece in reversed(pieces)])
    monkeypatch.setattr(threads, "PIECE", 10)
    results = []
    for fast in (True, False):
        tensor = Tensor(numbers(1, 6, 5))
        names = [("one", "two")] if shared == "by two names" else [("one",), ("two",)]
        adams = [Adam({name: tensor for name in some}, lr=0.1) for some in names]
        for t in range(3):
            updates = [(adam, [numbers(10 * t + at, 6, 5) for at in range(len(adam.m))]) for adam in adams]
            if fast:
                adam_steps(*updates)
            else:
                for adam, given in updates:
                    adam.step(given)
        results.append([tensor.data, *(a for adam in adams for m in (adam.m, adam.v) for a in m.values())])
    for found, expected in zip(*results, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_states_made_from_the_same_arrays_are_independent(tmp_path):
    """The averages are updated in place, so a state copies them."""
    backend, settings = cpu("fast"), Settings(size=8, width=2, noise_dim=5)
    arrays, found = State(settings, backend).arrays(), []
    for _ in range(2):
        state = State(settings, backend)
        state.restore(arrays, tmp_path)
        adam_steps((state.adam_G, [np.ones_like(p.data) for p in state.G.parameters.values()]))
        found.append(contents(state.adam_G.m, state.adam_G.v))
    assert found[0] == found[1]


def test_too_few_gradients_for_one_optimiser_leave_all_of_them_unchanged():
    first, second = start("f"), start("f")
    before = contents([t.data for t in first.parameters.values()], list(first.m.values()))
    with pytest.raises(ValueError, match="shorter"):
        adam_steps((first, gradients(0, "f")), (second, gradients(0, "f")[:-1]))
    assert (first.t, second.t) == (0, 0)
    assert contents([t.data for t in first.parameters.values()], list(first.m.values())) == before
