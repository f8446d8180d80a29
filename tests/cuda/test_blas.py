"""Calls of cuBLAS: the matrices they name, and that the argument types are the documented ones."""

import ctypes
import re
import sys

import numpy as np
import pytest

from benchmarks import roofline
from tinygan.backend import choose
from tinygan.cuda import blas
from tinygan.cuda.blas import SIGNATURES, Blas, CUBLASError, arguments
from tinygan.errors import DeviceError

# From NVIDIA's documentation of cuBLAS, sections 2.4 and 2.8.
PROTOTYPES = """
cublasCreate_v2(cublasHandle_t *handle)
cublasDestroy_v2(cublasHandle_t handle)
cublasSetStream_v2(cublasHandle_t handle, cudaStream_t streamId)
cublasSetWorkspace_v2(cublasHandle_t handle, void *workspace, size_t workspaceSizeInBytes)
cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
    int m, int n, int k, const void *alpha, const void *A, cudaDataType Atype, int lda, long long int strideA,
    const void *B, cudaDataType Btype, int ldb, long long int strideB, const void *beta, void *C,
    cudaDataType Ctype, int ldc, long long int strideC, int batchCount, cublasComputeType_t computeType,
    cublasGemmAlgo_t algo)
"""
ENUMS = ("cublasOperation_t", "cudaDataType", "cublasComputeType_t", "cublasGemmAlgo_t")
POINTERS = ("cublasHandle_t", "cudaStream_t")


def documented(declaration):
    """The ctypes kind of a C parameter: "pointer", or an integer type."""
    kind = re.sub(r"\bconst\b", "", declaration).strip().rpartition(" ")[0].strip()
    if "*" in declaration or kind in POINTERS:
        return "pointer"
    return {"int": ctypes.c_int, "long long int": ctypes.c_longlong, "size_t": ctypes.c_size_t}.get(
        kind, ctypes.c_int if kind in ENUMS else None
    )


def test_argument_types_are_the_documented_ones():
    found = re.findall(r"(\w+)\(([^)]*)\)", PROTOTYPES)
    assert {name for name, _ in found} == set(SIGNATURES)
    for name, parameters in found:
        expected = [documented(one) for one in parameters.split(",")]
        ours = [
            "pointer" if one is ctypes.c_void_p or hasattr(one, "contents") else one
            for one in SIGNATURES[name]
        ]
        assert ours == expected, name


@pytest.fixture
def multiply(card):
    """Multiplies views of NumPy arrays on the stand-in; functions make the views."""
    xp = choose("gpu", "readable").xp
    stream = xp.cuda.Stream(non_blocking=True)
    own = Blas(xp, stream, "float32")

    def run(a, view_a, b, view_b, out, view_out):
        arrays = [xp.asarray(values.astype(np.float32)) for values in (a, b, out)]
        xp.cuda.Stream.null.synchronize()
        views = [view(array) for view, array in zip((view_a, view_b, view_out), arrays, strict=True)]
        own.product(*views)
        stream.synchronize()
        expected = out.astype(np.float32)
        view_out(expected)[...] = np.matmul(view_a(a.astype(np.float32)), view_b(b.astype(np.float32)))
        assert xp.asnumpy(arrays[2]) == pytest.approx(expected, rel=1e-5, abs=1e-5)

    return run


def same(x):
    return x


