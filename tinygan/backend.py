"""Where the arrays live and who computes: the device, the engine, the threads.

`choose` turns ``--device`` and ``--engine`` into a `Backend`, once, at the start of a run.
Everything above takes its array module and its ops from that object and asks no further.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from tinygan.errors import DeviceError, UsageError

DEVICES = ("auto", "cpu", "gpu")
ENGINES = ("auto", "readable", "fast")
FAST_DEVICES = ("cpu",)  # where the fast engine computes; `auto` uses it there

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
# And where an engine's `train_step` lives: the game on one page, and its faster twin.
STEPS = {"readable": "tinygan.gan", "fast": "tinygan.fast.gan"}


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

    def array(self, values: Any) -> Any:
        """`values` (a NumPy array) as an array of this device, dtype kept."""
        return self.xp.asarray(values)

    def numpy(self, array: Any) -> np.ndarray:
        """`array` of this device as a NumPy array, dtype kept."""
        return np.asarray(array) if self.device == "cpu" else self.xp.asnumpy(array)

    @property
    def train_step(self) -> Callable[..., Any]:
        """One step of training, with the arguments and the result of `tinygan.gan.train_step`."""
        return import_module(STEPS[self.engine]).train_step


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
def gpu(engine: str = "readable") -> Backend:
    """CuPy on the graphics card.

    Raises:
        DeviceError: CuPy is missing, or a first kernel, matrix product and synchronisation fail.
    """
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise DeviceError(
            'CuPy is not installed. Use --device cpu, or install it: pip install "cupy-cuda13x[ctk]" '
            '(CUDA 12: "cupy-cuda12x[ctk]").'
        ) from None
    # A missing driver or toolkit shows only on first use, and some faults only when waited for.
    try:
        if not cupy.is_available():
            raise DeviceError("CuPy finds no CUDA device or driver. Use --device cpu, or check nvidia-smi.")
        probe = cupy.ones((2, 2), dtype=cupy.float32)
        (probe @ probe + probe).sum()
        cupy.cuda.Device().synchronize()
    except (RuntimeError, ImportError, OSError) as problem:
        reason = str(problem).strip().split("\n")[0]
        raise DeviceError(f"the GPU failed its first product: {reason}. Use --device cpu.") from problem
    return Backend(cupy, "gpu", engine, load_ops(engine))


def choose(
    device: str = "auto",
    engine: str = "auto",
    report: Callable[[str], object] = print,
    threads: int | None = None,
) -> Backend:
    """The backend for ``--device`` and ``--engine``; `auto` prefers the GPU and says why it does not.

    `threads` is passed on to `use_threads`; None leaves that as it is.

    Raises:
        DeviceError: `device` is ``"gpu"`` and there is no usable one.
        UsageError: an unknown name, or an engine that does not compute on this device.
    """
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}. Use one of: {', '.join(DEVICES)}.")
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}. Use one of: {', '.join(ENGINES)}.")
    if device == "gpu" and engine == "fast" and device not in FAST_DEVICES:
        raise UsageError("the fast engine computes on the CPU only. Use --engine auto, or --device cpu.")
    if threads is not None:
        use_threads(threads)
    if device == "auto" and engine == "fast":
        device = "cpu"
    if device != "cpu":
        try:
            return gpu(_engine_for("gpu", engine))
        except DeviceError as problem:
            if device == "gpu":
                raise
            report(f"no GPU: {str(problem).partition('. ')[0]}; the CPU it is.")
    return cpu(_engine_for("cpu", engine))


def _engine_for(device: str, engine: str) -> str:
    if engine != "auto":
        return engine
    return "fast" if device in FAST_DEVICES else "readable"


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
