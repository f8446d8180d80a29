"""The threads of the fast engine: fixed pieces of work, distributed among a few workers.

NumPy releases Python's interpreter lock while it computes. The bounds of pieces depend only on the shapes,
and every sum over pieces is taken in order, so one thread and sixteen give the same bits. This requires that
BLAS does not split products again, so it is limited to one thread meanwhile."""

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
# Tasks, and a function that returns the images of a block once they are done.
Product = tuple[Sequence[Task], Callable[[slice], Array]]
# Tasks, each of which accepts another to call after it reads, before it writes; and those of the next run.
KernelGradient = tuple[Sequence[Callable[..., object]], Sequence[Task]]
PIECE = 1 << 18  # numbers in a piece: 1 MB of float32, about one core's cache; smaller pieces add overhead


class Pool:
    """`threads` workers, one of them the caller; the others start when they are first needed."""

    def __init__(self) -> None:
        self._threads = 0  # not decided yet
        self._executor: ThreadPoolExecutor | None = None
        self._lock = RLock()  # several threads of a program may use the pool
        self._inside = self._users = 0  # callers inside `blas_alone`, and inside `sized`
        self._blas = 0  # BLAS's threads after `blas_alone`
        self._before = 0, 0  # threads of the pool and of BLAS before `sized`
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    @property
    def threads(self) -> int:
        """The number of threads: set by `resize`, or else as many as this machine and its BLAS allow."""
        if not self._threads:
            self._threads = self.default()[0] if blas_threads() else 1
        return self._threads

    def default(self, sharing: int = 1) -> tuple[int, str]:
        """`machine.default_threads`, for the number of threads BLAS has when the pool does not limit it."""
        with self._lock:
            return default_threads(self._outside()[1], sharing)

    def _outside(self) -> tuple[int, int]:
        """The threads of the pool and of BLAS outside `sized` and `blas_alone`."""
        blas = self._blas if self._inside else blas_threads()
        return self._before if self._users else (self._threads, blas)

    def resize(self, threads: int, blas: int | None = None) -> bool:
        """Use `threads` from now on, and as many (or `blas`) in matrix products, and end the old workers.
        False if NumPy's BLAS has no switch: then BLAS decides for itself, and the pool has one thread."""
        with self._lock:
            if self._executor:
                self._executor.shutdown()
                self._executor = None
            self._blas = threads if blas is None else blas
            # A product under way keeps its thread.
            switched = bool(blas_threads()) if self._inside else limit_blas_threads(self._blas)
            self._threads = threads if switched else 1
            return switched

    @contextmanager
    def sized(self, threads: int) -> Iterator[bool]:
        """A context that calls `resize` and yields its result, then restores the pool and BLAS."""
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
        """Call `function` on every piece, in any order. Returns the results in the order of the pieces. An
        exception in a piece ends the call and is raised. `function` must not call `each` itself."""
        threads = min(self.threads, len(pieces))
        found: list[Any] = [None] * len(pieces)
        rest = iter(range(len(pieces)))  # threads can share this iterator

        def work() -> None:
            try:
                for number in rest:
                    found[number] = function(pieces[number])
            except BaseException:
                list(rest)  # no thread starts another piece
                raise

        with self.blas_alone():
            with self._lock:  # `resize` ends the workers
                self._executor = self._executor or ThreadPoolExecutor(max(1, self._threads - 1), "tinygan")
                # In copies of the caller's context, because it holds NumPy's error handling.
                others = [self._executor.submit(copy_context().run, work) for _ in range(threads - 1)]
            try:
                work()
            finally:
                problems = [other.exception() for other in others]  # waits
        for problem in filter(None, problems):
            raise problem
        return found

    def _forked(self) -> None:
        """Reset after a fork, which copies no threads: no one else uses the pool or holds its lock."""
        self._before = self._outside()
        self._executor, self._lock, self._inside, self._users = None, RLock(), 0, 0
        self.resize(*self._before)

    @contextmanager
    def blas_alone(self) -> Iterator[None]:
        """Inside this context each matrix product stays in the thread that calls it."""
        _ = self.threads  # decide now, while BLAS still has its own limit
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


# One per process, like its BLAS. Nothing else in the engine outlives a call.
POOL = Pool()


def blocks(count: int, numbers_each: int, at_least: int = 1) -> list[slice]:
    """Cut `count` images of `numbers_each` numbers into consecutive pieces of about equal size, with at most
    `PIECE` numbers or one image. There are at least `at_least` pieces, unless there are fewer images."""
    pieces = max(ceil(count / max(1, PIECE // max(1, numbers_each))), min(count, at_least))
    return [slice(count * i // pieces, count * (i + 1) // pieces) for i in range(pieces)]


def elementwise(function: Callable[..., object], *arrays: Array, results: int = 1) -> tuple[Array, ...]:
    """Call `function` on each block of these arrays (all of one shape), flattened. Its last arguments are the
    same block of `results` new arrays like the first, which it fills and which are returned."""
    new = tuple(np.empty(arrays[0].shape, arrays[0].dtype) for _ in range(results))
    flat = [array.reshape(-1) for array in (*arrays, *new)]
    POOL.each(lambda block: function(*(part[block] for part in flat)), blocks(flat[0].size, len(flat)))
    return new


class Line:
    """A queue of functions that each block of a batch passes through. Blocks wait for each other only in
    `run`; in between, a block stays in the cache of its core."""

    def __init__(self, blocks: Sequence[slice], pending: list[list[Task]] | None = None) -> None:
        """`pending`: extra tasks for the next run, for the one after it, and so on. Lines can share them."""
        self.blocks, self.pending = blocks, [] if pending is None else pending
        self._ahead: list[Callable[[slice, Any], Any]] = []
        self._values: list[Any] = [None] * len(blocks)

    def then(self, function: Callable[[slice, Any], Any]) -> None:
        """Next, call `function` for each block, with the block and the previous function's result."""
        self._ahead.append(function)

    def later(self, *tasks: Sequence[Task], after: int = 1) -> None:
        """Add these lists of tasks to coming runs, one list to each, after skipping `after` runs."""
        self.pending += [[] for _ in range(after + len(tasks) - len(self.pending))]
        for at, some in enumerate(tasks, after):
            self.pending[at] += some

    def run(self) -> list[Any]:
        """Run the queued functions and the tasks of this run. Returns each block's last result."""
        ahead, self._ahead = self._ahead, []

        def piece(number: int) -> None:
            for function in ahead:
                self._values[number] = function(self.blocks[number], self._values[number])

        tasks: list[Task] = [partial(piece, number) for number in range(len(self.blocks)) if ahead]
        POOL.each(lambda task: task(), tasks + (self.pending.pop(0) if self.pending else []))
        return [*self._values]

    def finish(self) -> None:
        """Run until nothing is left to do."""
        while self._ahead or self.pending:
            self.run()

    def multiply(self, product: Product, gradient: KernelGradient | None = None, first: int = 0) -> None:
        """Run the queue, then the product's tasks, if any; continue with its images from image `first` on.
        Each task of the gradient gets the product's task for the same frequencies, so that each can overwrite
        what the other has read. If the product has no tasks, the gradient's are done a run later."""
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
