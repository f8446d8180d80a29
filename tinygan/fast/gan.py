"""`tinygan.gan.losses_and_gradients` as a whole, with optimisations that a graph of ops cannot see.

The batch passes through in blocks, on threads (`Line`). A convolution (a `Plan`) lifts and lowers block by
block; in between, all blocks wait for its products. `Normed`, between two convolutions of G, takes blocks as
they come and passes them on, activated; in between, it needs the whole batch for the moments.

    forward     plan.up ------> write           settle           read ------> plan.lift_small
                            x, its moments   mean, variance   activations

    backward    plan.down ----> write_gradient  settle_gradient  read_gradient --> plan.lift_large
                            dy of the norm   dgamma, dbeta    gradient of x"""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from tinygan import gan, layers
from tinygan.arrays import Array
from tinygan.autograd import Op, Tensor
from tinygan.fast import reduce
from tinygan.fast.conv import Plan, plan_of
from tinygan.fast.dcgan import DCGAN, DownStage, UpStage, layers_of, odd_layer
from tinygan.fast.ops import leaky_derivative, tanh_gradient
from tinygan.fast.threads import Line, blocks
from tinygan.gan import LossesAndGradients
from tinygan.layers import Mask, Network
from tinygan.ops.loss import bce_with_logits
from tinygan.rng import Stream, mask_rate

Gradients = dict[Tensor, Array]  # by the parameter


def unfit(G: Network, D: Network) -> str:
    """Why a `FusedStep` cannot compute these networks; "" if it can."""
    odd = odd_layer(G, D)
    if odd or D.input_shape != G.shapes[list(G.layers)[-1]] or D.shapes[list(D.layers)[-1]] != (1,):
        return f"models.py was changed at {odd or D.name}"
    dtypes = {tensor.dtype.char for net in (G, D) for tensor in net.parameters.values()}
    return "" if dtypes in ({"f"}, {"d"}) else "the weights are neither all float32 nor all float64"


def plans(network: Network, N: int) -> dict[str, Plan]:
    """The plan of each of a network's convolutions for N images, by layer name."""
    found, shape = {}, network.input_shape
    for name, layer in network.layers.items():
        transposed = type(layer) is layers.Conv2DTranspose
        if transposed or type(layer) is layers.Conv2D:
            kernel, stride = layer.kernel.shape, layer.stride
            found[name] = plan_of((N, *shape), kernel, network.dtype.char, stride, transposed=transposed)
        shape = network.shapes[name]
    return found


class FusedStep:
    """`gan.losses_and_gradients` for networks that are not `unfit`. It is faster from about 8 images on."""

    def __init__(self, G: Network, D: Network, batches: Iterable[tuple[int, int]]) -> None:
        """`batches`: the pairs (N, M) that steps use, of N real images and M fakes."""
        self.G, self.D, self.layers = G, D, layers_of(G, D)
        self.plans = {(N, M): [[*plans(G, M).values()], [*plans(D, N + M).values()]] for N, M in batches}

    def losses_and_gradients(
        self, images: Array, noise: Array, real_masks: Iterable[Mask], fake_masks: Iterable[Mask]
    ) -> LossesAndGradients:
        """The results for a batch; one that does not fit is left to `gan.losses_and_gradients`."""
        G, D, N, M = self.G, self.D, len(images), len(noise)
        real, fake = (list(islice(masks, len(self.layers.down))) for masks in (real_masks, fake_masks))
        given = [(batch.dtype, batch.shape[1:]) for batch in (noise, images)]
        known = [(network.dtype, network.input_shape) for network in (G, D)]
        all_streams = [type(mask) for mask in (*real, *fake)] == 2 * len(self.layers.down) * [Stream]
        if (N, M) not in self.plans or given != known or not all_streams:
            return gan.losses_and_gradients(G, D, images, noise, real, fake)  # it reports what is wrong
        for_G, for_D = self.plans[N, M]
        # Blocks of 33 of the tutorial's images: longer blocks take Python's lock less often, shorter ones
        # fit better into the cache. A batch of fewer than 64 images is too small for four blocks.
        numbers = max(plan.numbers for plan in (*for_G, *for_D)) * 5 // 8
        reals, fake_ones = (blocks(count, numbers, 4 if count >= 64 else 2) for count in (N, M))
        of_G = Line(fake_ones)
        of_D = Line([*reals, *(slice(N + some.start, N + some.stop) for some in fake_ones)], of_G.pending)
        # Forward: real images and fakes pass through D as one batch.
        both = np.empty((N + M, *images.shape[1:]), images.dtype)
        both[:N] = images
        fakes = both[N:]
        saved_G = generator_forward(of_G, self.layers, for_G, noise, fakes)
        bce, masks = G.backend.twin(bce_with_logits), [*zip(real, fake, strict=True)]
        logits, d_loss, g_loss, dy, gradients = discriminator(of_D, self.layers, for_D, both, masks, N, bce)
        gradients |= generator_backward(of_G, self.layers, saved_G, noise, fakes, dy)
        of_D_and_G = ([gradients[p] for p in network.parameters.values()] for network in (D, G))
        results: Any = (Tensor(array, G.backend) for array in (fakes, logits[:N], logits[N:], d_loss, g_loss))
        return LossesAndGradients(*results, *of_D_and_G)


