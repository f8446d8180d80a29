"""This computer: its cores, how many threads to use, its processor's name, and switches of its libraries."""

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
    """How many cores this process may use: its CPU affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no control group, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def default_threads(blas: int, sharing: int = 1) -> tuple[int, str]:
    """How many threads to use where no number is given, and where this one comes from, in words. The usable
    cores, of which `sharing` processes take an equal part; fewer where the environment allows fewer, or
    `blas`: how many threads NumPy's BLAS may use (0: unknown), which ``threadpoolctl`` limits."""
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
    """Let freed memory stay with the process, where the C library has a switch for it (glibc). Otherwise the
    system clears it anew for every large array. It cannot be undone: only for our own process."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def release_memory() -> None:
    """Give the memory that is free back to the system, where the C library has a call for it (glibc)."""
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def limit_blas_threads(count: int) -> bool:
    """Let NumPy's matrix products use `count` threads; False where its BLAS offers no such switch."""
    if switch := _blas_switch():
        switch[0](count)
    return switch is not None


def blas_threads() -> int:
    """How many threads NumPy's matrix products use now; 0 where its BLAS does not say."""
    return switch[1]() if (switch := _blas_switch()) else 0


@cache
def _blas_switch() -> tuple[Callable[[int], None], Callable[[], int]] | None:
    """What sets, and what gets, the threads of the OpenBLAS that NumPy's wheels carry and have loaded. None
    for another BLAS (Accelerate in wheels for newer macOS, MKL, a system's own): that keeps its threads, and
    the pool has one."""
    package = Path(np.__file__).parent
    for library in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        blas = ctypes.CDLL(str(library))
        for symbol in ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads"):
            if hasattr(blas, symbol.format("set")):
                switch, count = (getattr(blas, symbol.format(verb)) for verb in ("set", "get"))
                switch.argtypes, switch.restype, count.restype = [ctypes.c_int], None, ctypes.c_int
                return switch, count
    return None
