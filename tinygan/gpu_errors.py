"""Explains failures of CuPy, the driver and the graphics card: one line each, with the remedy."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tinygan.errors import DeviceError, first_sentence, pasted, pip, printable

# CuPy's exceptions, by class name and start of text: without CuPy or cuBLAS the classes do not exist.
TOOLKIT_FAULTS = {"DynamicLibNotFoundError", "ImportError", "OSError", "CompileException", "NVRTCError",
                  "AssertionError"}  # fmt: skip  # the last one if a library lacks a function
GPU_FAULTS = {"CUDARuntimeError", "CUDADriverError", "CUBLASError"}
NO_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")
FOREIGN_CARD = ("value for --gpu-architecture", "NoKernelImageForDevice", "CUBLAS_STATUS_ARCH_MISMATCH")
# Our own bugs, not the card's faults: they keep their traceback.
MISTAKES = ("cudaErrorInvalidValue", "cudaErrorStreamCapture", "CUDA_ERROR_INVALID_VALUE",
            "CUDA_ERROR_STREAM_CAPTURE", "CUBLAS_STATUS_INVALID_VALUE")  # fmt: skip


def import_failure(problem: BaseException) -> str:
    """Say why CuPy cannot be imported, and the remedy."""
    if isinstance(problem, ModuleNotFoundError) and problem.name == "cupy":
        remedy = f"{pip('install', 'cupy-cuda13x[ctk]')} (for a CUDA 12 driver: 'cupy-cuda12x[ctk]')"
        return f"CuPy is not installed. Install it: {remedy}"
    while problem.__cause__:  # CuPy wraps the cause in a page of advice
        problem = problem.__cause__
    found = f"CuPy is installed but cannot be imported ({type(problem).__name__}: {_reason(problem)})"
    packages = cupy_packages()
    if len(packages) > 1:
        return _too_many(found, packages)
    return f"{found}. Reinstall it: {_exchange(packages, _wheel(packages) or 'cupy-cuda13x')}"


def first_failure(cupy: Any, problem: Exception) -> str:
    """Say why the GPU, or a library that CuPy needs to use it, failed at first use, and the remedy."""
    reason, kinds, packages = _reason(problem), _kinds(problem), cupy_packages()
    if _out_of_memory(problem):
        remedy = "Stop the programs on it (see nvidia-smi), choose another GPU with CUDA_VISIBLE_DEVICES"
        return f"the GPU's memory is already full ({reason}). {remedy}"
    if reason.startswith("cudaErrorInsufficientDriver"):  # also if there is no driver
        needed = cupy.cuda.runtime.runtimeGetVersion() // 1000
        major, minor = divmod(cupy.cuda.runtime.driverGetVersion() // 10, 100)
        if not major:
            remedy = "Install it so that nvidia-smi shows the GPU (in a container: --gpus all)"
            return f"no NVIDIA driver was found, and CuPy needs one for CUDA {needed}. {remedy}"
        found = f"the NVIDIA driver is too old: it supports CUDA {major}.{minor}; CuPy needs CUDA {needed}"
        fitting = f", or the CuPy that fits this one ({_exchange(packages, f'cupy-cuda{major}x')})"
        return f"{found}. Install a newer driver{fitting if 12 <= major < needed else ''}"
    if reason.startswith("cudaErrorNoDevice"):
        found, visible = "the NVIDIA driver finds no GPU", os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return f"{found}. Check that nvidia-smi lists one"
        remedy = "Unset it, or set it to a GPU that nvidia-smi -L lists"
        return f"{found}: CUDA_VISIBLE_DEVICES is {visible!r}. {remedy}"
    if any(sign in reason for sign in FOREIGN_CARD):
        cuda = cupy.cuda.runtime.runtimeGetVersion() // 1000
        older = f"Install CuPy for CUDA 12 ({_exchange(packages, 'cupy-cuda12x')})"
        remedy = older if cuda > 12 else "Choose another GPU with CUDA_VISIBLE_DEVICES"
        return f"CUDA {cuda} does not support this GPU ({reason}). {remedy}"
    if isinstance(problem, OSError) and problem.errno:  # a library that fails to load sets no errno
        return f"CuPy cannot save its compiled kernels ({reason}). Set CUPY_CACHE_DIR to a writable folder"
    if len(packages) > 1:
        return _too_many(f"the GPU failed its first computation ({reason})", packages)
    if kinds & TOOLKIT_FAULTS or "failed to load" in reason.lower() or "dlopen" in reason:
        missing = re.match('Failure finding "(.+?)"', reason)
        found = f"part of the CUDA toolkit is missing ({missing[1] if missing else reason})"
        wheel = _wheel(packages)
        remedy = f": {pip('install', wheel + '[ctk]')}" if wheel else ", in the version CuPy was built for"
        return f"{found}. Install it{remedy}"
    return f"the GPU failed its first computation ({reason}). Check it with nvidia-smi"


@contextmanager
def failures(batch_size: int | None = None, last: Callable[[], object] | None = None) -> Iterator[None]:
    """Turn full memory and GPU failures into a `DeviceError` that says how to continue. `batch_size` is the
    one in use. `last` returns the newest checkpoint, or None before the first one."""
    try:
        yield
    except Exception as problem:
        reason, kinds, full = _reason(problem), _kinds(problem), _out_of_memory(problem)
        if not full and (not kinds & GPU_FAULTS or reason.startswith(MISTAKES)):
            raise
        checkpoint = last and last()
        resume = f"resume from the last checkpoint: --resume {pasted(str(checkpoint))}"
        if full:
            on_card = kinds & {"OutOfMemoryError", *GPU_FAULTS}
            found = "the GPU's memory is full" if on_card else "out of memory"
            found += f" at --batch-size {batch_size}" if batch_size else ""
            found += f" ({reason})" if str(problem) else ""
            halved = batch_size and batch_size // 2
            remedy = f"--batch-size {halved}" if halved else "a smaller --width or --size"
            # A resumed run keeps its batch size and its networks.
            anew = f"Start a new run with {remedy}, or free memory and {resume}"
            raise DeviceError(f"{found}. {anew if checkpoint else f'Use {remedy}.'}") from problem
        again = "start again (there is no checkpoint yet)" if last else "try again"
        then = resume if checkpoint else f"{again}, or use --device cpu."
        raise DeviceError(f"the GPU failed ({reason}). Check it with nvidia-smi, then {then}") from problem


def _reason(problem: BaseException) -> str:
    """The most informative sentence of an exception's text, or its class name if it has no text."""
    lines = [line for line in (line.strip(" *") for line in str(problem).splitlines()) if line]
    errors = [line for line in lines if "error:" in line]
    return first_sentence(printable(next(iter(errors + lines), type(problem).__name__)))


