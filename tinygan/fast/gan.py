"""`tinygan.gan.losses_and_gradients` as a whole, with what a graph of ops cannot see put to use.

    version  idea                                                  s a step, batch 256
    0        `gan.train_step` on the readable ops                  1.10
    1        the same on the ops of this folder                    0.31
    2        real and fake pictures as one batch, one backward     0.30
             pass through D, a layer's epilogue while its block
             is in the cache, BLAS held to one thread throughout
    3        frequencies stored one after the other, pieces of     0.24
             1 MB, windows in one strided copy

float32, NumPy 2.4.6 with OpenBLAS 0.3.31, 2 threads of an AMD EPYC (Zen 4); medians in quiet moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np

from tinygan import gan
from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.fast import reduce
from tinygan.fast.activation import leaky_derivative
from tinygan.fast.conv import Plan, conv2d_plan, conv2d_transpose_plan
from tinygan.fast.dense import dense_forward, product
from tinygan.fast.direct import Read, Write
from tinygan.fast.dropout import draw
from tinygan.fast.threads import POOL, blocks
from tinygan.gan import LossesAndGradients
from tinygan.layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    LeakyReLU,
    Mask,
    Network,
    Reshape,
    Tanh,
)
from tinygan.ops.loss import bce_with_logits
from tinygan.rng import Stream, mask_rate

ByName = dict[str, Array]  # gradients, by the parameter's name


def unfit(G: Network, D: Network) -> str:
    """What about these networks `losses_and_gradients` cannot compute; nothing if it can."""
    for_G, for_D = kinds_of((len(G.layers) - 6) // 3, max(1, (len(D.layers) - 2) // 3))
    # Slopes up to 1: `Normed.read` takes the larger of x and slope x.
    odd = _odd(G, for_G, (), 1) or _odd(D, for_D, (Conv2D, Dense), np.inf)
    if odd or D.input_shape != G.shapes[list(G.layers)[-1]] or D.shapes[list(D.layers)[-1]] != (1,):
        return f"models.py was changed at {odd or D.name}"
    dtypes = {tensor.dtype.char for net in (G, D) for tensor in net.parameters.values()}
    if dtypes not in ({"f"}, {"d"}):
        return "the weights are not all float32, or all float64"
    return ""


def kinds_of(inner: int, stages: int) -> tuple[list[type], list[type]]:
    """The layers of a G with `inner` + 1 transposed convolutions, and of a D with `stages` convolutions."""
    up, down = [Conv2DTranspose, BatchNorm, LeakyReLU] * inner, [Conv2D, LeakyReLU, Dropout] * stages
    return [Dense, BatchNorm, LeakyReLU, Reshape, *up, Conv2DTranspose, Tanh], [*down, Reshape, Dense]


def unplanned(G: Network, D: Network, N: int, M: int) -> str:
    """The first convolution that has no faster way for N real images and M fakes; nothing if all have."""
    for network, count in ((G, M), (D, N + M)):
        for name, plan in plans(network, count).items():
            if plan is None:
                return f"{network.name}/{name}"
    return ""


def losses_and_gradients(
    G: Network, D: Network, images: Array, noise: Array,
    real_masks: Iterable[Mask], fake_masks: Iterable[Mask],
) -> LossesAndGradients:  # fmt: skip
    """`gan.losses_and_gradients`, faster, for networks and sizes that are neither `unfit` nor `unplanned`."""
    N, M = len(images), len(noise)
    count = sum(isinstance(layer, Dropout) for layer in D.layers.values())
    masks = list(islice(real_masks, count)), list(islice(fake_masks, count))
    generator, discriminator = GeneratorPass(G, M), DiscriminatorPass(D, N + M)
    fits = _ready(G, noise) and _ready(D, images) and discriminator.takes((N, masks[0]), (M, masks[1]))
    if not fits or M == 0:  # one of several ranks may have no image (N = 0), but each has noise
        return gan.losses_and_gradients(G, D, images, noise, *masks)  # which says what is wrong
    # Forward: real images and fakes pass D as one batch.
    both = np.empty((N + M, *images.shape[1:]), images.dtype)
    both[:N] = images
    fakes = both[N:]
    generator.forward(noise, fakes)
    logits = discriminator.forward(both, [(slice(N), masks[0]), (slice(N, None), masks[1])])
    bce, one = G.backend.twin(bce_with_logits), logits.dtype.type(1)
    real_loss, real = bce.forward(logits[:N], target=1.0)
    fake_loss, fake = bce.forward(logits[N:], target=0.0)
    g_loss, fooled = bce.forward(logits[N:], target=1.0)

    # Backward: D's output is one number for each image, and no image meets another on the way. So one
    # pass with 1 for that number serves both losses: each image's share is multiplied by the gradient of
    # the loss by its logit, and only where images are added up, or leave D.
    weights_D = np.concatenate([bce.backward(saved, one, (True,))[0] for saved in (real, fake)])
    (weights_G,) = bce.backward(fooled, one, (True,))
    fake_gradient = np.empty_like(fakes)
    for_D = discriminator.backward(weights_D, N, fake_gradient)
    fake_gradient *= weights_G[:, :, None, None]
    for_G = generator.backward(fakes, fake_gradient)
    return LossesAndGradients(
        Tensor(fakes, G.backend),
        Tensor(logits[:N], G.backend),
        Tensor(logits[N:], G.backend),
        Tensor(real_loss + fake_loss, G.backend),
        Tensor(g_loss, G.backend),
        [for_D[name] for name in D.parameters],
        [for_G[name] for name in G.parameters],
    )


class Normed:
    """A batch norm and its LeakyReLU, between the layer that fills `x` and the layer that reads it.

    x (M, ..., C) arrives in blocks, whose moments are taken while they are in the cache. Read, it
    is centred in place; the normalised and activated numbers are never stored.
    """

    def __init__(
        self, norm: BatchNorm, relu: LeakyReLU, shape: tuple[int, ...], images: tuple[int, ...], dtype: Any
    ) -> None:
        self.norm, self.slope, self.images = norm, dtype.type(relu.slope), images
        self.ranks = norm.gamma.backend.ranks
        self.x: Array = np.empty(shape, dtype)
        self.gradient: Array = None  # until it is needed
        self.parts: dict[int, tuple[int, Array, Array]] = {}
        self.shares: dict[int, tuple[Array, Array]] = {}

    def write(self, block: slice, x: Array) -> None:
        self.x[block] = x
        self.parts[block.start] = reduce.moments(reduce.rows(x))

    def settle(self, count: float, mean: Array, squares: Array) -> None:
        """All is written, and these are its `reduce.moments`."""
        mean, variance = reduce.over_ranks(self.ranks, count, mean, squares)
        self.mean, self.inverse_std = mean, 1 / np.sqrt(variance + self.norm.eps)
        self.scale, self.shift = self.norm.gamma.data * self.inverse_std, self.norm.beta.data
        momentum = self.norm.momentum
        for running, batch in ((self.norm.running_mean, mean), (self.norm.running_variance, variance)):
            running.data = momentum * running.data + (1 - momentum) * batch

    def read(self, block: slice) -> Array:
        """The activations of a block, as images; each block can be read once."""
        x = self.x[block]
        x -= self.mean
        y = x * self.scale
        y += self.shift
        return np.maximum(y, y * self.slope, out=y).reshape(-1, *self.images)

    def write_gradient(self, block: slice, dy: Array) -> None:
        """Take the gradient of the activations back to the batch norm's result."""
        x, g = self.x[block], self.gradient[block]
        np.multiply(x, self.scale, out=g)
        np.add(g, self.shift, out=g)
        leaky_derivative(g, self.slope, g)
        np.multiply(g, dy.reshape(g.shape), out=g)
        self.shares[block.start] = reduce.share(reduce.rows(g)), reduce.share(reduce.rows(g * x))

    def settle_gradient(self) -> tuple[Array, Array]:
        """All gradients are written: (dgamma, dbeta). The formula is that of `ops.batchnorm`."""
        dbeta = reduce.in_order({start: pair[0] for start, pair in self.shares.items()})
        dgamma = reduce.in_order({start: pair[1] for start, pair in self.shares.items()}) * self.inverse_std
        count = np.array(self.x.size / self.x.shape[-1], self.x.dtype)
        offset, stretch, count = self.ranks.sum(dbeta, dgamma, count)
        self.stretch = -self.scale * self.inverse_std * stretch / count
        self.offset = -self.scale * offset / count
        return dgamma, dbeta

    def read_gradient(self, block: slice, channels: slice = slice(None)) -> Array:
        """The gradient of x."""
        dx = self.x[block][..., channels] * self.stretch[channels]
        dx += self.offset[channels]
        dx += self.gradient[block][..., channels] * self.scale[channels]
        return dx


