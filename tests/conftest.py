"""What all tests share: on which devices and engines they run.

A test that takes `backend` runs once for every device and engine there is; one that takes `make_backend`,
on the stand-in for CuPy and on a GPU. Tests marked `gpu`, and the GPU's turn of the others, skip themselves
where there is no usable GPU.
"""

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.standin import cupy as standin
from tests.standin.kernels import COMPILER
from tinygan.arrays import Backend
from tinygan.backend import choose, probed
from tinygan.cuda import blas
from tinygan.errors import DeviceError

collect_ignore_glob = ["golden/*.py"]  # needs TensorFlow; run by hand, not by pytest


def _every_backend():
    for device in ("cpu", "gpu"):
        # On a GPU both engines have the same ops; its fast step is tested in tests/cuda.
        for engine in ("readable", "fast") if device == "cpu" else ("readable",):
            marks = [pytest.mark.gpu] if device == "gpu" else []
            yield pytest.param((device, engine), id=f"{device}-{engine}", marks=marks)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        try:
            probed()
        except DeviceError as problem:
            pytest.skip(str(problem))


@pytest.fixture(params=_every_backend())
def backend(request: pytest.FixtureRequest) -> Backend:
    device, engine = request.param
    return choose(device, engine)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Card]:
    """From now on CuPy and cuBLAS are the stand-ins; this is the card behind them."""
    if COMPILER is None:
        pytest.skip("no C compiler to run the kernels with")
    module, card, library = standin.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(blas, "load", lambda: blas.declared(library))
    probed.cache_clear()
    yield card
    probed.cache_clear()


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def make_backend(request: pytest.FixtureRequest) -> Callable[..., Backend]:
    """Makes the backend of a precision and an engine."""
    if request.param == "stand-in":
        request.getfixturevalue("card")

    def make(precision: str = "float32", engine: str = "fast") -> Backend:
        return choose("gpu", engine, precision=precision)

    return make
