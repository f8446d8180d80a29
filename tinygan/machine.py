"""This computer: its cores, its processor's name, and two switches of its libraries.

How many threads a run takes is chosen where it starts: `train.choose_device`.
"""

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
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no control group, or "max": no quota
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def processor_name() -> str:
    """The processor's name, as the system gives it."""
    with suppress(OSError):  # not Linux
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def keep_memory() -> None:
    """Let freed memory stay with the process, where the C library has a switch for it (glibc).

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


def limit_blas_threads(count: int) -> bool:
    """Let NumPy's matrix products use `count` threads; False where its BLAS offers no such switch."""
    if switch := _blas_switch():
        switch(count)
    return switch is not None


@cache
def _blas_switch() -> Callable[[int], None] | None:
    """The function of NumPy's BLAS that sets its number of threads.

    NumPy's wheels carry an OpenBLAS whose switch is called through ctypes, in the library already loaded.
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
