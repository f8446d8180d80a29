"""Checks that the step on a card reads no buffer after another one has overwritten its memory."""

from collections.abc import Iterable
from typing import Any

import pytest

from tinygan.arrays import Array
from tinygan.cuda import buffers
from tinygan.cuda.blas import Blas
from tinygan.cuda.buffers import Buffers, Memory
from tinygan.cuda.kernels import Kernels, signatures
from tinygan.cuda.trainer import CardStep


def address(array: Any) -> int:
    return array.data.ptr


def named(own: Buffers) -> dict[str, Array]:
    """All buffers by name (``up1.X`` and so on), including those that share memory."""
    found = {}
    for name, value in vars(own).items():
        inner = vars(value) if type(value).__module__ == buffers.__name__ else None
        found |= {f"{name}.{key}": array for key, array in inner.items()} if inner else {name: value}
    first = {id(array): name for name, array in reversed(found.items())}  # noise can also be noise_lifted
    return {name: array for name, array in found.items() if first[id(array)] == name}


class Apart(Memory):
    """Lets no two buffers share memory, so that an address identifies a buffer."""

    def __init__(self, xp: Any = None) -> None:
        super().__init__(xp)
        self.owner: dict[int, int] = {}  # address of a buffer: address of the one it would share memory with

    def again(self, buffer: Array, dtype: Any = None) -> Array:
        other = self(*buffer.shape, dtype=dtype or buffer.dtype)
        if self.xp:
            at = address(buffer)
            self.owner[address(other)] = self.owner.get(at, at)
        return other


class ReuseCheck:
    """Watches the reads and writes of kernels and products."""

    def __init__(self, own: Buffers, memory: Apart) -> None:
        self.ranges = {name: (address(x), address(x) + x.nbytes) for name, x in named(own).items()}
        self.memory = {name: memory.owner.get(at, at) for name, (at, _) in self.ranges.items()}
        self.holds: dict[int, str] = {}  # by memory: the buffer it was last written as

    def __call__(self, read: Iterable[Array], written: Iterable[Array]) -> None:
        """A kernel or product reads and writes these arrays.

        Raises: RuntimeError if one that it reads was overwritten.
        """
        for name in self.names(read):
            holds = self.holds.get(self.memory[name], name)
            if holds != name:
                raise RuntimeError(f"{name} is read, but its memory holds {holds}")
        self.holds |= {self.memory[name]: name for name in self.names(written)}

    def names(self, arrays: Iterable[Array]) -> list[str]:
        places = [address(array) for array in arrays]
        return [name for name, (start, end) in self.ranges.items() if any(start <= at < end for at in places)]


def check_reuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a step fails if it reads a buffer after its memory was reused."""
    checks: dict[Any, ReuseCheck] = {}  # by Kernels and Blas
    start, launch, product = CardStep.__init__, Kernels.launch, Blas.product

    def checked(own: CardStep, *arguments: Any) -> None:
        start(own, *arguments)
        assert isinstance(own.memory, Apart)
        checks[own.kernels] = checks[own.blas] = ReuseCheck(own.buffers, own.memory)

    def launched(own: Kernels, name: str, grid: Any, block: Any, *arguments: Any) -> None:
        arrays = [(p.const, x) for p, x in zip(signatures()[name], arguments, strict=True) if p.pointer]
        checks[own]([x for const, x in arrays if const], [x for const, x in arrays if not const])
        launch(own, name, grid, block, *arguments)

    def multiplied(own: Blas, a: Array, b: Array, out: Array) -> None:
        checks[own]((a, b), (out,))
        product(own, a, b, out)

    monkeypatch.setattr(buffers, "Memory", Apart)
    monkeypatch.setattr(CardStep, "__init__", checked)
    monkeypatch.setattr(Kernels, "launch", launched)
    monkeypatch.setattr(Blas, "product", multiplied)
