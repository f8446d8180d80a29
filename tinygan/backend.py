"""Where the arrays live and who computes: the device, the engine, the threads.

`choose` turns ``--device`` and ``--engine`` into a `Backend`, once, at the start of a run.
Everything above takes its array module and its ops from that object and asks no further.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinygan.errors import DeviceError, UsageError
from tinygan.faults import first_failure, import_failure, run_failure
from tinygan.ranks import ALONE, Ranks

DEVICES = ("auto", "cpu", "gpu")
ENGINES = ("auto", "readable", "fast")
PRECISIONS = ("auto", "float32", "tf32")
TF32_SINCE = 80  # compute capability, times ten, of the first cards that have it (Ampere)

# The table of ops: in which file an op lives, the same name in every engine's folder, and which
# engines have it. The fastest engine allowed wins; an op it lacks comes from the readable one.
# These are names, not imports: a room never imports one above it.
ROOMS = {"readable": "tinygan.ops", "fast": "tinygan.fast"}
BOTH = ("readable", "fast")
OPS = {
    "add": ("basic", ("readable",)),
    "reshape": ("basic", ("readable",)),
    "dense": ("dense", BOTH),
    "conv2d": ("conv", BOTH),
    "conv2d_transpose": ("conv", BOTH),
    "batch_norm": ("batchnorm", BOTH),
    "leaky_relu": ("activation", BOTH),
    "tanh": ("activation", BOTH),
    "dropout": ("dropout", BOTH),
    "bce_with_logits": ("loss", ("readable",)),
}
# And where an engine's `train_step` lives: the game on one page, and its faster twins. On a GPU
# there are no faster ops, for nothing there is slow but the many small calls: the fast engine is a
# step as a whole, and a trainer that keeps it and all its data on the card.
STEPS = {
    ("cpu", "readable"): "tinygan.gan", ("cpu", "fast"): "tinygan.fast.gan",
    ("gpu", "readable"): "tinygan.gan", ("gpu", "fast"): "tinygan.fast.cuda.gan",
}  # fmt: skip
TRAINERS = {("gpu", "fast"): "tinygan.fast.cuda.trainer"}


class Op(NamedTuple):
    """One differentiable function: ``forward(xp, ...) -> (y, saved)`` and its ``backward``."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class Backend:
    """An array module, the device it computes on, and the ops that compute there."""

    xp: ModuleType  # numpy or cupy
    device: str  # "cpu" or "gpu"
    engine: str  # "readable" or "fast"
    ops: Mapping[str, Op]
    precision: str = "float32"  # or "tf32": how the factors of matrix products are rounded
    ranks: Ranks = ALONE  # the processes that share every batch

    def array(self, values: Any) -> Any:
        """`values` (a NumPy array) as an array of this device, dtype kept."""
        return self.xp.asarray(values)

    def numpy(self, array: Any) -> np.ndarray:
        """`array` of this device as a NumPy array, dtype kept."""
        return np.asarray(array) if self.device == "cpu" else self.xp.asnumpy(array)

    def card(self) -> dict[str, str]:
        """What to note of the graphics card that computes; nothing on a processor."""
        if self.device == "cpu":
            return {}
        runtime, number = self.xp.cuda.runtime, self.xp.cuda.Device().id
        capability = self.xp.cuda.Device().compute_capability
        cublas = self.xp.cuda.cublas.getVersion(self.xp.cuda.get_cublas_handle())
        nvrtc = "{}.{}".format(*self.xp.cuda.nvrtc.getVersion())
        return {
            "card": runtime.getDeviceProperties(number)["name"].decode(),
            "compute capability": f"{capability[:-1]}.{capability[-1]}",
            "driver's CUDA": cuda_version(runtime.driverGetVersion()),
            "CUDA": cuda_version(runtime.runtimeGetVersion()),
            "CUDA libraries": f"cuBLAS {cublas}, NVRTC {nvrtc}",  # on which the last bits depend
        }

    @property
    def train_step(self) -> Callable[..., Any]:
        """One step of training, with the arguments and the result of `tinygan.gan.train_step`."""
        return import_module(STEPS[self.device, self.engine]).train_step

    @property
    def trainer(self) -> Any:
        """The class that takes the steps of a run, where an engine has its own; see `runs.training`."""
        module = TRAINERS.get((self.device, self.engine))
        return import_module(module).Trainer if module else None

    @contextmanager
    def failures(
        self, batch_size: int | None = None, last: Callable[[], object] | None = None
    ) -> Iterator[None]:
        """Within this, a full memory or a GPU that fails is a `DeviceError` that says how to go on.

        `batch_size` is the one in use; `last` finds the newest checkpoint, None where there is none yet.
        """
        try:
            yield
        except Exception as problem:
            failure = run_failure(self.device, problem, batch_size, last)
            if failure is None:
                raise
            raise failure from problem


def cuda_version(number: int) -> str:
    """12040, as CUDA says it, is 12.4."""
    return f"{number // 1000}.{number % 1000 // 10}"