class GeneratorPass:
    """G's forward and backward pass."""

    def __init__(self, G: Network, M: int) -> None:
        layers = list(G.layers.items())
        self.dense_name, self.dense = layers[0][0], cast(Dense, layers[0][1])
        self.convs = [(name, layer) for name, layer in layers if isinstance(layer, Conv2DTranspose)]
        norms = [(name, layer) for name, layer in layers if isinstance(layer, BatchNorm)]
        relus = [layer for _, layer in layers if isinstance(layer, LeakyReLU)]
        self.plans = cast(list[Plan], list(plans(G, M).values()))
        self.norms = [name for name, _ in norms]
        self.normed = [
            Normed(norm, relu, (M, *G.shapes[name]), plan.small, G.dtype)
            for (name, norm), relu, plan in zip(norms, relus, self.plans, strict=True)
        ]

    def forward(self, noise: Array, out: Array) -> None:
        M = len(noise)
        first = self.normed[0]
        kernel = self.dense.kernel.data
        mean, squares = np.empty(kernel.shape[1], out.dtype), np.empty(kernel.shape[1], out.dtype)

        def columns(some: slice) -> None:  # every column is a channel of its own
            h = noise @ kernel[:, some]
            first.x[:, some] = h
            _, mean[some], squares[some] = reduce.moments(h)

        POOL.each(columns, blocks(kernel.shape[1], M))
        first.settle(M, mean, squares)
        self.noise = noise
        self.kernels, self.lifted = [], []
        for number, ((_, conv), plan) in enumerate(zip(self.convs, self.plans, strict=True)):
            K = plan.lift_kernel(conv.kernel.data)
            Y = plan.lift_small(self.normed[number].read, M)
            self.kernels.append(K)
            self.lifted.append(Y)
            if number + 1 < len(self.plans):
                after = self.normed[number + 1]
                plan.up(Y, K, after.write)
                after.settle(*reduce.merged(after.parts))
            else:
                plan.up(Y, K, lambda block, x: np.tanh(x, out=out[block]))

    def backward(self, y: Array, dy: Array) -> ByName:
        """Gradients of the parameters; y and dy (M, H, W, C) are the pictures and their gradient."""
        M = len(y)
        gradients: ByName = {}

        def read(block: slice) -> Array:
            dx = y[block] * y[block]
            np.subtract(1, dx, out=dx)
            return np.multiply(dx, dy[block], out=dx)

        for number in reversed(range(len(self.plans))):
            plan, normed = self.plans[number], self.normed[number]
            X = plan.lift_large(read, M)
            gradients[self.convs[number][0] + "/kernel"] = plan.kernel_gradient(X, self.lifted.pop())
            normed.gradient = np.empty_like(normed.x)
            plan.down(X, self.kernels.pop(), normed.write_gradient)
            gradients[self.norms[number] + "/gamma"], gradients[self.norms[number] + "/beta"] = (
                normed.settle_gradient()
            )
            read = normed.read_gradient
        first = self.normed[0]
        dw = gradients[self.dense_name + "/kernel"] = np.empty_like(self.dense.kernel.data)

        def columns(some: slice) -> None:
            np.matmul(self.noise.T, first.read_gradient(slice(None), some), out=dw[:, some])

        POOL.each(columns, blocks(dw.shape[1], M))
        return gradients


