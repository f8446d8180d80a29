"""The kernels of ``kernels.cu``: compiled for a model's sizes, launched with checked arguments."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 256  # in a block
NUMBERS = {"int": np.int32, "float": np.float32, "double": np.float64, "word": np.uint64}
POINTERS = {
    "float": np.float32, "int": np.int32, "unsigned char": np.uint8, "long long": np.int64
}  # fmt: skip


class Parameter:
    """One parameter of a kernel: a number, or an array of a dtype."""

    def __init__(self, declaration: str) -> None:
        *kind, self.name = re.findall(r"\w+", declaration.replace("const ", ""))
        self.pointer, self.const = "*" in declaration, "const " in declaration
        self.dtype = np.dtype((POINTERS if self.pointer else NUMBERS)[" ".join(kind)])

    def convert(self, value: Any) -> Any:
        """`value` as the kernel takes it: a NumPy scalar of the right size, or the array itself.

        Raises:
            TypeError: an array of another dtype, or not contiguous.
        """
        if not self.pointer:
            return self.dtype.type(value)
        if value.dtype != self.dtype or not value.flags.c_contiguous:
            raise TypeError(f"{self.name} needs contiguous {self.dtype}, got {value.dtype} {value.strides}")
        return value


@cache
def signatures() -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every kernel, read from the source."""
    found = re.findall(r"__global__ void (\w+)\(([^)]*)\)", SOURCE.read_text(encoding="utf-8"))
    return {name: tuple(map(Parameter, parameters.split(","))) for name, parameters in found}


def options(side: int, channels: int) -> tuple[str, ...]:
    """What the compiler is told: a quarter of the pictures' side, and how many channels they have."""
    return f"-DSIDE={side}", f"-DCHANNELS={channels}"


class Kernels:
    """The kernels for pictures of one size. Launches go to the current stream."""

    def __init__(self, xp: Any, side: int, channels: int) -> None:
        self.module = xp.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=options(side, channels))
        self.functions = {name: self.module.get_function(name) for name in signatures()}
        self.launches = 0

    def launch(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        values = tuple(p.convert(value) for p, value in zip(signatures()[name], arguments, strict=True))
        self.launches += 1
        self.functions[name](grid, block, values)

    def flat(self, name: str, threads: int, *arguments: Any) -> None:
        """With a thread for each of so many elements."""
        self.launch(name, (-(-threads // THREADS),), (THREADS,), *arguments)

    def rows(self, name: str, rows: int, C: int, *arguments: Any) -> None:
        """With a thread for each element of a matrix (rows, C), side by side along C."""
        along = next((n for n in (32, 64) if C <= n), 128)
        down = THREADS // along
        self.launch(name, (-(-rows // down), -(-C // along)), (along, down), *arguments)

    def shares(self, name: str, chunks: int, C: int, *arguments: Any, lanes: int = 8) -> None:
        """For sums over rows: a block for each chunk of rows and 32 channels, with so many rows at once."""
        self.launch(name, (-(-C // 32), chunks), (32, lanes), *arguments)

    def blocks(self, name: str, count: int, *arguments: Any) -> None:
        """With `count` blocks of threads below each other."""
        self.launch(name, (count,), (1, THREADS), *arguments)


def chunks(rows: int, C: int) -> tuple[int, int]:
    """(how many, rows in each): the shares in which a sum over rows is taken, about 1,000 blocks in all."""
    count = max(1, min(-(-rows // 64), 1024 // -(-C // 32)))
    each = -(-rows // count)
    return -(-rows // each), each
