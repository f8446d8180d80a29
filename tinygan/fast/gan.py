"""`tinygan.gan.losses_and_gradients` as a whole, with what a graph of ops cannot see put to use.

A convolution (a `Plan`) lifts and lowers blocks of the batch, on threads. `Normed`, between two of G's, takes
them as they come, and gives them on, activated; only in between is the whole batch needed, for its moments.

    forward     plan.up ------> write           settle           read ------> plan.lift_small
                            x, its moments   mean, variance   activations

    backward    plan.down ----> write_gradient  settle_gradient  read_gradient --> plan.lift_large
                            dy of the norm   dgamma, dbeta    gradient of x"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np

from tinygan import gan, layers
from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.fast import reduce
from tinygan.fast.conv import Plan, plan_of
from tinygan.fast.dcgan import DCGAN, DownStage, UpStage, layers_of, odd_layer
from tinygan.fast.direct import Read
from tinygan.fast.ops import dense_forward, draw, leaky_derivative, product, tanh_gradient
from tinygan.fast.threads import POOL, blocks
from tinygan.gan import LossesAndGradients
from tinygan.layers import Mask, Network
from tinygan.ops.loss import bce_with_logits
from tinygan.rng import Stream, mask_rate

Gradients = dict[Tensor, Array]  # by the parameter


def unfit(G: Network, D: Network) -> str:
    """What about these networks a `FusedStep` cannot compute; nothing if it can."""
    odd = odd_layer(G, D)
    if odd or D.input_shape != G.shapes[list(G.layers)[-1]] or D.shapes[list(D.layers)[-1]] != (1,):
        return f"models.py was changed at {odd or D.name}"
    dtypes = {tensor.dtype.char for net in (G, D) for tensor in net.parameters.values()}
    return "" if dtypes in ({"f"}, {"d"}) else "the weights are not all float32, or all float64"


def plans(network: Network, N: int) -> dict[str, Plan | None]:
    """How each of a network's convolutions is computed for N images, by its name; None: by its definition."""
    found, shape = {}, network.input_shape
    for name, layer in network.layers.items():
        transposed = type(layer) is layers.Conv2DTranspose
        if transposed or type(layer) is layers.Conv2D:
            kernel, stride = layer.kernel.shape, layer.stride
            found[name] = plan_of((N, *shape), kernel, network.dtype.char, stride, transposed=transposed)
        shape = network.shapes[name]
    return found


class FusedStep:
    """`gan.losses_and_gradients`, faster, for two networks that are not `unfit`, none `unplanned`."""

    def __init__(self, G: Network, D: Network, batches: Iterable[tuple[int, int]]) -> None:
        """`batches`: the (N, M) that a step may have, N real images and M fakes."""
        self.G, self.D, self.layers = G, D, layers_of(G, D)
        self.plans: dict[tuple[int, int], list[list[Plan]]] = {}
        self.unplanned = ""  # the first convolution that has no faster way at one of these sizes
        for N, M in batches:
            for network, count in ((G, M), (D, N + M)):
                found = plans(network, count)
                missing = (f"{network.name}/{name}" for name, plan in found.items() if plan is None)
                self.unplanned = self.unplanned or next(missing, "")
                self.plans.setdefault((N, M), []).append(cast(list[Plan], list(found.values())))

    def losses_and_gradients(
        self, images: Array, noise: Array, real_masks: Iterable[Mask], fake_masks: Iterable[Mask]
    ) -> LossesAndGradients:
        """What the batch gives; one that does not fit goes to `gan.losses_and_gradients`."""
        G, D, N, M = self.G, self.D, len(images), len(noise)
        real, fake = (list(islice(masks, len(self.layers.down))) for masks in (real_masks, fake_masks))
        if not self._fit(images, noise, [*real, *fake]):
            return gan.losses_and_gradients(G, D, images, noise, real, fake)  # which says what is wrong
        for_G, for_D = self.plans[N, M]
        # Forward: real images and fakes pass D as one batch.
        both = np.empty((N + M, *images.shape[1:]), images.dtype)
        both[:N] = images
        fakes = both[N:]
        saved_G = generator_forward(self.layers, for_G, noise, fakes)
        sources = [(slice(N), real), (slice(N, None), fake)]
        logits, saved_D = discriminator_forward(self.layers, for_D, both, sources)
        bce, one = G.backend.twin(bce_with_logits), logits.dtype.type(1)
        real_loss, of_real = bce.forward(logits[:N], target=1.0)
        fake_loss, of_fake = bce.forward(logits[N:], target=0.0)
        g_loss, fooled = bce.forward(logits[N:], target=1.0)

        # Backward: no image meets another in D. So one pass, with 1 for each logit, serves both losses: where
        # images are added up, or leave D, each one's share is multiplied by the loss's gradient by its logit.
        weights_D = np.concatenate([bce.backward(saved, one, (True,))[0] for saved in (of_real, of_fake)])
        (weights_G,) = bce.backward(fooled, one, (True,))
        fake_gradient = np.empty_like(fakes)
        gradients = discriminator_backward(self.layers, saved_D, weights_D, N, fake_gradient)
        fake_gradient *= weights_G[:, :, None, None]
        gradients |= generator_backward(self.layers, saved_G, noise, fakes, fake_gradient)
        real_logits, fake_logits = Tensor(logits[:N], G.backend), Tensor(logits[N:], G.backend)
        losses = Tensor(real_loss + fake_loss, G.backend), Tensor(g_loss, G.backend)
        of_D, of_G = ([gradients[p] for p in net.parameters.values()] for net in (D, G))
        return LossesAndGradients(Tensor(fakes, G.backend), real_logits, fake_logits, *losses, of_D, of_G)

    def _fit(self, images: Array, noise: Array, masks: list[Mask]) -> bool:
        given = [(batch.dtype, batch.shape[1:]) for batch in (noise, images)]
        return (
            (len(images), len(noise)) in self.plans
            and given == [(network.dtype, network.input_shape) for network in (self.G, self.D)]
            and [type(mask) for mask in masks] == 2 * len(self.layers.down) * [Stream]
        )


