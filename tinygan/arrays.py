"""The library an array belongs to, NumPy or CuPy, and the device and engine that compute with it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from tinygan.ranks.alone import ALONE, Ranks, T

DEVICES = ("auto", "cpu", "gpu")
ENGINES = ("auto", "readable", "fast")
ARRAY = "array"  # the name of a data set that a program passes as an array
PRECISIONS = ("auto", "float32", "tf32", "float16")

Array = Any  # numpy.ndarray or cupy.ndarray


@dataclass(frozen=True, eq=False)
class Backend:
    """An array library, a device and an engine (faster twins of some functions). See `backend.choose`."""

    xp: ModuleType = np  # or cupy
    device: str = "cpu"  # or "gpu"
    engine: str = "readable"  # or "fast"
    twins: Mapping[Any, Any] = field(default_factory=dict)  # by the function or op that each replaces
    precision: str = "float32"  # or "tf32", "float16": what the factors of matrix products are rounded to
    ranks: Ranks = ALONE  # the processes that share every batch

    def twin(self, function: T) -> T:
        """This engine's version of `function`, or `function` itself."""
        return self.twins.get(function, function)

    def array(self, values: Any) -> Any:
        """`values` (a NumPy array) as an array of this device, dtype kept."""
        return self.xp.asarray(values)

    def numpy(self, array: Any) -> np.ndarray:
        """`array` of this device as a NumPy array, dtype kept."""
        return np.asarray(array) if self.device == "cpu" else self.xp.asnumpy(array)

    def card(self) -> dict[str, str]:
        """The graphics card's name and versions, for logs; empty on the CPU."""
        if self.device == "cpu":
            return {}
        runtime, number = self.xp.cuda.runtime, self.xp.cuda.Device().id
        capability = self.xp.cuda.Device().compute_capability
        cublas = self.xp.cuda.cublas.getVersion(self.xp.cuda.get_cublas_handle())
        nvrtc = "{}.{}".format(*self.xp.cuda.nvrtc.getVersion())
        versions = {"driver's CUDA": runtime.driverGetVersion(), "CUDA": runtime.runtimeGetVersion()}
        return {
            "card": runtime.getDeviceProperties(number)["name"].decode(),
            "compute capability": f"{capability[:-1]}.{capability[-1]}",
            **{name: f"{found // 1000}.{found % 1000 // 10}" for name, found in versions.items()},  # of 12040
            "CUDA libraries": f"cuBLAS {cublas}, NVRTC {nvrtc}",  # the last bits of results depend on these
        }


CPU = Backend()  # NumPy, without twins


def array_module(array: Array) -> ModuleType:
    """The library that made `array`: NumPy or CuPy."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    return sys.modules[type(array).__module__.partition(".")[0]]


def backend_of(array: Array) -> Backend:
    """The backend of `array`: its library and device, without twins."""
    xp = array_module(array)
    return Backend(xp, "gpu") if xp.__name__ == "cupy" else CPU
