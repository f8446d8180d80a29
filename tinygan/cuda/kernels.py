"""Compiles the kernels of ``kernels.cu`` for a model's sizes and launches them with checked arguments."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 256  # in a block
ALONG = 16  # threads side by side in a block that sums over rows
QUADS = 4  # the same, in the kernels next to the pictures
BLOCKS = 256  # in a sum over rows: few enough for the last block to add up their shares
TYPES = {"int": np.int32, "float": np.float32, "double": np.float64, "word": np.uint64, "long long": np.int64,
         "unsigned char": np.uint8, "unsigned short": np.uint16, "unsigned": np.uint32}  # fmt: skip


class Parameter:
    """A parameter of a kernel: a number, or an array of some dtype."""

    def __init__(self, declaration: str) -> None:
        *kind, self.name = re.findall(r"\w+", declaration.replace("const ", ""))
        self.pointer, self.const = "*" in declaration, "const " in declaration
        self.lifted = kind == ["lifted"]
        self.dtype = np.dtype(np.float32 if self.lifted else TYPES[" ".join(kind)])

    def convert(self, value: Any, lifted: Any = np.float32) -> Any:
        """`value` as the kernel needs it: a NumPy scalar of the right size, or the array itself. `lifted` is
        the dtype of lifted arrays. Raises: TypeError if an array has another dtype or is not contiguous."""
        if not self.pointer:
            return self.dtype.type(value)
        dtype = np.dtype(lifted) if self.lifted else self.dtype
        if value.dtype != dtype or not value.flags.c_contiguous:
            raise TypeError(f"{self.name} needs contiguous {dtype}, got {value.dtype} {value.strides}")
        return value


@cache
def signatures() -> dict[str, tuple[Parameter, ...]]:
    """The parameters of every kernel, parsed from the source."""
    found = re.findall(r"__global__ void (\w+)\(([^)]*)\)", SOURCE.read_text(encoding="utf-8"))
    return {name: tuple(map(Parameter, parameters.split(","))) for name, parameters in found}


def options(side: int, channels: int, wide: int, bits: int = 32) -> tuple[str, ...]:
    """The compiler's options. `side`: a quarter of the pictures' side; `bits`: size of a lifted number."""
    macros = {"SIDE": side, "CHANNELS": channels, "WIDE": wide, "LIFTED_BITS": bits}
    macros |= {"THREADS": THREADS, "QUADS": QUADS, "STRIP": strip(side)}
    return tuple(f"-D{name}={value}" for name, value in macros.items())


def strip(side: int) -> int:
    """Rows per block of a map of half the pictures' side: all, or few enough to fit one more on each side."""
    half = 2 * side
    return half if half * half <= THREADS else THREADS // half - 2


class Kernels:
    """The kernels for pictures of one size. Launches go to the current stream."""

    def __init__(self, xp: Any, side: int, channels: int, wide: int, lifted: Any = np.float32) -> None:
        """`wide`: channels per thread, 4, or 1 if some width is not a multiple of 4; `lifted`: a dtype."""
        self.lifted = lifted
        given = options(side, channels, wide, 8 * np.dtype(lifted).itemsize)
        self.module = xp.RawModule(code=SOURCE.read_text(encoding="utf-8"), options=given)
        self.functions = {name: self.module.get_function(name) for name in signatures()}
        self.wide, self.strips_of_map = wide, -(-2 * side // strip(side))

    def launch(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any) -> None:
        pairs = zip(signatures()[name], arguments, strict=True)
        self.functions[name](grid, block, tuple(p.convert(value, self.lifted) for p, value in pairs))

    def flat(self, name: str, count: int, *arguments: Any, times: int = 1) -> None:
        """Launch a thread for every `wide` of `count` elements, and the whole grid `times` times."""
        self.launch(name, (-(-count // (self.wide * THREADS)), times), (THREADS,), *arguments)

    def columns(self, name: str, C: int, rows: int, *given: Any, along: int = ALONG, least: int = 64) -> int:
        """Sum over rows: a block has `along` * `wide` columns of a chunk of rows. Returns the chunk count."""
        blocks = -(-C // (self.wide * along))
        count = chunks(rows, blocks, least)
        self.launch(name, (blocks, count), (along, THREADS // along), *given)
        return count

    def strips(self, name: str, count: int, *arguments: Any) -> None:
        """Launch a block for each `strip` of each of `count` maps of half the pictures' side."""
        self.launch(name, (count, self.strips_of_map), (THREADS,), *arguments)


def chunks(rows: int, columns: int, least: int) -> int:
    """The number of chunks of rows for sums by about BLOCKS blocks, `columns` of them side by side. No chunk
    is empty; each has at least `least` rows, or all."""
    each = -(-rows // max(1, min(-(-rows // least), BLOCKS // columns)))
    return -(-rows // each)
