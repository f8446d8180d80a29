"""cuBLAS on the CPU: the functions that `tinygan.cuda.blas` calls, written from their documentation."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

INVALID = 7  # CUBLAS_STATUS_INVALID_VALUE
FAILED = 14  # CUBLAS_STATUS_INTERNAL_ERROR
DTYPES = {0: np.dtype(np.float32), 2: np.dtype(np.float16)}  # CUDA_R_32F, CUDA_R_16F
# Types of A, B and C and of the computation, from the documentation's table (section 2.8.13).
COMBINATIONS = {(0, 0, 0, 68), (0, 0, 0, 77), (2, 2, 2, 68), (2, 2, 0, 68)}


def tf32(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the 10 bits of a TF32 factor."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class Cublas:
    """`enqueue(stream, work, used)` gets the work; `owns(address, bytes)` says whether memory is allocated,
    `busy(stream)` whether a stream might still be working."""

    def __init__(
        self,
        signatures: Any,
        enqueue: Callable[[int, Callable[[], None], Any], None],
        owns: Callable[[int, int], bool],
        busy: Callable[[int], bool],
    ) -> None:
        self.enqueue, self.owns, self.busy, self.streams, self.workspaces = enqueue, owns, busy, {}, {}
        for name, types in signatures.items():
            call = self.guarded(getattr(self, name[6:].lower()))
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *types)(call))
        self.names = {1: b"CUBLAS_STATUS_NOT_INITIALIZED", INVALID: b"CUBLAS_STATUS_INVALID_VALUE"}
        # ctypes does not support callbacks that return text.
        self.cublasGetStatusName = lambda status: self.names[status]

    def note(self, a: np.ndarray, b: np.ndarray, exact: np.ndarray, c: np.ndarray) -> None:
        """Called with every product, for tests that check the numbers."""

    def guarded(self, function: Callable[..., int]) -> Callable[..., int]:
        """`function`, with its exceptions, which ctypes would swallow, turned into the name of a status."""

        def call(*given: Any) -> int:
            try:
                return function(*given)
            except (AssertionError, RuntimeError) as problem:
                self.names[FAILED] = str(problem).encode()
                return FAILED

        return call

    def create_v2(self, handle: Any) -> int:
        handle[0] = 0x1000 + len(self.streams)
        self.streams[handle[0]] = 0
        return 0

    def destroy_v2(self, handle: int) -> int:
        assert not self.busy(self.streams.get(handle, 0)), "its stream is still working"
        return 0 if self.streams.pop(handle, None) is not None else 1

    def setstream_v2(self, handle: int, stream: int) -> int:
        self.streams[handle] = stream or 0
        self.workspaces.pop(handle, None)
        return 0

    def setworkspace_v2(self, handle: int, workspace: int, size: int) -> int:
        self.workspaces[handle] = (workspace, size)
        return 0 if workspace % 256 == 0 and self.owns(workspace, size) else INVALID

    def gemmstridedbatchedex(
        self, handle: int, ta: int, tb: int, m: int, n: int, k: int, alpha: Any,
        A: int, type_a: int, lda: int, step_a: int, B: int, type_b: int, ldb: int, step_b: int, beta: Any,
        C: int, type_c: int, ldc: int, step_c: int, count: int, compute: int, algorithm: int,
    ) -> int:  # fmt: skip
        rows_a, rows_b = (k if ta else m), (n if tb else k)
        bad = (
            handle not in self.streams or handle not in self.workspaces or not {ta, tb} <= {0, 1}
            or (type_a, type_b, type_c, compute) not in COMBINATIONS or algorithm != -1
            or min(m, n, k, count) < 1 or lda < rows_a or ldb < rows_b or ldc < m or not (A and B and C)
        )  # fmt: skip
        if bad:
            return INVALID
        used = [(*self.workspace_of(handle), True)]
        for address, columns, rows, leading, step, kind, written in (
            (A, m + k - rows_a, rows_a, lda, step_a, type_a, False),
            (B, k + n - rows_b, rows_b, ldb, step_b, type_b, False),
            (C, n, m, ldc, step_c, type_c, True),
        ):
            size = DTYPES[kind].itemsize * ((count - 1) * step + (columns - 1) * leading + rows)
            assert self.owns(address, size), "a product outside of allocated memory"
            used.append((address, address + size, written))
        scale, keep = alpha[0], beta[0]

        def work() -> None:
            a = view(A, DTYPES[type_a], count, rows_a, m + k - rows_a, lda, step_a)
            b = view(B, DTYPES[type_b], count, rows_b, k + n - rows_b, ldb, step_b)
            c = view(C, DTYPES[type_c], count, m, n, ldc, step_c)
            a, b = a.transpose(0, 2, 1) if ta else a, b.transpose(0, 2, 1) if tb else b
            if compute == 77:
                a, b = tf32(a), tf32(b)
            exact = scale * np.matmul(a, b, dtype=np.float32) + (keep * c if keep else 0)
            with np.errstate(over="ignore"):
                c[...] = exact
            self.note(a, b, exact, c)

        self.enqueue(self.streams[handle], work, used)
        return 0

    def workspace_of(self, handle: int) -> tuple[int, int]:
        """The start and end of the memory that products may also write to."""
        start, size = self.workspaces[handle]
        return start, start + size


def view(
    address: int, dtype: np.dtype, count: int, rows: int, columns: int, leading: int, step: int
) -> np.ndarray:
    """Column-major matrices (count, rows, columns) at an address."""
    size, each = (count - 1) * step + (columns - 1) * leading + rows, dtype.itemsize
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * (size * each)).from_address(address)).view(dtype)
    strides = each * step, each, each * leading
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), strides)