def wide(channels: Array, shape: tuple[int, ...]) -> Array:
    """Copy a number per channel (C,) to every pixel of `shape` (..., C): longer loops are faster."""
    return np.broadcast_to(channels, shape).copy()


class Normed:
    """A batch norm and its LeakyReLU, between the layer that fills `x` and the layer that reads it.
    x (M, ..., C) arrives in blocks. Reading centres it in place. Activations are never stored."""

    def __init__(self, stage: UpStage, shape: tuple[int, ...], images: tuple[int, ...], dtype: Any) -> None:
        """`shape`: that of x; `images` (H, W, C): the shape in which the next layer reads each row of x."""
        self.norm, self.slope, self.images = stage.norm, dtype.type(stage.relu.slope), images
        self.ranks = stage.norm.gamma.backend.ranks
        self.x: Array = np.empty(shape, dtype)
        self.gradient: Array = None  # until it is needed

    def write(self, block: slice | tuple[slice, slice], x: Array) -> tuple[int, Array, Array]:
        """Store a block and return its `reduce.moments`, computed while it is in the cache."""
        self.x[block] = x
        return reduce.moments(reduce.rows(x))

    def settle(self, count: float, mean: Array, squares: Array) -> None:
        """Use the `reduce.moments` of x, once all blocks are written."""
        mean, variance = reduce.over_ranks(self.ranks, count, mean, squares)
        self.inverse_std = 1 / np.sqrt(variance + self.norm.eps)
        scale, shape = self.norm.gamma.data * self.inverse_std, self.x.shape[1:]
        self.mean, self.scale, self.shift = (wide(part, shape) for part in (mean, scale, self.norm.beta.data))
        momentum = self.norm.momentum
        for running, batch in ((self.norm.running_mean, mean), (self.norm.running_variance, variance)):
            running.data = momentum * running.data + (1 - momentum) * batch

    def read(self, block: slice, _: object = None) -> Array:
        """The activations of a block, as images. Each block can be read only once."""
        x = self.x[block]
        x -= self.mean
        y = x * self.scale
        y += self.shift
        return np.maximum(y, y * self.slope, out=y).reshape(-1, *self.images)

    def write_gradient(self, block: slice, dy: Array) -> tuple[Array, Array]:
        """Store the gradient of the batch norm's result, from that of the activations; return its sums."""
        x, g = self.x[block], self.gradient[block]
        np.multiply(x, self.scale, out=g)
        np.add(g, self.shift, out=g)
        leaky_derivative(g, self.slope, g)
        np.multiply(g, dy.reshape(g.shape), out=g)
        return reduce.share(reduce.rows(g)), reduce.share(reduce.rows(g * x))

    def settle_gradient(self, shares: list[tuple[Array, Array]]) -> Gradients:
        """The gradients of gamma and beta, once all blocks are written. `ops.batchnorm` has the formula."""
        dbeta, dgamma = (np.sum(part, axis=0) for part in zip(*shares, strict=True))
        dgamma = dgamma * self.inverse_std
        count = np.array(self.x.size / self.x.shape[-1], self.x.dtype)
        offset, stretch, count = self.ranks.sum(dbeta, dgamma, count)
        self.stretch = -self.scale * (self.inverse_std * stretch / count)
        self.offset = -self.scale * (offset / count)
        return {self.norm.gamma: dgamma, self.norm.beta: dbeta}

    def read_gradient(self, block: slice, _: object = None, channels: slice = slice(None)) -> Array:
        """The gradient of x."""
        dx = self.x[block][..., channels] * self.stretch[..., channels]
        dx += self.offset[..., channels]
        dx += self.gradient[block][..., channels] * self.scale[..., channels]
        return dx


