"""The threads of the fast engine: fixed pieces of work, shared out among a few workers.

NumPy lets go of Python's interpreter lock while it computes. The bounds of pieces depend on the shapes alone,
and every sum over pieces is taken in their order: the result is the same to the last bit with one thread and
with sixteen. For that BLAS must not split products again: it is held to one thread in the meantime."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from math import ceil
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from tinygan.arrays import Array
from tinygan.machine import blas_threads, default_threads, limit_blas_threads

Piece = TypeVar("Piece")
Result = TypeVar("Result")
Task = Callable[[], object]
# Tasks, and what gives the images of a block when they are done.
Product = tuple[Sequence[Task], Callable[[slice], Array]]
# Tasks, each of which may be given another to do after it reads, before it writes; and those of the next run.
KernelGradient = tuple[Sequence[Callable[..., object]], Sequence[Task]]
PIECE = 1 << 18  # numbers in a piece: 1 MB of float32, about a core's own cache; smaller ones cost handovers


class Pool:
    """`threads` workers, the caller among them; the others are started when first needed."""

    def __init__(self) -> None:
        self._threads = 0  # not decided yet
        self._executor: ThreadPoolExecutor | None = None
        self._lock = RLock()  # several threads of a program may use the pool
        self._inside = self._users = 0  # how many are in `blas_alone`, and in `sized`
        self._blas = 0  # what BLAS gets back after `blas_alone`
        self._before = 0, 0  # threads of the pool and of BLAS before `sized`
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    @property
    def threads(self) -> int:
        """How many there are: what `resize` said, else what this machine and its BLAS allow."""
        if not self._threads:
            self._threads = self.default()[0] if blas_threads() else 1
        return self._threads

    def default(self, sharing: int = 1) -> tuple[int, str]:
        """`machine.default_threads`, by what BLAS may use when the pool does not limit it."""
        with self._lock:
            return default_threads(self._outside()[1], sharing)

    def _outside(self) -> tuple[int, int]:
        """Threads of the pool and of BLAS where nobody is in `sized` or `blas_alone`."""
        blas = self._blas if self._inside else blas_threads()
        return self._before if self._users else (self._threads, blas)

    def resize(self, threads: int, blas: int | None = None) -> bool:
        """Use `threads` from now on, in matrix products as well (or there `blas`), and end the others. False
        where NumPy's BLAS has no switch: then it decides for itself, and the pool has one thread."""
        with self._lock:
            if self._executor:
                self._executor.shutdown()
                self._executor = None
            self._blas = threads if blas is None else blas
            # A product that is being computed stays with its thread.
            switched = bool(blas_threads()) if self._inside else limit_blas_threads(self._blas)
            self._threads = threads if switched else 1
            return switched

    @contextmanager
    def sized(self, threads: int) -> Iterator[bool]:
        """Within this `resize`, whose answer it gives; afterwards the pool and BLAS are as they were."""
        with self._lock:
            self._before = self._outside()
            self._users += 1
            switched = self.resize(threads)
        try:
            yield switched
        finally:
            with self._lock:
                self._users = max(0, self._users - 1)  # 0 already: in a fork
                if not self._users:
                    self.resize(*self._before)

    def each(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """Call `function` on every piece, in any order; what it returned, in the order of the pieces. An
        exception in one ends the call and is raised. The function must not call `each` itself."""
        threads = min(self.threads, len(pieces))
        found: list[Any] = [None] * len(pieces)
        rest = iter(range(len(pieces)))  # an iterator that threads may share

        def work() -> None:
            try:
                for number in rest:
                    found[number] = function(pieces[number])
            except BaseException:
                list(rest)  # nobody starts another one
                raise

        with self.blas_alone():
            with self._lock:  # `resize` ends the workers
                self._executor = self._executor or ThreadPoolExecutor(max(1, self._threads - 1), "tinygan")
                # In copies of the caller's context, which holds NumPy's error handling.
                others = [self._executor.submit(copy_context().run, work) for _ in range(threads - 1)]
            try:
                work()
            finally:
                problems = [other.exception() for other in others]  # waits
        for problem in filter(None, problems):
            raise problem
        return found

    def _forked(self) -> None:
        """A fork copies no threads: nobody else is in the pool, or holds its lock."""
        self._before = self._outside()
        self._executor, self._lock, self._inside, self._users = None, RLock(), 0, 0
        self.resize(*self._before)

    @contextmanager
    def blas_alone(self) -> Iterator[None]:
        """Inside this block a matrix product stays in the thread that asks for it."""
        _ = self.threads  # decided by what BLAS may use outside
        with self._lock:
            if not self._inside:
                self._blas = blas_threads()
                limit_blas_threads(1)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside = max(0, self._inside - 1)
                if not self._inside:
                    limit_blas_threads(self._blas)


# One for the process, as its BLAS is; nothing else in the engine outlives a call.
POOL = Pool()


def blocks(count: int, numbers_each: int, at_least: int = 1) -> list[slice]:
    """`count` images, `numbers_each` numbers in one, as consecutive pieces of about one size, at most `PIECE`
    numbers or one image. There are `at_least` pieces, fewer only where there are fewer images."""
    pieces = max(ceil(count / max(1, PIECE // max(1, numbers_each))), min(count, at_least))
    return [slice(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


def elementwise(function: Callable[..., object], *arrays: Array, results: int = 1) -> tuple[Array, ...]:
    """Call `function` with the same block of each of these arrays of one shape, flat, until all are through.
    Behind them it gets those of so many new arrays, like the first, for its results; these are returned."""
    new = tuple(np.empty(arrays[0].shape, arrays[0].dtype) for _ in range(results))
    flat = [array.reshape(-1) for array in (*arrays, *new)]
    POOL.each(lambda block: function(*(part[block] for part in flat)), blocks(flat[0].size, len(flat)))
    return new


class Line:
    """What each block of a batch does next, one function after the other, and when they wait for each other:
    only in `run`. Between, a block stays in the cache of its processor."""

    def __init__(self, blocks: Sequence[slice], beside: list[list[Task]] | None = None) -> None:
        """`beside`: tasks for the next run, the one after it and so on. Lines may share them."""
        self.blocks, self.beside = blocks, [] if beside is None else beside
        self._ahead: list[Callable[[slice, Any], Any]] = []
        self._values: list[Any] = [None] * len(blocks)

    def then(self, function: Callable[[slice, Any], Any]) -> None:
        """Next, each block calls `function` with itself and what the function before it returned."""
        self._ahead.append(function)

    def later(self, *tasks: Sequence[Task], after: int = 1) -> None:
        """Do these lists of tasks beside coming runs, a list in each; `after` runs go before the first."""
        self.beside += [[] for _ in range(after + len(tasks) - len(self.beside))]
        for at, some in enumerate(tasks, after):
            self.beside[at] += some

    def run(self) -> list[Any]:
        """Do what was added; what each block's last function returned."""
        ahead, self._ahead = self._ahead, []

        def piece(number: int) -> None:
            for function in ahead:
                self._values[number] = function(self.blocks[number], self._values[number])

        tasks: list[Task] = [partial(piece, number) for number in range(len(self.blocks)) if ahead]
        POOL.each(lambda task: task(), tasks + (self.beside.pop(0) if self.beside else []))
        return [*self._values]

    def finish(self) -> None:
        """Run until nothing is left to do."""
        while self._ahead or self.beside:
            self.run()

    def multiply(self, product: Product, gradient: KernelGradient | None = None, first: int = 0) -> None:
        """Run what was added, then a product's tasks, if it has any; go on with its images, from `first` on.
        A task of a gradient is given the product's of the same frequencies: that one may overwrite what the
        gradient's has read, and the other way round. If the product has none, they come a run later."""
        tasks, lower = product
        if gradient:
            around, last = gradient
            self.later([] if tasks else around, last)
            tasks = [partial(*both) for both in zip(around, tasks, strict=bool(tasks))]
        if tasks:
            self.run()
            self.later(tasks, after=0)
            self.run()
        self.then(lambda block, _: lower(block) if block.start >= first else None)