def _kinds(problem: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(problem).__mro__}


def _out_of_memory(problem: Exception) -> bool:
    on_gpu = bool(_kinds(problem) & GPU_FAULTS) and str(problem).startswith(NO_MEMORY)
    return isinstance(problem, MemoryError) or on_gpu  # CuPy's OutOfMemoryError is a MemoryError


def cupy_packages() -> dict[str, str]:
    """The versions of the installed CuPy packages. There must be only one."""
    from importlib import metadata  # takes 20 ms: import it only after a failure

    found = {}
    for name in ("cupy", "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _wheel(packages: Collection[str]) -> str | None:
    """The package with the extra ``[ctk]``, through which pip installs the toolkit's libraries."""
    return next((name for name in packages if name.startswith("cupy-cuda")), None)


def _exchange(packages: Collection[str], wheel: str) -> str:
    """The commands that replace the installed `packages` with `wheel`."""
    removal = f"{pip('uninstall', *packages)}, then " if packages else ""
    return f"{removal}{pip('install', f'{wheel}[ctk]')}"


def _too_many(found: str, packages: Collection[str]) -> str:
    remedy = f"Keep one: {_exchange(packages, 'cupy-cuda13x')} (for a CUDA 12 driver: cupy-cuda12x)"
    return f"{found}: {' and '.join(packages)} are installed, and they overwrite each other. {remedy}"
