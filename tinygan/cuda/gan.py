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
from typing import cast

import numpy as np

from tinygan.arrays import Array
from tinygan.average import Average
from tinygan.cuda.blas import Blas
from tinygan.cuda.frequencies import Convolution
from tinygan.cuda.kernels import Kernels, chunks
from tinygan.cuda.plan import INDEXED, MEASURED, TAPS, Flat, buffers, indexable, sizes_of
from tinygan.errors import UsageError
from tinygan.layers import BatchNorm, LeakyReLU, Network
from tinygan.optim import Adam


def agree(adam_G: Adam, adam_D: Adam) -> bool:
    """Whether one kernel can serve both: the same settings but for lr, and as many steps taken."""
    facts = [(adam.t, adam.beta1, adam.beta2, adam.eps) for adam in (adam_G, adam_D)]
    return facts[0] == facts[1] and type(adam_G) is type(adam_D) is Adam


class Game:
    """Both networks and their Adams on the card, with all the memory a step needs.

    The tensors' arrays, and the Adams' averages, become parts of long arrays that `play` changes in
    place.
    """

    def __init__(
        self,
        G: Network,
        D: Network,
        adam_G: Adam,
        adam_D: Adam,
        batch: int,
        growths: Sequence[float],
        average: Average | None = None,
        whole: int | None = None,
    ) -> None:
        """`growths`: 1 / (1 - rate) of D's two dropouts; `average`: of G, if there is one.

        `batch` is the number of fakes in a step, of `whole` that all ranks make together.

        Raises:
            UsageError: the batch or the networks need an array of more than 2^31 numbers.
        """
        sizes = sizes_of(G, D)
        assert sizes, "not the DCGAN: see `sizes_of`"
        self.sizes, self.batch, self.growths, self.all_M = sizes, batch, growths, whole or batch
        self.G, self.D, self.adams, self.average = G, D, (adam_G, adam_D), average
        self.ranks = G.backend.ranks
        plan = buffers(sizes, batch)
        if not indexable(plan):
            small = indexable(buffers(sizes, 1))
            largest = max(prod(shape) for shape, _ in plan.values())
            remedy = (
                f"--batch-size {max(1, batch * INDEXED // largest)} or less" if small else "a smaller --width"
            )
            raise UsageError(f"the fast engine cannot count this on a GPU. Use {remedy}.")
        xp = self.xp = G.backend.xp
        self.stream = xp.cuda.Stream(non_blocking=True)
        self.blas = Blas(xp, self.stream, G.backend.precision)
        self.kernels = Kernels(xp, sizes.side, sizes.channels)
        (C0, C1, C2), (D1, D2) = sizes.G, sizes.D
        self.up1 = Convolution(xp, self.blas, sizes.side, C1, C0, TAPS, 1)
        self.up2 = Convolution(xp, self.blas, sizes.side, C2, C1, TAPS, 2)
        self.down = Convolution(xp, self.blas, sizes.side, D1, D2, TAPS, 2)
        # Zeros, not whatever was there: see `Convolution.down`.
        self.memory = {name: xp.zeros(shape, dtype=dtype) for name, (shape, dtype) in plan.items()}
        self._adopt()
        self.settle()

    def settle(self) -> None:
        """Wait until what was done on CuPy's own stream is there: `stream` does not do so by itself."""
        self.xp.cuda.get_current_stream().synchronize()
        self.xp.cuda.Stream.null.synchronize()

    def _adopt(self) -> None:
        xp, (adam_G, adam_D) = self.xp, self.adams
        named = {f"{net.name}/{name}": p for net in (self.G, self.D) for name, p in net.parameters.items()}
        flat = Flat(xp, named)
        self.weights, self.places = flat.adopt(named), flat.places
        self.memory["trouble"][0] = self.weights.size
        self.of_G = flat.places[f"{self.D.name}/{next(iter(self.D.parameters))}"][0].start
        self.gradients, self.gradient_of = flat.zeros(4)  # and what `score` finds: ranks add up all of it
        self.averages, averages = flat.zeros()
        self.squares, squares = flat.zeros()
        for net, adam in ((self.G, adam_G), (self.D, adam_D)):
            for name in adam.parameters:
                full = f"{net.name}/{name}"
                for old, new in ((adam.m, averages), (adam.v, squares)):
                    new[full][...] = old[name]
                    old[name] = new[full]
        running = Flat(xp, self.G.statistics).adopt(self.G.statistics)
        self.followers: list[tuple[Array, Array]] = []  # averages, and what they follow
        if self.average:
            # Laid out like their sources; G's weights are the beginning of all weights.
            for sources, values in ((self.G.parameters, self.weights), (self.G.statistics, running)):
                averaged = {name: self.average.averaged[name] for name in sources}
                self.followers.append((Flat(xp, averaged).adopt(averaged), values))
        self.clock_is(0, adam_G.t)

    def clock_is(self, step: int, t: int) -> None:
        """So many steps have been taken, and so many of Adam."""
        self.time = np.array([step, t], np.int64)  # kept: the copy may read it later
        self.memory["clock"].set(self.time)

    def tick(self) -> None:
        """Another step begins."""
        (adam, other), clock, rate = self.adams, self.memory["clock"], self.memory["rate"]
        self.kernels.launch("tick", (1,), (1,), clock, rate, adam.lr, other.lr, adam.beta1, adam.beta2)

    def play(self, N: int, all_N: int) -> None:
        """The step, from what `pictures[:N]`, `noise` and the masks hold, on the current stream.

        Where several ranks share the batch that is one's part of it, and all_N are real in the whole.
        """
        self.losses_and_gradients(N, all_N)
        self.ranks.add_up(self.gradients)
        self.update()

    def losses_and_gradients(self, N: int, all_N: int) -> None:
        """As `gan.losses_and_gradients`: into `gradients`, with the losses and scores at its end."""
        mem, kernels, M, T = self.memory, self.kernels, self.batch, N + self.batch
        P, window, (D1, _) = self.sizes.places, self.sizes.window, self.sizes.D
        fakes, columns, gradient = mem["pictures"][N:T], mem["columns"], mem["gradient"]
        self._paint(fakes)
        self._look(T)
        kernels.blocks(
            "score", 1, mem["logits"], N, M, all_N, self.all_M, self.gradients[-4:], mem["slopes_D"],
            mem["slopes_G"], self._gradient(self.D, 7, "bias"),
        )  # fmt: skip
        # Backward once through D, with 1 for each logit; each example's share is weighted where
        # examples are added up, or leave D. See `fast.gan`.
        self._learn_judge(T)
        g1 = self._part("g1", P, T * 4, D1)[:, N * 4 :]
        kernel = self._weight(self.D, 0).reshape(window, D1)
        self.blas.product(g1, kernel.T, columns.reshape(P, M * 4, window))
        kernels.flat("critique", gradient.size, columns, M, mem["slopes_G"], fakes, gradient)
        self._learn_painter(gradient)

    def update(self) -> None:
        """Both Adams, unless a loss or a gradient is not finite: see `trouble`."""
        mem, kernels, adam = self.memory, self.kernels, self.adams[0]
        kernels.flat(
            "watch", self.weights.size, self.gradients, self.weights.size, self.gradients[-4:],
            mem["measured"], MEASURED, mem["clock"], mem["trouble"],
        )  # fmt: skip
        kernels.flat(
            "adam", self.weights.size, self.weights, self.gradients, self.averages, self.squares,
            self.weights.size, self.of_G, mem["rate"], adam.beta1, adam.beta2, 1 - adam.beta1,
            1 - adam.beta2, adam.eps, mem["clock"], mem["trouble"],
        )  # fmt: skip

    def trouble(self) -> tuple[int, str] | None:
        """The number of the step that had the first number that is not finite, and where; see `watch`."""
        at, step = map(int, self.xp.asnumpy(self.memory["trouble"]))
        if at >= self.weights.size:
            return None
        if at < 0:
            return step, "a loss is not finite"
        name = next(name for name, (part, _) in self.places.items() if at < part.stop)
        return step, f"the gradient of {name} is not finite"

    def follow(self) -> None:
        """Let G's average follow, if there is one."""
        for averaged, values in self.followers:
            assert self.average
            self.kernels.flat(
                "average", averaged.size, averaged, values, averaged.size, self.memory["clock"],
                self.average.EVERY, self.average.decay,
            )  # fmt: skip

    # G. Its layers' numbers in the list of `models.generator` name them.

    def _paint(self, pictures: Array) -> None:
        """Forward: noise -> pictures (M, H, W, channels)."""
        mem, M = self.memory, self.batch
        self.blas.product(mem["noise"], self._weight(self.G, 0), mem["h0"])
        self._normalise("0", 1)
        for number, conv, layer, into in (("1", self.up1, 4, "h1"), ("2", self.up2, 7, "h2")):
            X, Y, W = (mem[name + number] for name in "XYW")
            conv.lift_kernel(self._weight(self.G, layer), W)
            conv.lift_small(mem["a0" if number == "1" else "a1"], Y)
            conv.up(Y, W, X)
            conv.lower_large(X, mem[into])
            self._normalise(number, layer + 1)
        rows, window = 4 * self.sizes.places * M, self.sizes.window
        kernel = self._weight(self.G, 10).reshape(window, -1)
        self.blas.product(mem["a2"].reshape(rows, -1), kernel.T, mem["columns"].reshape(rows, window))
        self.kernels.flat("paint", pictures.size, mem["columns"], M, pictures)

    def _normalise(self, number: str, layer: int) -> None:
        """a = LeakyReLU(batch norm of h), and the running values."""
        h, rows, C, width, norm, relu = self._normed(number, layer)
        mem, kernels = self.memory, self.kernels
        count, each = chunks(rows, C)
        mean, inverse_std = mem["mean" + number], mem["inverse_std" + number]
        # Distances are taken from a row, or from what is the same on all ranks that add them up.
        alone = self.ranks.size == 1
        x0, shares = (h if alone else norm.running_mean.data), mem["shares"]
        kernels.shares("moments", count, C, h, x0, rows, C, each, shares)
        if not alone:
            count, shares = 1, self._of_all_ranks(count, C)
        kernels.shares(
            "settle", 1, C, shares, count, x0, self._all(rows), C, norm.eps, norm.momentum, mean,
            inverse_std, norm.running_mean.data, norm.running_variance.data, lanes=32,
        )  # fmt: skip
        gamma, beta = norm.gamma.data, norm.beta.data
        kernels.rows(
            "normalise", rows, C, h, mean, inverse_std, gamma, beta, rows, C, width, relu.slope,
            mem["a" + number],
        )  # fmt: skip

    def _normalise_back(self, number: str, layer: int) -> None:
        """h becomes its own gradient, from that of a; gamma's and beta's too."""
        h, rows, C, width, norm, relu = self._normed(number, layer)
        mem, kernels = self.memory, self.kernels
        count, each = chunks(rows, C)
        given = (
            mem["da" + number], h, mem["mean" + number], mem["inverse_std" + number], norm.gamma.data,
            norm.beta.data,
        )  # fmt: skip
        dgamma, dbeta = self._gradient(self.G, layer, "gamma"), self._gradient(self.G, layer, "beta")
        kernels.shares("normalise_sums", count, C, *given, rows, C, width, each, relu.slope, mem["shares"])
        kernels.shares("total", 1, C, mem["shares"], count, C, 2, dbeta, dgamma, lanes=32)
        if self.ranks.size > 1:  # these two are this rank's; what x does to the moments is a matter of all
            dbeta, dgamma = self._of_all_ranks(count, C).reshape(2, C)
        kernels.rows(
            "normalise_back", rows, C, *given, dgamma, dbeta, self._all(rows), rows, C, width, relu.slope, h
        )

    def _of_all_ranks(self, count: int, C: int) -> Array:
        """The two sums over `count` shares (count, 2, C), added up over all ranks: (2 C)."""
        sums = self._part("sums", 2 * C)
        self.kernels.shares(
            "total", 1, C, self.memory["shares"], count, C, 2, sums[:C], sums[C:], lanes=32
        )
        self.ranks.add_up(sums)
        return sums

    def _all(self, rows: int) -> int:
        """Of so many rows for this rank's examples: how many there are for all."""
        return rows // self.batch * self.all_M

    def _normed(self, number: str, layer: int) -> tuple[Array, int, int, int, BatchNorm, LeakyReLU]:
        """h, its rows and channels, the channels of a place, and the two layers."""
        layers = list(self.G.layers.values())
        norm, relu = cast(BatchNorm, layers[layer]), cast(LeakyReLU, layers[layer + 1])
        h = self.memory["h" + number]
        C = norm.gamma.shape[0]
        return h, h.size // C, C, self.sizes.G[int(number)], norm, relu

    def _learn_painter(self, gradient: Array) -> None:
        """G's gradients, from that of the numbers before tanh (M, H, W, channels)."""
        mem, M, window = self.memory, self.batch, self.sizes.window
        rows = 4 * self.sizes.places * M
        columns, kernel = mem["columns"], self._weight(self.G, 10).reshape(window, -1)
        self.kernels.flat("im2col", columns.size, gradient, M, columns)
        columns = columns.reshape(rows, window)
        a2, da2 = (mem[name].reshape(rows, -1) for name in ("a2", "da2"))
        self._kernel_gradient(columns, a2, self._gradient(self.G, 10))
        self.blas.product(columns, kernel, da2)
        for number, conv, layer, into in (("2", self.up2, 7, "da1"), ("1", self.up1, 4, "da0")):
            self._normalise_back(number, layer + 1)
            X, Y, W, dW = (mem[name + number] for name in ("X", "Y", "W", "dW"))
            conv.lift_large(mem["h" + number], X)
            conv.kernel_gradient(X, Y, dW)
            conv.lower_kernel(dW, self._gradient(self.G, layer, "kernel"))
            conv.down(X, W, Y)
            conv.lower_small(Y, mem[into])
        self._normalise_back("0", 1)
        self.blas.product(mem["noise"].T, mem["h0"], self._gradient(self.G, 0, "kernel"))

    # D.

    def _look(self, T: int) -> None:
        """Forward: the first T pictures -> logits."""
        mem, P, window, (D1, D2) = self.memory, self.sizes.places, self.sizes.window, self.sizes.D
        columns, b1 = self._part("columns_D", 4 * P * T, window), self._part("b1", 4 * P * T, D1)
        self.kernels.flat("im2col", columns.size, mem["pictures"][:T], T, columns)
        self.blas.product(columns, self._weight(self.D, 0).reshape(window, D1), b1)
        self._activate(1, T)
        X, Y, _ = self._lifted(T)
        b2 = self._part("b2", P, T, D2)
        self.down.lift_kernel(self._weight(self.D, 3), mem["W3"])
        self.down.lift_large(b1.reshape(P, T, 4 * D1), X)
        self.down.down(X, mem["W3"], Y)
        self.down.lower_small(Y, b2)
        self._activate(2, T)
        bias = self._weight(self.D, 7, "bias")
        self.kernels.blocks("judge", T, b2, self._weight(self.D, 7), bias, T, D2, mem["logits"])

    def _activate(self, number: int, T: int) -> None:
        """Bias, LeakyReLU and dropout of D's convolution 1 or 2, in place."""
        b, mask, slope, growth = self._activated(number, T)
        bias = self._weight(self.D, 3 * number - 3, "bias")
        self.kernels.rows("activate", *b.shape, b, bias, mask, *b.shape, slope, growth)

    def _activate_back(self, number: int, T: int, given: Array, same: int) -> None:
        """g, from the gradient of b, a row of which serves `same` rows; and the bias's gradient."""
        b, mask, slope, growth = self._activated(number, T)
        (rows, C), g = b.shape, self._part(f"g{number}", *b.shape)
        count, each = chunks(rows, C)
        shares, weights, phases = self.memory["shares"], self.memory["slopes_D"], (3 - number) ** 2
        self.kernels.shares(
            "activate_back", count, C, g, given, same, b, mask, weights, rows, C, each, T, phases, slope,
            growth, shares,
        )  # fmt: skip
        bias = self._gradient(self.D, 3 * number - 3, "bias")
        self.kernels.shares("total", 1, C, shares, count, C, 1, bias, bias, lanes=32)

    def _activated(self, number: int, T: int) -> tuple[Array, Array, float, float]:
        """b (rows, C) and mask of D's map 1 or 2, the slope of its LeakyReLU, its dropout's growth."""
        relu, C = cast(LeakyReLU, list(self.D.layers.values())[3 * number - 2]), self.sizes.D[number - 1]
        rows = self.sizes.places * T * (3 - number) ** 2
        b, mask = self._part(f"b{number}", rows, C), self._part(f"mask{number}", rows, C)
        return b, mask, relu.slope, self.growths[number - 1]

    def _lifted(self, T: int) -> tuple[Array, Array, Array]:
        """X and Y of D's second convolution, and the gradient of X."""
        shapes = self.down.shapes(T)
        return self._part("X3", *shapes["X"]), self._part("Y3", *shapes["Y"]), self._part("dX3", *shapes["X"])

    def _learn_judge(self, T: int) -> None:
        """D's gradients, and in g1 that of each logit by the numbers before the first LeakyReLU."""
        mem, P, window, (D1, D2) = self.memory, self.sizes.places, self.sizes.window, self.sizes.D
        weights, kernels = mem["slopes_D"], self.kernels
        b2, g2 = self._part("b2", P * T, D2), self._part("g2", P, T, D2)
        dense = self._gradient(self.D, 7)  # a share for each place is all of its sum
        kernels.shares("weighted_sums", P, D2, b2, weights, P * T, D2, T, T, 1, dense)
        self._activate_back(2, T, self._weight(self.D, 7), same=T)
        X, Y, dX = self._lifted(T)
        g1, columns = self._part("g1", P, T, 4 * D1), self._part("columns_D", 4 * P * T, window)
        self.down.lift_small(g2, Y)
        self.down.up(Y, mem["W3"], dX)
        kernels.rows("scale_rows", self.down.R * T, D2, Y, weights, self.down.R * T, D2, T, 1)
        self.down.kernel_gradient(X, Y, mem["dW3"])
        self.down.lower_kernel(mem["dW3"], self._gradient(self.D, 3))
        self.down.lower_large(dX, g1)
        self._activate_back(1, T, g1, same=1)
        kernels.rows("scale_rows", 4 * P * T, window, columns, weights, 4 * P * T, window, T, 4)
        self._kernel_gradient(columns, g1.reshape(-1, D1), self._gradient(self.D, 0))

    def _kernel_gradient(self, columns: Array, rows: Array, gradient: Array) -> None:
        """columns' rows, (rows, WINDOW) and (rows, C): a long sum for few results, so cut into shares."""
        count, (window, C) = 4 * self.sizes.places, (columns.shape[1], rows.shape[1])
        shares = self._part("shares", count, window, C)
        parts = columns.reshape(count, -1, window).transpose(0, 2, 1), rows.reshape(count, -1, C)
        self.blas.product(*parts, shares)
        size = gradient.size
        self.kernels.shares("total", 1, size, shares, count, size, 1, gradient, gradient, lanes=32)

    # Names and parts.

    def _name(self, net: Network, layer: int, kind: str) -> str:
        return f"{list(net.layers)[layer]}/{kind}"

    def _weight(self, net: Network, layer: int, kind: str = "kernel") -> Array:
        return net.parameters[self._name(net, layer, kind)].data

    def _gradient(self, net: Network, layer: int, kind: str = "kernel") -> Array:
        return self.gradient_of[f"{net.name}/{self._name(net, layer, kind)}"]

    def _part(self, name: str, *shape: int) -> Array:
        """The beginning of a planned array, under another shape."""
        return self.memory[name].reshape(-1)[: prod(shape)].reshape(shape)

    def close(self) -> None:
        """Give cuBLAS's handle back, after the graphs that were captured with it."""
        self.blas.close()
