"""NCCL without graphics cards: the part of `cupy.cuda.nccl` that `tinygan.ranks.mpi` calls.

The processes communicate through MPI. A sum is work on a stream of the stand-in for CuPy, like a kernel.
"""

import ctypes
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

BYTES = 128  # of a unique id
TYPES = {7: np.dtype(np.float32), 8: np.dtype(np.float64)}


class NcclError(RuntimeError):
    """As `cupy.cuda.nccl.NcclError`."""


class NcclCommunicator:
    """As `cupy.cuda.nccl.NcclCommunicator`: all ranks make theirs together, with one id."""

    card: Any

    def __init__(self, ndev: int, commId: tuple[int, ...], rank: int) -> None:
        self.mpi: Any = import_module("mpi4py.MPI")
        self.comm = self.mpi.COMM_WORLD.Dup()  # separate from the processes' other messages
        assert isinstance(commId, tuple) and len(commId) == BYTES and self.comm.bcast(commId) == commId
        assert (ndev, rank) == (self.comm.Get_size(), self.comm.Get_rank())

    def allReduce(  # noqa: N802
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int, /
    ) -> None:
        assert op == 0 and sendbuf == recvbuf and count > 0
        dtype = TYPES[datatype]
        assert self.card.owns(recvbuf, count * dtype.itemsize), "a sum outside of allocated memory"
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(recvbuf)
        values = np.frombuffer(memory, dtype)
        self.card.enqueue(stream, lambda: self.comm.Allreduce(self.mpi.IN_PLACE, values))


def make(card: Any) -> ModuleType:
    """The module, for a card of the stand-in."""
    module = ModuleType("cupy.cuda.nccl")
    module.__dict__.update(
        available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, NcclError=NcclError,
        get_unique_id=lambda: tuple(range(-64, 64)),
        NcclCommunicator=type("NcclCommunicator", (NcclCommunicator,), {"card": card}),
    )  # fmt: skip
    return module
