"""Runs one op on a backend; and other helpers that several tests share."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from tinygan.arrays import Backend
from tinygan.autograd import Op
from tinygan.gradcheck import cases, numbers, relative_error

__all__ = [  # including what tests use of `gradcheck`
    "numbers", "relative_error", "OPS", "forward", "gradients", "moved", "arrays_in", "one_line", "spied",
]  # fmt: skip

Arrays = Sequence[np.ndarray | None]
OPS = {op.__name__: op for op in cases()}


def forward(backend: Backend, name: str, arrays: Arrays, **attributes: Any) -> tuple[Any, Any]:
    """(y, saved) of the op `name`, by the backend's twin. `arrays` and y are NumPy arrays."""
    given = {name: moved(backend, value) for name, value in attributes.items()}
    y, saved = backend.twin(OPS[name]).forward(*(moved(backend, a) for a in arrays), **given)
    return backend.numpy(y), saved


def gradients(backend: Backend, name: str, arrays: Arrays, dy: Any, **attributes: Any) -> list[Any]:
    """All gradients of sum(dy y), as NumPy arrays; None for each of the `arrays` that is None."""
    _, saved = forward(backend, name, arrays, **attributes)
    wanted = tuple(a is not None for a in arrays)
    found = backend.twin(OPS[name]).backward(saved, moved(backend, dy), wanted)
    return [None if g is None else backend.numpy(g) for g in found]


def moved(backend: Backend, value: Any) -> Any:
    """A NumPy array moved to the backend's device; any other value unchanged."""
    return backend.array(value) if isinstance(value, np.ndarray | np.generic) else value


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
    """`backend` with ops that call `spy` after every forward and backward pass."""

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
