"""One process by itself, and what every kind of ranks can be asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Ranks:
    """One process alone: nothing is added up, nobody is waited for."""

    rank = 0  # 0 .. size - 1; rank 0 prints and writes files
    size = 1
    number_here: int | None = None  # among those on this host, where there are several ranks
    sharing = 1  # how many of them have the same cores
    words = ""  # a line about them, where there are several

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def part(self, count: int) -> range:
        """Which of `count` examples are this rank's: parts in the order of ranks, as even as can be."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sum(self, *arrays: Any) -> tuple[Any, ...]:
        """The sum of each array over all ranks: arrays of one dtype on one device, any shapes. Every rank
        must call this equally often, with the same shapes; all get the same bits."""
        return arrays

    def add_up(self, array: Any) -> None:
        """The same for one array, in its place; on a graphics card, on the current stream."""

    def heard(self, number: int) -> int:
        """The largest `number` of all ranks: what one of them knows, all act on after the same step."""
        return number

    def by_first(self, work: Callable[[], T]) -> T:
        """What `work` returns to rank 0, which alone does it; a `TinyganError` it raises, all raise."""
        return work()

    def others(self, value: Any) -> list[str]:
        """Which ranks gave another `value` than rank 0; all ranks learn it."""
        return []

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 does what is within this, then the first rank of every other host, then all others: each
        finds what was stored before, whether the hosts share a disk or not."""
        yield

    @contextmanager
    def together(self, remedy: Callable[[], str] = str) -> Iterator[None]:
        """Within this, a rank that fails by itself ends all of them, so that none goes on or waits. It
        prints why, with `remedy`: one sentence, or nothing."""
        yield


ALONE = Ranks()
