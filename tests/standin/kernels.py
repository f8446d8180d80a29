"""CUDA kernels on the CPU: the source, compiled by the C compiler, and called for every thread."""

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SHIM = Path(__file__).with_name("shim.h")
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
BACKWARDS = False  # whether the last threads and blocks run first; no result may depend on it


@cache
def compiled(source: str, options: tuple[str, ...]) -> tuple[Any, dict[str, list[str]]]:
    """The library, and each kernel's parameter declarations."""
    found = re.findall(r"__global__ void (\w+)\((.*?)\) \{", source, re.S)
    parts = [SHIM.read_text(encoding="utf-8"), source]
    kernels, waiting = {}, waiters(source)
    for name, declarations in found:
        kernels[name] = [" ".join(one.split()[:-1] + ["*"] * ("*" in one)) for one in declarations.split(",")]
        given = ", ".join(f"*({kind.replace('const ', '')} *)a[{i}]" for i, kind in enumerate(kernels[name]))
        barriers = int(name in waiting)
        parts.append(
            f"static void call_{name}(void **a) {{ {name}({given}); }}\n"
            f"int launch_{name}(const unsigned *grid, const unsigned *block, void **a, int backwards) "
            f"{{ return run(call_{name}, grid, block, a, {barriers}, backwards); }}"
        )
    assert COMPILER, "no C compiler"
    with tempfile.TemporaryDirectory(prefix="tinygan-kernels-") as folder:
        Path(folder, "kernels.c").write_text("\n".join(parts), encoding="utf-8")
        command = [
            COMPILER, "-std=gnu11", "-O2", "-U_FORTIFY_SOURCE", "-shared", "-fPIC",
            "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unused-variable", "-Wno-unknown-pragmas",
            *options, "-o", f"{folder}/kernels.so", f"{folder}/kernels.c", "-lm",
        ]  # fmt: skip
        subprocess.run(command, check=True)
        return ctypes.CDLL(f"{folder}/kernels.so"), kernels


def waiters(source: str) -> set[str]:
    """The functions and macros whose threads wait for each other because they reach a barrier."""
    source = re.sub("//.*", "", source)
    found, functions = {"__syncthreads"}, []
    for part in re.split(r"\n(?=__device__|__global__|#define)", source)[1:]:
        name = re.match(r"#define (\w+)|.*?(\w+)\(", part, re.S)
        assert name, part
        functions.append((name[1] or name[2], set(re.findall(r"\w+", part))))
    for _ in functions:
        found |= {name for name, words in functions if found & words}
    return found


SIZES = {"int": 4, "float": 4, "double": 8, "word": 8}


def launch(source: str, options: tuple[str, ...], name: str, grid: Any, block: Any, values: Any) -> None:
    """Run a kernel. `values`: addresses (int) for pointers, NumPy scalars of the exact size for numbers."""
    library, kernels = compiled(source, options)
    declared = kernels[name]
    assert len(values) == len(declared), f"{name} takes {len(declared)} arguments, got {len(values)}"
    cells = []
    for value, kind in zip(values, declared, strict=True):
        if kind.endswith("*"):
            cells.append(ctypes.c_void_p(value))
        else:
            assert isinstance(value, np.generic) and value.itemsize == SIZES[kind], (
                f"{name}: {kind} {value!r}"
            )
            cells.append((ctypes.c_char * value.itemsize).from_buffer_copy(value.tobytes()))
    grid, block = ([*sizes, 1][:2] for sizes in (grid, block))
    assert 0 < block[0] * block[1] <= 1024 and 0 < grid[0] < 2**31 and 0 < grid[1] < 2**16, (
        name,
        grid,
        block,
    )
    addresses = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
    pair = ctypes.c_uint * 2
    assert getattr(library, f"launch_{name}")(pair(*grid), pair(*block), addresses, int(BACKWARDS)) == 0, (
        f"{name}: threads of a block part at a barrier"
    )