class DiscriminatorPass:
    """D's forward and backward pass."""

    def __init__(self, D: Network, N: int) -> None:
        layers = list(D.layers.items())
        self.convs = [(name, layer) for name, layer in layers if isinstance(layer, Conv2D)]
        self.slopes = [layer.slope for _, layer in layers if isinstance(layer, LeakyReLU)]
        self.rates = [layer.rate for _, layer in layers if isinstance(layer, Dropout)]
        self.dense_name, self.dense = layers[-1][0], cast(Dense, layers[-1][1])
        self.biases = [layer.bias.data for _, layer in self.convs if layer.bias]
        self.plans = cast(list[Plan], list(plans(D, N).values()))

    def takes(self, *parts: tuple[int, Sequence[Mask]]) -> bool:
        """Whether these, for so many images each, are streams, or all of them masks of the right shapes."""
        shapes = [(N, *plan.small) for N, _ in parts for plan in self.plans]
        sources = [source for _, layers in parts for source in layers]
        if len(shapes) != len(sources):
            return False
        if all(isinstance(source, Stream) for source in sources):
            self.rates = [mask_rate(rate) for rate in self.rates]
            return True
        return not any(isinstance(source, Stream) for source in sources) and all(
            getattr(source, "shape", None) == shape for source, shape in zip(sources, shapes, strict=True)
        )

    def forward(self, pictures: Array, sources: Sequence[tuple[slice, Sequence[Mask]]]) -> Array:
        """Logits (N, 1) of pictures (N, H, W, C); `sources` has the dropout sources of parts of the batch."""
        N, dtype = len(pictures), pictures.dtype
        masks = self._masks(N, sources)
        self.kernels, self.lifted, self.factors = [], [], []
        self.results = pictures
        for number, ((_, conv), plan) in enumerate(zip(self.convs, self.plans, strict=True)):
            K = plan.lift_kernel(conv.kernel.data)
            X = plan.lift_large(self.results, N)
            shape = (N, *plan.small)
            results, factors = np.empty(shape, dtype), np.empty(shape, dtype)
            plan.down(X, K, self._activate(number, masks[number], results, factors))
            self.kernels.append(K)
            self.lifted.append(X)
            self.factors.append(factors)
            self.results = results
        weights = (parameter.data for parameter in self.dense.parameters.values())
        logits, _ = dense_forward(self.results.reshape(N, -1), *weights)
        return logits

    def _masks(self, N: int, sources: Sequence[tuple[slice, Sequence[Mask]]]) -> list[Array]:
        """What the dropout sources say, for the whole batch: a mask for each layer."""
        masks = [np.empty((N, *plan.small), bool) for plan in self.plans]
        streams = []
        for part, layers in sources:
            for mask, rate, source in zip(masks, self.rates, layers, strict=True):
                if isinstance(source, Stream):
                    streams.append((source, rate, mask[part]))
                else:
                    np.copyto(mask[part], source, casting="unsafe")
        draw(*streams)
        return masks

    def _activate(self, number: int, mask: Array, results: Array, factors: Array) -> Write:
        """What follows a convolution: bias, LeakyReLU and dropout, the last two as one factor."""
        bias, slope = self.biases[number], self.slopes[number]
        scale = 1 / (1 - self.rates[number])

        def write(block: slice, h: Array) -> None:
            h += bias
            factor = leaky_derivative(h, slope, factors[block], scale)
            np.multiply(factor, mask[block], out=factor)
            np.multiply(h, factor, out=results[block])

        return write

    def backward(self, weights: Array, N: int, out: Array) -> ByName:
        """Gradients of the parameters, for a loss with the slope weights[i] (N + M, 1) at logit i.

        `out` (M, H, W, C) takes the gradient of each logit from the Nth on with respect to its picture.
        """
        count, each = len(weights), weights[:, 0]
        rows = self.dense.kernel.data.reshape(self.plans[-1].small)
        gradients: ByName = {
            self.dense_name + "/kernel": product(self.results.reshape(count, -1).T, weights),
            self.dense_name + "/bias": weights.sum(axis=0),
        }
        shares: dict[int, Array] = {}

        def share(block: slice, g: Array) -> Array:
            """Note the block's share in the bias's gradient."""
            pixels = g.shape[1] * g.shape[2]
            shares[block.start] = reduce.share(reduce.rows(g), np.repeat(each[block], pixels))
            return g

        def read(block: slice) -> Array:
            return share(block, rows * self.factors[-1][block])

        def write(factors: Array, block: slice, dx: Array) -> None:
            share(block, np.multiply(dx, factors[block], out=factors[block]))

        g: Array | Read = read
        for number in reversed(range(len(self.plans))):
            plan, name, K = self.plans[number], self.convs[number][0], self.kernels.pop()
            Y = plan.lift_small(g, count)
            gradients[name + "/bias"] = reduce.in_order(shares)
            shares.clear()
            if number:
                g = self.factors[number - 1]  # becomes the gradient, in place
                plan.up(Y, K, partial(write, g))
            else:
                plan.up(plan.since(Y, N), K, lambda block, dx: np.copyto(out[block], dx))
            gradients[name + "/kernel"] = plan.kernel_gradient(self.lifted.pop(), Y, each)
        return gradients


