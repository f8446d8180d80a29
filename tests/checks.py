"""How tests run an op on a backend, and how they compare its backward pass with differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygan import differences
from tinygan.arrays import Backend
from tinygan.autograd import Op
from tinygan.differences import Arrays, cases, jacobian_error, numbers, on_device, relative_error

__all__ = [  # what tests need of `differences` they find here, too
    "Arrays", "numbers", "relative_error", "OPS", "backward", "check_jacobian", "forward", "gradients",
    "arrays_in", "on_device", "one_line", "spied",
]  # fmt: skip

OPS = {op.__name__: op for op in cases()}


def forward(backend: Backend, name: str, arrays: Arrays, **attributes: Any) -> tuple[np.ndarray, Any]:
    """(y, saved) of the op `name`: see `differences.forward`."""
    return differences.forward(backend, OPS[name], arrays, **attributes)


def backward(
    backend: Backend, name: str, saved: Any, dy: Any, wanted: Sequence[bool]
) -> list[np.ndarray | None]:
    """The gradients of the op `name`: see `differences.backward`."""
    return differences.backward(backend, OPS[name], saved, dy, wanted)


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
    """Compare every entry of the Jacobian with central differences: see `differences.jacobian_error`."""
    error, _ = jacobian_error(backend, OPS[name], arrays, attributes, step)
    assert error < tolerance, f"{name}: relative error {error:.1e}"


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
    """`backend` with ops that tell `spy` of each call, after it."""

    def watch(name: str, op: Op) -> Op:
        def forward(*arrays: Any, **attributes: Any) -> Any:
            result = op.forward(*arrays, **attributes)
            spy(name, "forward", {"inputs": arrays, "attributes": attributes, "result": result})
            return result

        def backward(saved: Any, dy: Any, wanted: Any) -> Any:
            result = op.backward(saved, dy, wanted)
            spy(name, "backward", {"saved": saved, "dy": dy, "wanted": wanted, "result": result})
            return result

        return Op(forward, backward)

    watched = {op: watch(name, backend.twin(op)) for name, op in OPS.items()}
    return replace(backend, twins={**backend.twins, **watched})
