"""Taking the steps of a run, and the batch that each step sees, on any device and any number of ranks."""

import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from tinygan.arrays import Array, Backend
from tinygan.data import Dataset, load, normalise
from tinygan.data.converted import NAMED
from tinygan.errors import CheckpointError, DataError, NonFiniteError, Printer, UsageError, plural, printable
from tinygan.rng import Stream, stream
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.step import ON_A_CARD, Step

if TYPE_CHECKING:  # not needed, and not loaded, on a processor
    from tinygan.cuda.trainer import Trainer as OnCard


def images_of(settings: Settings, say: Printer, data_dir: Path | None = None, array: Any = None) -> Dataset:
    """The images that `settings` name, in `data_dir` if it is given, or `array`. Raises: as `data.load`."""
    what = settings.data if array is None else array
    folder = data_dir or (Path(settings.data_dir) if settings.data_dir else None)
    return load(
        what, data_dir=folder, size=settings.size, channels=settings.channels,
        limit=settings.limit, resize=settings.resize, flip=settings.flip, say=say,
    )  # fmt: skip


def check_images(images: Dataset, sha256: str, trained_on: object, where: Path, run: RunFolder) -> None:
    """Raise CheckpointError unless `sha256`, the digest of `images`, is the digest that `where`, a model of
    `run`, was `trained_on`. The message lists the differences."""
    if sha256 == trained_on:
        return
    details = []
    with suppress(CheckpointError, LookupError, TypeError):  # the run may lack its records
        was, now = int(run.read_config()["data"]["shape"][0]), len(images.images)
        before, after = set(run.read_files()), set(map(printable, images.files))
        details = [f"{was:,} before, {now:,} now", *["their names are the same"] * (before == after != set())]
        for verb, names in (("added", after - before), ("removed", before - after)) if before else ():
            more = ", ..." if len(names) > NAMED else ""
            details += [f"{len(names):,} {verb}: {', '.join(sorted(names)[:NAMED])}{more}"] if names else []
    differs = f" ({'; '.join(details)})" if details else ""
    problem = f"{where} was not trained on the images that {images.source} holds now{differs}"
    raise CheckpointError(f"{problem}. Restore the old ones, or start a new run.")


class Schedule(NamedTuple):
    steps_per_epoch: int  # counts the last batch of an epoch, even if it is partial
    total_steps: int


def schedule(settings: Settings, images: int, ranks: int = 1) -> Schedule:
    """The `Schedule` for a data set of `images` images and `ranks` processes. Raises: UsageError if a batch
    has fewer images than there are ranks; DataError if the data set has fewer images than a batch."""
    size = settings.batch_size
    if size < ranks:
        raise UsageError(f"{ranks} ranks share a batch of {size}. Use --batch-size {ranks} or more.")
    if images < size:
        found = f"{plural(images, 'image')} < --batch-size {size}"
        raise DataError(f"{found}. Use --batch-size {images} or less.")
    steps_per_epoch = math.ceil(images / size)
    total = settings.epochs * steps_per_epoch
    return Schedule(steps_per_epoch, total if settings.steps is None else min(total, settings.steps))


Trainer: TypeAlias = "StepByStep | OnCard"


def trainer(state: State, data: Dataset) -> Trainer:
    """The trainer that takes the steps of a run, starting at the step of `state`. On a graphics card the fast
    engine keeps the whole run there. A step's images, noise and masks depend only on the seed and the step's
    number, so every trainer on every device uses the same ones. Raises: as `Step`."""
    step_by_step = StepByStep(state, data)
    if step_by_step.how != ON_A_CARD:
        return step_by_step
    from tinygan.cuda.trainer import Trainer as OnCard

    found = OnCard(
        state.G, state.D, state.adam_G, state.adam_D, data.images, state.settings.batch_size,
        state.settings.seed, state.step, average=state.average, penalty=state.settings.penalty,
    )  # fmt: skip
    found.how = ON_A_CARD
    return found


class Batch(NamedTuple):
    """The arguments of `gan.train_step` after the networks and their Adams, or one rank's part of them."""

    images: Array  # (N, H, W, C) float32 in [-1, 1]
    noise: Array  # (M, noise_dim)
    real_masks: Iterator[Stream]
    fake_masks: Iterator[Stream]


class StepByStep:
    """The trainer for any backend, one step at a time. Each rank takes a part of every batch."""

    stride = 1  # how many steps to take before reading their results
    trouble = ""  # what is not finite, once anything is

    def __init__(self, state: State, data: Dataset) -> None:
        self.state, self.data = state, data
        self.step, self.epoch, self.order = state.step, -1, np.zeros(0, int)
        settings, part = state.settings, state.backend.ranks.part
        size, strict = settings.batch_size, settings.engine == "fast"
        batches = {(len(part(N)), len(part(size))) for N in (size, len(data.images) % size or size)}
        self.one = Step(state.G, state.D, state.adam_G, state.adam_D, batches, strict, settings.penalty)
        self.how = self.one.how  # in words: the kind of step

    def steps(self, count: int) -> np.ndarray:
        """Take `count` steps. Returns (count, 4) float64: the losses of G and D, the mean scores of reals and
        fakes. From the first step with a number that is not finite, rows are NaN and no weight changes."""
        measured = np.full((count, 4), np.nan)
        try:
            for row in measured:
                batch = self.batch()
                self.step += 1
                row[:] = [float(number) for number in self.one.take(*batch)]
                if self.state.average:
                    self.state.average.update(self.step)
        except NonFiniteError as problem:
            self.trouble = str(problem)
        return measured

    def batch(self) -> Batch:
        """The batch of the next step."""
        settings, backend, ranks = self.state.settings, self.state.backend, self.state.backend.ranks
        images, size = self.data.images, settings.batch_size
        epoch, place = divmod(self.step, math.ceil(len(images) / size))
        if epoch != self.epoch:
            self.order = stream(settings.seed, "shuffle").at(epoch).generator().permutation(len(images))
            self.epoch = epoch
        numbers = self.order[place * size : (place + 1) * size]
        real, fake = ranks.part(len(numbers)), ranks.part(size)
        noise = stream(settings.seed, "noise").at(self.step).normal((size, settings.noise_dim))
        dropout = stream(settings.seed, "dropout").at(self.step)
        return Batch(
            normalise(backend.array(images[numbers[real.start : real.stop]])),
            backend.array(noise[fake.start : fake.stop]),
            dropout.at(0).of_examples_from(real.start).split(),
            dropout.at(1).of_examples_from(fake.start).split(),
        )

    def close(self) -> None:
        """Free memory on the device; this trainer holds none."""


def measure_step_seconds(settings: Settings, data: Dataset, backend: Backend) -> float:
    """The seconds that one step takes, measured on networks that are thrown away. The first steps warm up."""
    taking = trainer(State(settings, backend), replace(data, images=data.images[: settings.batch_size]))
    seconds = []
    for _ in range(4):
        count, start = taking.stride, time.perf_counter()
        taking.steps(count)
        seconds.append((time.perf_counter() - start) / count)
    taking.close()
    return min(seconds[1:])
