"""A GPU that is missing, unusable or fails during a run: each case is one line, with its remedy.

The classes and texts come from CuPy 14.2.0 and CUDA 13. The tests at the end use the installed CuPy's.
"""

import sys
from importlib import import_module, metadata
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.checks import one_line
from tinygan import backend as backends
from tinygan import cli
from tinygan.backend import choose, probed
from tinygan.errors import DataError, DeviceError, pip
from tinygan.gpu_errors import failures

# The exception classes of CuPy and cuda.pathfinder, as bare as the originals.
CUDARuntimeError = type("CUDARuntimeError", (RuntimeError,), {})
CUDADriverError = type("CUDADriverError", (RuntimeError,), {})
CUBLASError = type("CUBLASError", (RuntimeError,), {})
NVRTCError = type("NVRTCError", (RuntimeError,), {})
OutOfMemoryError = type("OutOfMemoryError", (MemoryError,), {})
DynamicLibNotFoundError = type("DynamicLibNotFoundError", (RuntimeError,), {})
CompileException = type("CompileException", (Exception,), {})

OLD_DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
NO_DEVICE = "cudaErrorNoDevice: no CUDA-capable device is detected"
NO_MEMORY = "Out of memory allocating 1,073,741,824 bytes (allocated so far: 5,368,709,120 bytes)."
ILLEGAL = "cudaErrorIllegalAddress: an illegal memory access was encountered"
LAST = "runs/0001/checkpoints/epoch_0020.npz"


@pytest.fixture
def fresh_gpu(monkeypatch):
    """`probed` with an empty cache, before and after; one CuPy is installed."""
    probed.cache_clear()
    monkeypatch.setattr(backends, "probed", probed)
    installed(monkeypatch, "cupy-cuda13x")
    yield monkeypatch
    probed.cache_clear()


def installed(monkeypatch, *packages):
    def version(name):
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)


def fake_cupy(monkeypatch, problem=None, stage="kernel", driver=13000, toolkit=13020):
    """A module `cupy` in which one stage of the first use fails with `problem`."""

    def fail(at):
        if at == stage and problem:
            raise problem

    class Probe(np.ndarray):
        def __matmul__(self, other):
            fail("product")
            return np.matmul(self, other)

    def ones(shape, dtype):
        fail("kernel")
        return np.ones(shape, dtype).view(Probe)

    device = SimpleNamespace(synchronize=lambda: fail("synchronisation"), compute_capability="90")
    runtime = SimpleNamespace(driverGetVersion=lambda: driver, runtimeGetVersion=lambda: toolkit)
    cupy = ModuleType("cupy")
    cupy.__dict__.update(
        ones=ones, float32=np.float32, cuda=SimpleNamespace(Device=lambda: device, runtime=runtime)
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def refusal(monkeypatch, *arguments, **keywords):
    """The line that ``--device gpu`` ends with if the GPU fails like this at first use."""
    fake_cupy(monkeypatch, *arguments, **keywords)
    return refused()


def refused():
    with pytest.raises(DeviceError) as error:
        choose("gpu")
    text = one_line(error)
    assert error.value.exit_code == 3 and text.endswith(", or use --device cpu."), text
    return text


def broken_cupy(monkeypatch, folder, code):
    """An installed CuPy whose ``__init__.py`` holds `code`."""
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text(code)
    for name in [name for name in sys.modules if name.partition(".")[0] == "cupy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder)
    # Do not leave the imported module to other tests.
    monkeypatch.setitem(sys.modules, "cupy", None)
    del sys.modules["cupy"]


def test_a_missing_cupy_is_reported_with_what_to_install(fresh_gpu):
    fresh_gpu.setitem(sys.modules, "cupy", None)
    text = refused()
    assert text.startswith("CuPy is not installed. ")
    assert "-m pip install 'cupy-cuda13x[ctk]'" in text and "'cupy-cuda12x[ctk]'" in text


WRAPPED = (  # in a page of advice, as CuPy does
    "try:\n    raise ImportError('libnvJitLink.so.13: wrong ELF class')\n"
    "except ImportError as exc:\n    raise ImportError('\\n====\\nFailed to import CuPy.\\n') from exc\n"
)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("from cupy import ones", "ImportError: cannot import name 'ones'"),
        ("raise RuntimeError('numpy.core.multiarray failed')", "RuntimeError: numpy.core.multiarray failed"),
        (WRAPPED, "ImportError: libnvJitLink.so.13: wrong ELF class)"),
    ],
)
def test_a_cupy_that_cannot_be_imported_is_not_reported_as_missing(fresh_gpu, tmp_path, code, found):
    broken_cupy(fresh_gpu, tmp_path, code)
    text = refused()
    assert f"CuPy is installed but cannot be imported ({found}" in text
    remedy = f"{pip('uninstall', 'cupy-cuda13x')}, then {pip('install', 'cupy-cuda13x[ctk]')}"
    assert remedy in text


