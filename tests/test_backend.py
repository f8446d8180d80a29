"""Devices, the table of ops, cores and threads."""

import ctypes
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import tinygan
from tests.checks import one_line
from tinygan import backend as backends
from tinygan.backend import DEVICES, ENGINES, OPS, ROOMS, choose, cpu, gpu, load_ops
from tinygan.errors import DeviceError, UsageError


@pytest.fixture
def fresh_gpu(monkeypatch):
    """`gpu` as if it had never been called, before and after."""
    gpu.cache_clear()
    yield monkeypatch
    gpu.cache_clear()


def fake_cupy(monkeypatch, problem=None, stage="", available=True):
    """A module `cupy` that finds no device, or raises `problem` at one stage of its first use."""

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

    device = SimpleNamespace(synchronize=lambda: fail("synchronisation"))
    cupy = ModuleType("cupy")
    cupy.__dict__.update(
        is_available=lambda: available,
        ones=ones,
        float32=np.float32,
        cuda=SimpleNamespace(Device=lambda: device),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_gpu_without_cupy_is_refused_in_one_line_with_the_remedy(fresh_gpu):
    fresh_gpu.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError) as error:
        choose("gpu")
    text = one_line(error)
    assert "CuPy is not installed" in text and "--device cpu" in text and "pip install" in text
    assert error.value.exit_code == 3


@pytest.mark.parametrize(
    "problem",
    [
        RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nsecond line"),
        ImportError("libnvrtc.so.13: cannot open shared object file"),
        OSError("libcublas.so: wrong ELF class"),
    ],
)
@pytest.mark.parametrize("stage", ["kernel", "product", "synchronisation"])
def test_gpu_that_fails_on_first_use_is_refused_in_one_line(fresh_gpu, problem, stage):
    fake_cupy(fresh_gpu, problem, stage)
    with pytest.raises(DeviceError) as error:
        choose("gpu")
    assert str(problem).split("\n")[0] in one_line(error) and "--device cpu" in str(error.value)


def test_gpu_without_a_device_is_refused_in_one_line(fresh_gpu):
    fake_cupy(fresh_gpu, available=False)
    with pytest.raises(DeviceError) as error:
        choose("gpu")
    assert "no CUDA device" in one_line(error)


def test_auto_takes_the_gpu_where_it_works_and_says_nothing(fresh_gpu):
    cupy, lines = fake_cupy(fresh_gpu), []
    chosen = choose("auto", report=lines.append)
    assert chosen.device == "gpu" and chosen.xp is cupy and lines == []


def test_auto_falls_back_to_the_cpu_and_reports_one_line(fresh_gpu):
    fresh_gpu.setitem(sys.modules, "cupy", None)
    lines = []
    chosen = choose("auto", report=lines.append)
    assert chosen.device == "cpu" and chosen.xp is np
    assert len(lines) == 1 and "\n" not in lines[0] and "CPU" in lines[0] and "CuPy" in lines[0]


def test_cpu_never_looks_for_a_gpu(fresh_gpu):
    fresh_gpu.setattr(backends, "gpu", lambda engine: pytest.fail("looked for a GPU"))
    lines = []
    assert choose("cpu", report=lines.append).device == "cpu" and lines == []


@pytest.mark.parametrize("arguments", [("tpu", "auto"), ("cpu", "furious"), ("GPU", "auto"), ("", "auto")])
def test_unknown_names_are_refused_in_one_line(arguments):
    with pytest.raises(UsageError) as error:
        choose(*arguments)
    one_line(error)


def test_every_engine_that_is_offered_can_be_chosen_on_the_cpu():
    assert DEVICES == ("auto", "cpu", "gpu")
    for engine in ENGINES:
        assert set(choose("cpu", engine).ops) == set(OPS)


def test_the_table_names_functions_that_exist_in_each_engines_folder():
    for name, (file, engines) in OPS.items():
        assert "readable" in engines, name  # every op can be read
        for engine in engines:
            module = import_module(f"{ROOMS[engine]}.{file}")
            for direction in ("forward", "backward"):
                function = getattr(module, f"{name}_{direction}")
                assert function.__module__ == module.__name__


def test_the_table_lacks_no_op_of_the_readable_folder():
    import tinygan.ops

    found = set()
    for path in Path(tinygan.ops.__path__[0]).glob("*.py"):
        module = import_module(f"tinygan.ops.{path.stem}") if path.stem != "__init__" else tinygan.ops
        found |= {name[: -len("_forward")] for name in vars(module) if name.endswith("_forward")}
    assert found == set(OPS)


def test_an_engine_borrows_the_ops_it_lacks_from_the_readable_one():
    for engine in ROOMS:
        if engine in ENGINES:
            ops, readable = load_ops(engine), load_ops("readable")
            for name, (_, engines) in OPS.items():
                assert (ops[name] == readable[name]) == (engine == "readable" or engine not in engines)


def test_arrays_go_to_the_device_and_come_back_with_their_dtype(backend):
    for dtype in (np.float32, np.float64, bool, np.int64):
        values = np.arange(6).reshape(2, 3).astype(dtype)
        back = backend.numpy(backend.array(values))
        assert type(back) is np.ndarray and back.dtype == dtype and (back == values).all()


def test_public_functions_find_the_backend_of_their_arrays(backend):
    y = tinygan.tanh(backend.array(np.ones(2)))
    assert y.backend.device == backend.device and y.backend.xp is backend.xp


def test_cpu_is_made_once():
    assert cpu() is cpu() and cpu().xp is np


def test_usable_cores_are_some_and_no_more_than_the_machine_has():
    assert 1 <= backends.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("5000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("junk", 8),
        (None, 8),
    ],
)
def test_usable_cores_follow_the_control_groups_quota(monkeypatch, content, cores):
    def read(path):
        assert str(path) == "/sys/fs/cgroup/cpu.max"
        if content is None:
            raise FileNotFoundError
        return content

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert backends.usable_cores() == cores


def openblas_threads():
    """(get, set) of the number of threads of the OpenBLAS inside NumPy's wheel."""
    package = Path(np.__file__).parent
    for path in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        blas = ctypes.CDLL(str(path))
        for suffix in ("64_", ""):
            if hasattr(blas, f"scipy_openblas_get_num_threads{suffix}"):
                return (
                    getattr(blas, f"scipy_openblas_get_num_threads{suffix}"),
                    getattr(blas, f"scipy_openblas_set_num_threads{suffix}"),
                )
    pytest.skip("this NumPy has no OpenBLAS of its own")


def test_blas_threads_are_really_limited():
    get, put = openblas_threads()
    before = get()
    try:
        for count in (1, 2, 1):
            assert backends.limit_blas_threads(count) is True
            assert get() == count
    finally:
        put(before)
    assert get() == before


def test_limiting_threads_says_so_where_there_is_no_switch(monkeypatch, tmp_path):
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    backends._blas_switch.cache_clear()
    try:
        assert backends.limit_blas_threads(1) is False
    finally:
        backends._blas_switch.cache_clear()
