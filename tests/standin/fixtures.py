"""Where tests of what happens on a graphics card run: on the stand-in for CuPy, and on a GPU.

The stand-in runs the very kernels, compiled by the C compiler, and products as cuBLAS defines them.
"""

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.standin import cupy as standin
from tests.standin.kernels import COMPILER
from tinygan.backend import Backend, choose, gpu
from tinygan.cuda import blas

MakeBackend = Callable[..., Backend]  # engine, precision


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Card]:
    """From now on CuPy and cuBLAS are the stand-ins; this is the card behind them."""
    if COMPILER is None:
        pytest.skip("no C compiler to run the kernels with")
    module, card, library = standin.make()
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setattr(blas, "load", lambda: blas.declared(library))
    gpu.cache_clear()
    yield card
    gpu.cache_clear()


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def make_backend(request: pytest.FixtureRequest) -> MakeBackend:
    """Makes the backend of an engine and precision, on the stand-in and on a GPU."""
    if request.param == "stand-in":
        request.getfixturevalue("card")

    def make(precision: str = "float32", engine: str = "fast") -> Backend:
        return choose("gpu", engine, precision=precision)

    return make
