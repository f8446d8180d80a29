"""Reverse-mode differentiation: remember how a number was made, then walk back.

`apply` runs an op forward and leaves a `Node` on the result: which op, which inputs, what it
saved. The nodes form a graph from the loss back to the parameters. `grad` walks it once in
reverse, asks every op on the way what its inputs do to the loss, given what its output does (the
chain rule), and returns the gradients. No gradient is stored on a tensor, so there is nothing to
reset, and one graph can be walked twice, for two losses that share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from tinygan.backend import Backend, Op, backend_of
from tinygan.errors import UsageError
from tinygan.ops import Array

_recording: ContextVar[bool] = ContextVar("recording", default=True)


class Node(NamedTuple):
    """How a tensor was made."""

    op: Op
    inputs: tuple[Tensor | None, ...]  # None: a constant
    saved: Any


class Tensor:
    """An array that knows how it was made. `data` is the array, on the device of `backend`."""

    __slots__ = ("backend", "data", "node")

    def __init__(self, data: Array, backend: Backend | None = None, node: Node | None = None) -> None:
        self.data = data
        self.backend = backend or backend_of(data)
        self.node = node

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def __add__(self, other: Tensor) -> Tensor:
        return apply("add", self, other)

    def __float__(self) -> float:
        return float(self.data)

    def __repr__(self) -> str:
        return f"Tensor({self.data!r})"


@contextmanager
def no_grad() -> Iterator[None]:
    """Inside this block nothing is recorded: results have no graph and cost no memory."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def apply(name: str, *inputs: Tensor | Array | None, **attributes: Any) -> Tensor:
    """Run the op `name` of `backend.OPS` forward on tensors, and record it.

    Plain arrays are constants: no gradient flows to them. All inputs live on one device and
    share one dtype, which is the result's too, so that float32 cannot become float64 unnoticed.

    Raises:
        UsageError: the inputs mix dtypes or are not floating-point numbers, or an attribute forces
            another dtype on the result.
    """
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    dtypes = {x.dtype for x in arrays if x is not None}
    if len(dtypes) != 1 or next(iter(dtypes)).kind != "f":
        found = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise UsageError(f"{name} got {found} arrays. Give all of them one floating-point dtype.")
    tensors = tuple(x if isinstance(x, Tensor) else None for x in inputs)
    backend = next((t.backend for t in tensors if t), None) or backend_of(arrays[0])
    op = backend.ops[name]
    y, saved = op.forward(backend.xp, *arrays, **attributes)
    if y.dtype not in dtypes:
        raise UsageError(f"{name} made {y.dtype} of {dtypes.pop()}. Give its attributes that dtype, too.")
    record = _recording.get() and any(tensors)
    return Tensor(y, backend, Node(op, tensors, saved) if record else None)


def grad(loss: Tensor, wrt: Sequence[Tensor]) -> list[Array]:
    """The gradients of a scalar `loss` with respect to each tensor of `wrt`: arrays of their shapes.

    Only the part of the graph that lies between `loss` and `wrt` is computed, and each gradient
    is dropped as soon as it has been used. The graph stays whole; call again for another loss.
    Two gradients may share memory: do not change them in place.

    >>> import numpy as np
    >>> x = Tensor(np.array([1.0, 2.0]))
    >>> y = x + x
    >>> grad(apply("bce_with_logits", y, target=1.0), [x])[0].round(4)
    array([-0.1192, -0.018 ])

    Raises:
        UsageError: `loss` is not a scalar, or does not depend on a tensor of `wrt`.
    """
    if loss.shape != ():
        raise UsageError(f"grad needs a scalar loss, got shape {loss.shape}. Take the mean first.")
    order = _inputs_first(loss)
    wanted = {id(tensor) for tensor in wrt}
    leads_there = set(wanted)
    for tensor in order:
        if tensor.node and any(id(x) in leads_there for x in tensor.node.inputs):
            leads_there.add(id(tensor))

    gradients: dict[int, Array] = {id(loss): loss.backend.xp.ones_like(loss.data)}
    for tensor in reversed(order):  # every user of a tensor comes before it
        if tensor.node is None or id(tensor) not in leads_there:
            continue
        op, inputs, saved = tensor.node
        dy = gradients[id(tensor)] if id(tensor) in wanted else gradients.pop(id(tensor))
        needed = tuple(id(x) in leads_there for x in inputs)
        for x, dx in zip(inputs, op.backward(tensor.backend.xp, saved, dy, needed), strict=True):
            if dx is not None:  # a tensor used twice gets the sum of both gradients
                gradients[id(x)] = gradients[id(x)] + dx if id(x) in gradients else dx
    missing = [i for i, tensor in enumerate(wrt) if id(tensor) not in gradients]
    if missing:
        raise UsageError(f"the loss does not depend on wrt[{missing[0]}], shape {wrt[missing[0]].shape}.")
    return [gradients[id(tensor)] for tensor in wrt]


def _inputs_first(root: Tensor) -> list[Tensor]:
    """All tensors `root` was made from, each after its inputs. Without recursion: graphs may be deep."""
    order: list[Tensor] = []
    seen: set[int] = set()
    stack: list[tuple[Tensor, bool]] = [(root, False)]
    while stack:
        tensor, inputs_done = stack.pop()
        if inputs_done:
            order.append(tensor)
        elif id(tensor) not in seen:
            seen.add(id(tensor))
            stack.append((tensor, True))
            if tensor.node:
                stack.extend((x, False) for x in tensor.node.inputs if x is not None)
    return order
