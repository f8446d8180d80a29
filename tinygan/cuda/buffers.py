"""The card's memory, planned before any is taken: the networks' sizes, a step's buffers, the weights."""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.cuda.frequencies import TAPS, axis, lifted_rows
from tinygan.cuda.kernels import chunks
from tinygan.errors import UsageError
from tinygan.fast.dcgan import layers_of, odd_layer
from tinygan.layers import Network

STEPS_KEPT = 64  # steps whose losses the card keeps until they are read
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
        return lifted_rows(axis(self.side, stride).n)[1]


def sizes_of(G: Network, D: Network) -> Sizes | None:
    """The sizes of a DCGAN whose step can be computed here; None for other networks."""
    if odd_layer(G, D):
        return None
    dense_G, up, down, dense_D = layers_of(G, D)
    if (len(up), len(down)) != (3, 2):
        return None
    side, channels, noise = D.input_shape[0] // 4, D.input_shape[2], G.input_shape[0]
    convolutions = [stage.conv for stage in (*up, *down)]
    C0, C1, C2, D1, D2 = (layer.kernel.shape[3] for layer in convolutions)
    sizes = Sizes(side, channels, noise, C0, C1, C2, D1, D2)
    shapes = [
        (noise, sizes.P * C0), (TAPS, TAPS, C1, C0), (TAPS, TAPS, C2, C1), (TAPS, TAPS, channels, C2),
        (TAPS, TAPS, channels, D1), (TAPS, TAPS, D1, D2), (sizes.P * D2, 1),
    ]  # fmt: skip
    tensors = *G.parameters.values(), *G.statistics.values(), *D.parameters.values()
    if (
        (1, *D.input_shape) == sizes.picture(1)
        and channels in (1, 3)
        and 1 <= side <= LARGEST_SIDE
        and [layer.kernel.shape for layer in (dense_G, *convolutions, dense_D)] == shapes
        and [layer.stride for layer in convolutions] == [1, 2, 2, 2, 2]
        and all(tensor.dtype == np.float32 for tensor in tensors)
    ):
        return sizes
    return None


class Memory:
    """Hands out buffers of the card, or, without `xp`, only counts them."""

    def __init__(self, xp: Any = None) -> None:
        self.xp = xp
        self.bytes = self.largest = 0  # of all buffers together; numbers in the largest of them

    def __call__(self, *shape: int, dtype: Any = np.float32) -> Array:
        """A new buffer: of zeros, not whatever was there (see `Convolution.down`)."""
        self.bytes += prod(shape) * np.dtype(dtype).itemsize
        self.largest = max(self.largest, prod(shape))
        return self.xp.zeros(shape, dtype=dtype) if self.xp else None

    def again(self, buffer: Array) -> Array:
        """The memory of a buffer whose numbers are not needed any more, for others of its shape."""
        return buffer


# In what follows a `d` before a name means the gradient.


