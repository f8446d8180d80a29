"""Matrix products by cuBLAS, called directly: what `xp.matmul` does, for use inside a CUDA graph.

CuPy refuses its own cuBLAS handle while a graph is captured, and copies most views first. A handle with
its own workspace may be captured (cuBLAS documentation, section 2.1.12), and takes a `Matrix` as it lies."""

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int, c_longlong, c_size_t, c_void_p
from typing import Any, NamedTuple

from tinygan.arrays import Array
from tinygan.errors import DeviceError, one_line, pip

MATRIX = c_void_p, c_int, c_int, c_longlong  # where, type, leading dimension, step to the next one
# Argument types of the functions used, from cublas_api.h; each returns a status.
SIGNATURES: dict[str, Sequence[Any]] = {
    "cublasCreate_v2": [ctypes.POINTER(c_void_p)],
    "cublasDestroy_v2": [c_void_p],
    "cublasSetStream_v2": [c_void_p, c_void_p],
    "cublasSetWorkspace_v2": [c_void_p, c_void_p, c_size_t],
    "cublasGemmStridedBatchedEx": [
        c_void_p, c_int, c_int, c_int, c_int, c_int,  # handle, whether A and B are transposed, m, n, k
        ctypes.POINTER(c_float), *MATRIX, *MATRIX, ctypes.POINTER(c_float), *MATRIX,  # alpha, A, B, beta, C
        c_int, c_int, c_int,  # number of matrices, computation, algorithm
    ],
}  # fmt: skip
TYPES = {"f": 0, "e": 2}  # CUDA_R_32F, CUDA_R_16F, library_types.h, by NumPy's letters
FLOAT32, TF32 = 68, 77  # CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32
DEFAULT_ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT
WORKSPACE = 32 << 20  # bytes; what cuBLAS recommends for Hopper, and more than older cards need


class CUBLASError(RuntimeError):
    """A call failed; the text begins with its status, as that of CuPy's exception of this name does."""


class Matrix(NamedTuple):
    """How a batch of matrices lies in memory, as BLAS sees it: column by column."""

    transposed: bool
    leading: int  # numbers from one column to the next
    step: int  # numbers from one matrix of the batch to the next; 0: the same one for all


def arguments(a: Array, b: Array, out: Array) -> tuple[int, int, int, Matrix, Matrix, Matrix, int]:
    """For out = a b, (m, k) times (k, n) or batches of them: m, n, k, the two factors, the result, how many.
    A row-major matrix is, to BLAS, the transpose of a column-major one. So the product is asked for as
    out' = b' a', and each view is handed over as it is. A factor with 2 axes serves the whole batch.
    Raises ValueError for shapes that do not fit, or a view with no axis of neighbours in memory."""
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    batch = out.shape[0] if out.ndim == 3 else 1
    fits = k == k2 and out.shape[-2:] == (m, n)
    if not fits or any(x.ndim == 3 and (out.ndim != 3 or x.shape[0] != batch) for x in (a, b)):
        raise ValueError(f"cannot multiply {a.shape} by {b.shape} into {out.shape}")
    first, second, result = matrix(b), matrix(a), matrix(out)
    if result.transposed:
        raise ValueError("the rows of a result must be contiguous")
    return n, m, k, first, second, result, batch


def matrix(x: Array) -> Matrix:
    """How `x` (rows, columns) or (count, rows, columns) is to be called."""
    rows, columns = x.shape[-2:]
    down, along = (stride // x.itemsize for stride in x.strides[-2:])
    step = x.strides[0] // x.itemsize if x.ndim == 3 else 0
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return Matrix(False, max(down, columns) if rows > 1 else columns, step)
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return Matrix(True, max(along, rows) if columns > 1 else rows, step)
    raise ValueError(f"no axis of {x.shape} with strides {x.strides} is contiguous")


def load() -> Any:
    """cuBLAS, with the types of its functions declared. Raises DeviceError: the library is not there."""
    try:
        from cuda import pathfinder  # pyright: ignore

        found = pathfinder.load_nvidia_dynamic_lib("cublas")
        library = ctypes.CDLL(found.abs_path, handle=getattr(found, "_handle_uint", None))  # CuPy's own
    except (AttributeError, ImportError, OSError, RuntimeError) as problem:
        remedy = f"{pip('install', 'cupy-cuda13x[ctk]')} (CUDA 12: 'cupy-cuda12x[ctk]')"
        raise DeviceError(f"cuBLAS cannot be loaded: {one_line(problem)}. Install it: {remedy}.") from problem
    return declared(library)


def declared(library: Any) -> Any:
    """`library` with argument and result types set, so that ctypes converts and checks."""
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = list(types), c_int
    library.cublasGetStatusName.argtypes, library.cublasGetStatusName.restype = [c_int], c_char_p
    return library


class Blas:
    """A cuBLAS handle that computes on one stream, in one precision."""

    def __init__(self, xp: Any, stream: Any, precision: str) -> None:
        """`stream` is a CuPy stream; precision ``"float32"``; else float32 factors round to TF32's 10 bits.
        Raises DeviceError where cuBLAS is not there, CUBLASError where it cannot be used."""
        self.library = load()
        self.compute = FLOAT32 if precision == "float32" else TF32
        self.workspace = xp.empty(WORKSPACE, dtype=xp.uint8)
        self.one, self.zero = c_float(1), c_float(0)
        self.handle = c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self._call("cublasSetStream_v2", self.handle, stream.ptr)
        # After the stream: setting a stream takes the workspace away.
        self._call("cublasSetWorkspace_v2", self.handle, self.workspace.data.ptr, WORKSPACE)

    def product(self, a: Array, b: Array, out: Array) -> None:
        """out = a b, for arrays (m, k), (k, n), (m, n) or batches of them: float32; or both factors float16,
        added up in float32, and the result either. Raises as `arguments`, or CUBLASError."""
        m, n, k, first, second, result, batch = arguments(a, b, out)
        factor, product = TYPES[a.dtype.char], TYPES[out.dtype.char]
        self._call(
            "cublasGemmStridedBatchedEx", self.handle, first.transposed, second.transposed, m, n, k,
            ctypes.byref(self.one), b.data.ptr, factor, first.leading, first.step,
            a.data.ptr, factor, second.leading, second.step,
            ctypes.byref(self.zero), out.data.ptr, product, result.leading, result.step,
            batch, FLOAT32 if factor else self.compute, DEFAULT_ALGORITHM,
        )  # fmt: skip

    def close(self) -> None:
        """Give the handle back. Graphs that were captured with it must be gone by then."""
        if self.handle:
            self.library.cublasDestroy_v2(self.handle)  # which a card that has failed cannot do
            self.handle = c_void_p()

    def _call(self, name: str, *given: Any) -> None:
        status = getattr(self.library, name)(*given)
        if status:
            raise CUBLASError(f"{self.library.cublasGetStatusName(status).decode()} from {name}")
