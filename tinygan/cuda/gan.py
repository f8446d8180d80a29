"""The training step of `tinygan.gan.train_step` on a graphics card.

It runs about 50 kernels and matrix products on arrays that never move in memory, so it can be captured as a
CUDA graph (``trainer.py``). As in `fast.gan`, T = N + M examples pass through D at once, N real pictures and
M fakes. ``kernels.cu`` documents the shapes of maps."""

from contextlib import suppress

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.average import Average
from tinygan.cuda import buffers
from tinygan.cuda.blas import Blas
from tinygan.cuda.buffers import STEPS_KEPT, Flat, LiftedBuffers, NormBuffers
from tinygan.cuda.frequencies import Convolution
from tinygan.cuda.kernels import QUADS, THREADS, Kernels
from tinygan.fast.dcgan import UpStage, layers_of
from tinygan.layers import Conv2D, Conv2DTranspose, Network
from tinygan.optim import Adam
from tinygan.penalty import r1_gradients
from tinygan.rng import MASK_STEPS, key, mask_rate, stream

Convolutional = Conv2D | Conv2DTranspose


class CardStep:
    """Both networks and their Adams on the card, with all the memory a step needs. The arrays of tensors and
    Adams become parts of long arrays that `train_step` updates in place."""

    def __init__(
        self, G: Network, D: Network, adam_G: Adam, adam_D: Adam, all_M: int, average: Average | None = None,
        step: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        """`all_M`: the fakes per step over all ranks; `average`: the average of G, if any; `step`: the steps
        already taken; `seed`: the seed of noise and masks.
        Raises: UsageError if the batch or the networks need an array of more than 2^31 numbers."""
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
        self.scale, self.half = 1, G.backend.precision == "float16"
        lifted = xp.float16 if self.half else xp.float32
        self.kernels = Kernels(xp, sizes.side, sizes.channels, sizes.wide, lifted)
        self.memory = buffers.Memory(xp)
        # In a last batch that is nearly full, a rank can have one real picture more than fakes.
        most = -(-all_M // self.ranks.size)
        self.buffers = buffers.Buffers(self.memory, sizes, self.batch, most, lifted)
        self.buffers.clock[0], self.buffers.clock[1] = step, adam_G.t
        self.dense_G, (self.up1, self.up2, self.up3), (self.down1, self.down2), self.dense_D = layers_of(G, D)
        rates = [mask_rate(stage.dropout.rate) for stage in (self.down1, self.down2)]
        self.thresholds = [round(rate * MASK_STEPS) for rate in rates]
        # LeakyReLU's slope, and dropout's factor for the elements it keeps.
        self.scales1 = self.down1.relu.slope, 1 / (1 - rates[0])
        self.scales2 = self.down2.relu.slope, 1 / (1 - rates[1])
        self.noise_key = key(seed, stream(seed, "noise").path, 1)  # ... .at(step)
        self.mask_key = key(seed, stream(seed, "dropout").path, 3)  # ... .at(step, pass, layer)
        # By stride: 1 for up1, 2 for up2 and down2.
        self.frequencies = {S: Convolution(xp, self.kernels, self.blas, sizes.side, S) for S in (1, 2)}
        self._adopt()
        self.wait_for_default_stream()

    def wait_for_default_stream(self) -> None:
        """Wait for the work on CuPy's own stream: `stream` does not wait for it by itself."""
        self.xp.cuda.get_current_stream().synchronize()
        self.xp.cuda.Stream.null.synchronize()

    def stop(self) -> None:
        """Wait for the card, even if it has failed."""
        with suppress(Exception):
            self.stream.synchronize()

    def close(self) -> None:
        """Free cuBLAS's handle. The card must be idle, and no graph that uses the handle may exist."""
        self.blas.close()

    def _adopt(self) -> None:
        """Move weights, gradients and averages into long arrays, G's before D's."""
        xp, (adam_G, adam_D) = self.xp, self.adams
        named = {f"{net.name}/{name}": p for net in (self.G, self.D) for name, p in net.parameters.items()}
        flat = Flat(xp, named)
        self.weights, self.places = flat.whole, flat.places
        self.buffers.trouble[0] = self.weights.size
        self.of_G = flat.places[f"{self.D.name}/{next(iter(self.D.parameters))}"][0].start
        self.gradients, gradients = flat.zeros(4)  # plus the results of `losses`: ranks add up all of these
        self.gradient_of: dict[Tensor, Array] = {p: gradients[name] for name, p in named.items()}
        self.averages, averages = flat.zeros()
        self.squares, squares = flat.zeros()
        for net, adam in ((self.G, adam_G), (self.D, adam_D)):
            for old, new in ((adam.m, averages), (adam.v, squares)):
                for name in adam.parameters:
                    part = new[f"{net.name}/{name}"]
                    part[...] = old[name]
                    old[name] = part
        running = Flat(xp, self.G.statistics).whole
        self.averaged: list[tuple[Array, Array]] = []  # averages, and the arrays they follow
        if self.average:
            # These have the layout of their sources; G's weights come first among all weights.
            for sources, values in ((self.G.parameters, self.weights), (self.G.statistics, running)):
                averaged = {name: self.average.averaged[name] for name in sources}
                self.averaged.append((Flat(xp, averaged).whole, values))

    def begin(self, images: Array, order: Array, all_N: int) -> None:
        """Prepare a rank's part of a step: all_N pictures (`images` uint8, in `order`), noise and masks."""
        (adam, other), b, s, real = self.adams, self.buffers, self.sizes, self.ranks.part(all_N)
        masks = b.mask1, s.D1, self.thresholds[0], b.mask2, s.D2, self.thresholds[1]
        # A thread prepares `wide` bytes of the pictures, 4 numbers of noise, and 16 elements of each mask.
        most = max(b.pictures.size, self.kernels.wide * max(b.noise.size // 4 + 2, b.mask1.size))
        pictures = b.pictures, images, order, real.start, len(real), self.all_M, -(-len(order) // self.all_M)
        noise = b.noise, b.noise_lifted, self.fakes.start * s.noise, b.noise.size, *self.noise_key
        adams = b.clock, b.rate, adam.lr, other.lr, adam.beta1, adam.beta2
        fakes = self.fakes.start, self.batch, *self.mask_key
        self.kernels.flat("begin", most, *pictures, *noise, *masks, *fakes, *adams, b.arrived)

    def train_step(self, all_N: int, strength: float = 0.0) -> None:
        """Run the step that `begin` prepared on the current stream, with `all_N` real pictures and R1 of this
        strength. After a loss or a gradient that is not finite no weight moves: see `trouble`."""
        b, kernels, adam, size = self.buffers, self.kernels, self.adams[0], self.weights.size
        N = len(self.ranks.part(all_N))
        fakes = b.pictures[N : N + self.batch]
        if self.half:  # scale gradients by about 64 times the pictures in a mean, so that few underflow
            self.scale = 1 << min(all_N, self.all_M).bit_length() + 5
        self._generator_forward(fakes)
        self._discriminator_forward(N, all_N)
        self._discriminator_backward(N, fakes)
        self._generator_backward()
        if strength and N:  # op by op
            self.stream.synchronize()  # the tests' CuPy computes ops at once but runs kernels late
            steep = r1_gradients(self.D, b.pictures[:N], strength, all_N)
            for p, more in zip(self.D.parameters.values(), steep, strict=True):
                self.gradient_of[p] += self.scale * more
        self.ranks.add_up(self.gradients)
        measures, when = (self.gradients[-4:], b.measured, STEPS_KEPT), (b.clock, b.trouble)
        kernels.flat("check_finite", size, self.gradients, size, 1 / self.scale, *measures, *when)
        given = self.weights, self.gradients, self.averages, self.squares, size, self.of_G, 1 / self.scale
        betas = adam.beta1, adam.beta2, 1 - adam.beta1, 1 - adam.beta2
        kernels.flat("adam", size, *given, b.rate, *betas, adam.eps, *when)
        for averaged, values in self.averaged:
            assert self.average
            given = averaged, values, averaged.size, b.clock, self.average.EVERY, self.average.decay
            kernels.flat("average", averaged.size, *given)

    def trouble(self) -> tuple[int, str] | None:
        """The first step with a number that is not finite, and what it was; None if there is none."""
        at, step = map(int, self.xp.asnumpy(self.buffers.trouble))
        if at >= self.weights.size:
            return None
        name = next(name for name, (part, _) in self.places.items() if at < part.stop)
        what = "a loss" if at < 0 else f"the gradient of {name}"
        why = " (float16 overflows at 65,504; try --precision tf32)" if self.half else ""
        return step, f"{what} is not finite{why}"

    def _generator_forward(self, pictures: Array) -> None:
        """noise -> pictures (M, H, W, channels)."""
        b, last, conv = self.buffers, self.buffers.norm2, self.up3.conv
        self.blas.product(b.noise, self.dense_G.kernel.data, b.norm0.h.reshape(self.batch, -1))
        self._normalise(self.up1, b.norm0)
        self._convolve(self.up1.conv, b.up1, b.norm0.a, b.norm1.h)
        self._normalise(self.up2, b.norm1)
        self._convolve(self.up2.conv, b.up2, b.norm1.a, b.norm2.h)
        self._normalise(self.up3, last)
        given = last.h, last.known, conv.kernel.data, self.sizes.C2, self.up3.relu.slope, pictures
        self.kernels.strips("make_pictures", self.batch, *given)

    def _generator_backward(self) -> None:
        """G's gradients, from the gradient before tanh."""
        b, M, C, n, kernels = self.buffers, self.batch, self.sizes.C2, self.buffers.norm2, self.kernels
        norm, kernel, slope, of = self.up3.norm, self.up3.conv.kernel, self.up3.relu.slope, self.gradient_of
        given, sums, rows = (b.dfakes, n.h, n.known, kernel.data), b.sums[: 2 * C], n.h.size // C
        found = b.shares, b.arrived, of[kernel], of[norm.beta], of[norm.gamma], sums
        kernels.columns("make_pictures_sums", C, M, *given, M, C, slope, *found, along=QUADS, least=1)
        self.ranks.add_up(sums)
        kernels.flat("make_pictures_back", n.h.size // 4, *given, sums, self._all(rows), M, C, slope, n.dh)
        self._convolve_backward(self.up2.conv, b.up2, b.norm2.dh, b.norm1.da)
        self._normalise_backward(self.up2, b.norm1)
        self._convolve_backward(self.up1.conv, b.up1, b.norm1.dh, b.norm0.da)
        self._normalise_backward(self.up1, b.norm0)
        self.blas.product(b.noise_lifted.T, b.norm0.dh.reshape(M, -1), of[self.dense_G.kernel])

    def _normalise(self, stage: UpStage, n: NormBuffers) -> None:
        """a = LeakyReLU(batch norm of h), if it is stored, and the running statistics."""
        norm, kernels, b, C = stage.norm, self.kernels, self.buffers, n.known.shape[1]
        rows, alone, sums, slope = n.h.size // C, self.ranks.size == 1, b.sums[: 2 * C], stage.relu.slope
        running, variance = norm.running_mean.data, norm.running_variance.data
        # Distances are from a row of h; ranks, which add them up, need the same origin: the running mean.
        origin, given = n.h if alone else running, (norm.gamma.data, norm.beta.data, norm.eps, norm.momentum)
        learnt, shares = (origin, *given, n.known, running, variance), (b.shares, b.arrived, sums, alone)
        count = kernels.columns("moments", C, rows, n.h, rows, C, *shares, *learnt, slope, n.a.size, n.a)
        if not alone:
            self.ranks.add_up(sums)
            kernels.flat("learn_from_all", C, sums, self._all(rows), C, *learnt)
        if n.a.size and not (alone and count == 1):
            kernels.flat("normalise", n.h.size, n.h, n.known, n.h.size, C, slope, n.a)

    def _normalise_backward(self, stage: UpStage, n: NormBuffers) -> None:
        """da -> dh, and the gradients of gamma and beta."""
        norm, kernels, b, C = stage.norm, self.kernels, self.buffers, n.known.shape[1]
        rows, alone, sums, slope = n.h.size // C, self.ranks.size == 1, b.sums[: 2 * C], stage.relu.slope
        given = n.da, n.h, n.known
        found = b.shares, b.arrived, self.gradient_of[norm.beta], self.gradient_of[norm.gamma], sums
        count = kernels.columns("normalise_sums", C, rows, *given, rows, C, slope, *found, alone, n.dh)
        if not (alone and count == 1):
            self.ranks.add_up(sums)
            kernels.flat("normalise_back", n.h.size, *given, sums, self._all(rows), n.h.size, C, slope, n.dh)

    def _all(self, rows: int) -> int:
        """The rows on all ranks together, from the `rows` of this rank."""
        return rows // self.batch * self.all_M

    def _convolve(self, layer: Convolutional, b: LiftedBuffers, x: Array, y: Array) -> None:
        """Map x -> map y, by frequencies."""
        conv, up = self.frequencies[layer.stride], isinstance(layer, Conv2DTranspose)
        X, Y, multiply = (b.Y, b.X, conv.up) if up else (b.X, b.Y, conv.down)
        X, Y = X[: len(x)], Y[: len(x)]
        conv.lift_kernel(layer.kernel.data, b.W)
        conv.lift(x, X)
        multiply(X, b.W, Y)
        conv.lower(Y, y)

    def _convolve_backward(self, layer: Convolutional, b: LiftedBuffers, dy: Array, dx: Array) -> None:
        """dy -> dx, and the kernel's gradient."""
        conv, up = self.frequencies[layer.stride], isinstance(layer, Conv2DTranspose)
        X, Y, dX, dY = (lifted[: len(dy)] for lifted in (b.X, b.Y, b.dX, b.dY))
        given, result, multiply = (dX, dY, conv.down) if up else (dY, dX, conv.up)
        conv.lift(dy, given)
        conv.kernel_gradient(*((dX, Y) if up else (X, dY)), b.dW)
        conv.lower_kernel(b.dW, self.gradient_of[layer.kernel])
        multiply(given, b.W, result)
        conv.lower(result, dx)

    def _discriminator_forward(self, N: int, all_N: int) -> None:
        """N of all ranks' all_N real pictures, and the fakes -> logits, losses and their slopes."""
        b, s, kernels, T = self.buffers, self.sizes, self.kernels, N + self.batch
        first, second, dense = self.down1.conv.parameters, self.down2.conv.parameters, self.dense_D.parameters
        given = b.pictures, first["kernel"].data, first["bias"].data, b.mask1
        kernels.flat("see_pictures", T * s.P * s.D1, *given, T, s.D1, *self.scales1, b.a1, b.codes)
        self._convolve(self.down2.conv, b.down2, b.a1[:T], b.h2[:T])
        kernels.launch(
            "answer", (T,), (1, THREADS), b.h2, second["bias"].data, b.mask2, s.D2, *self.scales2,
            dense["kernel"].data, dense["bias"].data, b.logits, b.arrived, N, self.batch, all_N, self.all_M,
            self.scale, self.gradients[-4:], b.slopes, b.ratios, self.gradient_of[dense["bias"]],
        )  # fmt: skip

    def _discriminator_backward(self, N: int, fakes: Array) -> None:
        """D's gradients, and the gradient of G's loss by the fakes before tanh."""
        b, s, kernels, T = self.buffers, self.sizes, self.kernels, N + self.batch
        first, second, dense = self.down1.conv.parameters, self.down2.conv.parameters, self.dense_D.parameters
        of, each = self.gradient_of, s.P * s.D2
        given = b.h2, second["bias"].data, b.mask2, T, s.D2, *self.scales2, dense["kernel"].data, b.slopes
        found = b.shares, b.arrived, of[dense["kernel"]], b.sums[:each], of[second["bias"]], b.dh2
        kernels.columns("answer_back", each, T, *given, *found)
        self._convolve_backward(self.down2.conv, b.down2, b.dh2[:T], b.da1[:T])
        given = b.pictures, b.da1, b.codes, T, s.D1, *self.scales1
        found = b.shares, b.arrived, of[first["kernel"]], of[first["bias"]]
        kernels.columns("see_pictures_back", s.D1, T, *given, *found, along=QUADS, least=1)
        given = b.da1[N:], b.codes[N:], first["kernel"].data, s.D1, *self.scales1
        kernels.strips("leave_D", self.batch, *given, b.ratios, fakes, b.dfakes)
