"""What takes the steps of a run: the batch that each one sees, on any device and any number of ranks."""

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
from tinygan.errors import CheckpointError, DataError, NonFiniteError, Printer, UsageError, printable
from tinygan.rng import Stream, stream
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.step import ON_A_CARD, Step

if TYPE_CHECKING:  # not needed, and not loaded, on a processor
    from tinygan.cuda.trainer import Trainer as OnCard


def images_of(settings: Settings, say: Printer, data_dir: Path | None = None, array: Any = None) -> Dataset:
    """The images that `settings` ask for; `data_dir`, where they lie now, or the `array` that holds them.
    Raises as `data.load`."""
    what = settings.data if array is None else array
    folder = data_dir or (Path(settings.data_dir) if settings.data_dir else None)
    return load(
        what, data_dir=folder, size=settings.size, channels=settings.channels,
        limit=settings.limit, resize=settings.resize, flip=settings.flip, say=say,
    )  # fmt: skip


def check_images(images: Dataset, sha256: str, trained_on: object, where: Path, run: RunFolder) -> None:
    """Raise CheckpointError unless `images`, whose digest is `sha256`, are those that the model `where`, of
    `run`, was `trained_on`; the text says what differs."""
    if sha256 == trained_on:
        return
    told = []
    with suppress(CheckpointError, LookupError, TypeError):  # without its records
        was, now = int(run.read_config()["data"]["shape"][0]), len(images.images)
        before, after = set(run.read_files()), set(map(printable, images.files))
        same = ["their names are the same"] * (before == after != set())
        told = [f"there were {was:,} and are {now:,}", *same]
        for verb, names in (("came", after - before), ("went", before - after)) if before else ():
            more = ", ..." if len(names) > NAMED else ""
            told += [f"{len(names):,} {verb}: {', '.join(sorted(names)[:NAMED])}{more}"] if names else []
    differs = f" ({'; '.join(told)})" if told else ""
    problem = f"{where} was trained on other images than {images.source} holds now{differs}"
    raise CheckpointError(f"{problem}. Bring them back, or start a new run.")


class Schedule(NamedTuple):
    steps_per_epoch: int  # the last batch of an epoch may be partial, and counts
    total_steps: int


def schedule(settings: Settings, images: int, ranks: int = 1) -> Schedule:
    """The `Schedule` for a data set of `images`, shared by `ranks` processes. Raises UsageError where a batch
    has fewer images than there are ranks, DataError where there are fewer images than a batch takes."""
    size = settings.batch_size
    if size < ranks:
        raise UsageError(f"{ranks} ranks share a batch of {size}. Use --batch-size {ranks} or more.")
    if images < size:
        found = f"{images} image{'s' * (images > 1)}"
        raise DataError(f"{found} < --batch-size {size}. Use --batch-size {images} or less.")
    steps_per_epoch = math.ceil(images / size)
    total = settings.epochs * steps_per_epoch
    return Schedule(steps_per_epoch, total if settings.steps is None else min(total, settings.steps))


Trainer: TypeAlias = "StepByStep | OnCard"


def trainer(state: State, data: Dataset) -> Trainer:
    """What takes the steps of a run, from the one that `state` has reached; on a graphics card the fast
    engine keeps the whole run there. Which images a step sees, its noise and its masks are functions of the
    seed and the step's number: the same ones for every trainer, on every device. Raises as `Step`."""
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
    """The arguments of `gan.train_step` after the networks and their Adams; or one rank's part of them."""

    images: Array  # (N, H, W, C) float32 in [-1, 1]
    noise: Array  # (M, noise_dim)
    real_masks: Iterator[Stream]
    fake_masks: Iterator[Stream]


class StepByStep:
    """The trainer for any backend, a step at a time. Each rank takes its part of a single process's batch."""

    stride = 1  # steps worth taking before their results are read
    trouble = ""  # what was not finite, once anything was

    def __init__(self, state: State, data: Dataset) -> None:
        self.state, self.data = state, data
        self.step, self.epoch, self.order = state.step, -1, np.zeros(0, int)
        size, strict = state.settings.batch_size, state.settings.engine == "fast"
        part = state.backend.ranks.part
        batches = {(len(part(N)), len(part(size))) for N in (size, len(data.images) % size or size)}
        nets = state.G, state.D, state.adam_G, state.adam_D
        self.one = Step(*nets, batches, strict, state.settings.penalty)
        self.how = self.one.how  # in words: how a step is taken

    def steps(self, count: int) -> np.ndarray:
        """Take `count` steps; (count, 4) float64: the losses of G and D, the mean scores of real and fake;
        NaN from a step on that had a number that was not finite: no weight has moved since."""
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
        """What the next step sees."""
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
        """Give back what it holds on its device: nothing."""


def measure_step_seconds(settings: Settings, data: Dataset, backend: Backend) -> float:
    """Seconds one full step takes, on networks that are thrown away; the first steps warm up."""
    taking = trainer(State(settings, backend), replace(data, images=data.images[: settings.batch_size]))
    seconds = []
    for _ in range(4):
        count, start = taking.stride, time.perf_counter()
        taking.steps(count)
        seconds.append((time.perf_counter() - start) / count)
    taking.close()
    return min(seconds[1:])
