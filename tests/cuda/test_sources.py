"""The CUDA source: it compiles for every card, and the parameters parsed from it are correct."""

import ctypes
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from tinygan.cuda.kernels import SOURCE, THREADS, Parameter, options, signatures

TEXT = SOURCE.read_text(encoding="utf-8")
CARDS = [90, *(pytest.param(card, marks=pytest.mark.slow) for card in (75, 80, 86, 89, 100, 120))]
CUPYS = ("-ftz=true", "--device-as-default-execution-space")  # options that CuPy 14 adds by itself
REGISTERS = 1 << 16  # per block of threads, on all these cards


def nvrtc():
    """NVIDIA's run-time compiler, if its package is installed."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(path))
    pytest.skip("nvidia-cuda-nvrtc is not installed")


def compiled(compiler, *flags, ptx=False):
    """(status, log, size of the machine code); with `ptx` the PTX code instead of the log."""
    program = ctypes.c_void_p()
    source = ctypes.c_char_p(TEXT.encode())
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None) == 0
    given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
    status = compiler.nvrtcCompileProgram(program, len(flags), given)
    size = ctypes.c_size_t()
    what = "PTX" if ptx else "ProgramLog"
    getattr(compiler, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    getattr(compiler, f"nvrtcGet{what}")(program, log)
    code = ctypes.c_size_t()
    if status == 0:
        compiler.nvrtcGetCUBINSize(program, ctypes.byref(code))
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode(), code.value


@pytest.mark.parametrize("card", CARDS)
def test_it_compiles_for_every_card_without_spills(card):
    status, log, size = compiled(nvrtc(), f"-arch=sm_{card}", "--ptxas-options=-v", *CUPYS, *options(7, 1, 4))
    assert status == 0, log
    assert size > 10_000
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert len(spills) >= len(signatures()) and set(spills) == {("0", "0")}
    # An array of a thread with an index unknown to the compiler would be in the card's memory.
    frames = re.findall(r"Function properties for (\w+)\s+(\d+) bytes stack frame", log)
    assert {name for name, size in frames if size != "0"} <= {"begin"}, log  # sin and cos of any angle
    assert "warning" not in log
    used = re.findall(r"Compiling entry function '(\w+)'.*?Used (\d+) registers", log, re.S)
    assert {name for name, _ in used} == set(signatures())
    for name, registers in used:  # or the launch fails: "too many resources requested"
        assert int(registers) * THREADS <= REGISTERS, name


@pytest.mark.slow
@pytest.mark.parametrize("given", [(1, 1, 1), (8, 3, 4), (32, 3, 1, 16), (32, 3, 4), (7, 1, 4, 16)])
def test_it_compiles_for_other_sizes_of_pictures_and_numbers(given):
    status, log, _ = compiled(nvrtc(), "-arch=sm_90", *CUPYS, *options(*given))
    assert status == 0 and "warning" not in log, log


# The reads and writes of single numbers in the card's memory in a kernel's code, and what these numbers are.
SINGLE = {
    "begin": (0, 10, "noise, step sizes"), "moments": (20, 24, "statistics, once a column"),
    "learn_from_all": (20, 24, "the same"), "lift_kernel": (8, 0, "constants"),
    "lower_kernel": (25, 0, "constants"), "make_pictures": (0, 1, "pixels"), "leave_D": (2, 1, "pixels"),
    "see_pictures": (49, 0, "pixels"), "see_pictures_back": (5, 0, "pixels"), "answer": (2, 8, "losses"),
    "make_pictures_sums": (54, 0, "pixels"), "make_pictures_back": (49, 0, "pixels"),
    "answer_back": (1, 0, "slopes"), "check_finite": (2, 1, "losses"), "adam": (1, 0, "step sizes"),
}  # fmt: skip
WRITE_NO_ROWS = {"learn_from_all", "make_pictures", "leave_D", "answer", "check_finite"}


def test_rows_are_read_and_written_sixteen_bytes_at_a_time():
    """In the code from NVIDIA's compiler, if all numbers of channels are multiples of 4."""
    code = compiled(nvrtc(), "-arch=compute_90", *CUPYS, *options(7, 1, 4), ptx=True)[1]
    kernels = dict(re.findall(r"\.entry (\w+)\((.*?)\n\}", code, re.S))
    assert kernels.keys() == signatures().keys()
    for name, text in kernels.items():
        moved = re.findall(r"\b(ld|st)\.global\.(?:nc\.|cg\.)?(v4\.)?f32", text)
        reads, writes, _ = SINGLE.get(name, (0, 0, ""))
        assert moved.count(("ld", "")) <= reads and moved.count(("st", "")) <= writes, name
        if name != "begin":
            assert ("ld", "v4.") in moved, name
        assert (("st", "v4.") in moved) == (name not in WRITE_NO_ROWS), name


def test_a_mistake_would_be_noticed():
    status, log, _ = compiled(nvrtc(), "-arch=sm_90", "-DCHANNELS=1", "-DWIDE=4")  # SIDE is missing
    assert status != 0 and "SIDE" in log


def test_every_kernels_parameters_are_known():
    assert len(signatures()) == TEXT.count("__global__")
    names = [p.name for p in signatures()["begin"]]
    assert names[6:14] == [
        "steps_per_epoch", "z", "z_lifted", "start", "count", "noise0", "noise1", "mask1"
    ]  # fmt: skip
    kinds = [(p.pointer, p.dtype) for p in signatures()["begin"]]
    word, number = (False, np.uint64), (False, np.int32)
    array = True, np.float32
    assert kinds[6:14] == [number, array, array, word, number, word, word, (True, np.uint16)]
    assert kinds[1] == (True, np.uint8) and kinds[-1] == (True, np.uint32)


def test_arguments_are_converted_to_the_declared_type():
    assert Parameter("float rate").convert(0.1).dtype == np.float32
    assert Parameter("const int count").convert(True).dtype == np.int32
    with pytest.raises((OverflowError, DeprecationWarning)):  # NumPy 1, which CuPy 14 refuses, only warns
        Parameter("int count").convert(1 << 31)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((3, 4), "f").T, np.zeros((4, 4), "f")[:, :2]])
def test_arrays_of_another_dtype_or_with_gaps_are_refused(array):
    with pytest.raises(TypeError, match="x needs contiguous float32"):
        Parameter("const float *x").convert(array)


def test_no_sum_depends_on_the_order_of_threads():
    # A minimum is the same in any order, and so is a count of blocks.
    assert set(re.findall(r"atomic\w+", TEXT)) == {"atomicMin", "atomicInc"}