class Normed:
    """A batch norm and its LeakyReLU, between the layer that fills `x` and the layer that reads it.
    x (M, ..., C) arrives in blocks; read, it is centred in place. Activated numbers are never stored."""

    def __init__(self, stage: UpStage, shape: tuple[int, ...], images: tuple[int, ...], dtype: Any) -> None:
        """`shape` of x; `images` (H, W, C): the shape of each of its rows to the layer that reads it."""
        self.norm, self.slope, self.images = stage.norm, dtype.type(stage.relu.slope), images
        self.ranks = stage.norm.gamma.backend.ranks
        self.x: Array = np.empty(shape, dtype)
        self.gradient: Array = None  # until it is needed

    def write(self, block: slice | tuple[slice, slice], x: Array) -> tuple[int, Array, Array]:
        """Take a block, and give its `reduce.moments`, while it is in the cache."""
        self.x[block] = x
        return reduce.moments(reduce.rows(x))

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

    def write_gradient(self, block: slice, dy: Array) -> tuple[Array, Array]:
        """Take the gradient of the activations back to the batch norm's result; give the block's shares."""
        x, g = self.x[block], self.gradient[block]
        np.multiply(x, self.scale, out=g)
        np.add(g, self.shift, out=g)
        leaky_derivative(g, self.slope, g)
        np.multiply(g, dy.reshape(g.shape), out=g)
        return reduce.share(reduce.rows(g)), reduce.share(reduce.rows(g * x))

    def settle_gradient(self, shares: list[tuple[Array, Array]]) -> Gradients:
        """All gradients are written: those of gamma and beta. The formula is that of `ops.batchnorm`."""
        dbeta, dgamma = (np.sum(part, axis=0) for part in zip(*shares, strict=True))
        dgamma = dgamma * self.inverse_std
        count = np.array(self.x.size / self.x.shape[-1], self.x.dtype)
        offset, stretch, count = self.ranks.sum(dbeta, dgamma, count)
        self.stretch = -self.scale * self.inverse_std * stretch / count
        self.offset = -self.scale * offset / count
        return {self.norm.gamma: dgamma, self.norm.beta: dbeta}

    def read_gradient(self, block: slice, channels: slice = slice(None)) -> Array:
        """The gradient of x."""
        dx = self.x[block][..., channels] * self.stretch[channels]
        dx += self.offset[channels]
        dx += self.gradient[block][..., channels] * self.scale[channels]
        return dx


def generator_forward(layers: DCGAN, plans: Sequence[Plan], noise: Array, out: Array) -> Any:
    """noise (M, noise_dim) -> out (M, H, W, C). Returns what `generator_backward` needs, and uses up."""
    M, kernel = len(noise), layers.dense_G.kernel.data
    columns = kernel.shape[1]
    shapes = [(columns,), *(plan.large for plan in plans[:-1])]
    stages = zip(layers.up, shapes, plans, strict=True)
    norms = [Normed(stage, (M, *shape), plan.small, out.dtype) for stage, shape, plan in stages]

    def piece(some: slice) -> tuple[int, Array, Array]:  # every column is a channel of its own
        return norms[0].write((slice(None), some), noise @ kernel[:, some])

    _, means, squares = zip(*POOL.each(piece, blocks(columns, M)), strict=True)
    norms[0].settle(M, np.concatenate(means), np.concatenate(squares))
    kept = []
    for stage, plan, before, after in zip(layers.up, plans, norms, [*norms[1:], None], strict=True):
        K = plan.lift_kernel(stage.conv.kernel.data)
        Y = plan.lift_small(before.read, M)
        kept.append((stage.conv, plan, K, Y))
        if after:
            after.settle(*reduce.merged(plan.up(Y, K, after.write)))
        else:
            plan.up(Y, K, lambda block, x: np.tanh(x, out=out[block]))
    return norms, kept


