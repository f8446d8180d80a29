"""The training step of `tinygan.gan.train_step` on a graphics card.

Everything a step needs stays on the card. It is about 80 kernels and matrix products, one after the
other on one stream, that read and write only arrays which never move: so it can be captured as a
CUDA graph (``trainer.py``).

What it computes is what `fast.gan` computes, with these shapes in mind: T = N + M examples pass D at
once, N real pictures and M fakes; a map of a quarter of the pictures' side is (places, T, channels),
one of half the side (places, T, 4 phases, channels). See ``kernels.cu``.
"""

from math import prod

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.average import Average
from tinygan.cuda import buffers
from tinygan.cuda.blas import Blas
from tinygan.cuda.buffers import STEPS_KEPT, ActivationBuffers, Flat, LiftedBuffers, NormBuffers
from tinygan.cuda.frequencies import Convolution
from tinygan.cuda.kernels import Kernels, chunks
from tinygan.fast.dcgan import DownStage, UpStage, layers_of
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.rng import mask_rate


class CardStep:
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
        all_M: int,
        average: Average | None = None,
        step: int = 0,
    ) -> None:
        """`all_M`: the fakes in a step, of which each of several ranks makes its part; `average`: of G;
        `step`: how many were taken.

        Raises:
            UsageError: the batch or the networks need an array of more than 2^31 numbers.
        """
        sizes = buffers.sizes_of(G, D)
        assert sizes, "not the DCGAN: see `buffers.sizes_of`"
        self.G, self.D, self.adams, self.average = G, D, (adam_G, adam_D), average
        self.sizes, self.all_M, self.ranks = sizes, all_M, G.backend.ranks
        self.fakes = self.ranks.part(all_M)
        self.batch = len(self.fakes)
        buffers.refuse_uncountable(sizes, self.batch)
        xp = self.xp = G.backend.xp
        self.stream = xp.cuda.Stream(non_blocking=True)
        self.blas = Blas(xp, self.stream, G.backend.precision)
        self.kernels = Kernels(xp, sizes.side, sizes.channels)
        self.memory = buffers.Memory(xp)
        self.buffers = buffers.Buffers(self.memory, sizes, self.batch)
        self.buffers.clock[0], self.buffers.clock[1] = step, adam_G.t
        self.dense_G, (self.up1, self.up2, self.up3), (self.down1, self.down2), self.dense_D = layers_of(G, D)
        self.rates = {stage: mask_rate(stage.dropout.rate) for stage in (self.down1, self.down2)}
        # By the stride: up1's, and that of up2 and down2.
        self.frequencies = {stride: Convolution(xp, self.blas, sizes.side, stride) for stride in (1, 2)}
        self._adopt()
        self.wait_for_default_stream()

    def wait_for_default_stream(self) -> None:
        """Wait until what was done on CuPy's own stream is there: `stream` does not do so by itself."""
        self.xp.cuda.get_current_stream().synchronize()
        self.xp.cuda.Stream.null.synchronize()

    def _adopt(self) -> None:
        """Lay out weights, gradients and averages as long arrays, G's before D's."""
        xp, (adam_G, adam_D) = self.xp, self.adams
        named = {f"{net.name}/{name}": p for net in (self.G, self.D) for name, p in net.parameters.items()}
        flat = Flat(xp, named)
        self.weights, self.places = flat.whole, flat.places
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
        running = Flat(xp, self.G.statistics).whole
        self.averaged: list[tuple[Array, Array]] = []  # averages, and what they are averages of
        if self.average:
            # Laid out like their sources; G's weights are the beginning of all weights.
            for sources, values in ((self.G.parameters, self.weights), (self.G.statistics, running)):
                averaged = {name: self.average.averaged[name] for name in sources}
                self.averaged.append((Flat(xp, averaged).whole, values))

    def tick(self) -> None:
        """Another step begins."""
        (adam, other), clock, rate = self.adams, self.buffers.clock, self.buffers.rate
        self.kernels.launch("tick", (1,), (1,), clock, rate, adam.lr, other.lr, adam.beta1, adam.beta2)

    def train_step(self, N: int, all_N: int) -> None:
        """The step, from what `pictures[:N]`, `noise` and the masks hold, on the current stream.

        From a loss or a gradient on that is not finite, no weight moves: see `trouble`.
        Where several ranks share the batch that is one's part of it, and all_N are real in the whole.
        """
        b, kernels, adam, size = self.buffers, self.kernels, self.adams[0], self.weights.size
        self.losses_and_gradients(N, all_N)
        self.ranks.add_up(self.gradients)
        kernels.flat(
            "check_finite", size, self.gradients, size, self.gradients[-4:], b.measured, STEPS_KEPT, b.clock,
            b.trouble,
        )  # fmt: skip
        kernels.flat(
            "adam", size, self.weights, self.gradients, self.averages, self.squares, size, self.of_G, b.rate,
            adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2, adam.eps, b.clock, b.trouble,
        )  # fmt: skip
        for averaged, values in self.averaged:
            assert self.average
            kernels.flat(
                "average", averaged.size, averaged, values, averaged.size, b.clock, self.average.EVERY,
                self.average.decay,
            )  # fmt: skip

    def losses_and_gradients(self, N: int, all_N: int) -> None:
        """As `gan.losses_and_gradients`: into `gradients`, with the losses and scores at its end."""
        b, s, M, T = self.buffers, self.sizes, self.batch, N + self.batch
        fakes = b.pictures[N:T]
        self._generator_forward(fakes)
        self._discriminator_forward(T)
        self.kernels.blocks(
            "losses", 1, b.logits, N, M, all_N, self.all_M, self.gradients[-4:], b.slopes_D, b.slopes_G,
            self.gradient_of[self.dense_D.parameters["bias"]],
        )  # fmt: skip
        # Backward once through D, with 1 for each logit; each example's share is weighted where
        # examples are added up, or leave D. See `fast.gan`.
        self._discriminator_backward(T)
        db = part(b.activation1.db, s.P, T * 4, s.D1)[:, N * 4 :]
        kernel = self.down1.conv.kernel.data.reshape(s.window, s.D1)
        self.blas.product(db, kernel.T, b.dwindows_D.reshape(s.P, M * 4, s.window))
        self.kernels.flat(
            "col2im_tanh_backward", b.dfakes.size, b.dwindows_D, M, b.slopes_G, fakes, b.dfakes
        )
        self._generator_backward()

    def trouble(self) -> tuple[int, str] | None:
        """The number of the step that had the first number that is not finite, and where."""
        at, step = map(int, self.xp.asnumpy(self.buffers.trouble))
        if at >= self.weights.size:
            return None
        if at < 0:
            return step, "a loss is not finite"
        name = next(name for name, (part, _) in self.places.items() if at < part.stop)
        return step, f"the gradient of {name} is not finite"

    # G.

    def _generator_forward(self, pictures: Array) -> None:
        """noise -> pictures (M, H, W, channels)."""
        b, window, C2 = self.buffers, self.sizes.window, self.sizes.C2
        self.blas.product(b.noise, self.dense_G.kernel.data, b.norm0.h)
        self._up(self.up1, b.norm0, b.up1, b.norm1)
        self._up(self.up2, b.norm1, b.up2, b.norm2)
        self._normalise(self.up3, b.norm2)
        kernel = self.up3.conv.kernel.data.reshape(window, C2)
        self.blas.product(b.norm2.a.reshape(-1, C2), kernel.T, b.windows_G.reshape(-1, window))
        self.kernels.flat("col2im_tanh", pictures.size, b.windows_G, self.batch, pictures)

    def _generator_backward(self) -> None:
        """G's gradients, from that of the numbers before tanh."""
        b, window, C2, kernel = self.buffers, self.sizes.window, self.sizes.C2, self.up3.conv.kernel
        self.kernels.flat("im2col", b.dwindows_G.size, b.dfakes, self.batch, b.dwindows_G)
        windows = b.dwindows_G.reshape(-1, window)
        self._kernel_gradient(windows, b.norm2.a.reshape(-1, C2), self.gradient_of[kernel])
        self.blas.product(windows, kernel.data.reshape(window, C2), b.norm2.da.reshape(-1, C2))
        self._normalise_backward(self.up3, b.norm2)
        self._up_backward(self.up2, b.norm1, b.up2, b.norm2)
        self._up_backward(self.up1, b.norm0, b.up1, b.norm1)
        self.blas.product(b.noise.T, b.norm0.dh, self.gradient_of[self.dense_G.kernel])

    def _up(self, stage: UpStage, before: NormBuffers, b: LiftedBuffers, after: NormBuffers) -> None:
        """h of one map -> h of the next: the stage, its transposed convolution by frequencies."""
        self._normalise(stage, before)
        conv = self.frequencies[stage.conv.stride]
        conv.lift(conv.K, stage.conv.kernel.data, b.W)
        conv.lift(conv.S, before.a, b.Y)
        conv.up(b.Y, b.W, b.X)
        conv.lower(conv.L, b.X, after.h)

    def _up_backward(self, stage: UpStage, before: NormBuffers, b: LiftedBuffers, after: NormBuffers) -> None:
        """dh of the next map -> dh of this one, and the gradients of the stage."""
        conv = self.frequencies[stage.conv.stride]
        conv.lift(conv.L, after.dh, b.dX)
        conv.kernel_gradient(b.dX, b.Y, b.dW)
        conv.lower(conv.K, b.dW, self.gradient_of[stage.conv.kernel])
        conv.down(b.dX, b.W, b.dY)
        conv.lower(conv.S, b.dY, before.da)
        self._normalise_backward(stage, before)

    def _normalise(self, stage: UpStage, n: NormBuffers) -> None:
        """a = LeakyReLU(batch norm of h), and the running values."""
        norm, kernels, C = stage.norm, self.kernels, n.mean.size
        rows, shares = n.h.size // C, self.buffers.shares
        count, each = chunks(rows, C)
        # Distances are taken from a row, or from what is the same on all ranks that add them up.
        alone = self.ranks.size == 1
        x0 = n.h if alone else norm.running_mean.data
        kernels.shares("moments", count, C, n.h, x0, rows, C, each, shares)
        if not alone:
            count, shares = 1, self._of_all_ranks(count, C)
        kernels.shares(
            "batch_statistics", 1, C, shares, count, x0, self._all(rows), C, norm.eps, norm.momentum, n.mean,
            n.inverse_std, norm.running_mean.data, norm.running_variance.data, lanes=32,
        )  # fmt: skip
        kernels.rows(
            "normalise", rows, C, n.h, n.mean, n.inverse_std, norm.gamma.data, norm.beta.data, rows, C,
            n.a.shape[-1], stage.relu.slope, n.a,
        )  # fmt: skip

    def _normalise_backward(self, stage: UpStage, n: NormBuffers) -> None:
        """dh, from da; and the gradients of gamma and beta."""
        norm, kernels, C, shares = stage.norm, self.kernels, n.mean.size, self.buffers.shares
        rows, width, slope = n.h.size // C, n.a.shape[-1], stage.relu.slope
        count, each = chunks(rows, C)
        given = n.da, n.h, n.mean, n.inverse_std, norm.gamma.data, norm.beta.data
        dgamma, dbeta = self.gradient_of[norm.gamma], self.gradient_of[norm.beta]
        kernels.shares("normalise_sums", count, C, *given, rows, C, width, each, slope, shares)
        kernels.shares("total", 1, C, shares, count, C, 2, dbeta, dgamma, lanes=32)
        if self.ranks.size > 1:  # these two are this rank's; what x does to the moments is a matter of all
            dbeta, dgamma = self._of_all_ranks(count, C).reshape(2, C)
        sums = dgamma, dbeta, self._all(rows)
        kernels.rows("normalise_back", rows, C, *given, *sums, rows, C, width, slope, n.dh)

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
        b, s, conv = self.buffers, self.sizes, self.frequencies[2]
        windows, b1, b2 = (self._rows(x, T) for x in (b.windows_D, b.activation1.b, b.activation2.b))
        self.kernels.flat("im2col", windows.size, b.pictures[:T], T, windows)
        self.blas.product(windows, self.down1.conv.kernel.data.reshape(s.window, s.D1), b1)
        self._activate(self.down1, b.activation1, T)
        X, Y = (part(x, conv.rows, T, x.shape[2]) for x in (b.down2.X, b.down2.Y))
        conv.lift(conv.K, self.down2.conv.kernel.data, b.down2.W)
        conv.lift(conv.L, b1, X)
        conv.down(X, b.down2.W, Y)
        conv.lower(conv.S, Y, b2)
        self._activate(self.down2, b.activation2, T)
        kernel, bias = self.dense_D.kernel.data, self.dense_D.parameters["bias"].data
        self.kernels.blocks("dense_logits", T, b2, kernel, bias, T, s.D2, b.logits)

    def _discriminator_backward(self, T: int) -> None:
        """D's gradients, and in `activation1.db` that of each logit by the first convolution's result."""
        b, s, conv, kernels = self.buffers, self.sizes, self.frequencies[2], self.kernels
        weights, dense = b.slopes_D, self.dense_D.kernel
        b2, db2 = (self._rows(x, T) for x in (b.activation2.b, b.activation2.db))
        kernels.shares("weighted_sums", s.P, s.D2, b2, weights, T, s.D2, self.gradient_of[dense])
        self._activate_backward(self.down2, b.activation2, T, dense.data, same=T)
        X, dX, dY = (part(x, conv.rows, T, x.shape[2]) for x in (b.down2.X, b.down2.dX, b.down2.dY))
        conv.lift(conv.S, db2, dY)
        conv.up(dY, b.down2.W, dX)
        kernels.rows("scale_rows", conv.R * T, s.D2, dY, weights, conv.R * T, s.D2, T, 1)
        conv.kernel_gradient(X, dY, b.down2.dW)
        conv.lower(conv.K, b.down2.dW, self.gradient_of[self.down2.conv.kernel])
        windows, db1 = (self._rows(x, T) for x in (b.windows_D, b.activation1.db))
        conv.lower(conv.L, dX, db1)
        self._activate_backward(self.down1, b.activation1, T, db1, same=1)
        kernels.rows("scale_rows", *windows.shape, windows, weights, *windows.shape, T, 4)
        self._kernel_gradient(windows, db1, self.gradient_of[self.down1.conv.kernel])

    def _activate(self, stage: DownStage, act: ActivationBuffers, T: int) -> None:
        """b = dropout(LeakyReLU(b + bias)), in place."""
        b, mask, bias = self._rows(act.b, T), self._rows(act.mask, T), stage.conv.parameters["bias"].data
        slope, growth = stage.relu.slope, 1 / (1 - self.rates[stage])
        self.kernels.rows("activate", *b.shape, b, bias, mask, *b.shape, slope, growth)

    def _activate_backward(
        self, stage: DownStage, act: ActivationBuffers, T: int, given: Array, same: int
    ) -> None:
        """db before it, from that after it, a row of which serves `same` rows; and the bias's gradient."""
        b, db, mask = (self._rows(x, T) for x in (act.b, act.db, act.mask))
        (rows, C), shares = b.shape, self.buffers.shares
        count, each = chunks(rows, C)
        self.kernels.shares(
            "activate_back", count, C, db, given, same, b, mask, self.buffers.slopes_D, rows, C, each, T,
            act.b.shape[2], stage.relu.slope, 1 / (1 - self.rates[stage]), shares,
        )  # fmt: skip
        bias = self.gradient_of[stage.conv.parameters["bias"]]
        self.kernels.shares("total", 1, C, shares, count, C, 1, bias, bias, lanes=32)

    def _rows(self, x: Array, T: int) -> Array:
        """The first T examples of a map (places, .., phases, C), as rows of channels."""
        return part(x, len(x) * T * x.shape[2], x.shape[3])

    def _kernel_gradient(self, columns: Array, rows: Array, gradient: Array) -> None:
        """columns' rows, (rows, WINDOW) and (rows, C): a long sum for few results, so cut into shares."""
        count, (window, C) = 4 * self.sizes.P, (columns.shape[1], rows.shape[1])
        shares = part(self.buffers.shares, count, window, C)
        parts = columns.reshape(count, -1, window).transpose(0, 2, 1), rows.reshape(count, -1, C)
        self.blas.product(*parts, shares)
        size = gradient.size
        self.kernels.shares("total", 1, size, shares, count, size, 1, gradient, gradient, lanes=32)


def part(buffer: Array, *shape: int) -> Array:
    """The beginning of a buffer, under another shape."""
    return buffer.reshape(-1)[: prod(shape)].reshape(shape)