def test_an_empty_folder_left_by_an_uninstallation_is_not_a_cupy(fresh_gpu):
    fresh_gpu.setitem(sys.modules, "cupy", ModuleType("cupy"))  # as the import of a bare folder gives
    assert "cannot be imported (AttributeError: module 'cupy' has no attribute 'ones')" in refused()


@pytest.mark.parametrize("when", ["import", "first use"])
def test_two_installed_cupys_are_named_with_how_to_keep_one(fresh_gpu, tmp_path, when):
    installed(fresh_gpu, "cupy-cuda12x", "cupy-cuda13x")
    if when == "import":
        broken_cupy(fresh_gpu, tmp_path, "raise ImportError('undefined symbol')")
        text = refused()
    else:
        text = refusal(fresh_gpu, ImportError("undefined symbol"))
    assert "undefined symbol" in text and "cupy-cuda12x and cupy-cuda13x are installed" in text
    assert f"{pip('uninstall', 'cupy-cuda12x', 'cupy-cuda13x')}, then {pip('install')}" in text


PATHFINDER = (
    'Failure finding "libcublasLt.so.13 or libcublasLt.so.12": No such file: libcublasLt.so.13 or '
    "libcublasLt.so.12\n  listdir(/venv/nvidia/cu13/lib):\n    libnvrtc.so.13"
)
BUILTINS = (
    "nvrtc: error: failed to open libnvrtc-builtins.so.13.5.\n"
    "  Make sure that libnvrtc-builtins.so.13.5 is installed correctly."
)
HEADER = (
    '/venv/cupy/float16.cuh(19): catastrophic error: cannot open source file "cuda_fp16.h"\n'
    "  #include <cuda_fp16.h>\n\n1 catastrophic error detected in the compilation.\n"
)
OTHER_CARD = CompileException("nvrtc: error: invalid value for --gpu-architecture (-arch)\n")
ARCHITECTURE = "(nvrtc: error: invalid value for --gpu-architecture (-arch))"
EXCHANGED = f"{pip('uninstall', 'cupy-cuda13x')}, then {pip('install', 'cupy-cuda12x[ctk]')}"
NVRTC = "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE (7)"
OLD = "the NVIDIA driver is too old: it supports CUDA"
# A problem at first use, the versions of driver and toolkit, and the line up to its last remedy.
FIRST_USE = [
    (CUDARuntimeError(OLD_DRIVER), {"driver": 0},
     "no NVIDIA driver was found, and CuPy needs one for CUDA 13. Install it so that nvidia-smi shows the "
     "GPU (in a container: --gpus all)"),
    (CUDARuntimeError(OLD_DRIVER), {"driver": 12040},
     f"{OLD} 12.4; CuPy needs CUDA 13. Install a newer driver, or the "
     f"CuPy that fits this one ({EXCHANGED})"),
    (CUDARuntimeError(OLD_DRIVER), {"driver": 11080, "toolkit": 12090},
     f"{OLD} 11.8; CuPy needs CUDA 12. Install a newer driver"),
    (CUDARuntimeError(OLD_DRIVER), {"driver": 11080},
     f"{OLD} 11.8; CuPy needs CUDA 13. Install a newer driver"),
    (CUDARuntimeError(NO_DEVICE), {}, "the NVIDIA driver finds no GPU. Check that nvidia-smi lists one"),
    (OTHER_CARD, {}, f"CUDA 13 does not support this GPU {ARCHITECTURE}. Install CuPy for CUDA 12 "
     f"({EXCHANGED})"),
    (OTHER_CARD, {"toolkit": 12090},
     f"CUDA 12 does not support this GPU {ARCHITECTURE}. Choose another GPU with CUDA_VISIBLE_DEVICES"),
    (PermissionError(13, "Permission denied", "/home/me/.cupy"), {},
     "CuPy cannot save its compiled kernels ([Errno 13] Permission denied: '/home/me/.cupy'). Set "
     "CUPY_CACHE_DIR to a writable folder"),
]  # fmt: skip
FULL = [
    OutOfMemoryError(NO_MEMORY), CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"),
    CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"), CUBLASError("CUBLAS_STATUS_ALLOC_FAILED"),
]  # fmt: skip
FIRST_USE += [
    (problem, {}, f"the GPU's memory is already full ({str(problem).rstrip('.')}). Stop the programs on it "
     "(see nvidia-smi), choose another GPU with CUDA_VISIBLE_DEVICES") for problem in FULL
]  # fmt: skip
FIRST_USE += [
    (problem, {}, f"the GPU failed its first computation ({reason}). Check it with nvidia-smi")
    for problem, reason in (
        (CUDARuntimeError("cudaErrorUnknown: unknown error"), "cudaErrorUnknown: unknown error"),
        (CUBLASError("CUBLAS_STATUS_NOT_INITIALIZED"), "CUBLAS_STATUS_NOT_INITIALIZED"),
        (ValueError(), "ValueError"),
    )
]
FIRST_USE += [
    (problem, {}, f"part of the CUDA toolkit is missing ({reason}). Install it: "
     + pip("install", "cupy-cuda13x[ctk]"))
    for problem, reason in (
        (DynamicLibNotFoundError(PATHFINDER), "libcublasLt.so.13 or libcublasLt.so.12"),
        (ImportError(PATHFINDER), "libcublasLt.so.13 or libcublasLt.so.12"),
        (OSError("libcublas.so: wrong ELF class"), "libcublas.so: wrong ELF class"),
        (CompileException(f"x.cu(9): warning #177-D: variable was never referenced\n{HEADER}"),
         '/venv/cupy/float16.cuh(19): catastrophic error: cannot open source file "cuda_fp16.h"'),
        (CompileException(BUILTINS), "nvrtc: error: failed to open libnvrtc-builtins.so.13.5"),
        (NVRTCError(NVRTC), NVRTC),
        (RuntimeError("CuPy failed to load libnvrtc.so.13: OSError: libnvrtc.so.13: no"),
         "CuPy failed to load libnvrtc.so.13: OSError: libnvrtc.so.13: no"),
        (RuntimeError("Failed to dlopen /x/libcublas.so.13: libcublasLt.so.13: no"),
         "Failed to dlopen /x/libcublas.so.13: libcublasLt.so.13: no"),
        (AssertionError("\n*** The requested function could not be found in the library.\n***\n"),
         "The requested function could not be found in the library"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("problem", "facts", "line"), FIRST_USE)
def test_a_failure_at_first_use_is_reported_with_its_remedy(fresh_gpu, problem, facts, line):
    fresh_gpu.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert refusal(fresh_gpu, problem, **facts) == f"{line}, or use --device cpu."


@pytest.mark.parametrize("stage", ["kernel", "product", "synchronisation"])
def test_a_failure_at_any_stage_of_the_first_use_is_noticed(fresh_gpu, stage):
    assert "is missing (libcublas" in refusal(fresh_gpu, ImportError(PATHFINDER), stage)


@pytest.mark.parametrize("value", ["", "7"])
def test_a_variable_that_hides_the_gpus_is_named_with_its_value(fresh_gpu, value):
    fresh_gpu.setenv("CUDA_VISIBLE_DEVICES", value)
    text = refusal(fresh_gpu, CUDARuntimeError(NO_DEVICE))
    assert f"CUDA_VISIBLE_DEVICES is {value!r}. Unset it" in text


def test_the_toolkit_to_install_fits_the_installed_cupy(fresh_gpu):
    installed(fresh_gpu, "cupy-cuda12x")
    assert pip("install", "cupy-cuda12x[ctk]") in refusal(fresh_gpu, ImportError(PATHFINDER))
    installed(fresh_gpu, "cupy")  # built from source, or by conda: a wheel next to it would break it
    assert "pip install" not in refusal(fresh_gpu, ImportError(PATHFINDER))


def test_auto_uses_a_working_gpu_and_prints_nothing(fresh_gpu):
    cupy, lines = fake_cupy(fresh_gpu), []
    chosen = choose("auto", say=lines.append)
    assert chosen.device == "gpu" and chosen.xp is cupy and lines == []


def test_auto_falls_back_to_the_cpu_and_says_why_in_one_line(fresh_gpu):
    lines = []
    fake_cupy(fresh_gpu, CUDARuntimeError("cudaErrorUnknown: one. Two."))
    chosen = choose("auto", say=lines.append)
    assert chosen.device == "cpu" and chosen.xp is np
    assert lines == ["no GPU: the GPU failed its first computation (cudaErrorUnknown: one). Using the CPU."]


def test_cpu_never_searches_for_a_gpu(fresh_gpu):
    fresh_gpu.setattr(backends, "probed", lambda *arguments: pytest.fail("searched for a GPU"))
    lines = []
    assert choose("cpu", say=lines.append).device == "cpu" and lines == []


def fails(problem):
    raise problem


def failure(problem, **keywords):
    """The line that `problem` becomes during a run."""
    with pytest.raises(DeviceError) as error, failures(**keywords):
        raise problem
    assert error.value.__cause__ is problem and error.value.exit_code == 3
    return one_line(error)


ILLEGAL_ON_CARD = f"the GPU failed ({ILLEGAL}). Check it with nvidia-smi, then"
FULL_CARD = f"the GPU's memory is full ({NO_MEMORY.rstrip('.')})."
FULL_AT = f"the GPU's memory is full at --batch-size {{}} ({NO_MEMORY.rstrip('.')})."
LAST_ONE = {"last": lambda: LAST}
DURING_A_RUN = [
    (OutOfMemoryError(NO_MEMORY), {"batch_size": 3}, f"{FULL_AT.format(3)} Use --batch-size 1."),
    (OutOfMemoryError(NO_MEMORY), {"batch_size": 1}, f"{FULL_AT.format(1)} Use a smaller --width or --size."),
    (OutOfMemoryError(NO_MEMORY), {}, f"{FULL_CARD} Use a smaller --width or --size."),
    (OutOfMemoryError(NO_MEMORY), {"batch_size": 64} | LAST_ONE,
     f"{FULL_AT.format(64)} Start a new run with --batch-size 32, or free memory and resume from the last "
     f"checkpoint: --resume {LAST}"),
    (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), {"batch_size": 256},
     "the GPU's memory is full at --batch-size 256 (cudaErrorMemoryAllocation: out of memory). Use "
     "--batch-size 128."),
    (CUDARuntimeError(ILLEGAL), {}, f"{ILLEGAL_ON_CARD} try again, or use --device cpu."),
    (CUDARuntimeError(ILLEGAL), {"last": lambda: None},
     f"{ILLEGAL_ON_CARD} start again (there is no checkpoint yet), or use --device cpu."),
    (CUDARuntimeError(ILLEGAL), {"last": lambda: "my runs/a.npz"},
     f"{ILLEGAL_ON_CARD} resume from the last checkpoint: --resume 'my runs/a.npz'"),
    *((lost, {"batch_size": 256} | LAST_ONE,
       f"the GPU failed ({lost}). Check it with nvidia-smi, then resume from the last checkpoint: "
       f"--resume {LAST}")
      for lost in (CUDADriverError("CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy"),
                   CUBLASError("CUBLAS_STATUS_EXECUTION_FAILED"))),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "given", "line"), DURING_A_RUN)
