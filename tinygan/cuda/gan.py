"""The training step of `tinygan.gan.train_step` on a graphics card.

Everything a step needs stays on the card. It is about 80 kernels and matrix products, one after the
other on one stream, that read and write only arrays which never move: so it can be captured as a
CUDA graph (``trainer.py``).

What it computes is what `fast.gan` computes, with these shapes in mind: T = N + M examples pass D at
once, N real pictures and M fakes; a map of a quarter of the pictures' side is (places, T, channels),
one of half the side (places, T, 4 phases, channels). See ``kernels.cu``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.average import Average
from tinygan.cuda import buffers
from tinygan.cuda.blas import Blas
from tinygan.cuda.buffers import MEASURED, TAPS, Flat
from tinygan.cuda.frequencies import Convolution
from tinygan.cuda.kernels import Kernels, chunks
from tinygan.fast.dcgan import UpStage, bias_of, layers_of
from tinygan.layers import BatchNorm, LeakyReLU, Linear, Network
from tinygan.optim import Adam


def alike(adam_G: Adam, adam_D: Adam) -> bool:
    """Whether one kernel can serve both: the same settings but for lr, and as many steps taken."""
    facts = [(adam.t, adam.beta1, adam.beta2, adam.eps) for adam in (adam_G, adam_D)]
    return facts[0] == facts[1] and type(adam_G) is type(adam_D) is Adam


class Norm(NamedTuple):
    """A batch norm of G with its LeakyReLU, and the map (rows, C) that passes them."""

    norm: BatchNorm
    relu: LeakyReLU
    width: int  # channels of a place: C, except behind the dense layer, whose columns become places
    h: Array  # what is normalised
    a: Array  # the activations
    da: Array
    dh: Array
    mean: Array
    inverse_std: Array

    @property
    def shape(self) -> tuple[int, int]:
        C = self.norm.gamma.shape[0]
        return self.h.size // C, C


class Up(NamedTuple):
    """One of G's transposed convolutions that are computed by frequencies, and what it lifts."""

    layer: Linear
    conv: Convolution
    X: Array
    Y: Array
    W: Array
    dX: Array
    dY: Array
    dW: Array


class Activation(NamedTuple):
    """What follows one of D's convolutions, in place: bias, LeakyReLU and dropout."""

    layer: Linear
    b: Array
    db: Array
    mask: Array
    phases: int  # of the map: 4, or 1 on the smallest
    slope: float
    keep_scale: float


