"""A training run on a graphics card: data, random numbers and steps, captured as CUDA graphs.

A captured step costs the processor one call instead of about fifty. It uses the same arrays each time, so
everything that changes is stored in them: the clock, which holds the step's number, and the images' order.
The partial batch at the end of an epoch has other shapes and therefore its own graph."""

import time
from contextlib import suppress
from typing import Any

import numpy as np

from tinygan.average import Average
from tinygan.cuda.buffers import STEPS_KEPT, sizes_of
from tinygan.cuda.gan import CardStep
from tinygan.errors import DeviceError, UsageError
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.penalty import strength_in
from tinygan.rng import stream

READ_EVERY = 0.1  # seconds that the card works before its losses are read
UPLOADED = 64 << 20  # bytes of images at a time


class Trainer:
    """Takes the steps of a run, with the same images, noise and masks as on any other device. It updates the
    arrays of networks and Adams in place; callers may read them between calls of `steps`."""

    how = ""  # in words: see `step.Step`

    def __init__(
        self, G: Network, D: Network, adam_G: Adam, adam_D: Adam, images: Any, batch_size: int, seed: int,
        step: int = 0, graphs: bool = True, average: Average | None = None, penalty: float = 0.0,
    ) -> None:  # fmt: skip
        """`images` (K, H, W, C) uint8, K at least `batch_size`; `step`: the steps already taken; `penalty`:
        the strength of R1, whose gradients are computed op by op, outside the graphs. Without `graphs` every
        kernel is launched separately: slower, but the same bits.
        Raises: UsageError if the networks are not the DCGAN, or too large (see `buffers.sizes_of`);
        DeviceError if the images do not fit in the card's memory."""
        # One kernel updates the weights of both Adams, so only their lr may differ.
        of_G, of_D = ((type(a), a.t, a.beta1, a.beta2, a.eps) for a in (adam_G, adam_D))
        if not sizes_of(G, D) or of_G != of_D or type(adam_G) is not Adam:
            what = "a DCGAN whose Adams differ only in lr"
            raise UsageError(f"the fast engine needs {what}. Use --engine readable.")
        self.card = CardStep(G, D, adam_G, adam_D, batch_size, average, step, seed)
        self.seed, self.step, self.with_graphs, self.penalty = seed, step, graphs, penalty
        self.steps_per_epoch = -(-len(images) // batch_size)
        xp = self.card.xp
        try:
            self.data = xp.empty(images.shape, dtype=xp.uint8)
        except MemoryError as problem:
            if images.nbytes < self.card.memory.bytes:
                raise  # a smaller batch is the remedy
            found = f"the {images.nbytes / 1e9:.1f} GB of images do not fit in the GPU's memory"
            remedy = "Use --engine readable, which uploads one batch at a time."
            raise DeviceError(f"{found}. {remedy}") from problem
        rows = max(1, UPLOADED // images[0].nbytes)
        for start in range(0, len(images), rows):  # they can be in a file larger than memory
            self.data[start : start + rows] = xp.asarray(np.ascontiguousarray(images[start : start + rows]))
        self.order = xp.zeros(len(images), dtype=xp.int32)
        self.epoch = -1  # the epoch of this order
        self.uploads: list[np.ndarray] = []  # kept until the card has surely read them
        self.graphs: dict[int, Any] = {}  # by the number of real images in the whole batch
        self.seen: set[int] = set()
        self.trouble = ""  # the first thing that was not finite
        self.stride = 1  # the number of steps worth taking before the losses are read

    def steps(self, count: int) -> np.ndarray:
        """Take `count` steps; (count, 4) float64: the losses of G and D, the mean scores of real and fake.
        From the first number on that is not finite, rows are NaN and no weight moves: see `trouble`."""
        card, start, rows = self.card, time.perf_counter(), np.empty((count, 4))
        card.wait_for_default_stream()  # callers may have read or changed the arrays since the last call
        for first in range(0, count, STEPS_KEPT):
            some = rows[first : first + STEPS_KEPT]
            steps = np.arange(self.step, self.step + len(some))
            with card.stream:
                for _ in some:
                    self._one()
                measured = card.xp.asnumpy(card.buffers.measured)  # waits for all of it
                found = card.trouble()
            self.uploads.clear()
            some[:] = measured[steps % STEPS_KEPT]
            if found:
                since, self.trouble = found
                some[steps + 1 >= since] = np.nan
        # Frequent reads cost time, rare ones delay the news. The first steps compile, which takes long.
        seconds = max(1e-9, time.perf_counter() - start) / max(1, count)
        stride = max(1, min(STEPS_KEPT, 2 * self.stride, int(READ_EVERY / seconds)))
        self.stride = card.ranks.by_first(lambda: stride)
        return rows

    def _one(self) -> None:
        card, (epoch, place) = self.card, divmod(self.step, self.steps_per_epoch)
        if epoch != self.epoch:
            generator = stream(self.seed, "shuffle").at(epoch).generator()
            order = generator.permutation(len(self.data)).astype(np.int32)
            self.uploads.append(order)
            self.order.set(order, stream=card.stream)
            self.epoch = epoch
        N = min(card.all_M, len(self.data) - place * card.all_M)
        strength = strength_in(card.adams[1].t, self.penalty)
        if self.with_graphs and N in self.seen and N not in self.graphs and not strength:
            # An earlier step has loaded and compiled everything; capturing does not execute the step.
            card.stream.begin_capture()
            try:
                self._launch(N)
            except BaseException:
                with suppress(Exception):  # which would say that the capture is invalid, but not why
                    card.stream.end_capture()
                raise
            self.graphs[N] = card.stream.end_capture()
        if N in self.graphs and not strength:
            self.graphs[N].launch(card.stream)
        else:
            self._launch(N, strength)
            self.seen.add(N)
        self.step += 1
        for adam in self.card.adams:
            adam.t += 1

    def _launch(self, all_N: int, strength: float = 0.0) -> None:
        """A step of a batch with `all_N` real images and R1 of this strength."""
        self.card.begin(self.data, self.order, all_N)
        self.card.train_step(all_N, strength)

    def close(self) -> None:
        """Free the graphs and cuBLAS's handle."""
        self.card.stop()
        self.graphs.clear()
        self.card.close()
