"""The CUDA source: it compiles for every card, and the parameters read from it are the real ones."""

import ctypes
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from tinygan.cuda.kernels import SOURCE, THREADS, Parameter, options, signatures

TEXT = SOURCE.read_text(encoding="utf-8")
CARDS = (75, 80, 86, 89, 90, 100, 120)
CUPYS = ("-ftz=true", "--device-as-default-execution-space")  # options that CuPy 14 adds by itself
REGISTERS = 1 << 16  # of a block of threads, on all these cards


def nvrtc():
    """NVIDIA's run-time compiler, if the package with it is installed."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    pytest.skip("nvidia-cuda-nvrtc is not installed")


def compiled(compiler, *flags):
    """(status, log, size of the machine code)."""
    program = ctypes.c_void_p()
    source = ctypes.c_char_p(TEXT.encode())
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    status = compiler.nvrtcCompileProgram(program, len(flags), given)
    size = ctypes.c_size_t()
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    code = ctypes.c_size_t()
    if status == 0:
        compiler.nvrtcGetCUBINSize(program, ctypes.byref(code))
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode(), code.value


@pytest.mark.parametrize("card", CARDS)
def test_it_compiles_for_every_card_without_spills(card):
    status, log, size = compiled(nvrtc(), f"-arch=sm_{card}", "--ptxas-options=-v", *CUPYS, *options(7, 1))
    assert status == 0, log
    assert size > 10_000
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) >= len(signatures()) and set(spills) == {("0", "0")}
    assert "warning" not in log
    used = re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", log, re.S)
    assert {name for name, _ in used} == set(signatures())
    for name, registers in used:  # or the launch fails: "too many resources requested"
        threads = 1024 if name in ("batch_statistics", "total") else THREADS
        assert int(registers) * threads <= REGISTERS, name


@pytest.mark.parametrize(("side", "channels"), [(1, 1), (8, 3), (32, 3)])
def test_it_compiles_for_other_sizes_of_pictures(side, channels):
    status, log, _ = compiled(nvrtc(), "-arch=sm_90", *CUPYS, *options(side, channels))
    assert status == 0 and "warning" not in log, log


def test_a_mistake_would_be_noticed():
    status, log, _ = compiled(nvrtc(), "-arch=sm_90", "-DCHANNELS=1")  # SIDE is missing
    assert status != 0 and "SIDE" in log


def test_every_kernels_parameters_are_known():
    assert len(signatures()) == TEXT.count("__global__")
    names = [p.name for p in signatures()["draw_mask"]]
    assert names[:6] == ["mask", "start", "count", "key0", "key1", "clock"] and len(names) == 13
    kinds = [(p.pointer, p.dtype) for p in signatures()["draw_mask"]]
    word, number = (False, np.uint64), (False, np.int32)
    assert kinds[:6] == [(True, np.uint8), word, number, word, word, (True, np.int64)]


def test_arguments_are_converted_to_the_declared_type():
    assert Parameter("float rate").convert(0.1).dtype == np.float32
    assert Parameter("const int count").convert(True).dtype == np.int32
    with pytest.raises((OverflowError, DeprecationWarning)):  # NumPy 1, which CuPy 14 refuses, only warns
        Parameter("int count").convert(1 << 31)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((3, 4), "f").T, np.zeros((4, 4), "f")[:, :2]])
def test_arrays_of_another_dtype_or_with_gaps_are_refused(array):
    with pytest.raises(TypeError, match="x needs contiguous float32"):
        Parameter("const float *x").convert(array)


def test_nothing_is_added_up_in_an_order_of_chance():
    assert set(re.findall(r"atomic\w+", TEXT)) <= {"atomicMin"}  # the smallest is the smallest in any order