def ordinary(network: Network) -> bool:
    """Whether a network runs its layers just as `layers.Network` does, each of them once."""
    once = len(set(map(id, network.layers.values()))) == len(network.layers)
    return type(network) is Network and "outputs" not in vars(network) and once


def _odd(network: Network, kinds: list[type], biased: tuple[type, ...], slope: float) -> str:
    """The first layer that is not of these kinds, or has another bias, slope or rate; nothing if all fit."""
    for i, (name, layer) in enumerate(network.layers.items()):
        kind = kinds[i] if i < len(kinds) else None
        bias = getattr(layer, "bias", None) is not None
        in_range = getattr(layer, "slope", 0) <= slope and 0 <= getattr(layer, "rate", 0) < 1
        if type(layer) is not kind or bias != (kind in biased) or not in_range:
            return f"{network.name}/{name}"
    return "" if ordinary(network) and len(network.layers) == len(kinds) else network.name


def _ready(network: Network, batch: Array) -> bool:
    """Whether the batch has the network's dtype and input shape."""
    shape = network.input_shape
    return isinstance(batch, np.ndarray) and batch.dtype == network.dtype and batch.shape[1:] == shape


def plans(network: Network, N: int) -> dict[str, Plan | None]:
    """How each of a network's convolutions is computed for N images, by its name; None: by its definition."""
    found, shape = {}, network.input_shape
    for name, layer in network.layers.items():
        if type(layer) in (Conv2D, Conv2DTranspose):
            layer = cast(Conv2D, layer)
            plan_of = conv2d_plan if type(layer) is Conv2D else conv2d_transpose_plan
            found[name] = plan_of((N, *shape), layer.kernel.shape, network.dtype.char, layer.stride)
        shape = network.shapes[name]
    return found
