"""The sources of CUDA's libraries: the extras of pyproject.toml, and loading cuBLAS without CuPy."""

import ctypes
import re
import sys
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.commands import ROOT
from tinygan.cuda import blas

# The files that a run on a GPU opens, by the parts of NVIDIA's package cuda-toolkit. Found by tracing the
# files it opens with a dummy driver, and those that NVRTC and cuBLAS open. CuPy itself brings the runtime
# (libcudart, linked in) and the headers of CUB; its arrays' header includes cuda_fp16.h.
OPENED = {
    "cublas": "libcublas and libcublasLt: products",
    "nvrtc": "libnvrtc and libnvrtc-builtins: every kernel",
    "cudart": "cuda_fp16.h: every kernel of CuPy's",
}


def extras() -> dict[str, list[str]]:
    tomllib = pytest.importorskip("tomllib")  # since Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["optional-dependencies"]


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_the_extras_for_a_gpu_ask_for_cupy_and_the_toolkit(cuda: str) -> None:
    found = extras()
    assert [one.partition(">")[0] for one in found[f"cuda{cuda}"]] == [f"cupy-cuda{cuda}x[ctk]"]
    several = found[f"mpi-cuda{cuda}"]
    assert several[0] == f"tinygan[cuda{cuda},mpi]" and several[1].startswith(f"nvidia-nccl-cu{cuda}>")


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_the_toolkit_that_cupy_requires_has_all_opened_files(cuda: str) -> None:
    try:
        required = metadata.requires(f"cupy-cuda{cuda}x") or []
    except metadata.PackageNotFoundError:
        pytest.skip(f"cupy-cuda{cuda}x is not installed")
    toolkit = next(one for one in required if one.startswith("cuda-toolkit[") and "ctk" in one)
    parts = re.findall(r"\[(.*?)\]", toolkit)[0].split(",")
    assert OPENED.keys() <= set(parts) and any(one.startswith("cuda-pathfinder") for one in required)


@pytest.mark.parametrize("handle", [{"_handle_uint": 7}, {"_handle_uint": None}, {}])
def test_cublas_is_opened_by_its_path_if_pathfinder_gives_no_handle(
    monkeypatch: pytest.MonkeyPatch, handle: dict[str, Any]
) -> None:
    opened = []
    pathfinder = ModuleType("cuda.pathfinder")
    found = SimpleNamespace(abs_path="/there/libcublas.so", **handle)
    pathfinder.load_nvidia_dynamic_lib = lambda name: found  # pyright: ignore[reportAttributeAccessIssue]
    cuda = ModuleType("cuda")
    cuda.pathfinder = pathfinder  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "cuda", cuda)
    monkeypatch.setattr(ctypes, "CDLL", lambda path, handle: opened.append((path, handle)))
    monkeypatch.setattr(blas, "declared", lambda library: library)
    blas.load()
    assert opened == [("/there/libcublas.so", handle.get("_handle_uint"))]
