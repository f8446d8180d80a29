"""How tests run an op on a backend, and how they compare its backward pass with differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from tinygan.arrays import Backend
from tinygan.autograd import Op
from tinygan.gradcheck import cases, numbers, relative_error

__all__ = [  # what tests need of `gradcheck` they find here, too
    "Arrays", "numbers", "relative_error", "OPS", "backward", "check_jacobian", "forward", "gradients",
    "arrays_in", "on_device", "one_line", "spied",
]  # fmt: skip

Arrays = Sequence[np.ndarray | None]
OPS = {op.__name__: op for op in cases()}


def on_device(backend: Backend, value: Any) -> Any:
    """A NumPy array as one of the backend; anything else as it is."""
    return backend.array(value) if isinstance(value, np.ndarray) else value


def forward(backend: Backend, name: str, arrays: Arrays, **attributes: Any) -> tuple[np.ndarray, Any]:
    """(y as a NumPy array, saved) of the op `name`, run on `backend`."""
    placed = [on_device(backend, a) for a in arrays]
    attributes = {key: on_device(backend, value) for key, value in attributes.items()}
    y, saved = backend.twin(OPS[name]).forward(*placed, **attributes)
    return backend.numpy(y), saved


def backward(
    backend: Backend, name: str, saved: Any, dy: Any, wanted: Sequence[bool]
) -> list[np.ndarray | None]:
    """The gradients of the op `name` as NumPy arrays, None where there is none."""
    dy = backend.array(np.asarray(dy))
    found = backend.twin(OPS[name]).backward(saved, dy, tuple(wanted))
    return [None if g is None else backend.numpy(g) for g in found]


def gradients(backend: Backend, name: str, arrays: Arrays, dy: np.ndarray, **attributes: Any) -> list[Any]:
    """All gradients of sum(dy y)."""
    _, saved = forward(backend, name, arrays, **attributes)
    return backward(backend, name, saved, dy, [a is not None for a in arrays])


def check_jacobian(
    backend: Backend,
    name: str,
    arrays: Arrays,
    step: float,
    tolerance: float,
    attributes: Callable[[Arrays], dict[str, Any]] = lambda arrays: {},
) -> None:
    """Compare every entry of the Jacobian, dy_i / dx_j for every array x, with central differences.

    `attributes` says which attributes go with given arrays: moments that are given depend on x.
    """
    y, saved = forward(backend, name, arrays, **attributes(arrays))
    wanted = [a is not None for a in arrays]
    rows: list[list[Any]] = []
    for i in range(y.size):
        dy = np.zeros(y.size)
        dy[i] = 1
        rows.append(backward(backend, name, saved, dy.reshape(y.shape), wanted))
    for which, array in enumerate(arrays):
        if array is None:
            continue
        found = np.array([row[which].ravel() for row in rows])
        expected = np.zeros((y.size, array.size))
        for j in range(array.size):
            sides = []
            for sign in (1, -1):
                copy = array.copy()
                copy.flat[j] += sign * step
                moved = [*arrays[:which], copy, *arrays[which + 1 :]]
                sides.append(forward(backend, name, moved, **attributes(moved))[0])
            expected[:, j] = (sides[0] - sides[1]).ravel() / (2 * step)
        error = relative_error(found, expected)
        assert error < tolerance, f"{name}, argument {which}: relative error {error:.1e}"


def arrays_in(value: Any) -> Iterator[Any]:
    """Every array and NumPy scalar in nested tuples, lists and dicts."""
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, dict):
        yield from arrays_in(list(value.values()))
    elif hasattr(value, "dtype"):
        yield value


def one_line(error: Any) -> str:
    """The text of a caught error, which must be one line and not empty."""
    text = str(error.value)
    assert text.strip() and "\n" not in text, text
    return text


Spy = Callable[[str, str, Any], None]  # (op, "forward" or "backward", everything that went in and out)


def spied(backend: Backend, spy: Spy) -> Backend:
    """`backend` with ops that call `spy` after each of their own calls."""

    def watch(name: str, op: Op) -> Op:
        @wraps(op.forward)
        def forward(*arrays: Any, **attributes: Any) -> Any:
            result = op.forward(*arrays, **attributes)
            spy(name, "forward", {"inputs": arrays, "attributes": attributes, "result": result})
            return result

        @wraps(op.backward)
        def backward(saved: Any, dy: Any, wanted: Any) -> Any:
            result = op.backward(saved, dy, wanted)
            spy(name, "backward", {"saved": saved, "dy": dy, "wanted": wanted, "result": result})
            return result

        return Op(forward, backward)

    watched = {op: watch(name, backend.twin(op)) for name, op in OPS.items()}
    return replace(backend, twins={**backend.twins, **watched})
