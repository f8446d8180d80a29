"""The card's memory, planned before it is allocated: network sizes, a step's buffers, the weights."""

from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.cuda.frequencies import TAPS, axis, constants
from tinygan.cuda.kernels import ALONG, BLOCKS, QUADS
from tinygan.errors import UsageError
from tinygan.fast.dcgan import layers_of, odd_layer
from tinygan.layers import Network

STEPS_KEPT = 64  # steps whose losses the card keeps until they are read
INDEXED = (1 << 31) - 4096  # the largest array: a C int must count it, and the excess of a block's threads
LARGEST_SIDE = 32  # of a map that is transformed whole: the matrices grow with its fourth power


class Sizes(NamedTuple):
    """The sizes of two networks that the step needs; the tutorial's in brackets."""

    side: int  # a quarter of the pictures' side (7)
    channels: int  # of the pictures (1)
    noise: int  # length of a noise vector (100)
    C0: int  # channels of G's maps (256, 128, 64)
    C1: int
    C2: int
    D1: int  # channels of D's maps (64, 128)
    D2: int

    @property
    def P(self) -> int:  # noqa: N802
        """Places, that is, pixels of the smallest map."""
        return self.side * self.side

    def picture(self, count: int) -> tuple[int, int, int, int]:
        return count, 4 * self.side, 4 * self.side, self.channels

    @property
    def wide(self) -> int:
        """The number of neighbouring channels that a thread can process at once."""
        return 1 if any(C % 4 for C in self[3:]) else 4

    def R(self, stride: int) -> int:  # noqa: N802
        """The pairs of frequencies of a convolution of this stride between the smallest map and the next."""
        return constants(axis(self.side, stride))[1].shape[1]


