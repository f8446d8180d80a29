"""What it means when CuPy, the driver or the graphics card fails, and what to do: a line for each case."""

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tinygan.errors import DeviceError, first_sentence, pasted, pip, printable

# CuPy's exceptions, told by class names and starts of texts: without CuPy, or cuBLAS, there are no classes.
TOOLKIT_FAULTS = {"DynamicLibNotFoundError", "ImportError", "OSError", "CompileException", "NVRTCError",
                  "AssertionError"}  # fmt: skip  # the last one where a library lacks a function
GPU_FAULTS = {"CUDARuntimeError", "CUDADriverError", "CUBLASError"}
NO_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED")
FOREIGN_CARD = ("value for --gpu-architecture", "NoKernelImageForDevice", "CUBLAS_STATUS_ARCH_MISMATCH")
# Mistakes of ours and no fault of the card's: they keep their traceback.
MISTAKES = ("cudaErrorInvalidValue", "cudaErrorStreamCapture", "CUDA_ERROR_INVALID_VALUE",
            "CUDA_ERROR_STREAM_CAPTURE", "CUBLAS_STATUS_INVALID_VALUE")  # fmt: skip


def import_failure(problem: BaseException) -> str:
    """Why CuPy cannot be imported, and the remedy."""
    if isinstance(problem, ModuleNotFoundError) and problem.name == "cupy":
        remedy = f"{pip('install', 'cupy-cuda13x[ctk]')} (for a driver of CUDA 12: 'cupy-cuda12x[ctk]')"
        return f"CuPy is not installed. Install it: {remedy}"
    while problem.__cause__:  # CuPy wraps it in a page of advice
        problem = problem.__cause__
    found = f"CuPy is installed, but cannot be imported ({type(problem).__name__}: {_reason(problem)})"
    packages = cupy_packages()
    if len(packages) > 1:
        return _too_many(found, packages)
    return f"{found}. Install it anew: {_exchange(packages, _wheel(packages) or 'cupy-cuda13x')}"


def first_failure(cupy: Any, problem: Exception) -> str:
    """Why the GPU, or what CuPy needs in order to use it, failed at its first use, and the remedy."""
    reason, kinds, packages = _reason(problem), _kinds(problem), cupy_packages()
    if _out_of_memory(problem):
        remedy = "Stop what else uses it (nvidia-smi lists it), choose another GPU with CUDA_VISIBLE_DEVICES"
        return f"the GPU's memory is full already ({reason}). {remedy}"
    if reason.startswith("cudaErrorInsufficientDriver"):  # also where there is none
        needed = cupy.cuda.runtime.runtimeGetVersion() // 1000
        major, minor = divmod(cupy.cuda.runtime.driverGetVersion() // 10, 100)
        if not major:
            remedy = "Install it, so that nvidia-smi shows the GPU (in a container: --gpus all)"
            return f"no NVIDIA driver was found, and CuPy needs one for CUDA {needed}. {remedy}"
        found = f"the NVIDIA driver is too old: it is for CUDA {major}.{minor}, and CuPy needs CUDA {needed}"
        fitting = f", or the CuPy for this one ({_exchange(packages, f'cupy-cuda{major}x')})"
        return f"{found}. Install a newer driver{fitting if 12 <= major < needed else ''}"
    if reason.startswith("cudaErrorNoDevice"):
        found, visible = "the NVIDIA driver finds no GPU", os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return f"{found}. Check that nvidia-smi lists one"
        return f"{found}: CUDA_VISIBLE_DEVICES is {visible!r}. Unset it, or set it to a GPU of nvidia-smi -L"
    if any(sign in reason for sign in FOREIGN_CARD):
        cuda = cupy.cuda.runtime.runtimeGetVersion() // 1000
        older = f"Install CuPy for CUDA 12 ({_exchange(packages, 'cupy-cuda12x')})"
        remedy = older if cuda > 12 else "Choose another with CUDA_VISIBLE_DEVICES"
        return f"CUDA {cuda} does not support this GPU ({reason}). {remedy}"
    if isinstance(problem, OSError) and problem.errno:  # a library that cannot be loaded gives no number
        return f"CuPy cannot keep its kernels ({reason}). Set CUPY_CACHE_DIR to a folder that can be written"
    if len(packages) > 1:
        return _too_many(f"the GPU failed its first product ({reason})", packages)
    if kinds & TOOLKIT_FAULTS or "failed to load" in reason.lower() or "dlopen" in reason:
        missing = re.match('Failure finding "(.+?)"', reason)
        found = f"a part of the CUDA toolkit is missing ({missing[1] if missing else reason})"
        wheel = _wheel(packages)
        remedy = f": {pip('install', wheel + '[ctk]')}" if wheel else ", in the version CuPy was built for"
        return f"{found}. Install it{remedy}"
    return f"the GPU failed its first product ({reason}). Check it with nvidia-smi"


@contextmanager
def failures(batch_size: int | None = None, last: Callable[[], object] | None = None) -> Iterator[None]:
    """Within this, a full memory or a GPU that fails is a `DeviceError` that says how to go on. `batch_size`
    is the one in use; `last` finds the newest checkpoint, None where there is none yet."""
    try:
        yield
    except Exception as problem:
        reason, kinds, full = _reason(problem), _kinds(problem), _out_of_memory(problem)
        if not full and (not kinds & GPU_FAULTS or reason.startswith(MISTAKES)):
            raise
        checkpoint = last and last()
        resume = f"go on from the last checkpoint: --resume {pasted(str(checkpoint))}"
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
        again = "start again (last checkpoint: none yet)" if last else "try again"
        then = resume if checkpoint else f"{again}, or use --device cpu."
        raise DeviceError(f"the GPU failed ({reason}). Check it with nvidia-smi, then {then}") from problem


def _reason(problem: BaseException) -> str:
    """The sentence of an exception's text that says most, or its kind where it has no text."""
    lines = [line for line in (line.strip(" *") for line in str(problem).splitlines()) if line]
    errors = [line for line in lines if "error:" in line]
    return first_sentence(printable(next(iter(errors + lines), type(problem).__name__)))


def _kinds(problem: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(problem).__mro__}


def _out_of_memory(problem: Exception) -> bool:
    told = bool(_kinds(problem) & GPU_FAULTS) and str(problem).startswith(NO_MEMORY)
    return isinstance(problem, MemoryError) or told  # CuPy's own OutOfMemoryError is a MemoryError


def cupy_packages() -> dict[str, str]:
    """The versions of the installed packages that bring CuPy, of which there must be only one."""
    from importlib import metadata  # 20 ms, which no command without a fault should wait for

    found = {}
    for name in ("cupy", "cupy-cuda12x", "cupy-cuda13x"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _wheel(packages: Collection[str]) -> str | None:
    """That of the `packages` which has the extra ``[ctk]``: pip then installs the toolkit's libraries."""
    return next((name for name in packages if name.startswith("cupy-cuda")), None)


def _exchange(packages: Collection[str], wheel: str) -> str:
    """How to have `wheel` instead of the `packages` that are installed."""
    removal = f"{pip('uninstall', *packages)}, then " if packages else ""
    return f"{removal}{pip('install', f'{wheel}[ctk]')}"


def _too_many(found: str, packages: Collection[str]) -> str:
    remedy = f"Keep one: {_exchange(packages, 'cupy-cuda13x')} (for a driver of CUDA 12: cupy-cuda12x)"
    return f"{found}: {' and '.join(packages)} are installed, and they overwrite each other. {remedy}"