def test_a_card_that_fails_during_a_run_is_reported_with_what_to_do(problem, given, line):
    assert failure(problem, **given) == line


def test_every_command_also_reports_full_memory_on_the_cpu(capsys):
    with pytest.raises(DeviceError) as error, failures(batch_size=256):
        np.empty(1 << 58)
    text = one_line(error)
    assert text.startswith("out of memory at --batch-size 256 (Unable to allocate ")
    assert text.endswith("Use --batch-size 128.") and "GPU" not in text
    assert cli.run(lambda arguments: fails(MemoryError()), []) == 3
    assert capsys.readouterr().err == "error: out of memory. Use a smaller --width or --size.\n"
    numpy_s = MemoryError("Unable to allocate 400. GiB for an array with shape (2, 3). More words.")
    assert "(Unable to allocate 400. GiB for an array with shape (2, 3)). Use" in failure(numpy_s)
    assert failure(MemoryError(), batch_size=4) == "out of memory at --batch-size 4. Use --batch-size 2."


@pytest.mark.parametrize(
    "problem",
    [
        DataError("no such data"),
        TypeError("a bug"),
        IndexError("a bug"),
        RuntimeError("cudaErrorMemoryAllocation, someone said"),
        CUDARuntimeError("cudaErrorInvalidValue: invalid argument"),
        CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted"),
        CUBLASError("CUBLAS_STATUS_INVALID_VALUE"),
        KeyboardInterrupt(),
    ],
)  # fmt: skip
def test_errors_that_are_not_the_devices_fault_pass_unchanged(problem):
    with pytest.raises(type(problem)) as error, failures(256, lambda: pytest.fail("asked")):
        raise problem
    assert error.value is problem and problem.__cause__ is None