R = np.random.default_rng(0).standard_normal
CASES = {
    "plain": ((3, 4), same, (4, 5), same, (3, 5), same),
    "first transposed": ((4, 3), lambda x: x.T, (4, 5), same, (3, 5), same),
    "second transposed": ((3, 4), same, (5, 4), lambda x: x.T, (3, 5), same),
    "both transposed": ((4, 3), lambda x: x.T, (5, 4), lambda x: x.T, (3, 5), same),
    "batch": ((6, 3, 4), same, (6, 4, 5), same, (6, 3, 5), same),
    "batch, transposed": (
        (6, 4, 3), lambda x: x.transpose(0, 2, 1), (6, 5, 4), lambda x: x.transpose(0, 2, 1), (6, 3, 5), same
    ),
    "one factor for all": ((3, 4), same, (6, 4, 5), same, (6, 3, 5), same),
    "one second factor for all": ((6, 3, 4), same, (5, 4), lambda x: x.T, (6, 3, 5), same),
    "images first": (
        (3, 6, 4), lambda x: x.transpose(1, 0, 2), (6, 4, 5), same, (3, 6, 5), lambda x: x.transpose(1, 0, 2)
    ),
    "part of the columns": (
        (3, 9), lambda x: x[:, 2:6], (4, 8), lambda x: x[:, 3:], (3, 7), lambda x: x[:, 1:6]
    ),
    "part of the rows": ((9, 4), lambda x: x[4:7], (6, 5), lambda x: x[2:], (5, 5), lambda x: x[:3]),
    "part of a batch": ((8, 3, 4), lambda x: x[2:], (9, 4, 5), lambda x: x[:6], (7, 3, 5), lambda x: x[1:]),
    "rows of a batch": ((6, 9, 4), lambda x: x[:, 5:8], (4, 5), same, (6, 3, 5), same),
    "one row": ((1, 4), same, (4, 5), same, (1, 5), same),
    "one column": ((3, 4), same, (4, 1), same, (3, 1), same),
    "inner size one": ((3, 1), same, (1, 5), same, (3, 5), same),
    "inner size one, transposed": ((1, 3), lambda x: x.T, (5, 1), lambda x: x.T, (3, 5), same),
    "one number": ((1, 1), same, (1, 1), same, (1, 1), same),
    "a column of a matrix": ((3, 4), same, (4, 5), lambda x: x[:, 2:3], (3, 1), same),
    "a row times a matrix's transpose": ((7, 4), lambda x: x[3:4], (5, 4), lambda x: x.T, (1, 5), same),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_views_are_multiplied_in_place(multiply, case):
    a, view_a, b, view_b, out, view_out = CASES[case]
    multiply(R(a), view_a, R(b), view_b, R(out), view_out)


def test_every_matrix_of_the_tutorials_step_is_aligned_to_the_sixteen_bytes_tensor_cores_read(monkeypatch):
    steps = []

    def note(own, a, b, out):
        for x in (a, b, out):
            one = blas.matrix(x)
            steps.extend([x.data.ptr // 4, one.leading, one.step])

    monkeypatch.setattr(Blas, "product", note)
    roofline.count(roofline.Model(), 256, "tf32")
    assert len(steps) == 9 * 23 and all(step % 4 == 0 for step in steps)


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        ((3, 4), (5, 4), (3, 4)),
        ((3, 4), (4, 5), (5, 3)),
        ((2, 3, 4), (2, 4, 5), (3, 5)),
        ((2, 3, 4), (3, 4, 5), (2, 3, 5)),
        ((2, 3, 4), (4, 5), (3, 3, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(a, b, out):
    with pytest.raises(ValueError, match="cannot multiply"):
        arguments(np.zeros(a, "f"), np.zeros(b, "f"), np.zeros(out, "f"))


def test_views_without_a_contiguous_axis_are_refused():
    a, b, out = np.zeros((3, 4), "f"), np.zeros((4, 5), "f"), np.zeros((3, 5), "f")
    with pytest.raises(ValueError, match="contiguous"):
        arguments(np.zeros((6, 8), "f")[::2, ::2], b, out)
    with pytest.raises(ValueError, match="contiguous"):
        arguments(a, b, np.zeros((5, 3), "f").T)


def test_a_failing_call_names_its_status(card):
    xp = choose("gpu", "readable").xp
    own = Blas(xp, xp.cuda.Stream(non_blocking=True), "float32")
    own.close()  # the handle is gone
    a = xp.zeros((2, 2), dtype=xp.float32)
    with pytest.raises(CUBLASError, match="CUBLAS_STATUS_INVALID_VALUE from cublasGemmStridedBatchedEx"):
        own.product(a, a, xp.zeros((2, 2), dtype=xp.float32))


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda", None)
    with pytest.raises(DeviceError, match=r"cuBLAS cannot be loaded.*pip install"):
        blas.load()


def test_the_real_library_has_these_functions():
    """If NVIDIA's package is installed, it loads without a GPU and reports that it cannot start."""
    pytest.importorskip("cuda.pathfinder")
    try:
        library = blas.load()
    except DeviceError as problem:
        pytest.skip(str(problem))
    assert library.cublasGetStatusName(7) == b"CUBLAS_STATUS_INVALID_VALUE"
    handle = ctypes.c_void_p()
    status = library.cublasCreate_v2(ctypes.byref(handle))
    assert library.cublasGetStatusName(status) in (b"CUBLAS_STATUS_SUCCESS", b"CUBLAS_STATUS_NOT_INITIALIZED")
