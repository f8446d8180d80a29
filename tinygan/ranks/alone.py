"""A single process, and the interface of every kind of ranks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Ranks:
    """A single process, which adds up nothing and waits for no one."""

    rank = 0  # 0 .. size - 1; rank 0 prints and writes files
    size = 1
    number_here: int | None = None  # its number among the ranks on this host, if there are several ranks
    sharing = 1  # how many ranks use the same cores
    words = ""  # a line about the ranks, if there are several

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def part(self, count: int) -> range:
        """This rank's part of `count` examples. Parts are in the order of ranks, and as even as possible."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, *arrays: Any) -> tuple[Any, ...]:
        """The sum of each array over all ranks. The arrays have any shapes but one dtype and device. Ranks
        must call this the same number of times, with the same shapes. All get the same bits."""
        return arrays

    def add_up(self, array: Any) -> None:
        """Replace one array by its sum over all ranks; on a graphics card, on the current stream."""

    def heard(self, number: int) -> int:
        """The largest `number` of all ranks, so that all act on one rank's request after the same step."""
        return number

    def by_first(self, work: Callable[[], T]) -> T:
        """The result of `work`, which only rank 0 calls. All ranks raise a `TinyganError` that it raised."""
        return work()

    def others(self, value: Any) -> list[str]:
        """The ranks whose `value` differs from that of rank 0; every rank gets this list."""
        return []

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 enters this first, then the first rank of every other host, then all others. So each finds
        the files that were stored before, even if the hosts share no disk."""
        yield

    @contextmanager
    def together(self, remedy: Callable[[], str] = str) -> Iterator[None]:
        """Within this, a rank that fails alone ends all ranks, so that none continues or waits. It prints the
        reason, followed by `remedy`, a sentence or nothing."""
        yield


ALONE = Ranks()
