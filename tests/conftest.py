"""Fixtures that decide on which devices and engines the tests run.

A test with the fixture `readable` runs with the readable engine on NumPy, on the stand-in for CuPy and on a
GPU. With `backend` it also runs with the fast engine on NumPy. With `make_backend` it runs on the stand-in
and on a GPU. Tests marked `gpu`, and the GPU variants of the others, are skipped if there is no usable GPU.
Only these tests, and the processes they start, see a GPU: in all others commands use the CPU, as on any
machine.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.standin import cupy as standin
from tests.standin.kernels import COMPILER
from tinygan import backend as backends
from tinygan.arrays import Backend
from tinygan.backend import choose, probed
from tinygan.cuda import blas
from tinygan.data import sources
from tinygan.errors import DeviceError

collect_ignore_glob = ["golden/*.py"]  # needs TensorFlow: run by hand
CARDS = os.environ.get("CUDA_VISIBLE_DEVICES")


def no_card(number: int | None = None) -> Any:
    """Replaces `backend.probed` in tests without the mark `gpu`."""
    raise DeviceError("this test is not marked as one that uses a GPU. Mark it, or use --device cpu.")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    if any(item.get_closest_marker("gpu") for item in session.items):
        with suppress(DeviceError):
            probed()  # CUDA lists the cards once per process: before they are hidden


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    marked = item.get_closest_marker("gpu") is not None
    backends.probed = probed if marked else no_card
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if marked:
        os.environ.pop("CUDA_VISIBLE_DEVICES")
        os.environ.update({} if CARDS is None else {"CUDA_VISIBLE_DEVICES": CARDS})
        try:
            probed()
        except DeviceError as problem:
            pytest.skip(str(problem))


GPU = pytest.param("gpu", marks=pytest.mark.gpu)


@pytest.fixture
def few_strokes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer strokes: an evaluation draws all of them, which takes four seconds."""
    for split, (_, seed) in sources.STROKES.items():
        monkeypatch.setitem(sources.STROKES, split, (1000, seed))


@pytest.fixture(params=["cpu", "stand-in", GPU])
def readable(request: pytest.FixtureRequest) -> Backend:
    return _readable(request)


# On a GPU both engines have the same ops. The fast step is tested in tests/cuda.
@pytest.fixture(params=["cpu", "cpu-fast", "stand-in", GPU])
def backend(request: pytest.FixtureRequest) -> Backend:
    return choose("cpu", "fast") if request.param == "cpu-fast" else _readable(request)


def _readable(request: pytest.FixtureRequest) -> Backend:
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
    return choose("cpu" if request.param == "cpu" else "gpu", "readable")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Card]:
    """Replaces CuPy and cuBLAS by the stand-ins; returns their imitation of a card."""
    module, card, library = standin.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(blas, "load", lambda: blas.declared(library))
    monkeypatch.setattr(backends, "probed", probed)
    probed.cache_clear()
    yield card
    probed.cache_clear()


@pytest.fixture
def card(stand_in: standin.Card) -> standin.Card:
    """The same, if a C compiler can compile the kernels."""
    if COMPILER is None:
        pytest.skip("no C compiler to run the kernels with")
    return stand_in


@pytest.fixture(params=["stand-in", GPU])
def make_backend(request: pytest.FixtureRequest) -> Callable[..., Backend]:
    """A function from a precision and an engine to a backend."""
    if request.param == "stand-in":
        request.getfixturevalue("card")

    def make(precision: str = "float32", engine: str = "fast") -> Backend:
        return choose("gpu", engine, precision=precision)

    return make
