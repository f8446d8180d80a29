"""Devices and engines, the twins of the fast engine, cores and threads."""

import ctypes
import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygan
from tests.checks import OPS, numbers, one_line
from tests.commands import ended, start
from tests.standin import cupy as standin
from tinygan import machine
from tinygan.arrays import CPU, array_module
from tinygan.autograd import Op, Tensor
from tinygan.backend import DEVICES, ENGINES, choose, cpu, shared_by
from tinygan.errors import UsageError
from tinygan.ranks.alone import ALONE, Ranks


@pytest.mark.parametrize("arguments", [("tpu", "auto"), ("cpu", "furious"), ("GPU", "auto"), ("", "auto")])
def test_unknown_names_are_refused_in_one_line(arguments):
    with pytest.raises(UsageError) as error:
        choose(*arguments)
    one_line(error)


def test_every_engine_that_is_offered_can_be_chosen_on_the_cpu():
    assert DEVICES == ("auto", "cpu", "gpu")
    assert {engine: choose("cpu", engine).engine for engine in ENGINES} == {
        "auto": "fast", "readable": "readable", "fast": "fast"
    }  # fmt: skip


def test_the_readable_engine_has_no_twins():
    assert cpu() is cpu("readable") is CPU and CPU.xp is np and CPU.twins == {}
    for op in OPS.values():
        assert CPU.twin(op) is op


def test_the_fast_engine_has_twins_with_the_same_arguments_and_shares_the_other_ops():
    fast = cpu("fast")
    assert set(fast.twins) <= set(OPS.values())
    for name, op in OPS.items():
        twin = fast.twin(op)
        assert (twin is op) == (name in ("add", "reshape", "bce_with_logits")), name
        if twin is not op:
            file = f"tinygan.fast.{'conv' if op.forward.__module__ == 'tinygan.ops.conv' else 'ops'}"
            assert twin.forward.__module__ == twin.backward.__module__ == file
            assert (twin.__name__, arguments(twin.forward)) == (name, arguments(op.forward))
            assert len(arguments(twin.backward)) == len(arguments(op.backward)) == 3


def test_without_the_card_fixture_tests_and_their_processes_see_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", standin.make()[0])
    assert choose("auto", say=lambda line: None).device == "cpu"
    code = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    assert ended(start("-c", code, cwd=tmp_path)).stdout == "-1\n"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "-1\n"


def arguments(function):
    """Name and kind of each argument. Defaults can differ: an op passes all arguments to its twin."""
    return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()]


def test_an_op_on_a_backend_with_a_twin_runs_the_twin():
    ran = []

    def forward(x):
        ran.append("forward")
        return np.tanh(x), x

    def backward(x, dy, wanted):
        ran.append("backward")
        return (dy / np.cosh(x) ** 2,)

    backend = type(CPU)(twins={tinygan.tanh: Op(forward, backward)})
    x = Tensor(numbers(1, 3), backend)
    loss = tinygan.bce_with_logits(tinygan.tanh(x), target=1.0)
    tinygan.grad(loss, [x])
    assert ran == ["forward", "backward"] and loss.backend is backend
    tinygan.tanh(x.data)  # a plain array has no backend
    assert ran == ["forward", "backward"]


def test_the_twins_of_several_ranks_replace_those_of_the_engine_and_one_rank_has_none():
    class Two(Ranks):
        size = 2

    for engine in ("readable", "fast"):
        before, ranks = cpu(engine), Two()
        assert shared_by(before, ALONE).twins == before.twins
        shared = shared_by(before, ranks)
        assert shared.ranks is ranks and before.ranks is ALONE
        assert (shared.engine, shared.device, shared.xp) == (engine, "cpu", np)
        for name, op in OPS.items():
            of_ranks = name in ("batch_norm", "bce_with_logits")
            assert (shared.twin(op) is not before.twin(op)) == of_ranks
            assert of_ranks == (shared.twin(op).backward.__module__ == "tinygan.ranks.twins"), name


def test_arrays_move_to_the_device_and_functions_compute_there(backend):
    for dtype in (np.float32, np.float64, bool, np.int64):
        values = np.arange(6).reshape(2, 3).astype(dtype)
        array = backend.array(values)
        assert array_module(array) is backend.xp
        back = backend.numpy(array)
        assert type(back) is np.ndarray and back.dtype == dtype and (back == values).all()
    found = tinygan.tanh(backend.array(np.ones(2))).backend
    assert (found.xp, found.device, found.twins) == (backend.xp, backend.device, {})
    assert array_module(np.float32(1)) is np  # the type of a sum in NumPy


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
    assert machine.usable_cores() == cores


def openblas_threads():
    """The function that returns the number of threads of the OpenBLAS in NumPy's wheel."""
    package = Path(np.__file__).parent
    for path in [*package.parent.glob("numpy.libs/*openblas*"), *package.glob(".dylibs/*openblas*")]:
        blas = ctypes.CDLL(str(path))
        for suffix in ("64_", ""):
            if hasattr(blas, f"scipy_openblas_get_num_threads{suffix}"):
                return getattr(blas, f"scipy_openblas_get_num_threads{suffix}")
    pytest.skip("this NumPy brings no OpenBLAS")


def test_limiting_threads_returns_false_without_a_switch(monkeypatch, tmp_path):
    monkeypatch.setattr(np, "__file__", str(tmp_path / "numpy" / "__init__.py"))
    machine._blas_switch.cache_clear()
    try:
        assert machine.limit_blas_threads(1) is False
    finally:
        machine._blas_switch.cache_clear()
