"""The choice of device and engine: `choose` turns ``--device`` and ``--engine`` into a run's `Backend`."""

import copyreg
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType

from tinygan.arrays import CPU, DEVICES, ENGINES, PRECISIONS, Backend
from tinygan.errors import DeviceError, Printer, UsageError, first_sentence
from tinygan.fast.originals import changed, described, twins
from tinygan.fast.threads import POOL
from tinygan.gpu_errors import first_failure, import_failure
from tinygan.ranks import twins as shared
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import MPI, NCCL

use_threads = POOL.sized  # in matrix products and in the fast engine, as long as this context lasts
default_threads = POOL.default  # how many where no number is given, and where this one comes from
ROUNDED = ("tf32", "float16")
TF32_SINCE = 80  # compute capability, times ten, of the first cards that have it (Ampere)


def cpu(engine: str = "readable") -> Backend:
    """NumPy on the processor."""
    return CPU if engine == "readable" else Backend(engine=engine, twins=twins(changed()))


@cache
def probed(number: int | None = None) -> ModuleType:
    """CuPy, after a first kernel, matrix product and synchronisation. Raises DeviceError; see `choose`."""
    try:
        import cupy  # pyright: ignore[reportMissingImports]

        ones = cupy.ones  # lacking in the folder that a botched uninstallation leaves behind
    except Exception as problem:
        raise DeviceError(f"{import_failure(problem)}, or use --device cpu.") from problem
    # A missing driver or toolkit shows only on first use, and some faults only when waited for.
    try:
        if number is not None:
            cupy.cuda.Device(number % cupy.cuda.runtime.getDeviceCount()).use()
        probe = ones((2, 2), dtype=cupy.float32)
        (probe @ probe + probe).sum()
        cupy.cuda.Device().synchronize()
    except Exception as problem:
        raise DeviceError(f"{first_failure(cupy, problem)}, or use --device cpu.") from problem
    return cupy


def choose(
    device: str = "auto", engine: str = "auto", say: Printer = print,
    precision: str = "auto", number: int | None = None,
) -> Backend:  # fmt: skip
    """The backend for ``--device`` and ``--engine``; `auto` prefers the GPU and says why it does not.

    By default the fast engine uses TF32 on a card that has it. Several processes on one host give each its
    `number`, and take the cards in turns.

    Raises:
        DeviceError: `device` is ``"gpu"`` and there is no usable one.
        UsageError: an unknown name, or a precision that the device or the engine does not have; or `engine`
            is ``"fast"``, and a function was changed that it has its own version of."""
    given = ("device", device, DEVICES), ("engine", engine, ENGINES), ("precision", precision, PRECISIONS)
    for what, name, known in given:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}. Use one of: {', '.join(known)}.")
    if engine == "fast" and (edits := described(changed())):
        raise UsageError(f"--engine fast: {edits}, and it has a version of its own. Use --engine auto.")
    engine = "fast" if engine == "auto" else engine
    if device != "cpu":
        try:
            cupy = probed(number)
        except DeviceError as problem:
            if device == "gpu":
                raise
            say(f"no GPU: {first_sentence(str(problem))}; the CPU it is.")
        else:
            able = int(cupy.cuda.Device().compute_capability) >= TF32_SINCE
            best = "tf32" if able and engine == "fast" else "float32"
            if precision in ROUNDED and best != "tf32":
                why = "the card is too old" if engine == "fast" else "the readable engine computes in float32"
                raise UsageError(f"--precision {precision}: {why}. Use --precision float32.")
            # It has no twins: there only many small calls are slow, so its fast engine is a step as a whole.
            return Backend(cupy, "gpu", engine, precision=best if precision == "auto" else precision)
    if precision in ROUNDED:
        raise UsageError(f"--precision {precision} needs a GPU. Leave it out, or use --device gpu.")
    return cpu(engine)


def shared_by(backend: Backend, ranks: Ranks) -> Backend:
    """The same for one of several `ranks`, which add up what is a sum over the batch. Raises DeviceError
    where NCCL is missing, or ranks share a graphics card."""
    if isinstance(ranks, MPI) and backend.device == "gpu":
        ranks = NCCL(ranks, backend.xp)
    return replace(backend, ranks=ranks, twins={**backend.twins, **shared.twins(ranks)})


def _chosen_again(backend: Backend) -> tuple[Callable[..., Backend], tuple[object, ...]]:
    """How a backend is pickled or copied, and with it all networks: as the choice of the same one."""
    engine = "auto" if backend.engine == "fast" else backend.engine  # fast, but for what a reader changed
    return choose, (backend.device, engine, str, backend.precision)


copyreg.pickle(Backend, _chosen_again)
