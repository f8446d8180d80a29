"""The card's memory, planned before any is taken: the networks' sizes, a step's buffers, the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.cuda.blas import WORKSPACE
from tinygan.cuda.frequencies import axis, lifted_rows
from tinygan.cuda.kernels import chunks
from tinygan.errors import UsageError
from tinygan.fast.dcgan import layers_of, odd_layer
from tinygan.layers import Network

TAPS = 5
MEASURED = 64  # steps whose losses the card keeps until they are read
INDEXED = (1 << 31) - 4096  # numbers that a C int counts, and a block's threads more
LARGEST_SIDE = 32  # of the maps that are transformed whole; the matrices grow with its fourth power


class Sizes(NamedTuple):
    """What the step has to know about two networks: the tutorial's numbers in brackets."""

    side: int  # a quarter of the pictures' side (7)
    channels: int  # of the pictures (1)
    noise: int  # numbers of a noise vector (100)
    C0: int  # channels of G's maps (256, 128, 64)
    C1: int
    C2: int
    D1: int  # of D's (64, 128)
    D2: int

    @property
    def P(self) -> int:  # noqa: N802
        """Places: pixels of the smallest map."""
        return self.side * self.side

    @property
    def window(self) -> int:
        """Numbers under a kernel on the pictures."""
        return TAPS * TAPS * self.channels

    def picture(self, count: int) -> tuple[int, int, int, int]:
        """The shape of so many pictures."""
        return count, 4 * self.side, 4 * self.side, self.channels

    def rows(self, stride: int) -> int:
        """Of what a convolution of this stride lifts, between the smallest map and the next."""
        return lifted_rows(axis(self.side, TAPS, stride).n)[1]


def sizes_of(G: Network, D: Network) -> Sizes | None:
    """The sizes of a DCGAN whose step can be computed here; None for other networks."""
    if odd_layer(G, D):
        return None
    dense_G, up, down, dense_D = layers_of(G, D)
    if (len(up), len(down)) != (3, 2):
        return None
    side, channels, noise = D.input_shape[0] // 4, D.input_shape[2], G.input_shape[0]
    filters = [stage.conv.kernel.shape[3] for stage in (*up, *down)]
    sizes = Sizes(side, channels, noise, *filters)
    _, _, _, C0, C1, C2, D1, D2 = sizes
    shapes = [
        (noise, sizes.P * C0), (TAPS, TAPS, C1, C0), (TAPS, TAPS, C2, C1), (TAPS, TAPS, channels, C2),
        (TAPS, TAPS, channels, D1), (TAPS, TAPS, D1, D2), (sizes.P * D2, 1),
    ]  # fmt: skip
    convolutions = [stage.conv for stage in (*up, *down)]
    tensors = *G.parameters.values(), *G.statistics.values(), *D.parameters.values()
    if (
        (1, *D.input_shape) == sizes.picture(1)
        and channels in (1, 3)
        and 1 <= side <= LARGEST_SIDE
        and [layer.kernel.shape for layer in (dense_G, *convolutions, dense_D)] == shapes
        and [layer.stride for layer in convolutions] == [1, 2, 2, 2, 2]
        and all(stage.relu.slope > 0 for stage in (*up, *down))
        and all(tensor.dtype == np.float32 for tensor in tensors)
    ):
        return sizes
    return None


Shape = Callable[[Sizes, int], tuple[int, ...]]  # of a buffer, for networks and M fakes


def buffer(shape: Shape, dtype: Any = np.float32) -> Any:
    return field(metadata={"shape": shape, "dtype": dtype, "reuses": ""})


def reused(name: str) -> Any:
    """The memory of the buffer `name`, whose numbers are not needed any more."""
    return field(metadata={"reuses": name})