def sizes_of(G: Network, D: Network) -> Sizes | None:
    """The sizes of a DCGAN whose step this package can compute; None for other networks."""
    if odd_layer(G, D):
        return None
    dense_G, up, down, dense_D = layers_of(G, D)
    if (len(up), len(down)) != (3, 2):
        return None
    convolutions = [stage.conv for stage in (*up, *down)]
    widths = (layer.kernel.shape[3] for layer in convolutions)
    s = Sizes(D.input_shape[0] // 4, D.input_shape[2], G.input_shape[0], *widths)
    pairs = (s.C1, s.C0), (s.C2, s.C1), (s.channels, s.C2), (s.channels, s.D1), (s.D1, s.D2)
    shapes = [(s.noise, s.P * s.C0), *((TAPS, TAPS, *pair) for pair in pairs), (s.P * s.D2, 1)]
    tensors = *G.parameters.values(), *G.statistics.values(), *D.parameters.values()
    fits = (
        (1, *D.input_shape) == s.picture(1)
        and s.channels in (1, 3)
        and 1 <= s.side <= LARGEST_SIDE
        and [layer.kernel.shape for layer in (dense_G, *convolutions, dense_D)] == shapes
        and [layer.stride for layer in convolutions] == [1, 2, 2, 2, 2]
        and all(tensor.dtype == np.float32 for tensor in tensors)
    )
    return s if fits else None


class Memory:
    """Allocates buffers on the card or, without `xp`, only counts them."""

    def __init__(self, xp: Any = None) -> None:
        self.xp = xp
        self.bytes = self.largest = 0  # bytes of all buffers; numbers in the largest one

    def __call__(self, *shape: int, dtype: Any = np.float32) -> Array:
        """A new buffer, filled with zeros."""
        self.bytes += prod(shape) * np.dtype(dtype).itemsize
        self.largest = max(self.largest, prod(shape))
        return self.xp.zeros(shape, dtype=dtype) if self.xp else np.broadcast_to(np.zeros(1, dtype), shape)

    def again(self, buffer: Array, dtype: Any = None) -> Array:
        """Reuse the memory of a buffer that is no longer needed, for one of the same shape and dtype."""
        return buffer if dtype in (None, buffer.dtype) else self(*buffer.shape, dtype=dtype)


# Below, a `d` before a name means the gradient.
class NormBuffers:
    """A batch norm of G and its LeakyReLU: C channels; activations have the `shape` (M, places, ...)."""

    def __init__(self, take: Memory, lifted: Any, C: int, *shape: int, stored: bool = True) -> None:
        """Unless `stored`, activations have no memory and are computed when they are needed."""
        self.h, inner = take(*shape), shape if stored else (0,)
        self.dh = take.again(self.h, lifted)
        self.a, self.da = take(*inner, dtype=lifted), take(*inner)
        self.known = take(4, C)  # see `learn` in kernels.cu


class LiftedBuffers:
    """What a convolution lifts, for T examples: a large picture (C channels), a small one (F), the kernel."""

    def __init__(self, take: Memory, lifted: Any, R: int, T: int, C: int, F: int, again: bool = True):
        """`again`: dX reuses the memory of X (in a transposed convolution X is only the result)."""
        shapes = (T, 2 * R, C), (T, 2 * R, F), (R, 2 * C, 2 * F)
        self.X, self.Y, self.W = (take(*shape, dtype=lifted) for shape in shapes)
        self.dX = take.again(self.X) if again else take(*shapes[0], dtype=lifted)
        self.dY, self.dW = take.again(self.Y), take(R, 2 * C, 2 * F)


class Buffers:
    """Every array of a step except weights and data, for `M` fakes and up to N real pictures, T = N + M.
    A partial batch uses only the beginning of D's. `lifted`: the dtype of lifted arrays."""

    def __init__(self, take: Memory, s: Sizes, M: int, N: int, lifted: Any = np.float32) -> None:
        T, P = N + M, s.P
        self.noise = take(M, s.noise)
        self.noise_lifted = self.noise if lifted == np.float32 else take(M, s.noise, dtype=lifted)
        # G's three maps, with two convolutions by frequencies between them.
        self.norm0 = NormBuffers(take, lifted, P * s.C0, M, P, s.C0)
        self.up1 = LiftedBuffers(take, lifted, s.R(1), M, s.C1, s.C0)
        self.norm1 = NormBuffers(take, lifted, s.C1, M, P, s.C1)
        self.up2 = LiftedBuffers(take, lifted, s.R(2), M, 4 * s.C2, s.C1)
        self.norm2 = NormBuffers(take, lifted, s.C2, M, P, 4, s.C2, stored=False)
        self.pictures = take(*s.picture(T))  # real ones, then fakes
        self.dfakes = take(*s.picture(M))  # before tanh
        # D's maps: the first activated, the second before its bias. A mask has one bit per element.
        self.a1, self.h2 = take(T, P, 4, s.D1, dtype=lifted), take(T, P, s.D2)
        self.da1, self.dh2 = take.again(self.a1, np.float32), take.again(self.h2, lifted)
        self.codes = take(T, P, 4, s.D1 // s.wide, dtype=np.uint8)  # see `activate`
        self.mask1, self.mask2 = (take(T, -(-P * C // 16), dtype=np.uint16) for C in (4 * s.D1, s.D2))
        self.down2 = LiftedBuffers(take, lifted, s.R(2), T, 4 * s.D1, s.D2, again=False)
        self.logits, self.slopes, self.ratios = take(T), take(T), take(M)  # see `losses`
        # Sums are taken in shares, by BLOCKS blocks or by one block for all rows of its columns.
        most, window = max(P * s.C0, s.C1, s.C2, P * s.D2), TAPS * TAPS * s.channels
        two = 2 * max(BLOCKS * s.wide * ALONG, most)
        windows = (window + 2) * max(BLOCKS * s.wide * QUADS, s.C2, s.D1)
        self.shares, self.sums = take(max(two, windows)), take(2 * most)
        self.arrived = take(1 + most, dtype=np.uint32)  # blocks per column that are done; see `last_of`
        self.measured = take(STEPS_KEPT, 4)  # losses and scores of the last steps
        self.clock, self.rate = take(2, dtype=np.int64), take(2)  # see `begin`
        self.trouble = take(2, dtype=np.int32)  # see `check_finite`


def refuse_uncountable(sizes: Sizes, batch: int) -> None:
    """Check that the kernels' counters reach every element of every array. Raises: UsageError if not."""
    largest = counted(sizes, batch).largest
    if largest >= INDEXED:
        smaller = f"--batch-size {max(1, batch * INDEXED // largest)} or less"
        remedy = smaller if counted(sizes, 1).largest < INDEXED else "a smaller --width"
        raise UsageError(f"an array is too large for the fast engine's 32-bit counters. Use {remedy}.")


def counted(sizes: Sizes, batch: int) -> Memory:
    """The memory that a step needs, without allocating any."""
    memory = Memory()
    Buffers(memory, sizes, batch, batch)
    return memory


class Flat:
    """Moves the arrays of tensors into one long array, `whole`; each starts at a multiple of 32 numbers."""

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
        """A new long array of zeros, with `more` numbers after its parts; and its parts by name."""
        whole = self.xp.zeros(self.size + more, dtype=self.xp.float32)
        return whole, {name: whole[part].reshape(shape) for name, (part, shape) in self.places.items()}