def generator_forward(line: Line, layers: DCGAN, plans: Sequence[Plan], noise: Array, out: Array) -> Any:
    """noise (M, noise_dim) -> out (M, H, W, C). Returns the arrays that `generator_backward` consumes."""
    M, kernel = len(noise), layers.dense_G.kernel.data
    shapes = [kernel.shape[1:], *(plan.large for plan in plans[:-1])]
    stages = zip(layers.up, shapes, plans, strict=True)
    norms = [Normed(stage, (M, *shape), plan.small, out.dtype) for stage, shape, plan in stages]
    columns = Line(blocks(kernel.shape[1], M))  # each column is a separate channel
    columns.then(lambda some, _: norms[0].write((slice(None), some), noise @ kernel[:, some]))
    _, means, squares = zip(*columns.run(), strict=True)
    norms[0].settle(M, np.concatenate(means), np.concatenate(squares))
    kept = []
    for stage, plan, before, after in zip(layers.up, plans, norms, [*norms[1:], None], strict=True):
        (K, tasks), Y = plan.lift_kernel(stage.conv.kernel.data), plan.lifted_small(M)
        kept.append((stage.conv, plan, K, Y))
        line.later(tasks, after=0)
        line.then(before.read)
        line.then(partial(plan.lift_small, Y))
        line.multiply(plan.up(Y, K))
        if after:
            line.then(after.write)
            after.settle(*reduce.merged(line.run()))
    line.then(lambda block, x: np.tanh(x, out=out[block]))
    line.run()
    return norms, kept


def generator_backward(line: Line, layers: DCGAN, saved: Any, noise: Array, y: Array, dy: Array) -> Gradients:
    """The gradients of G's parameters, from the pictures y and their gradient dy (M, H, W, C)."""
    (norms, kept), M, dense = saved, len(y), layers.dense_G.kernel
    gradients: Gradients = {dense: np.empty_like(dense.data)}
    line.then(lambda block, _: tanh_gradient(y[block], dy[block]))
    for normed in reversed(norms):
        conv, plan, K, Y = kept.pop()
        X = plan.lifted_large(M)
        line.then(partial(plan.lift_large, X))
        gradients[conv.kernel] = dw = np.empty(conv.kernel.shape, y.dtype)
        line.multiply(plan.down(X, K, Y), plan.kernel_gradient(X, Y, dw, buffer=K))
        normed.gradient = np.empty_like(normed.x)
        line.then(normed.write_gradient)
        gradients |= normed.settle_gradient(line.run())
        if kept:
            line.then(normed.read_gradient)

    def columns(some: slice) -> None:
        dx = norms[0].read_gradient(slice(None), channels=some)
        np.matmul(noise.T, dx, out=gradients[dense][:, some])

    line.later([partial(columns, some) for some in blocks(dense.shape[1], M)], after=0)
    line.finish()
    return gradients