@dataclass
class Buffers:
    """Every array of a step, apart from weights and data; `planned` says how large each is.

    Those for D are made for two full batches; with a partial one their beginnings are used. A `d` before a
    name: its gradient. X, Y and W are a convolution's lifted large picture, small picture and kernel: 1 and 2
    are G's, 3 is D's second.
    """

    noise: Array = buffer(lambda s, M: (M, s.noise))
    # G's maps: h before batch norm, a after LeakyReLU.
    h0: Array = buffer(lambda s, M: (M, s.P * s.C0))
    a0: Array = buffer(lambda s, M: (s.P, M, s.C0))
    da0: Array = buffer(lambda s, M: (s.P, M, s.C0))
    dh0: Array = reused("h0")
    h1: Array = buffer(lambda s, M: (s.P, M, s.C1))
    a1: Array = buffer(lambda s, M: (s.P, M, s.C1))
    da1: Array = buffer(lambda s, M: (s.P, M, s.C1))
    dh1: Array = reused("h1")
    h2: Array = buffer(lambda s, M: (s.P, M, 4, s.C2))
    a2: Array = buffer(lambda s, M: (s.P, M, 4, s.C2))
    da2: Array = buffer(lambda s, M: (s.P, M, 4, s.C2))
    dh2: Array = reused("h2")
    mean0: Array = buffer(lambda s, M: (s.P * s.C0,))
    mean1: Array = buffer(lambda s, M: (s.C1,))
    mean2: Array = buffer(lambda s, M: (s.C2,))
    inverse_std0: Array = buffer(lambda s, M: (s.P * s.C0,))
    inverse_std1: Array = buffer(lambda s, M: (s.C1,))
    inverse_std2: Array = buffer(lambda s, M: (s.C2,))
    X1: Array = buffer(lambda s, M: (s.rows(1), M, s.C1))
    Y1: Array = buffer(lambda s, M: (s.rows(1), M, s.C0))
    W1: Array = buffer(lambda s, M: (s.rows(1), s.C1, s.C0))
    dX1: Array = reused("X1")
    dY1: Array = reused("Y1")
    dW1: Array = buffer(lambda s, M: (s.rows(1), s.C1, s.C0))
    X2: Array = buffer(lambda s, M: (s.rows(2), M, 4 * s.C2))
    Y2: Array = buffer(lambda s, M: (s.rows(2), M, s.C1))
    W2: Array = buffer(lambda s, M: (s.rows(2), 4 * s.C2, s.C1))
    dX2: Array = reused("X2")
    dY2: Array = reused("Y2")
    dW2: Array = buffer(lambda s, M: (s.rows(2), 4 * s.C2, s.C1))
    # The windows of G's last convolution, which `col2im` adds up; their gradient, from the pictures'; and
    # between those two, of D's first convolution on the fakes.
    columns_G: Array = buffer(lambda s, M: (s.P, M, 4, s.window))
    dcolumns_D: Array = reused("columns_G")
    dcolumns_G: Array = reused("columns_G")
    pictures: Array = buffer(lambda s, M: s.picture(2 * M))  # real ones, then fakes
    dfakes: Array = buffer(lambda s, M: s.picture(M))  # before tanh
    # D's: b is a convolution's result, and then, in place, what bias, LeakyReLU and dropout make of it.
    columns_D: Array = buffer(lambda s, M: (s.P, 2 * M, 4, s.window))
    b1: Array = buffer(lambda s, M: (s.P, 2 * M, 4, s.D1))
    db1: Array = buffer(lambda s, M: (s.P, 2 * M, 4, s.D1))
    b2: Array = buffer(lambda s, M: (s.P, 2 * M, s.D2))
    db2: Array = buffer(lambda s, M: (s.P, 2 * M, s.D2))
    mask1: Array = buffer(lambda s, M: (s.P, 2 * M, 4, s.D1), np.uint8)
    mask2: Array = buffer(lambda s, M: (s.P, 2 * M, s.D2), np.uint8)
    X3: Array = buffer(lambda s, M: (s.rows(2), 2 * M, 4 * s.D1))
    Y3: Array = buffer(lambda s, M: (s.rows(2), 2 * M, s.D2))
    W3: Array = buffer(lambda s, M: (s.rows(2), 4 * s.D1, s.D2))
    dX3: Array = buffer(lambda s, M: (s.rows(2), 2 * M, 4 * s.D1))
    dY3: Array = reused("Y3")
    dW3: Array = buffer(lambda s, M: (s.rows(2), 4 * s.D1, s.D2))
    logits: Array = buffer(lambda s, M: (2 * M,))
    slopes_D: Array = buffer(lambda s, M: (2 * M,))  # of D's loss by each logit
    slopes_G: Array = buffer(lambda s, M: (M,))  # of G's, by those of the fakes
    shares: Array = buffer(lambda s, M: (_most_shares(s, M),))  # of sums over rows, taken in two steps
    sums: Array = buffer(lambda s, M: (2, max(s.P * s.C0, s.C1, s.C2)))  # that several ranks add up
    measured: Array = buffer(lambda s, M: (MEASURED, 4))  # losses and scores of the last steps
    clock: Array = buffer(lambda s, M: (2,), np.int64)
    rate: Array = buffer(lambda s, M: (2,))
    trouble: Array = buffer(lambda s, M: (2,), np.int32)

    def arrays(self) -> dict[str, Array]:
        """All buffers, without those that have another's memory."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata["reuses"]}


def _most_shares(s: Sizes, M: int) -> int:
    """Of a map's rows, and of the kernels next to the pictures (`DCGAN._kernel_gradient`)."""
    normed = (M, s.P * s.C0), (s.P * M, s.C1), (4 * s.P * M, s.C2)
    activated = (8 * s.P * M, s.D1), (2 * s.P * M, s.D2)
    of_rows = (2 * chunks(rows, C)[0] * C for rows, C in (*normed, *activated))
    return max(*of_rows, *(4 * s.P * s.window * C for C in (s.C2, s.D1)))


