"""Many processes with a graphics card each, whose arrays NCCL adds up."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tinygan.errors import DeviceError, one_line
from tinygan.ranks.mpi import MPI, apart


class NCCL(MPI):
    """Many processes with a graphics card each: NCCL adds up CuPy's arrays, all else goes by MPI.

    Its sums are work on the current stream, which a CUDA graph can capture (since NCCL 2.9), and never
    wait for the processor. (https://docs.nvidia.com/deeplearning/nccl/user-guide)
    """

    def __init__(self, mpi: Any, xp: Any) -> None:
        """Every rank has chosen its card. Raises DeviceError where NCCL is missing, or ranks share a card."""
        super().__init__(mpi)
        self.xp, self.nccl = xp, import_module(f"{xp.__name__}.cuda.nccl")
        if not self.nccl.available:
            raise DeviceError(
                "CuPy finds no NCCL, by which graphics cards add up. pip install 'tinygan[mpi-cuda13]' (or "
                "mpi-cuda12), or use --device cpu."
            )
        try:
            number = self.from_first(self.nccl.get_unique_id() if self.writes else None)
            self.cards = self.nccl.NcclCommunicator(self.size, number, self.rank)
        except (self.nccl.NcclError, KeyError) as problem:  # newer errors of NCCL have no name there
            raise DeviceError(
                f"NCCL cannot join the graphics cards ({one_line(problem)}). Start one rank to a card."
            ) from problem
        self._kinds = {"f": self.nccl.NCCL_FLOAT32, "d": self.nccl.NCCL_FLOAT64}

    def sum(self, *arrays: Any) -> tuple[Any, ...]:
        flat = self.xp.empty(sum(array.size for array in arrays), dtype=arrays[0].dtype)
        self.xp.concatenate([self.xp.ravel(array) for array in arrays], out=flat)
        self.add_up(flat)
        return apart(flat, arrays)

    def add_up(self, array: Any) -> None:
        place, stream = array.data.ptr, self.xp.cuda.get_current_stream().ptr
        kind = self._kinds[array.dtype.char]
        self.cards.allReduce(place, place, array.size, kind, self.nccl.NCCL_SUM, stream)

    def heard(self, number: int) -> int:
        # By itself, and once a look at the card: to read what came with a sum would be to wait for it.
        return self.comm.allreduce(number, self.mpi.MAX)
