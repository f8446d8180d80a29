"""Many processes that add up arrays by MPI or, with one graphics card each, by NCCL."""

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from tinygan.errors import DeviceError, TinyganError, UsageError, one_line, pip, plural, put
from tinygan.ranks.alone import ALONE, Ranks, T

# Environment variables set by the launchers of MPICH and Intel MPI, of Open MPI, and by Slurm's srun.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
PATIENCE = 10.0  # seconds until a failure counts as one rank's alone


class MPI(Ranks):
    """Many processes with NumPy arrays. `mpi` is mpi4py's module, `comm` its communicator of all ranks."""

    xp: Any = np

    def __init__(self, mpi: Any) -> None:
        self.mpi, self.comm = mpi, mpi.COMM_WORLD
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.host = mpi.Get_processor_name()
        self.neighbours = self.comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.number_here = self.neighbours.Get_rank()
        # Some launchers give each rank separate cores, others let all ranks use all cores.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}
        self.sharing = sum(bool(cores & other) for other in self.neighbours.allgather(cores))
        hosts = plural(len(set(self.comm.allgather(self.host))), "host")
        self.words = f"ranks    {self.size} on {hosts}, each with a part of every batch"
        self.failures = self.comm.Dup()  # where ranks that failed alike meet

    def sum(self, *arrays: Any) -> tuple[Any, ...]:
        flat = self.xp.empty(sum(array.size for array in arrays), dtype=arrays[0].dtype)
        self.xp.concatenate([self.xp.ravel(array) for array in arrays], out=flat)
        self.add_up(flat)
        ends = zip(np.cumsum([array.size for array in arrays]), arrays, strict=True)
        return tuple(flat[end - array.size : end].reshape(array.shape) for end, array in ends)

    def add_up(self, array: Any) -> None:
        self.comm.Allreduce(self.mpi.IN_PLACE, array)

    def heard(self, number: int) -> int:
        return self.comm.allreduce(number, self.mpi.MAX)

    def by_first(self, work: Callable[[], T]) -> T:
        result, problem = None, None
        if self.writes:
            try:
                result = work()
            except TinyganError as found:
                problem = found
        result, problem = self.comm.bcast((result, problem))
        if problem:
            raise problem
        return result

    def others(self, value: Any) -> list[str]:
        given = self.comm.allgather((self.host, value))
        return [f"rank {rank} on {host}" for rank, (host, own) in enumerate(given) if own != given[0][1]]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        leads = self.neighbours.Get_rank() == 0  # rank 0 leads its host
        if not self.writes:
            self.comm.Barrier()
        if not leads:
            self.neighbours.Barrier()
        try:
            yield
        finally:  # even after a failure, which the others find out themselves
            if self.writes:
                self.comm.Barrier()
            if leads:
                self.neighbours.Barrier()

    @contextmanager
    def together(self, remedy: Callable[[], str] = str) -> Iterator[None]:
        try:
            yield
        except BaseException as problem:
            # If all ranks failed alike, they all arrive here soon.
            meeting, until = self.failures.Ibarrier(), time.monotonic() + PATIENCE
            while not (met := meeting.Test()) and time.monotonic() < until:
                time.sleep(0.01)
            if not met:  # the others are waiting for this one, and would wait for ever
                self._abort(problem, remedy())
            if self.rank:  # rank 0 reports it for all of them
                raise SystemExit(_exit_code(problem)) from problem
            raise

    def _abort(self, problem: BaseException, remedy: str) -> NoReturn:
        where, code = f"rank {self.rank} on {self.host}", _exit_code(problem)
        if isinstance(problem, TinyganError):
            text = f"{problem.mark}{where}: {problem}"
        elif isinstance(problem, (KeyboardInterrupt, SystemExit)):
            text = f"interrupted: {where}."
        else:
            text = "".join(traceback.format_exception(problem)) + f"error: {where} failed."
        put("", sys.stdout)
        put(f"{text} {remedy}".strip() + "\n", sys.stderr)
        try:
            time.sleep(0.5)  # Hydra's mpiexec drops output unread at the abort, about 2 times in 100
        finally:  # even after a second Ctrl-C the others must not wait
            self.comm.Abort(code)
            os._exit(code)  # some MPIs return before the process ends


class NCCL(MPI):
    """Many processes with one graphics card each. NCCL adds up CuPy's arrays; MPI does everything else. NCCL
    queues its sums on the current stream, where a CUDA graph can capture them (since NCCL 2.9), and never
    waits for the processor. (https://docs.nvidia.com/deeplearning/nccl/user-guide)"""

    def __init__(self, ranks: MPI, xp: Any) -> None:
        """Each of the `ranks` has already chosen its card. Raises: as `backend.shared_by`."""
        from cupy.cuda import nccl  # pyright: ignore[reportMissingImports]

        vars(self).update(vars(ranks))  # including their neighbours
        self.xp, self.nccl = xp, nccl
        if not nccl.available:
            remedy = f"{pip('install', 'tinygan[mpi-cuda13]')} (or mpi-cuda12), or use --device cpu"
            raise DeviceError(f"CuPy finds no NCCL, which several GPUs need. Install it: {remedy}.")
        try:
            self.cards = nccl.NcclCommunicator(self.size, self.by_first(nccl.get_unique_id), self.rank)
        except (nccl.NcclError, KeyError) as problem:  # KeyError: an error too new for CuPy
            failure = f"NCCL cannot join the graphics cards ({one_line(problem)})"
            raise DeviceError(f"{failure}. Start one rank per card.") from problem
        self._kinds = {"f": nccl.NCCL_FLOAT32, "d": nccl.NCCL_FLOAT64}

    def add_up(self, array: Any) -> None:
        place, stream = array.data.ptr, self.xp.cuda.get_current_stream().ptr
        kind = self._kinds[array.dtype.char]
        self.cards.allReduce(place, place, array.size, kind, self.nccl.NCCL_SUM, stream)


def _exit_code(problem: BaseException) -> int:
    """The exit code of a process that ends with `problem`; see `cli.run`."""
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) else bool(problem.code)
    if isinstance(problem, MemoryError):
        return DeviceError.exit_code
    return 130 if isinstance(problem, KeyboardInterrupt) else getattr(problem, "exit_code", 1)


def started() -> Ranks:
    """The ranks that ``mpiexec`` or ``srun`` started this process with, or the process alone, without MPI.
    Raises: UsageError if mpi4py is missing, or uses another MPI than the launcher."""
    size = next((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdigit()), 1)
    if size <= 1:
        return ALONE
    try:
        from mpi4py import MPI as mpi  # noqa: N811
    except (ImportError, RuntimeError) as problem:
        failure = f"{size} processes were started, but mpi4py does not work: {one_line(problem)}"
        remedy = f"Install it: {pip('install', 'tinygan[mpi]')}, or start one process."
        raise UsageError(f"{failure}. {remedy}") from problem
    found = mpi.COMM_WORLD.Get_size()
    if found != size:
        version = " ".join(mpi.Get_library_version().splitlines()[0].split())
        remedy = "Use the mpiexec of that MPI, or the srun option for it (--mpi=pmi2 for MPICH)."
        raise UsageError(f"{size} processes were started, but mpi4py ({version}) sees {found}. {remedy}")
    return MPI(mpi)
