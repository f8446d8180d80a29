"""What the step needs to know about the networks, and the card's memory, planned before any is taken."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, cast

import numpy as np

from tinygan import layers
from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.cuda.blas import WORKSPACE
from tinygan.cuda.frequencies import axis, lifted_rows
from tinygan.cuda.kernels import chunks
from tinygan.fast.gan import kinds_of, ordinary

TAPS = 5
MEASURED = 64  # steps whose losses the card keeps until they are read
INDEXED = (1 << 31) - 4096  # numbers that a C int counts, and a block's threads more
LARGEST_SIDE = 32  # of the maps that are transformed whole; the matrices grow with its fourth power


class Sizes(NamedTuple):
    """What the step has to know about two networks: the seed's numbers in brackets."""

    side: int  # a quarter of the pictures' side (7)
    channels: int  # of the pictures (1)
    noise: int  # numbers of a noise vector (100)
    G: tuple[int, int, int]  # channels of G's maps (256, 128, 64)
    D: tuple[int, int]  # of D's (64, 128)

    @property
    def places(self) -> int:
        return self.side * self.side

    @property
    def window(self) -> int:
        """Numbers under a kernel on the pictures."""
        return TAPS * TAPS * self.channels


def sizes_of(G: layers.Network, D: layers.Network) -> Sizes | None:
    """The sizes of a DCGAN whose step can be computed here; None for other networks."""
    if not (ordinary(G) and ordinary(D)):
        return None
    g, d = list(G.layers.values()), list(D.layers.values())
    if (list(map(type, g)), list(map(type, d))) != kinds_of(inner=2, stages=2):
        return None
    first, *others = [cast(Any, layer).kernel.shape for layer in (*g, *d) if isinstance(layer, layers.Linear)]
    up1, up2, up3, down1, down2, last = others
    H, W, channels = D.input_shape
    side = H // 4
    sizes = Sizes(side, channels, G.input_shape[0], (up1[3], up1[2], up2[2]), (down1[3], down2[3]))
    kernels = [
        (sizes.noise, sizes.places * sizes.G[0]),
        *((TAPS, TAPS, *pair) for pair in (
            (sizes.G[1], sizes.G[0]), (sizes.G[2], sizes.G[1]), (channels, sizes.G[2]),
            (channels, sizes.D[0]), (sizes.D[0], sizes.D[1]),
        )),
        (sizes.places * sizes.D[1], 1),
    ]  # fmt: skip
    convolutions = layers.Conv2D, layers.Conv2DTranspose
    strides = [layer.stride for layer in (*g, *d) if isinstance(layer, convolutions)]
    biases = [layer.bias is not None for layer in (*g, *d) if isinstance(layer, layers.Linear)]
    tensors = (G.parameters | G.statistics).values(), D.parameters.values()
    if (
        H == W == 4 * side
        and channels in (1, 3)
        and 1 <= side <= LARGEST_SIDE
        and [first, up1, up2, up3, down1, down2, last] == kernels
        and strides == [1, 2, 2, 2, 2]
        and biases == [False] * 4 + [True] * 3
        and all(layer.slope > 0 for layer in (*g, *d) if isinstance(layer, layers.LeakyReLU))
        and all(0 <= layer.rate < 1 for layer in d if isinstance(layer, layers.Dropout))
        and all(tensor.dtype == np.float32 for group in tensors for tensor in group)
    ):
        return sizes
    return None


def buffers(sizes: Sizes, batch: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The plan of the card's memory, apart from weights and data: shape and dtype of every array.

    Arrays for D are made for two full batches; with a partial one their beginnings are used. Arrays
    are used again where their first use is over: for G's maps h becomes their gradient, X and Y of a
    transposed convolution become those of its backward pass.
    """
    P, M, T, f = sizes.places, batch, 2 * batch, np.float32
    (C0, C1, C2), (D1, D2) = sizes.G, sizes.D
    maps: dict[str, tuple[int, ...]] = {
        "noise": (M, sizes.noise),
        "h0": (M, P * C0), "a0": (P, M, C0), "da0": (P, M, C0),
        "h1": (P, M, C1), "a1": (P, M, C1), "da1": (P, M, C1),
        "h2": (P, M, 4, C2), "a2": (P, M, 4, C2), "da2": (P, M, 4, C2),
        "columns": (P, M, 4, sizes.window),
        "pictures": (T, 4 * sizes.side, 4 * sizes.side, sizes.channels),
        "gradient": (M, 4 * sizes.side, 4 * sizes.side, sizes.channels),
        "columns_D": (P, T, 4, sizes.window),
        "b1": (P, T, 4, D1), "g1": (P, T, 4, D1),
        "b2": (P, T, D2), "g2": (P, T, D2),
        "logits": (T,), "slopes_D": (T,), "slopes_G": (M,),
    }  # fmt: skip
    for number, (examples, C, F, stride) in enumerate(((M, C1, C0, 1), (M, C2, C1, 2), (T, D1, D2, 2)), 1):
        _, rows = lifted_rows(axis(sizes.side, TAPS, stride).n)
        maps[f"X{number}"] = (rows, examples, stride * stride * C)
        maps[f"Y{number}"] = (rows, examples, F)
        maps[f"W{number}"] = (rows, stride * stride * C, F)
        maps[f"dW{number}"] = maps[f"W{number}"]
    maps["dX3"] = maps["X3"]
    widths = (("0", P * C0, M), ("1", C1, P * M), ("2", C2, 4 * P * M))
    maps["sums"] = (2, max(C for _, C, _ in widths))  # that several ranks add up
    maps |= {f"{kind}{layer}": (C,) for kind in ("mean", "inverse_std") for layer, C, _ in widths}
    uses = [(rows, C) for _, C, rows in widths] + [(4 * P * T, D1), (P * T, D2)]
    # Shares of sums: of a map's rows, and of the kernels next to the pictures (`Game._kernel_gradient`).
    maps["shares"] = (
        max(
            *(2 * chunks(rows, C)[0] * C for rows, C in uses),
            *(4 * P * sizes.window * C for C in (C2, D1)),
        ),
    )
    plan: dict[str, tuple[tuple[int, ...], Any]] = {name: (shape, f) for name, shape in maps.items()}
    plan |= {"mask1": ((P, T, 4, D1), np.uint8), "mask2": ((P, T, D2), np.uint8)}
    return plan | {
        "measured": ((MEASURED, 4), f),
        "clock": ((2,), np.int64),
        "rate": ((2,), f),
        "trouble": ((2,), np.int32),
    }


def indexable(plan: dict[str, tuple[tuple[int, ...], Any]]) -> bool:
    """Whether the kernels' counters reach every element of every array."""
    return all(prod(shape) < INDEXED for shape, _ in plan.values())


def memory(sizes: Sizes, batch: int, weights: int, images: int) -> int:
    """Bytes on the card, counted from the plan, for so many weights (of both networks) and images."""
    planned = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in buffers(sizes, batch).values())
    data = images * (16 * sizes.places * sizes.channels + 4)
    return planned + 4 * 4 * weights + data + WORKSPACE


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
