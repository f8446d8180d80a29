"""Layers: an op together with the parameters it learns.

First the public functions, which take tensors or arrays and work on their own; then the layers
of the two networks, each a function with its parameters; then `Network`, a list of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from tinygan.autograd import Tensor, apply
from tinygan.backend import Backend
from tinygan.errors import ShapeError, UsageError
from tinygan.ops import Array
from tinygan.ops.batchnorm import moments
from tinygan.ops.conv import Padding, Stride, conv2d_pads, conv2d_transpose_size, stride_pair
from tinygan.rng import Stream, mask_rate

Shape = tuple[int, ...]
DropoutSource = Stream | Array

# Functions. Shapes, formulas and errors stand in tinygan/ops, at the op of the same name.


def dense(x: Tensor | Array, w: Tensor | Array, b: Tensor | Array | None = None) -> Tensor:
    """y = x w + b: x (N, C), w (C, F), b (F,), y (N, F). See `ops.dense`."""
    return apply("dense", x, w, b)


def conv2d(
    x: Tensor | Array,
    w: Tensor | Array,
    b: Tensor | Array | None = None,
    stride: Stride = 1,
    padding: Padding = "same",
) -> Tensor:
    """Convolution: x (N, H, W, C), w (KH, KW, C, F), b (F,), y (N, OH, OW, F). See `ops.conv`."""
    return apply("conv2d", x, w, b, stride=stride, padding=padding)


def conv2d_transpose(
    x: Tensor | Array,
    w: Tensor | Array,
    b: Tensor | Array | None = None,
    stride: Stride = 1,
    padding: Padding = "same",
) -> Tensor:
    """Transposed convolution: x (N, H, W, C), w (KH, KW, F, C), b (F,), y (N, OH, OW, F). See `ops.conv`."""
    return apply("conv2d_transpose", x, w, b, stride=stride, padding=padding)


def batch_norm(
    x: Tensor | Array,
    gamma: Tensor | Array,
    beta: Tensor | Array,
    statistics: tuple[Array, Array] | None = None,
    eps: float = 1e-3,
) -> Tensor:
    """Batch normalisation with x's own moments, or with given `statistics` (mean, variance).

    Shapes: x (N, C) or (N, H, W, C); gamma, beta, mean, variance (C,). See `ops.batchnorm`.
    """
    if statistics is not None:
        mean, variance = statistics
        return apply("batch_norm", x, gamma, beta, mean=mean, variance=variance, of_batch=False, eps=eps)
    return _batch_norm_of_batch(x, gamma, beta, eps)[0]


def _batch_norm_of_batch(
    x: Tensor | Array, gamma: Tensor | Array, beta: Tensor | Array, eps: float
) -> tuple[Tensor, Array, Array]:
    tensor, scale = (a if isinstance(a, Tensor) else Tensor(a) for a in (x, gamma))
    ranks = scale.backend.ranks  # those of the layer
    mean, variance = moments(tensor.backend.xp, tensor.data, ranks)
    batch = {"mean": mean, "variance": variance, "of_batch": True, "ranks": ranks}
    return apply("batch_norm", x, gamma, beta, eps=eps, **batch), mean, variance


def leaky_relu(x: Tensor | Array, slope: float = 0.3) -> Tensor:
    """x where positive, slope x elsewhere; any shape. See `ops.activation`."""
    return apply("leaky_relu", x, slope=slope)


def tanh(x: Tensor | Array) -> Tensor:
    """tanh(x), any shape. See `ops.activation`."""
    return apply("tanh", x)


def dropout(x: Tensor | Array, rate: float, source: DropoutSource) -> Tensor:
    """Silence elements of x with probability `rate` and scale the rest by 1 / (1 - rate).

    `source` is the mask itself (x's shape, 1 = keep) or a random stream to draw it from.

    Raises:
        UsageError: rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise UsageError(f"dropout rate {rate} is not in [0, 1).")
    if isinstance(source, Stream):
        backend = (x if isinstance(x, Tensor) else Tensor(x)).backend
        source, rate = backend.array(source.keep(x.shape, rate)), mask_rate(rate)
    return apply("dropout", x, mask=source, rate=rate)


def reshape(x: Tensor | Array, shape: Shape) -> Tensor:
    """The same numbers in row-major order under another shape."""
    return apply("reshape", x, shape=shape)


def bce_with_logits(logits: Tensor | Array, target: float | Array, count: int | None = None) -> Tensor:
    """Mean binary cross-entropy of logits against targets in [0, 1]; a scalar. See `ops.loss`."""
    return apply("bce_with_logits", logits, target=target, count=count)


# Layers. Each names the shape it makes of a given one, without the leading N.


@dataclass
class New:
    """Makes new parameters: where their random numbers come from, their dtype, their device.

    Each random parameter takes the next branch of `stream`, so the order of layers decides.
    """

    stream: Stream
    backend: Backend
    dtype: Any = np.float32
    _branches: Iterator[Stream] = field(init=False)

    def __post_init__(self) -> None:
        self._branches = self.stream.split()

    def glorot(self, shape: Shape, fan_in: int, fan_out: int) -> Tensor:
        """Uniform in +-sqrt(6 / (fan_in + fan_out)), which keeps the spread of signals, forwards and
        backwards, about the same from layer to layer (Glorot & Bengio 2010, equation 16)."""
        limit = sqrt(6 / (fan_in + fan_out))
        values = next(self._branches).uniform(shape, limit).astype(self.dtype)
        return Tensor(self.backend.array(values), self.backend)

    def full(self, shape: Shape, value: float) -> Tensor:
        return Tensor(self.backend.xp.full(shape, value, dtype=self.dtype), self.backend)


class Layer:
    """What the layers share. A layer without parameters need only say how it is called."""

    name = "layer"

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What training changes, in a fixed order."""
        return {}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """What training gathers without a gradient."""
        return {}

    def output_shape(self, shape: Shape) -> Shape:
        """The shape this layer makes of `shape`, both without the leading N."""
        return shape

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        raise NotImplementedError


class Linear(Layer):
    """What `Dense` and the convolutions share: a kernel of weights and, perhaps, a bias to a channel."""

    kernel: Tensor
    bias: Tensor | None

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"kernel": self.kernel} | ({"bias": self.bias} if self.bias else {})


class Dense(Linear):
    """y = x w + b, from `inputs` numbers to `outputs` numbers."""

    name = "dense"

    def __init__(self, new: New, inputs: int, outputs: int, bias: bool = True) -> None:
        self.kernel = new.glorot((inputs, outputs), inputs, outputs)
        self.bias = new.full((outputs,), 0) if bias else None

    def output_shape(self, shape: Shape) -> Shape:
        return (self.kernel.shape[1],)

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return dense(x, self.kernel, self.bias)


class Conv2D(Linear):
    """A convolution from `channels` to `filters` channels; stride 2 halves the picture's sides."""

    name = "conv"

    def __init__(
        self, new: New, channels: int, filters: int, kernel: int, stride: int, bias: bool = True
    ) -> None:
        area = kernel * kernel  # a unit sees `area` pixels of every channel
        shape = (kernel, kernel, channels, filters)
        self.kernel = new.glorot(shape, area * channels, area * filters)
        self.bias = new.full((filters,), 0) if bias else None
        self.stride = stride

    def output_shape(self, shape: Shape) -> Shape:
        H, W, _ = shape
        S, (KH, KW, _, F) = self.stride, self.kernel.shape
        (top, bottom), (left, right) = conv2d_pads((H, W), (KH, KW), stride_pair(S), "same")
        return (H + top + bottom - KH) // S + 1, (W + left + right - KW) // S + 1, F

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return conv2d(x, self.kernel, self.bias, self.stride, "same")


class Conv2DTranspose(Linear):
    """A transposed convolution from `channels` to `filters` channels; stride 2 doubles the sides."""

    name = "conv_transpose"

    def __init__(
        self, new: New, channels: int, filters: int, kernel: int, stride: int, bias: bool = True
    ) -> None:
        area = kernel * kernel
        shape = (kernel, kernel, filters, channels)
        self.kernel = new.glorot(shape, area * channels, area * filters)
        self.bias = new.full((filters,), 0) if bias else None
        self.stride = stride

    def output_shape(self, shape: Shape) -> Shape:
        H, W, _ = shape
        KH, KW, F, _ = self.kernel.shape
        size, _ = conv2d_transpose_size((H, W), (KH, KW), stride_pair(self.stride), "same")
        return (*size, F)

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return conv2d_transpose(x, self.kernel, self.bias, self.stride, "same")


class BatchNorm(Layer):
    """Batch normalisation that remembers what it saw: a running mean and variance for later use.

    While training, each batch is normalised with its own moments, and the running values move
    1 % of the way towards them: running = momentum running + (1 - momentum) batch. Afterwards the
    running values serve, so that a picture no longer depends on which others share its batch.
    """

    name = "batchnorm"

    def __init__(self, new: New, channels: int, momentum: float = 0.99, eps: float = 1e-3) -> None:
        self.gamma = new.full((channels,), 1)
        self.beta = new.full((channels,), 0)
        self.running_mean = new.full((channels,), 0)
        self.running_variance = new.full((channels,), 1)
        self.momentum = momentum
        self.eps = eps

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {"gamma": self.gamma, "beta": self.beta}

    @property
    def statistics(self) -> dict[str, Tensor]:
        return {"running_mean": self.running_mean, "running_variance": self.running_variance}

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        if not training:
            statistics = (self.running_mean.data, self.running_variance.data)
            return batch_norm(x, self.gamma, self.beta, statistics, self.eps)
        y, mean, variance = _batch_norm_of_batch(x, self.gamma, self.beta, self.eps)
        for running, batch in ((self.running_mean, mean), (self.running_variance, variance)):
            running.data = self.momentum * running.data + (1 - self.momentum) * batch
        return y


class LeakyReLU(Layer):
    name = "leaky_relu"

    def __init__(self, slope: float = 0.3) -> None:
        self.slope = slope

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return leaky_relu(x, self.slope)


class Tanh(Layer):
    name = "tanh"

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return tanh(x)


class Dropout(Layer):
    """While training, takes its mask from the next of the network's dropout sources; else does nothing."""

    name = "dropout"

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        if training:
            source = next(masks, None)
            if source is None:
                raise UsageError("too few dropout sources. Give one mask or stream for each dropout layer.")
            return dropout(x, self.rate, source)
        return x if isinstance(x, Tensor) else Tensor(x)


class Reshape(Layer):
    """Each example under another shape; (7, 7, 256), say, from 12,544 numbers, or back."""

    name = "reshape"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def output_shape(self, shape: Shape) -> Shape:
        return self.shape

    def __call__(self, x: Tensor | Array, training: bool, masks: Iterator[DropoutSource]) -> Tensor:
        return reshape(x, (x.shape[0], *self.shape))


class Network:
    """Layers one after the other, each with the shape it must make (asserted, without the leading N)."""

    def __init__(self, name: str, input_shape: Shape, layers: Sequence[tuple[Layer, Shape]]) -> None:
        self.name = name
        self.input_shape = input_shape
        self.layers: dict[str, Layer] = {}
        self.shapes: dict[str, Shape] = {}
        shape = input_shape
        for number, (layer, expected) in enumerate(layers):
            shape = layer.output_shape(shape)
            assert shape == expected, f"{name}, layer {number} ({layer.name}): {shape}, not {expected}"
            self.layers[f"{number:02}_{layer.name}"] = layer
            self.shapes[f"{number:02}_{layer.name}"] = shape

    @property
    def parameters(self) -> dict[str, Tensor]:
        """What training changes: ``00_dense/kernel`` and so on, in a fixed order."""
        return {f"{at}/{key}": p for at, layer in self.layers.items() for key, p in layer.parameters.items()}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Batch normalisation's running values, named likewise."""
        return {f"{at}/{key}": s for at, layer in self.layers.items() for key, s in layer.statistics.items()}

    @property
    def backend(self) -> Backend:
        return next(iter(self.parameters.values())).backend

    def __call__(
        self, x: Tensor | Array, training: bool = False, dropout: Iterable[DropoutSource] = ()
    ) -> Tensor:
        """Run the layers on x (N, *input_shape); when training, the i-th dropout layer uses dropout[i].

        Raises:
            ShapeError: x does not have the input shape.
        """
        if tuple(x.shape[1:]) != self.input_shape:
            needed = ", ".join(map(str, self.input_shape))
            raise ShapeError(f"the {self.name} got {tuple(x.shape)}. It needs (N, {needed}).")
        masks = iter(dropout)
        for layer in self.layers.values():
            x = layer(x, training, masks)
        return x  # pyright: ignore[reportReturnType]
