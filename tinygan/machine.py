"""This computer: its cores, the threads to use, the processor's name, and switches of its libraries."""

import ctypes
import math
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np


def usable_cores() -> int:
    """The number of cores this process may use, by its CPU affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no control group, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def default_threads(blas: int, sharing: int = 1) -> tuple[int, str]:
    """The default number of threads, and the reason for it in words. It is the usable cores, split evenly
    among `sharing` processes, or fewer if the environment or `blas` allows fewer. `blas` is the number of
    threads NumPy's BLAS may use (0: unknown); ``threadpoolctl`` can limit it."""
    which = "all usable cores" if sharing == 1 else "this rank's share of the cores"
    limits = [(max(1, usable_cores() // sharing), which)]
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # in the order that OpenBLAS reads them
        first = os.environ.get(name, "").partition(",")[0].strip()
        if first.isdecimal() and int(first):
            limits.append((int(first), name))
            break
    if blas:
        limits.append((blas, "the limit of NumPy's BLAS"))
    return min(limits, key=lambda limit: limit[0])


def processor_name() -> str:
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def keep_memory() -> None:
    """Keep freed memory in the process, if the C library has a switch for it (glibc). Otherwise the system
    clears fresh memory for every large array. This cannot be undone, so call it only in our own process."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def release_memory() -> None:
    """Return freed memory to the system, if the C library has a call for it (glibc)."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def limit_blas_threads(count: int) -> bool:
    """Make NumPy's matrix products use `count` threads; False if its BLAS has no such switch."""
    if switch := _blas_switch():
        switch[0](count)
    return switch is not None


def blas_threads() -> int:
    """The number of threads NumPy's matrix products use now; 0 if its BLAS does not say."""
    return switch[1]() if (switch := _blas_switch()) else 0


@cache
def _blas_switch() -> tuple[Callable[[int], None], Callable[[], int]] | None:
    """The functions that set and get the threads of the OpenBLAS in NumPy's wheels. None for any other BLAS
    (Accelerate in wheels for newer macOS, MKL, the system's): it keeps its threads, and the pool has one."""
    package = Path(np.__file__).parent
    for library in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        blas = ctypes.CDLL(str(library))
        for symbol in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads"):
            if hasattr(blas, symbol.format("set")):
                switch, count = (getattr(blas, symbol.format(verb)) for verb in ("set", "get"))
                switch.argtypes, switch.restype, count.restype = [ctypes.c_int], None, ctypes.c_int
                return switch, count
    return None