def discriminator(
    line: Line, layers: DCGAN, plans: Sequence[Plan], pictures: Array,
    streams: Sequence[tuple[Stream, Stream]], N: int, bce: Op,
) -> tuple[Array, Array, Array, Array, Gradients]:  # fmt: skip
    """Logits (N + M, 1) of N real pictures and M fakes (N + M, H, W, C); D's loss and G's; the gradients of
    G's by the fakes and of D's by its parameters. `streams`: per dropout, for real pictures and for fakes.

    D treats each image separately. So one backward pass, from a gradient of 1 per logit, serves both losses:
    each image's part is multiplied by the loss's gradient by its logit when images are summed or leave D."""
    count, dtype, kept = len(pictures), pictures.dtype, []
    line.then(lambda block, _: pictures[block])
    for stage, plan, sources in zip(layers.down, plans, streams, strict=True):
        (K, tasks), X = plan.lift_kernel(stage.conv.kernel.data), plan.lifted_large(count)
        factors = np.empty((count, *plan.small), dtype)
        kept.append((stage.conv, plan, K, X, factors))
        line.later(tasks, after=0)
        line.then(partial(plan.lift_large, X))
        line.multiply(plan.down(X, K))
        line.then(partial(_activate, stage, sources, N, factors))
    kernel, bias = layers.dense_D.parameters.values()
    flat, logits = np.empty((count, len(kernel.data)), dtype), np.empty((count, 1), dtype)

    def answer(block: slice, x: Array) -> Array:
        flat[block] = x.reshape(len(x), -1)
        np.add(flat[block] @ kernel.data, bias.data, out=logits[block])
        return kernel.data.reshape(x.shape[1:])  # the gradient of each logit

    line.then(answer)
    line.run()
    *losses, slopes = losses_and_slopes(bce, logits, N)
    weights, of_fakes = np.split(slopes, [count])
    gradients: Gradients = {kernel: np.empty_like(kernel.data), bias: weights.sum(axis=0)}
    line.later([partial(np.matmul, flat.T, weights, out=gradients[kernel])], after=0)
    while kept:
        conv, plan, K, X, factors = kept.pop()
        Y, sums = plan.lifted_small(count, factors), np.empty((count, plan.small[2]), dtype)
        line.then(partial(_lift_gradient, plan, factors, Y, sums))
        dw, db = (np.empty(tensor.shape, dtype) for tensor in (conv.kernel, conv.parameters["bias"]))
        gradients |= {conv.kernel: dw, conv.parameters["bias"]: db}
        line.later([partial(np.matmul, weights[:, 0], sums, out=db)])
        of_kernel = plan.kernel_gradient(X, Y, dw, weights[:, 0], K)
        line.multiply(plan.up(Y, K, X), of_kernel, first=0 if kept else N)
    dx = np.empty_like(pictures[N:])

    def write(block: slice, g: Array) -> None:
        if g is not None:
            some = slice(block.start - N, block.stop - N)
            np.multiply(g, of_fakes[some, :, None, None], out=dx[some])

    line.then(write)
    line.run()
    return logits, *losses, dx, gradients


def losses_and_slopes(bce: Op, logits: Array, N: int) -> tuple[Array, Array, Array]:
    """D's loss, G's loss, and (N + M + M, 1): gradients of D's by all logits, and of G's by the fakes'."""
    targets = (logits[:N], 1.0), (logits[N:], 0.0), (logits[N:], 1.0)
    (real, fake, fooled), saved = zip(*(bce.forward(x, target=t) for x, t in targets), strict=True)
    one = logits.dtype.type(1)
    return real + fake, fooled, np.concatenate([bce.backward(part, one, (True,))[0] for part in saved])


def _lift_gradient(plan: Plan, factors: Array, Y: Array, sums: Array, block: slice, dx: Array) -> None:
    """Lift the gradient before an activation into Y; `sums` gets its sum per image, for the bias."""
    g = np.multiply(dx, factors[block], out=factors[block])
    sums[block] = reduce.share(g.reshape(len(g), -1, g.shape[3]))
    plan.lift_small(Y, block, g)


def _activate(
    stage: DownStage, sources: tuple[Stream, Stream], N: int, factors: Array, block: slice, h: Array
) -> Array:
    """Apply bias, LeakyReLU and dropout to a convolution's result h, the last two as one factor."""
    rate, bias = stage.dropout.rate, stage.conv.parameters["bias"].data
    source, first = (sources[0], 0) if block.start < N else (sources[1], N)
    h += wide(bias, h.shape[1:])
    factor = leaky_derivative(h, stage.relu.slope, factors[block], 1 / (1 - mask_rate(rate)))
    if rate:
        mask = source.of_examples_from(source.first + block.start - first).keep(h.shape, rate)
        np.multiply(factor, mask, out=factor)
    return np.multiply(h, factor, out=h)