def load_ops(engine: str) -> Mapping[str, Op]:
    """The column of the table for `engine`: op name -> `Op`."""
    ops = {}
    for name, (file, engines) in OPS.items():
        module = import_module(f"{ROOMS[engine if engine in engines else 'readable']}.{file}")
        ops[name] = Op(getattr(module, f"{name}_forward"), getattr(module, f"{name}_backward"))
    return ops


@cache
def cpu(engine: str = "readable") -> Backend:
    """NumPy on the processor."""
    return Backend(np, "cpu", engine, load_ops(engine))


@cache
def gpu(engine: str = "readable", precision: str = "auto", number: int | None = None) -> Backend:
    """CuPy on the graphics card. Unless told otherwise the fast engine uses TF32 where the card has it.

    Several processes on one host give each its `number`, and take the cards in turns.

    Raises:
        DeviceError: CuPy is missing, or a first kernel, matrix product and synchronisation fail.
        UsageError: TF32 is asked for, and the engine or the card has none.
    """
    cupy = probed(number)
    able = int(cupy.cuda.Device().compute_capability) >= TF32_SINCE
    if precision == "tf32" and (engine != "fast" or not able):
        reason = "this card has none" if engine == "fast" else "the readable engine computes in float32"
        raise UsageError(f"--precision tf32: {reason}. Use --precision float32.")
    if precision == "auto":
        precision = "tf32" if able and engine == "fast" else "float32"
    return Backend(cupy, "gpu", engine, load_ops("readable"), precision)


def probed(number: int | None = None) -> ModuleType:
    """CuPy, after a first kernel, matrix product and synchronisation; for `number`, see `gpu`.

    Raises:
        DeviceError: it is missing, or one of these fails.
    """
    try:
        import cupy  # pyright: ignore[reportMissingImports]

        ones = cupy.ones  # lacking in the folder that a botched uninstallation leaves behind
    except Exception as problem:
        raise DeviceError(f"{import_failure(problem)}, or use --device cpu.") from problem
    # A missing driver or toolkit shows only on first use, and some faults only when waited for.
    try:
        if number is not None:
            cupy.cuda.Device(number % cupy.cuda.runtime.getDeviceCount()).use()
        probe = ones((2, 2), dtype=cupy.float32)
        (probe @ probe + probe).sum()
        cupy.cuda.Device().synchronize()
    except Exception as problem:
        raise DeviceError(f"{first_failure(cupy, problem)}, or use --device cpu.") from problem
    return cupy


def choose(
    device: str = "auto",
    engine: str = "auto",
    report: Callable[[str], object] = print,
    threads: int | None = None,
    precision: str = "auto",
    number: int | None = None,
) -> Backend:
    """The backend for ``--device`` and ``--engine``; `auto` prefers the GPU and says why it does not.

    `threads` is passed on to `use_threads`; None leaves that as it is. `precision`, `number`: see `gpu`.

    Raises:
        DeviceError: `device` is ``"gpu"`` and there is no usable one.
        UsageError: an unknown name, or a precision that the device does not have.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}. Use one of: {', '.join(DEVICES)}.")
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}. Use one of: {', '.join(ENGINES)}.")
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}. Use one of: {', '.join(PRECISIONS)}.")
    if threads is not None:
        use_threads(threads)
    engine = "fast" if engine == "auto" else engine
    if device != "cpu":
        try:
            return gpu(engine, precision, number)
        except DeviceError as problem:
            if device == "gpu":
                raise
            report(f"no GPU: {str(problem).partition('. ')[0]}; the CPU it is.")
    if precision == "tf32":
        raise UsageError("--precision tf32 needs a GPU. Leave it out, or use --device gpu.")
    return cpu(engine)


def backend_of(array: Any) -> Backend:
    """The readable backend of the library that made `array`: NumPy's or CuPy's."""
    return gpu() if type(array).__module__.partition(".")[0] == "cupy" else cpu()


def usable_cores() -> int:
    """How many cores this process may use: its CPU affinity and its control group's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max": no quota
        pass
    return cores


def processor_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def keep_memory() -> None:
    """Let freed memory stay with the process, where the C library can be told so (glibc).

    Otherwise it gives every large array back to the system, which has to clear the memory again for the
    next one, in every step. Not for a program that shares its process with others.
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def use_threads(count: int) -> bool:
    """Compute with `count` threads from now on: matrix products, and the fast engine's own pool.

    False where NumPy's BLAS cannot be told; then it decides for itself, and the pool has one.
    """
    import_module("tinygan.fast.threads").POOL.resize(count)
    return limit_blas_threads(count)


def limit_blas_threads(count: int) -> bool:
    """Let NumPy's matrix products use `count` threads; False where its BLAS offers no such switch."""
    switch = _blas_switch()
    if switch is None:
        return False
    switch(count)
    return True


@cache
def _blas_switch() -> Callable[[int], None] | None:
    """The function of NumPy's BLAS that sets its number of threads.

    NumPy's wheels carry an OpenBLAS that is told through ctypes, on the library already loaded.
    """
    package = Path(np.__file__).parent
    for library in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        blas = ctypes.CDLL(str(library))
        for symbol in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads"):
            if hasattr(blas, symbol):
                switch = getattr(blas, symbol)
                switch.argtypes, switch.restype = [ctypes.c_int], None
                return switch
    return None