def generator_backward(layers: DCGAN, saved: Any, noise: Array, y: Array, dy: Array) -> Gradients:
    """Gradients of the parameters; y and dy (M, H, W, C) are the pictures and their gradient."""
    (norms, kept), M, dense = saved, len(y), layers.dense_G.kernel
    gradients: Gradients = {dense: np.empty_like(dense.data)}

    def read(block: slice) -> Array:
        return tanh_gradient(y[block], dy[block])

    for normed in reversed(norms):
        conv, plan, K, Y = kept.pop()
        X = plan.lift_large(read, M)
        gradients[conv.kernel] = plan.kernel_gradient(X, Y)
        normed.gradient = np.empty_like(normed.x)
        gradients |= normed.settle_gradient(plan.down(X, K, normed.write_gradient))
        read = normed.read_gradient

    def columns(some: slice) -> None:
        np.matmul(noise.T, norms[0].read_gradient(slice(None), some), out=gradients[dense][:, some])

    POOL.each(columns, blocks(dense.shape[1], M))
    return gradients


def discriminator_forward(
    layers: DCGAN, plans: Sequence[Plan], pictures: Array, sources: Iterable[tuple[slice, Sequence[Stream]]]
) -> tuple[Array, Any]:
    """Logits (N, 1) of pictures (N, H, W, C), and what `discriminator_backward` needs, and uses up.
    `sources`: the dropout streams of parts of the batch."""
    N, dtype = len(pictures), pictures.dtype
    rates = [mask_rate(stage.dropout.rate) for stage in layers.down]
    masks = [np.empty((N, *plan.small), bool) for plan in plans]
    draw(
        (stream, rate, mask[part])
        for part, streams in sources
        for stream, rate, mask in zip(streams, rates, masks, strict=True)
    )
    kept, all_factors, results = [], [], pictures
    for stage, plan, mask, rate in zip(layers.down, plans, masks, rates, strict=True):
        K = plan.lift_kernel(stage.conv.kernel.data)
        X = plan.lift_large(results, N)
        results, factors = np.empty(mask.shape, dtype), np.empty(mask.shape, dtype)
        plan.down(X, K, partial(_activate, stage, mask, rate, results, factors))
        kept.append((stage.conv, plan, K, X))
        all_factors.append(factors)
    weights = (parameter.data for parameter in layers.dense_D.parameters.values())
    logits, (flat, _) = dense_forward(results.reshape(N, -1), *weights)
    return logits, (kept, all_factors, flat)


def discriminator_backward(layers: DCGAN, saved: Any, weights: Array, N: int, out: Array) -> Gradients:
    """Gradients of the parameters, for a loss with the slope weights[i] (N + M, 1) at logit i.
    `out` (M, H, W, C) takes the gradient of each logit from the Nth on with respect to its picture."""
    kept, factors, flat = saved
    count, each, last = len(weights), weights[:, 0], factors.pop()
    kernel, bias = layers.dense_D.parameters.values()
    rows = kernel.data.reshape(last.shape[1:])
    gradients: Gradients = {kernel: product(flat.T, weights), bias: weights.sum(axis=0)}
    shares: dict[int, Array] = {}

    def share(block: slice, g: Array) -> Array:
        """Note the block's share in the bias's gradient."""
        shares[block.start] = reduce.share(reduce.rows(g), np.repeat(each[block], g.shape[1] * g.shape[2]))
        return g

    def read(block: slice) -> Array:
        return share(block, rows * last[block])

    def write(those: Array, block: slice, dx: Array) -> None:
        share(block, np.multiply(dx, those[block], out=those[block]))

    g: Array | Read = read
    while kept:
        conv, plan, K, X = kept.pop()
        Y = plan.lift_small(g, count)
        gradients[conv.parameters["bias"]] = np.sum([shares[start] for start in sorted(shares)], axis=0)
        shares.clear()
        if factors:
            g = factors.pop()  # becomes the gradient, in place
            plan.up(Y, K, partial(write, g))
        else:
            plan.up(Y, K, lambda block, dx: np.copyto(out[block], dx), first=N)
        gradients[conv.kernel] = plan.kernel_gradient(X, Y, each)
    return gradients


def _activate(
    stage: DownStage, mask: Array, rate: float, results: Array, factors: Array, block: slice, h: Array
) -> None:
    """Bias, LeakyReLU and dropout of a block h of a convolution's result, the last two as one factor."""
    h += stage.conv.parameters["bias"].data
    factor = leaky_derivative(h, stage.relu.slope, factors[block], 1 / (1 - rate))
    np.multiply(factor, mask[block], out=factor)
    np.multiply(h, factor, out=results[block])