class NormBuffers:
    """Around a batch norm of G and its LeakyReLU: C channels; `shape`: of activations."""

    def __init__(self, take: Memory, C: int, *shape: int) -> None:
        self.h = take(prod(shape) // C, C)
        self.dh = take.again(self.h)
        self.a, self.da = take(*shape), take(*shape)  # activations
        self.mean, self.inverse_std = take(C), take(C)


class LiftedBuffers:
    """What a convolution lifts: a large picture of C channels, a small one of F, its kernel (T examples)."""

    def __init__(self, take: Memory, rows: int, T: int, C: int, F: int, again: bool = True) -> None:
        """`again`: dX takes the memory of X (for a transposed convolution, X is only its result)."""
        self.X, self.Y, self.W = take(rows, T, C), take(rows, T, F), take(rows, C, F)
        self.dX = take.again(self.X) if again else take(rows, T, C)
        self.dY, self.dW = take.again(self.Y), take(rows, C, F)


class ActivationBuffers:
    """After a convolution of D: its result, which bias, LeakyReLU and dropout change in place."""

    def __init__(self, take: Memory, *shape: int) -> None:
        self.b, self.db, self.mask = take(*shape), take(*shape), take(*shape, dtype=np.uint8)


class Buffers:
    """Every array of a step, apart from weights and data, for `M` fakes.

    Those for D are made for two full batches, T = 2 M; with a partial one their beginnings are used.
    """

    def __init__(self, take: Memory, s: Sizes, M: int) -> None:
        T, P, window = 2 * M, s.P, s.window
        self.noise = take(M, s.noise)
        # G's three maps, and between them two convolutions by frequencies.
        self.norm0 = NormBuffers(take, P * s.C0, P, M, s.C0)
        self.up1 = LiftedBuffers(take, s.rows(1), M, s.C1, s.C0)
        self.norm1 = NormBuffers(take, s.C1, P, M, s.C1)
        self.up2 = LiftedBuffers(take, s.rows(2), M, 4 * s.C2, s.C1)
        self.norm2 = NormBuffers(take, s.C2, P, M, 4, s.C2)
        # The windows that G's last convolution adds up to pictures; then those under D's first kernel,
        # when the fakes' gradient leaves D; then those of that gradient.
        self.windows_G = take(P, M, 4, window)
        self.dwindows_D = take.again(self.windows_G)
        self.dwindows_G = take.again(self.windows_G)
        self.pictures = take(*s.picture(T))  # real ones, then fakes
        self.dfakes = take(*s.picture(M))  # before tanh
        # D.
        self.windows_D = take(P, T, 4, window)
        self.activation1 = ActivationBuffers(take, P, T, 4, s.D1)
        self.down2 = LiftedBuffers(take, s.rows(2), T, 4 * s.D1, s.D2, again=False)
        self.activation2 = ActivationBuffers(take, P, T, 1, s.D2)
        self.logits, self.slopes_D = take(T), take(T)  # slopes: of the losses, by each logit
        self.slopes_G = take(M)
        # Sums over rows are taken in shares: of a map, or of a kernel next to the pictures.
        rows = (M, P * s.C0), (P * M, s.C1), (4 * P * M, s.C2), (4 * P * T, s.D1), (P * T, s.D2)
        of_rows = [2 * chunks(*shape)[0] * shape[1] for shape in rows]
        self.shares = take(max(*of_rows, *(4 * P * window * C for C in (s.C2, s.D1))))
        self.sums = take(2, max(P * s.C0, s.C1, s.C2))  # that several ranks add up
        self.measured = take(STEPS_KEPT, 4)  # losses and scores of the last steps
        self.clock, self.rate = take(2, dtype=np.int64), take(2)  # see `tick`
        self.trouble = take(2, dtype=np.int32)  # see `check_finite`


def refuse_uncountable(sizes: Sizes, batch: int) -> None:
    """Raise UsageError unless the kernels' counters reach every element of every array."""
    largest = counted(sizes, batch).largest
    if largest >= INDEXED:
        smaller = f"--batch-size {max(1, batch * INDEXED // largest)} or less"
        remedy = smaller if counted(sizes, 1).largest < INDEXED else "a smaller --width"
        raise UsageError(f"the fast engine cannot count this on a GPU. Use {remedy}.")


def counted(sizes: Sizes, batch: int) -> Memory:
    """The memory of a step, without taking any."""
    memory = Memory()
    Buffers(memory, sizes, batch)
    return memory


class Flat:
    """Tensors whose arrays become parts of a long one, `whole`, each from a multiple of 32 numbers on."""

    def __init__(self, xp: Any, tensors: dict[str, Tensor]) -> None:
        self.places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        at = 0
        for name, tensor in tensors.items():
            size = prod(tensor.shape)
            self.places[name] = (slice(at, at + size), tensor.shape)
            at += -(-size // 32) * 32
        self.size, self.xp = at, xp
        self.whole, parts = self.zeros()
        for name, tensor in tensors.items():
            parts[name][...] = tensor.data
            tensor.data = parts[name]

    def zeros(self, more: int = 0) -> tuple[Array, dict[str, Array]]:
        """A new long array, with so many numbers behind its parts, and these by name."""
        whole = self.xp.zeros(self.size + more, dtype=self.xp.float32)
        return whole, {name: whole[part].reshape(shape) for name, (part, shape) in self.places.items()}
