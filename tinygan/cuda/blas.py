"""Matrix products that call cuBLAS directly: `xp.matmul`, for use inside a CUDA graph.

CuPy refuses to use its cuBLAS handle while a graph is captured, and copies most views first. A handle with
its own workspace can be captured (cuBLAS documentation, section 2.1.12), and a `Matrix` needs no copy."""

import ctypes
from collections.abc import Sequence
from ctypes import c_char_p, c_float, c_int, c_longlong, c_size_t, c_void_p
from typing import Any, NamedTuple

from tinygan.arrays import Array
from tinygan.errors import DeviceError, one_line, pip

MATRIX = c_void_p, c_int, c_int, c_longlong  # address, type, leading dimension, stride to the next matrix
# Argument types of the functions in use, from cublas_api.h; each returns a status.
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
WORKSPACE = 32 << 20  # bytes; as cuBLAS recommends for Hopper, more than older cards need


class CUBLASError(RuntimeError):
    """A call failed. The text begins with the status, like that of CuPy's exception of the same name."""


class Matrix(NamedTuple):
    """The memory layout of a batch of matrices in BLAS's terms, that is, column-major."""

    transposed: bool
    leading: int  # numbers from one column to the next
    step: int  # numbers from one matrix of the batch to the next; 0: the whole batch uses the same one


def arguments(a: Array, b: Array, out: Array) -> tuple[int, int, int, Matrix, Matrix, Matrix, int]:
    """For out = a b, (m, k) times (k, n) or batches of these: m, n, k, both factors, the result, batch size.
    To BLAS a row-major matrix is the transpose of a column-major one. So the call computes out' = b' a' and
    passes each view unchanged. A factor with 2 axes serves the whole batch.
    Raises: ValueError if the shapes do not fit, or if no axis of a view is contiguous."""
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
    """The layout of `x`, (rows, columns) or (count, rows, columns), for a call."""
    rows, columns = x.shape[-2:]
    down, along = (stride // x.itemsize for stride in x.strides[-2:])
    step = x.strides[0] // x.itemsize if x.ndim == 3 else 0
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return Matrix(False, max(down, columns) if rows > 1 else columns, step)
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return Matrix(True, max(along, rows) if columns > 1 else rows, step)
    raise ValueError(f"no axis of {x.shape} with strides {x.strides} is contiguous")


def load() -> Any:
    """cuBLAS, with the types of its functions declared. Raises: DeviceError if it cannot be loaded."""
    try:
        from cuda import pathfinder  # pyright: ignore

        found = pathfinder.load_nvidia_dynamic_lib("cublas")
        library = ctypes.CDLL(found.abs_path, handle=getattr(found, "_handle_uint", None))  # CuPy's
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
    """A cuBLAS handle for one stream and one precision."""

    def __init__(self, xp: Any, stream: Any, precision: str) -> None:
        """`stream` is a CuPy stream. Unless `precision` is ``"float32"``, float32 factors round to TF32's 10
        bits. Raises: DeviceError if cuBLAS cannot be loaded; CUBLASError if it cannot be used."""
        self.library = load()
        self.compute = FLOAT32 if precision == "float32" else TF32
        self.workspace = xp.empty(WORKSPACE, dtype=xp.uint8)
        self.one, self.zero = c_float(1), c_float(0)
        self.handle = c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        self._call("cublasSetStream_v2", self.handle, stream.ptr)
        # After the stream, because setting a stream resets the workspace.
        self._call("cublasSetWorkspace_v2", self.handle, self.workspace.data.ptr, WORKSPACE)

    def product(self, a: Array, b: Array, out: Array) -> None:
        """out = a b, for arrays (m, k), (k, n), (m, n) or batches of these. All are float32, or both factors
        float16 and the result either, with sums in float32. Raises: as `arguments`; CUBLASError."""
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
        """Free the handle. No graph captured with it may exist any longer."""
        if self.handle:
            self.library.cublasDestroy_v2(self.handle)  # fails on a card that has failed
            self.handle = c_void_p()

    def _call(self, name: str, *given: Any) -> None:
        status = getattr(self.library, name)(*given)
        if status:
            raise CUBLASError(f"{self.library.cublasGetStatusName(status).decode()} from {name}")
