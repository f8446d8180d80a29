"""cuBLAS on the processor: the functions that `tinygan.cuda.blas` calls, by their documentation."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

INVALID = 7  # CUBLAS_STATUS_INVALID_VALUE


def tf32(x: np.ndarray) -> np.ndarray:
    """float32 rounded to the 10 bits of a TF32 factor."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


class Cublas:
    """`enqueue(stream, work)` gets the work; `owns(address, bytes)` says whether memory was handed out."""

    def __init__(
        self,
        signatures: Any,
        enqueue: Callable[[int, Callable[[], None]], None],
        owns: Callable[[int, int], bool],
    ) -> None:
        self.enqueue, self.owns, self.streams, self.workspaces = enqueue, owns, {}, {}
        for name, types in signatures.items():
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *types)(getattr(self, name[6:].lower())))
        names = {1: b"CUBLAS_STATUS_NOT_INITIALIZED", INVALID: b"CUBLAS_STATUS_INVALID_VALUE"}
        self.cublasGetStatusName = lambda status: names[status]  # ctypes has no callbacks that return text

    def create_v2(self, handle: Any) -> int:
        handle[0] = 0x1000 + len(self.streams)
        self.streams[handle[0]] = 0
        return 0

    def destroy_v2(self, handle: int) -> int:
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
            or (type_a, type_b, type_c) != (0, 0, 0) or compute not in (68, 77) or algorithm != -1
            or min(m, n, k, count) < 1 or lda < rows_a or ldb < rows_b or ldc < m or not (A and B and C)
        )  # fmt: skip
        if bad:
            return INVALID
        for address, columns, rows, leading, step in (
            (A, m + k - rows_a, rows_a, lda, step_a),
            (B, k + n - rows_b, rows_b, ldb, step_b),
            (C, n, m, ldc, step_c),
        ):
            size = 4 * ((count - 1) * step + (columns - 1) * leading + rows)
            assert self.owns(address, size), "a product beyond the memory that was handed out"
        scale, keep = alpha[0], beta[0]

        def work() -> None:
            a = view(A, count, rows_a, m + k - rows_a, lda, step_a)
            b = view(B, count, rows_b, k + n - rows_b, ldb, step_b)
            c = view(C, count, m, n, ldc, step_c)
            a, b = a.transpose(0, 2, 1) if ta else a, b.transpose(0, 2, 1) if tb else b
            if compute == 77:
                a, b = tf32(a), tf32(b)
            c[...] = scale * np.matmul(a, b) + (keep * c if keep else 0)

        self.enqueue(self.streams[handle], work)
        return 0


def view(address: int, count: int, rows: int, columns: int, leading: int, step: int) -> np.ndarray:
    """Column-major matrices (count, rows, columns) at an address."""
    size = (count - 1) * step + (columns - 1) * leading + rows
    memory = np.ctypeslib.as_array((ctypes.c_float * size).from_address(address))
    return np.lib.stride_tricks.as_strided(memory, (count, rows, columns), (4 * step, 4, 4 * leading))
