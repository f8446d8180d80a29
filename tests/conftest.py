"""What all tests share: on which devices and engines they run.

A test that takes `backend` runs once for every device and engine there is. Tests marked `gpu`,
and the GPU's turn of a `backend` test, skip themselves where there is no usable GPU.
"""

import pytest

from tinygan.arrays import Backend
from tinygan.backend import choose, probed
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