Planned = dict[str, tuple[tuple[int, ...], Any]]  # shape and dtype, by the buffer's name


def planned(sizes: Sizes, batch: int) -> Planned:
    """Shape and dtype of every buffer that has memory of its own, for a batch of so many fakes."""
    facts = {f.name: f.metadata for f in fields(Buffers) if not f.metadata["reuses"]}
    return {name: (fact["shape"](sizes, batch), fact["dtype"]) for name, fact in facts.items()}


def allocated(xp: Any, plan: Planned, apart: bool = False) -> Buffers:
    """Buffers of zeros; with `apart` no two share memory."""
    # Zeros, not whatever was there: see `Convolution.down`.
    arrays = {name: xp.zeros(shape, dtype=dtype) for name, (shape, dtype) in plan.items()}
    for f in fields(Buffers):
        if name := f.metadata["reuses"]:
            arrays[f.name] = xp.zeros(*plan[name]) if apart else arrays[name]
    return Buffers(**arrays)


class ReuseCheck:
    """For tests: fails where a buffer is read after another one has taken its memory.

    It watches the reads and writes of kernels and products on buffers that were `allocated` apart, so that an
    address tells which buffer was meant.
    """

    def __init__(self, buffers: Buffers) -> None:
        self.memory = {f.name: f.metadata["reuses"] or f.name for f in fields(buffers)}
        self.starts = {name: getattr(buffers, name).data.ptr for name in self.memory}
        self.ends = {name: start + getattr(buffers, name).nbytes for name, start in self.starts.items()}
        self.holder: dict[str, str] = {}  # of each memory: the buffer that was written last

    def __call__(self, read: Iterable[Array], written: Iterable[Array]) -> None:
        """A kernel or product reads and writes these.

        Raises:
            RuntimeError: one that is read is gone.
        """
        for name in map(self._name, read):
            holder = self.holder.get(self.memory.get(name, ""), name)
            if holder != name:
                raise RuntimeError(f"{name} is read, but its memory holds {holder}")
        for name in map(self._name, written):
            self.holder[self.memory.get(name, "")] = name

    def _name(self, array: Array) -> str:
        at = array.data.ptr
        return next((name for name, start in self.starts.items() if start <= at < self.ends[name]), "")


def indexable(plan: Planned) -> bool:
    """Whether the kernels' counters reach every element of every array."""
    return all(prod(shape) < INDEXED for shape, _ in plan.values())


def refuse_uncountable(plan: Planned, sizes: Sizes, batch: int) -> None:
    """Raise UsageError unless the kernels' counters reach every element of every array."""
    if not indexable(plan):
        largest = max(prod(shape) for shape, _ in plan.values())
        smaller = f"--batch-size {max(1, batch * INDEXED // largest)} or less"
        remedy = smaller if indexable(planned(sizes, 1)) else "a smaller --width"
        raise UsageError(f"the fast engine cannot count this on a GPU. Use {remedy}.")


def memory(sizes: Sizes, batch: int, weights: int, images: int) -> int:
    """Bytes on the card, counted from the plan, for so many weights (of both networks) and images."""
    buffers = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in planned(sizes, batch).values())
    data = images * (prod(sizes.picture(1)) + 4)
    return buffers + 4 * 4 * weights + data + WORKSPACE


class Flat:
    """Tensors whose arrays are parts of one long array, each beginning at a multiple of 32 numbers."""

    def __init__(self, xp: Any, tensors: dict[str, Tensor]) -> None:
        self.places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        at = 0
        for name, tensor in tensors.items():
            size = prod(tensor.shape)
            self.places[name] = (slice(at, at + size), tensor.shape)
            at += -(-size // 32) * 32
        self.size, self.xp = at, xp

    def zeros(self, more: int = 0) -> tuple[Array, dict[str, Array]]:
        """A new long array, with so many numbers behind its parts, and these by name."""
        whole = self.xp.zeros(self.size + more, dtype=self.xp.float32)
        return whole, {name: whole[part].reshape(shape) for name, (part, shape) in self.places.items()}

    def adopt(self, tensors: dict[str, Tensor]) -> Array:
        """A new long array with the tensors' values, whose parts become the tensors' arrays."""
        whole, parts = self.zeros()
        for name, tensor in tensors.items():
            parts[name][...] = tensor.data
            tensor.data = parts[name]
        return whole