def test_a_failure_on_the_cpu_imports_no_cupy(monkeypatch):
    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name.startswith(("cupy", "cuda")):
                pytest.fail(f"imported {name}")

    for name in [name for name in sys.modules if name.startswith(("cupy", "cuda"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Watch(), *sys.meta_path])
    failure(MemoryError(), batch_size=8)
    with pytest.raises(RuntimeError, match="a bug"), failures():
        raise RuntimeError("a bug")


@pytest.fixture
def real_cupy(fresh_gpu):
    """The installed CuPy; it does not need a GPU."""
    return pytest.importorskip("cupy")


def test_cupy_itself_without_a_driver_is_refused(real_cupy, fresh_gpu):
    if real_cupy.cuda.runtime.driverGetVersion():
        pytest.skip("there is a driver")
    assert refused().startswith("no NVIDIA driver was found")


@pytest.mark.parametrize(
    ("status", "text"), [(100, "driver finds no GPU"), (2, "memory is already full (cudaErrorMemoryA")]
)
def test_cupys_own_runtime_errors_are_recognised_at_the_start(real_cupy, fresh_gpu, status, text):
    def ones(shape, dtype):
        raise real_cupy.cuda.runtime.CUDARuntimeError(status)

    fresh_gpu.setattr(real_cupy, "ones", ones)
    assert text in refused()


def test_libraries_that_the_installed_cupy_lacks_are_named(real_cupy, fresh_gpu):
    try:
        library = import_module("cupy.cuda").cublas
    except ImportError as problem:
        fresh_gpu.setattr(real_cupy, "ones", lambda shape, dtype, problem=problem: fails(problem))
        text = refused()
        assert "part of the CUDA toolkit is missing (libcublas" in text and "cupy-cuda13x[ctk]" in text
    else:
        pytest.skip(f"{library.__name__} is installed")


def test_cupys_own_compiler_errors_are_recognised_at_the_start(real_cupy, fresh_gpu):
    compiler = import_module("cupy.cuda.compiler")
    problem = compiler.CompileException(HEADER, "source", "name", (), "nvrtc")
    fresh_gpu.setattr(real_cupy, "ones", lambda shape, dtype: fails(problem))
    assert 'error: cannot open source file "cuda_fp16.h")' in refused()


def test_cupys_own_errors_are_recognised_during_a_run(real_cupy):
    full = real_cupy.cuda.memory.OutOfMemoryError(1 << 30, 5 << 30)
    assert isinstance(full, MemoryError) and str(full) == NO_MEMORY
    assert "GPU's memory is full" in failure(full) and "--batch-size 128." in failure(full, batch_size=256)
    illegal = real_cupy.cuda.runtime.CUDARuntimeError(700)
    assert str(illegal) == ILLEGAL and f"failed ({ILLEGAL})" in failure(illegal)
    kind = real_cupy.cuda.driver.CUDADriverError  # its constructor asks the driver for the text
    lost = kind.__new__(kind, "CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered")
    assert "failed (CUDA_ERROR_ECC_UNCORRECTABLE" in failure(lost)


def test_cupys_own_cublas_errors_are_recognised_during_a_run(real_cupy):
    try:
        kind = import_module("cupy_backends.cuda.libs.cublas").CUBLASError
    except ImportError:
        pytest.skip("cuBLAS is not installed")
    assert "failed (CUBLAS_STATUS_EXECUTION_FAILED)" in failure(kind(13))
    assert "memory is full (CUBLAS_STATUS_ALLOC_FAILED)" in failure(kind(3))
