"""The threads of the fast engine: fixed pieces of work, shared out among a few workers.

NumPy lets go of Python's interpreter lock while it computes, so threads run at the same time.
Work is cut into pieces whose bounds depend on the shapes alone, never on the number of threads,
and every sum over pieces is taken in their order: the result is the same to the last bit with
one thread and with sixteen. For that, matrix products must not be split a second time by BLAS,
which is held to one thread while the pieces are computed, and let go afterwards.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from tinygan.arrays import Array
from tinygan.machine import limit_blas_threads, usable_cores

Piece = TypeVar("Piece")
Result = TypeVar("Result")
PIECE = 1 << 18  # numbers in a piece: 1 MB of float32, about a core's own cache; smaller ones cost handovers


class Pool:
    """`threads` workers, the caller among them; the others are started when first needed."""

    def __init__(self) -> None:
        self._threads = 0  # not decided yet
        self._executor: ThreadPoolExecutor | None = None
        self._process = 0  # that started them
        self._inside = 0  # depth of `blas_alone`

    @property
    def threads(self) -> int:
        """How many there are: what `resize` said, else one for every usable core."""
        if not self._threads:
            self.resize(usable_cores())
        return self._threads

    def resize(self, threads: int) -> bool:
        """Use `threads` from now on, in matrix products as well, and end the others.

        False where NumPy's BLAS has no switch: then it decides for itself, and the pool has one thread.
        """
        if self._executor:
            self._executor.shutdown()
            self._executor = None
        switched = limit_blas_threads(threads)
        self._threads = threads if switched else 1
        return switched

    def each(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """Call `function` on every piece, in any order; what it returned, in the order of the pieces.

        An exception in one ends the call and is raised. The function must not call `each` itself.
        """
        threads = min(self.threads, len(pieces))
        found: list[Any] = [None] * len(pieces)
        rest = iter(range(len(pieces)))  # an iterator that threads may share

        def work() -> None:
            try:
                for number in rest:
                    found[number] = function(pieces[number])
            except BaseException:
                for _ in rest:  # nobody starts another one
                    pass
                raise

        with self.blas_alone():
            others = []
            for _ in range(threads - 1):
                # In a copy of the caller's context, which holds NumPy's error handling.
                others.append(self._workers().submit(copy_context().run, work))
            try:
                work()
            finally:
                problems = [other.exception() for other in others]  # waits
        for problem in problems:
            if problem:
                raise problem
        return found

    def _workers(self) -> ThreadPoolExecutor:
        if self._executor is None or self._process != os.getpid():  # a fork copies no threads
            self._executor, self._process = ThreadPoolExecutor(self.threads - 1, "tinygan"), os.getpid()
        return self._executor

    @contextmanager
    def blas_alone(self) -> Iterator[None]:
        """Inside this block a matrix product stays in the thread that asks for it."""
        self._inside += 1
        limit_blas_threads(1)
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                limit_blas_threads(self.threads)


# One for the process, as its BLAS is; nothing else in the engine outlives a call.
POOL = Pool()


def blocks(count: int, numbers_each: int) -> list[slice]:
    """`count` images, `numbers_each` numbers in one, as consecutive pieces of about `PIECE` numbers."""
    size = max(1, PIECE // max(1, numbers_each))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def elementwise(function: Callable[..., object], *arrays: Array) -> None:
    """Call `function` with the same block of each of these arrays of one shape, flat, until all are through.

    It writes into the blocks of those that are results; these must be contiguous.
    """
    flat = [array.reshape(-1) for array in arrays]
    POOL.each(lambda block: function(*(part[block] for part in flat)), blocks(flat[0].size, len(flat)))
