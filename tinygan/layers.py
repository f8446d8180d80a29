"""Layers: an op together with the parameters it learns. A `Network` is a list of layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import prod, sqrt
from typing import Any

import numpy as np

from tinygan.arrays import CPU, Array, Backend
from tinygan.autograd import Tensor, no_grad
from tinygan.errors import ShapeError, UsageError
from tinygan.ops.activation import leaky_relu, tanh
from tinygan.ops.batchnorm import batch_norm, moments
from tinygan.ops.conv import conv2d, conv2d_transpose
from tinygan.ops.dense import dense, reshape
from tinygan.ops.dropout import dropout
from tinygan.rng import Stream, mask_rate

Shape = tuple[int, ...]
Mask = Stream | Array  # a dropout mask: an array like x (0: drop), or a stream to draw it from


class Init:
    """Creates initial parameters. Each kernel draws from a separate branch of `stream`."""

    def __init__(self, stream: Stream, backend: Backend, dtype: Any = np.float32) -> None:
        self.branches, self.backend, self.dtype = stream.split(), backend, dtype

    def glorot(self, shape: Shape) -> Tensor:
        """A kernel, uniform in +-sqrt(6 / (fan-in + fan-out)). So variances stay about the same from layer to
        layer, of activations forward and of gradients backward (Glorot & Bengio 2010, equation 16)."""
        area = prod(shape[:-2])  # KH KW; 1 for a dense layer. fan-in = area C, fan-out = area F
        limit = sqrt(6 / (area * shape[-2] + area * shape[-1]))  # a sum: also right for (..., F, C)
        values = next(self.branches).generator().uniform(-limit, limit, shape).astype(self.dtype)
        return Tensor(self.backend.array(values), self.backend)

    def full(self, shape: Shape, value: float) -> Tensor:
        return Tensor(self.backend.xp.full(shape, value, dtype=self.dtype), self.backend)


class Mode:
    """How a network runs: in training or inference, and the masks for its dropout layers, in order."""

    def __init__(self, training: bool = False, masks: Iterable[Mask] = ()) -> None:
        self.training, self.masks = training, iter(masks)


class Layer:
    """Base class. The optimiser updates `parameters`; forward passes in training update `statistics`."""

    name = "layer"
    parameters: dict[str, Tensor] = {}
    statistics: dict[str, Tensor] = {}

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        raise NotImplementedError


class Linear(Layer):
    """Base of `Dense` and the convolutions: a kernel of weights and, optionally, a bias for each output."""

    def __init__(self, init: Init, shape: Shape, filters: int, bias: bool) -> None:
        self.kernel = init.glorot(shape)
        self.bias = init.full((filters,), 0) if bias else None
        self.parameters = {"kernel": self.kernel} | ({"bias": self.bias} if self.bias else {})


class Dense(Linear):
    """Fully connected, y = x w + b: (N, inputs) -> (N, outputs)."""

    name = "dense"

    def __init__(self, init: Init, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(init, (inputs, outputs), outputs, bias)

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return dense(x, self.kernel, self.bias)


class Conv2D(Linear):
    """(N, H, W, channels) -> (N, ceil(H / stride), ceil(W / stride), filters): stride 2 halves the sides."""

    name = "conv"

    def __init__(
        self, init: Init, channels: int, filters: int, kernel: int, stride: int, bias: bool = True
    ) -> None:
        super().__init__(init, (kernel, kernel, channels, filters), filters, bias)
        self.stride = stride

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return conv2d(x, self.kernel, self.bias, stride=self.stride)


class Conv2DTranspose(Linear):
    """(N, H, W, channels) -> (N, H stride, W stride, filters): stride 2 doubles the sides."""

    name = "conv_transpose"

    def __init__(
        self, init: Init, channels: int, filters: int, kernel: int, stride: int, bias: bool = True
    ) -> None:
        super().__init__(init, (kernel, kernel, filters, channels), filters, bias)  # (KH, KW, F, C)
        self.stride = stride

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return conv2d_transpose(x, self.kernel, self.bias, stride=self.stride)


class BatchNorm(Layer):
    """Batch normalisation with a running mean and variance.

    In training, the batch's mean and variance normalise it, and the running ones follow slowly: running =
    momentum running + (1 - momentum) batch. At inference the running ones normalise, so an image does not
    depend on the others in its batch. (`twin` returns the same function, or a faster version of it.)"""

    name = "batchnorm"

    def __init__(self, init: Init, channels: int, momentum: float = 0.99, eps: float = 1e-3) -> None:
        self.gamma, self.beta = init.full((channels,), 1), init.full((channels,), 0)
        self.running_mean, self.running_variance = init.full((channels,), 0), init.full((channels,), 1)
        self.parameters = {"gamma": self.gamma, "beta": self.beta}
        self.statistics = {"running_mean": self.running_mean, "running_variance": self.running_variance}
        self.momentum, self.eps = momentum, eps

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        running = self.running_mean, self.running_variance
        mean, variance = x.backend.twin(moments)(x.data) if mode.training else (r.data for r in running)
        given = {"mean": mean, "variance": variance, "of_batch": mode.training, "eps": self.eps}
        y = batch_norm(x, self.gamma, self.beta, **given)
        if mode.training:
            for r, batch in zip(running, (mean, variance), strict=True):
                r.data = self.momentum * r.data + (1 - self.momentum) * batch
        return y


class LeakyReLU(Layer):
    name = "leaky_relu"

    def __init__(self, slope: float = 0.3) -> None:
        self.slope = slope

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return leaky_relu(x, slope=self.slope)


class Tanh(Layer):
    name = "tanh"

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return tanh(x)


class Dropout(Layer):
    """In training, sets to 0 what the next mask drops, and scales up the rest. At inference, does nothing."""

    name = "dropout"

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        if not mode.training:
            return x
        mask, rate = next(mode.masks, None), self.rate
        if mask is None:
            raise UsageError("too few masks: pass one for each dropout layer. (gan.py passes none to G.)")
        if isinstance(mask, Stream):  # it drops at a multiple of 2^-16: mask_rate(rate)
            mask, rate = x.backend.array(mask.keep(x.shape, rate)), mask_rate(rate)
        return dropout(x, mask=mask, rate=rate)


class Reshape(Layer):
    """(N, ...) -> (N, *shape): 12,544 numbers per image become (7, 7, 256), for example."""

    name = "reshape"

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        return reshape(x, shape=(x.shape[0], *self.shape))


class Network:
    """Layers that run one after the other. Call it on a batch: ``logits = D(images)``."""

    def __init__(self, name: str, input_shape: Shape, layers: Sequence[Layer]) -> None:
        self.name, self.input_shape = name, input_shape
        self.layers = {f"{number:02}_{layer.name}": layer for number, layer in enumerate(layers)}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The tensors to train, in a fixed order: ``00_dense/kernel`` and so on."""
        return {f"{at}/{key}": p for at, layer in self.layers.items() for key, p in layer.parameters.items()}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Batch normalisation's running means and variances: ``01_batchnorm/running_mean`` and so on."""
        return {f"{at}/{key}": s for at, layer in self.layers.items() for key, s in layer.statistics.items()}

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each layer's output, without N, found by running one example of zeros."""
        zeros = Tensor(self.backend.xp.zeros((1, *self.input_shape), self.dtype), self.backend)
        with no_grad():
            return {name: y.shape[1:] for name, y in self.outputs(zeros, Mode())}

    @property
    def dtype(self) -> Any:
        return next((p.dtype for p in self.parameters.values()), np.float32)

    @property
    def backend(self) -> Backend:
        return next((p.backend for p in self.parameters.values()), CPU)

    def __call__(self, x: Tensor | Array, training: bool = False, masks: Iterable[Mask] = ()) -> Tensor:
        """Run the layers on x (N, *input_shape). In training, each dropout layer takes the next mask."""
        x = y = x if isinstance(x, Tensor) else Tensor(x, self.backend)
        if x.shape[1:] != self.input_shape:
            needed = ", ".join(map(str, self.input_shape))
            raise ShapeError(f"the {self.name} got {x.shape}. It needs (N, {needed}).")
        for _, y in self.outputs(x, Mode(training, masks)):  # noqa: B007 (the last one is the result)
            pass
        return y

    def outputs(self, x: Tensor, mode: Mode) -> Iterator[tuple[str, Tensor]]:
        """Run the layers one by one, and yield each one's name and output as soon as it is computed."""
        for name, layer in self.layers.items():
            try:
                x = layer(x, mode)
            except UsageError as problem:  # or ShapeError, its subclass
                raise type(problem)(f"layer {name} of the {self.name}: {problem}") from problem
            yield name, x
