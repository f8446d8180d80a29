"""Devices, the table of ops, cores and threads."""

import ctypes
import os
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import tinygan
from tests.checks import one_line
from tinygan import backend as backends
from tinygan.backend import DEVICES, ENGINES, OPS, ROOMS, choose, cpu, load_ops
from tinygan.errors import UsageError


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
