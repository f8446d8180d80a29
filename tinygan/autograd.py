"""Reverse-mode differentiation: record how each tensor was computed, then walk back from the loss.

An `Op` joins two functions of arrays, a forward and a backward pass, into one function of tensors. A call
computes the result y and attaches a `Node` to it: the op, its inputs, and what the op saved for later. The
nodes form a graph from the loss back to the parameters. `grad` walks that graph once, in reverse, and applies
the chain rule at each node: the op's backward pass turns d loss / d y into d loss / d x for each input x.

`grad` returns gradients and stores nothing on a tensor. So there is nothing to reset between steps, and two
losses can share a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any, NamedTuple

from tinygan.arrays import Array, Backend, array_module, backend_of
from tinygan.errors import ShapeError, UsageError

Wanted = tuple[bool, ...]  # for each input of an op: is its gradient needed?
Gradients = tuple[Array, ...]  # one for each input; can be None if it is not wanted
_recording: ContextVar[bool] = ContextVar("recording", default=True)  # a global with one value per context


class Op:
    """A differentiable function of tensors, made of a `forward` and a `backward` as in `tinygan.ops`.

    Its name, arguments and docstring are those of `forward`. Positional arguments are tensors, plain arrays
    (constants: no gradient flows to them) or None. They and the result share one floating-point dtype:
    float32 never silently becomes float64. Raises: UsageError if they mix dtypes, or an attribute is a
    Tensor or changes the result's dtype."""

    def __init__(self, forward: Callable[..., tuple[Array, Any]], backward: Callable[..., Gradients]) -> None:
        self.forward, self.backward = forward, backward
        self.__name__, self.__doc__ = forward.__name__.removesuffix("_forward"), forward.__doc__
        self.__signature__ = signature(forward).replace(return_annotation="Tensor")

    def __call__(self, *inputs: Tensor | Array | None, **attributes: Any) -> Tensor:
        try:
            call = self.__signature__.bind(*inputs, **attributes)
        except TypeError as problem:
            raise TypeError(f"{self.__name__}{self.__signature__}: {problem}") from None
        call.apply_defaults()  # an omitted bias is an input: None
        arrays = [x.data if isinstance(x, Tensor) else x for x in call.args]
        given = zip(arrays, self.__signature__.parameters.values(), strict=False)
        missing = {"None" for x, p in given if x is None and p.default is not None}
        dtypes = missing | {getattr(x, "dtype", type(x).__name__) for x in arrays if x is not None}
        if [getattr(dtype, "kind", "") for dtype in dtypes] != ["f"]:
            found = ", ".join(sorted(map(str, dtypes))) or "nothing"
            raise UsageError(f"{self.__name__} got {found}. Give it arrays of one floating-point dtype.")
        if any(isinstance(value, Tensor) for value in call.kwargs.values()):
            raise UsageError(f"{self.__name__} got a Tensor as attribute. Give its array, `.data`.")
        tensors = tuple(x if isinstance(x, Tensor) else None for x in call.args)
        backend = next((t.backend for t in tensors if t), None) or backend_of(arrays[0])
        op = backend.twin(self)  # the same function, perhaps faster
        y, saved = op.forward(*arrays, **call.kwargs)
        if y.dtype not in dtypes:
            raise UsageError(f"{self.__name__} turned {dtypes.pop()} into {y.dtype}. Use one dtype only.")
        record = _recording.get() and any(tensors)
        return Tensor(y, backend, Node(op, tensors, saved) if record else None)


class Node(NamedTuple):
    """How a tensor was computed: y, saved = op.forward(*inputs)."""

    op: Op
    inputs: tuple[Tensor | None, ...]  # None: a constant
    saved: Any  # from forward, for backward


class Tensor:
    """An array, `data`, that knows how it was computed: `node`, None for parameters and constants."""

    __slots__ = ("backend", "data", "node")
    __array_ufunc__ = None  # NumPy's functions refuse it: no gradient would flow through them

    def __init__(self, data: Array, backend: Backend | None = None, node: Node | None = None) -> None:
        self.data, self.backend, self.node = data, backend or backend_of(data), node

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    def __add__(self, other: Tensor) -> Tensor:
        return add(self, other)

    def __float__(self) -> float:
        return float(self.data)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = self.backend.numpy(self.data)
        return array.astype(dtype or array.dtype, copy=bool(copy))

    def __repr__(self) -> str:
        return f"Tensor({self.data!r})"


@contextmanager
def no_grad() -> Iterator[None]:
    """Record no graph inside this block, so that every intermediate result is freed as soon as possible."""
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def grad(loss: Tensor, wrt: Iterable[Tensor]) -> list[Array]:
    """d loss / d x for a scalar `loss` and each tensor x in `wrt`: a list of arrays of the shapes of x.

    >>> import numpy as np
    >>> square = Op(lambda x: (x * x, x), lambda x, dy, wanted: (2 * x * dy,))  # forward saves x for backward
    >>> x = Tensor(np.array(3.0))
    >>> [float(g) for g in grad(square(x) + x, [x])]  # 2 x + 1
    [7.0]

    Only nodes between `loss` and `wrt` run backward, and each gradient is freed after use. Results can share
    memory: do not change them in place. Raises: UsageError if `loss` is not a scalar that depends on x."""
    if not isinstance(loss, Tensor) or loss.shape != ():
        found = f"{type(loss).__name__} {getattr(loss, 'shape', '')}".rstrip()
        raise UsageError(f"grad needs a scalar Tensor, got {found}. Build it from ops, and take the mean.")
    order, wrt = _inputs_first(loss), list(wrt)
    asked = {id(tensor) for tensor in wrt}
    on_the_way = set(asked)  # ids of `wrt` and of the tensors that depend on it
    for tensor in order:
        if tensor.node and any(id(x) in on_the_way for x in tensor.node.inputs):
            on_the_way.add(id(tensor))

    gradients: dict[int, Array] = {id(loss): array_module(loss.data).ones_like(loss.data)}  # here 1
    for tensor in reversed(order):  # each tensor comes after all that use it
        if tensor.node is None or id(tensor) not in on_the_way:
            continue
        op, inputs, saved = tensor.node
        dy = gradients[id(tensor)] if id(tensor) in asked else gradients.pop(id(tensor))
        wanted = tuple(id(x) in on_the_way for x in inputs)
        for x, dx in zip(inputs, op.backward(saved, dy, wanted), strict=True):
            if dx is not None and id(x) in on_the_way:  # a tensor used twice: the sum
                gradients[id(x)] = gradients[id(x)] + dx if id(x) in gradients else dx
    for i, tensor in enumerate(wrt):
        if id(tensor) not in gradients:
            raise UsageError(f"the loss does not depend on wrt[{i}], shape {tensor.shape}. Leave it out.")
    return [gradients[id(tensor)] for tensor in wrt]


def _inputs_first(root: Tensor) -> list[Tensor]:
    """All tensors that `root` was computed from, each after its inputs. No recursion: graphs can be deep."""
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


def add_forward(a: Array, b: Array) -> tuple[Array, None]:
    """y = a + b, for two arrays of the same shape."""
    if a.shape != b.shape:  # NumPy would broadcast, and hide a mistake
        raise ShapeError(f"cannot add shapes {a.shape} and {b.shape}. Give both the same shape.")
    return a + b, None


def add_backward(saved: None, dy: Array, wanted: Wanted) -> Gradients:
    """da = db = dy."""
    return dy, dy


add = Op(add_forward, add_backward)