class DCGAN:
    """Both networks and their Adams on the card, with all the memory a step needs.

    The tensors' arrays, and the Adams' averages, become parts of long arrays that `train_step` changes
    in place.
    """

    def __init__(
        self,
        G: Network,
        D: Network,
        adam_G: Adam,
        adam_D: Adam,
        batch: int,
        keep_scales: Sequence[float],
        average: Average | None = None,
        whole: int | None = None,
        check_reuse: bool = False,
    ) -> None:
        """`keep_scales`: 1 / (1 - rate) of D's two dropouts; `average`: of G, if there is one.

        `batch` is the number of fakes in a step, of `whole` that all ranks make together. `check_reuse`
        finds out whether a buffer is read after its memory was used again: see `buffers.ReuseCheck`.

        Raises:
            UsageError: the batch or the networks need an array of more than 2^31 numbers.
        """
        sizes = buffers.sizes_of(G, D)
        assert sizes, "not the DCGAN: see `buffers.sizes_of`"
        self.sizes, self.batch, self.all_M = sizes, batch, whole or batch
        self.G, self.D, self.adams, self.average = G, D, (adam_G, adam_D), average
        self.ranks = G.backend.ranks
        plan = buffers.planned(sizes, batch)
        buffers.refuse_uncountable(plan, sizes, batch)
        xp = self.xp = G.backend.xp
        self.stream = xp.cuda.Stream(non_blocking=True)
        self.blas = Blas(xp, self.stream, G.backend.precision)
        self.kernels = Kernels(xp, sizes.side, sizes.channels)
        self.buffers = buffers.allocated(xp, plan, apart=check_reuse)
        if check_reuse:
            self.blas.check = self.kernels.check = buffers.ReuseCheck(self.buffers)
        self._adopt()
        self._name_layers(keep_scales)
        self.wait_for_default_stream()

    def _name_layers(self, keep_scales: Sequence[float]) -> None:
        """Each layer with its buffers."""
        xp, blas, s, b = self.xp, self.blas, self.sizes, self.buffers
        self.dense_G, (first, second, third), (near, far), self.dense_D = layers_of(self.G, self.D)

        def norm(stage: UpStage, width: int, *arrays: Array) -> Norm:
            return Norm(stage.norm, stage.relu, width, *arrays)

        self.norm0 = norm(first, s.C0, b.h0, b.a0, b.da0, b.dh0, b.mean0, b.inverse_std0)
        up1 = Convolution(xp, blas, s.side, s.C1, s.C0, TAPS, 1)
        self.up1 = Up(first.conv, up1, b.X1, b.Y1, b.W1, b.dX1, b.dY1, b.dW1)
        self.norm1 = norm(second, s.C1, b.h1, b.a1, b.da1, b.dh1, b.mean1, b.inverse_std1)
        up2 = Convolution(xp, blas, s.side, s.C2, s.C1, TAPS, 2)
        self.up2 = Up(second.conv, up2, b.X2, b.Y2, b.W2, b.dX2, b.dY2, b.dW2)
        self.norm2 = norm(third, s.C2, b.h2, b.a2, b.da2, b.dh2, b.mean2, b.inverse_std2)
        self.to_pictures, self.from_pictures, self.down2 = third.conv, near.conv, far.conv
        self.down2_conv = Convolution(xp, blas, s.side, s.D1, s.D2, TAPS, 2)
        self.activation1 = Activation(near.conv, b.b1, b.db1, b.mask1, 4, near.relu.slope, keep_scales[0])
        self.activation2 = Activation(far.conv, b.b2, b.db2, b.mask2, 1, far.relu.slope, keep_scales[1])

    def wait_for_default_stream(self) -> None:
        """Wait until what was done on CuPy's own stream is there: `stream` does not do so by itself."""
        self.xp.cuda.get_current_stream().synchronize()
        self.xp.cuda.Stream.null.synchronize()

    def _adopt(self) -> None:
        """Lay out weights, gradients and averages as long arrays, G's before D's."""
        xp, (adam_G, adam_D) = self.xp, self.adams
        named = {f"{net.name}/{name}": p for net in (self.G, self.D) for name, p in net.parameters.items()}
        flat = Flat(xp, named)
        self.weights, self.places = flat.adopt(named), flat.places
        self.buffers.trouble[0] = self.weights.size
        self.of_G = flat.places[f"{self.D.name}/{next(iter(self.D.parameters))}"][0].start
        self.gradients, gradients = flat.zeros(4)  # and what `losses` finds: ranks add up all of it
        self.gradient_of: dict[Tensor, Array] = {p: gradients[name] for name, p in named.items()}
        self.averages, averages = flat.zeros()
        self.squares, squares = flat.zeros()
        for net, adam in ((self.G, adam_G), (self.D, adam_D)):
            for name in adam.parameters:
                full = f"{net.name}/{name}"
                for old, new in ((adam.m, averages), (adam.v, squares)):
                    new[full][...] = old[name]
                    old[name] = new[full]
        running = Flat(xp, self.G.statistics).adopt(self.G.statistics)
        self.averaged: list[tuple[Array, Array]] = []  # averages, and what they are averages of
        if self.average:
            # Laid out like their sources; G's weights are the beginning of all weights.
            for sources, values in ((self.G.parameters, self.weights), (self.G.statistics, running)):
                averaged = {name: self.average.averaged[name] for name in sources}
                self.averaged.append((Flat(xp, averaged).adopt(averaged), values))
        self.set_clock(0, adam_G.t)

    def set_clock(self, step: int, t: int) -> None:
        """So many steps have been taken, and so many of Adam."""
        self.time = np.array([step, t], np.int64)  # kept: the copy may read it later
        self.buffers.clock.set(self.time)

    def tick(self) -> None:
        """Another step begins."""
        (adam, other), clock, rate = self.adams, self.buffers.clock, self.buffers.rate
        self.kernels.launch("tick", (1,), (1,), clock, rate, adam.lr, other.lr, adam.beta1, adam.beta2)

    def train_step(self, N: int, all_N: int) -> None:
        """The step, from what `pictures[:N]`, `noise` and the masks hold, on the current stream.

        Where several ranks share the batch that is one's part of it, and all_N are real in the whole.
        """
        self.losses_and_gradients(N, all_N)
        self.ranks.add_up(self.gradients)
        self.update_weights()

    def losses_and_gradients(self, N: int, all_N: int) -> None:
        """As `gan.losses_and_gradients`: into `gradients`, with the losses and scores at its end."""
        b, kernels, M, T, window = self.buffers, self.kernels, self.batch, N + self.batch, self.sizes.window
        P, D1, fakes = self.sizes.P, self.sizes.D1, b.pictures[N:T]
        self._generator_forward(fakes)
        self._discriminator_forward(T)
        kernels.blocks(
            "losses", 1, b.logits, N, M, all_N, self.all_M, self.gradients[-4:], b.slopes_D, b.slopes_G,
            self.gradient_of[bias_of(self.dense_D)],
        )  # fmt: skip
        # Backward once through D, with 1 for each logit; each example's share is weighted where
        # examples are added up, or leave D. See `fast.gan`.
        self._discriminator_backward(T)
        db1 = part(b.db1, P, T * 4, D1)[:, N * 4 :]
        kernel = self.from_pictures.kernel.data.reshape(window, D1)
        self.blas.product(db1, kernel.T, b.dcolumns_D.reshape(P, M * 4, window))
        kernels.flat(
            "col2im_tanh_backward", b.dfakes.size, b.dcolumns_D, M, b.slopes_G, fakes, b.dfakes
        )
        self._generator_backward()

    def update_weights(self) -> None:
        """Both Adams, unless a loss or a gradient is not finite: see `trouble`."""
        b, kernels, adam, size = self.buffers, self.kernels, self.adams[0], self.weights.size
        kernels.flat(
            "check_finite", size, self.gradients, size, self.gradients[-4:], b.measured, MEASURED, b.clock,
            b.trouble,
        )  # fmt: skip
        kernels.flat(
            "adam", size, self.weights, self.gradients, self.averages, self.squares, size, self.of_G, b.rate,
            adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.eps, b.clock, b.trouble,
        )  # fmt: skip

    def trouble(self) -> tuple[int, str] | None:
        """The number of the step that had the first number that is not finite, and where."""
        at, step = map(int, self.xp.asnumpy(self.buffers.trouble))
        if at >= self.weights.size:
            return None
        if at < 0:
            return step, "a loss is not finite"
        name = next(name for name, (part, _) in self.places.items() if at < part.stop)
        return step, f"the gradient of {name} is not finite"

    def update_average(self) -> None:
        """G's average, if there is one: see `average.Average`."""
        for averaged, values in self.averaged:
            assert self.average
            self.kernels.flat(
                "average", averaged.size, averaged, values, averaged.size, self.buffers.clock,
                self.average.EVERY, self.average.decay,
            )  # fmt: skip

    # G.

    def _generator_forward(self, pictures: Array) -> None:
        """noise -> pictures (M, H, W, channels)."""
        b, M, window = self.buffers, self.batch, self.sizes.window
        self.blas.product(b.noise, self.dense_G.kernel.data, b.h0)
        self._normalise(self.norm0)
        for before, up, after in ((self.norm0, self.up1, self.norm1), (self.norm1, self.up2, self.norm2)):
            up.conv.lift_kernel(up.layer.kernel.data, up.W)
            up.conv.lift_small(before.a, up.Y)
            up.conv.up(up.Y, up.W, up.X)
            up.conv.lower_large(up.X, after.h)
            self._normalise(after)
        kernel = self.to_pictures.kernel.data.reshape(window, -1)
        self.blas.product(b.a2.reshape(-1, self.sizes.C2), kernel.T, b.columns_G.reshape(-1, window))
        self.kernels.flat("col2im_tanh", pictures.size, b.columns_G, M, pictures)

    def _generator_backward(self) -> None:
        """G's gradients, from that of the numbers before tanh."""
        b, M, window, C2 = self.buffers, self.batch, self.sizes.window, self.sizes.C2
        kernel = self.to_pictures.kernel
        self.kernels.flat("im2col", b.dcolumns_G.size, b.dfakes, M, b.dcolumns_G)
        columns = b.dcolumns_G.reshape(-1, window)
        self._kernel_gradient(columns, b.a2.reshape(-1, C2), self.gradient_of[kernel])
        self.blas.product(columns, kernel.data.reshape(window, C2), b.da2.reshape(-1, C2))
        for before, up, after in ((self.norm1, self.up2, self.norm2), (self.norm0, self.up1, self.norm1)):
            self._normalise_backward(after)
            up.conv.lift_large(after.dh, up.dX)
            up.conv.kernel_gradient(up.dX, up.Y, up.dW)
            up.conv.lower_kernel(up.dW, self.gradient_of[up.layer.kernel])
            up.conv.down(up.dX, up.W, up.dY)
            up.conv.lower_small(up.dY, before.da)
        self._normalise_backward(self.norm0)
        self.blas.product(b.noise.T, b.dh0, self.gradient_of[self.dense_G.kernel])

    def _normalise(self, n: Norm) -> None:
        """a = LeakyReLU(batch norm of h), and the running values."""
        norm, kernels, (rows, C) = n.norm, self.kernels, n.shape
        count, each = chunks(rows, C)
        # Distances are taken from a row, or from what is the same on all ranks that add them up.
        alone = self.ranks.size == 1
        x0, shares = (n.h if alone else norm.running_mean.data), self.buffers.shares
        kernels.shares("moments", count, C, n.h, x0, rows, C, each, shares)
        if not alone:
            count, shares = 1, self._of_all_ranks(count, C)
        kernels.shares(
            "batch_statistics", 1, C, shares, count, x0, self._all(rows), C, norm.eps, norm.momentum, n.mean,
            n.inverse_std, norm.running_mean.data, norm.running_variance.data, lanes=32,
        )  # fmt: skip
        kernels.rows(
            "normalise", rows, C, n.h, n.mean, n.inverse_std, norm.gamma.data, norm.beta.data, rows, C,
            n.width, n.relu.slope, n.a,
        )  # fmt: skip

    def _normalise_backward(self, n: Norm) -> None:
        """dh, from da; and the gradients of gamma and beta."""
        norm, kernels, (rows, C) = n.norm, self.kernels, n.shape
        count, each = chunks(rows, C)
        given = n.da, n.h, n.mean, n.inverse_std, norm.gamma.data, norm.beta.data
        dgamma, dbeta, shares = self.gradient_of[norm.gamma], self.gradient_of[norm.beta], self.buffers.shares
        kernels.shares("normalise_sums", count, C, *given, rows, C, n.width, each, n.relu.slope, shares)
        kernels.shares("total", 1, C, shares, count, C, 2, dbeta, dgamma, lanes=32)
        if self.ranks.size > 1:  # these two are this rank's; what x does to the moments is a matter of all
            dbeta, dgamma = self._of_all_ranks(count, C).reshape(2, C)
        kernels.rows(
            "normalise_back", rows, C, *given, dgamma, dbeta, self._all(rows), rows, C, n.width, n.relu.slope,
            n.dh,
        )  # fmt: skip

    def _of_all_ranks(self, count: int, C: int) -> Array:
        """The two sums over `count` shares (count, 2, C), added up over all ranks: (2 C)."""
        sums = part(self.buffers.sums, 2 * C)
        self.kernels.shares("total", 1, C, self.buffers.shares, count, C, 2, sums[:C], sums[C:], lanes=32)
        self.ranks.add_up(sums)
        return sums

    def _all(self, rows: int) -> int:
        """Of so many rows for this rank's examples: how many there are for all."""
        return rows // self.batch * self.all_M

    # D.

    def _discriminator_forward(self, T: int) -> None:
        """The first T pictures -> logits."""
        s, b, conv = self.sizes, self.buffers, self.down2_conv
        columns = part(b.columns_D, 4 * s.P * T, s.window)
        self.kernels.flat("im2col", columns.size, b.pictures[:T], T, columns)
        b1, b2 = part(b.b1, 4 * s.P * T, s.D1), part(b.b2, s.P, T, s.D2)
        self.blas.product(columns, self.from_pictures.kernel.data.reshape(s.window, s.D1), b1)
        self._activate(self.activation1, T)
        X, Y = part(b.X3, conv.rows, T, 4 * s.D1), part(b.Y3, conv.rows, T, s.D2)
        conv.lift_kernel(self.down2.kernel.data, b.W3)
        conv.lift_large(b1.reshape(s.P, T, 4 * s.D1), X)
        conv.down(X, b.W3, Y)
        conv.lower_small(Y, b2)
        self._activate(self.activation2, T)
        kernel, bias = (p.data for p in self.dense_D.parameters.values())
        self.kernels.blocks("dense_logits", T, b2, kernel, bias, T, s.D2, b.logits)

    def _discriminator_backward(self, T: int) -> None:
        """D's gradients, and in db1 that of each logit by the numbers before the first LeakyReLU."""
        s, b, conv, kernels = self.sizes, self.buffers, self.down2_conv, self.kernels
        weights = b.slopes_D
        b2, dense = part(b.b2, s.P * T, s.D2), self.dense_D.kernel
        # A share for each place is all of its sum.
        kernels.shares(
            "weighted_sums", s.P, s.D2, b2, weights, s.P * T, s.D2, T, T, 1, self.gradient_of[dense]
        )
        self._activate_backward(self.activation2, T, dense.data, same=T)
        X, dX, dY = (part(x, conv.rows, T, x.shape[2]) for x in (b.X3, b.dX3, b.dY3))
        conv.lift_small(part(b.db2, s.P, T, s.D2), dY)
        conv.up(dY, b.W3, dX)
        kernels.rows("scale_rows", conv.R * T, s.D2, dY, weights, conv.R * T, s.D2, T, 1)
        conv.kernel_gradient(X, dY, b.dW3)
        conv.lower_kernel(b.dW3, self.gradient_of[self.down2.kernel])
        db1, columns = part(b.db1, s.P, T, 4 * s.D1), part(b.columns_D, 4 * s.P * T, s.window)
        conv.lower_large(dX, db1)
        self._activate_backward(self.activation1, T, db1, same=1)
        rows, window = columns.shape
        kernels.rows("scale_rows", rows, window, columns, weights, rows, window, T, 4)
        self._kernel_gradient(columns, db1.reshape(-1, s.D1), self.gradient_of[self.from_pictures.kernel])

    def _activate(self, act: Activation, T: int) -> None:
        """b = dropout(LeakyReLU(b + bias)), in place."""
        b, mask = self._rows(act.b, T, act.phases), self._rows(act.mask, T, act.phases)
        bias = bias_of(act.layer).data
        self.kernels.rows("activate", *b.shape, b, bias, mask, *b.shape, act.slope, act.keep_scale)

    def _activate_backward(self, act: Activation, T: int, given: Array, same: int) -> None:
        """db before it, from that after it, a row of which serves `same` rows; and the bias's gradient."""
        b, db, mask = (self._rows(x, T, act.phases) for x in (act.b, act.db, act.mask))
        (rows, C), shares = b.shape, self.buffers.shares
        count, each = chunks(rows, C)
        self.kernels.shares(
            "activate_back", count, C, db, given, same, b, mask, self.buffers.slopes_D, rows, C, each, T,
            act.phases, act.slope, act.keep_scale, shares,
        )  # fmt: skip
        bias = self.gradient_of[bias_of(act.layer)]
        self.kernels.shares("total", 1, C, shares, count, C, 1, bias, bias, lanes=32)

    def _rows(self, x: Array, T: int, phases: int) -> Array:
        """A map's first T examples, as rows of channels."""
        return part(x, self.sizes.P * T * phases, x.shape[-1])

    def _kernel_gradient(self, columns: Array, rows: Array, gradient: Array) -> None:
        """columns' rows, (rows, WINDOW) and (rows, C): a long sum for few results, so cut into shares."""
        count, (window, C) = 4 * self.sizes.P, (columns.shape[1], rows.shape[1])
        shares = part(self.buffers.shares, count, window, C)
        parts = columns.reshape(count, -1, window).transpose(0, 2, 1), rows.reshape(count, -1, C)
        self.blas.product(*parts, shares)
        size = gradient.size
        self.kernels.shares("total", 1, size, shares, count, size, 1, gradient, gradient, lanes=32)

    def close(self) -> None:
        """Give cuBLAS's handle back, after the graphs that were captured with it."""
        self.blas.close()


def part(buffer: Array, *shape: int) -> Array:
    """The beginning of a buffer, under another shape."""
    return buffer.reshape(-1)[: prod(shape)].reshape(shape)
