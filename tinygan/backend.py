"""Chooses device and engine: `choose` turns ``--device`` and ``--engine`` into a run's `Backend`."""

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

use_threads = POOL.sized  # a context that sets the threads of matrix products and of the fast engine
default_threads = POOL.default  # the default number, and the reason for it
ROUNDED = ("tf32", "float16")
TF32_SINCE = 80  # compute capability, times ten, of the first cards with TF32 (Ampere)


def cpu(engine: str = "readable") -> Backend:
    """NumPy on the processor."""
    return CPU if engine == "readable" else Backend(engine=engine, twins=twins(changed()))


@cache
def probed(number: int | None = None) -> ModuleType:
    """CuPy, after a first kernel, product and synchronisation. Raises: DeviceError if one of them fails."""
    try:
        import cupy  # pyright: ignore[reportMissingImports]

        ones = cupy.ones  # missing if a botched uninstallation left only an empty folder
    except Exception as problem:
        raise DeviceError(f"{import_failure(problem)}, or use --device cpu.") from problem
    # A missing driver or toolkit shows only at first use, and some faults only at synchronisation.
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
    """The backend for ``--device`` and ``--engine``. `auto` prefers the GPU; without one, `say` gets why.

    By default the fast engine uses TF32 on a card that has it. Several processes on one host each pass their
    `number` to share the cards in turn.

    Raises: DeviceError if `device` is ``"gpu"`` and none is usable; UsageError for an unknown name, for a
    precision that the device or engine lacks, and if `engine` is ``"fast"`` but a function that it has its
    own version of was changed."""
    given = ("device", device, DEVICES), ("engine", engine, ENGINES), ("precision", precision, PRECISIONS)
    for what, name, known in given:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}. Use one of: {', '.join(known)}.")
    if engine == "fast" and (edits := described(changed())):
        raise UsageError(f"--engine fast: {edits}, but this engine has its own version. Use --engine auto.")
    engine = "fast" if engine == "auto" else engine
    if device != "cpu":
        try:
            cupy = probed(number)
        except DeviceError as problem:
            if device == "gpu":
                raise
            say(f"no GPU: {first_sentence(str(problem))}. Using the CPU.")
        else:
            able = int(cupy.cuda.Device().compute_capability) >= TF32_SINCE
            best = "tf32" if able and engine == "fast" else "float32"
            if precision in ROUNDED and best != "tf32":
                why = "this GPU is too old" if engine == "fast" else "the readable engine computes in float32"
                raise UsageError(f"--precision {precision}: {why}. Use --precision float32.")
            # No twins: on a GPU only many small calls are slow, so its fast engine runs a step as a whole.
            return Backend(cupy, "gpu", engine, precision=best if precision == "auto" else precision)
    if precision in ROUNDED:
        raise UsageError(f"--precision {precision} needs a GPU. Leave it out, or use --device gpu.")
    return cpu(engine)


def shared_by(backend: Backend, ranks: Ranks) -> Backend:
    """The same backend for one of several `ranks`, with twins that add up sums over the batch across ranks.
    Raises: DeviceError if NCCL is missing, or if ranks share a graphics card."""
    if isinstance(ranks, MPI) and backend.device == "gpu":
        ranks = NCCL(ranks, backend.xp)
    return replace(backend, ranks=ranks, twins={**backend.twins, **shared.twins(ranks)})


def _chosen_again(backend: Backend) -> tuple[Callable[..., Backend], tuple[object, ...]]:
    """Pickles and copies a backend, and so every network, as the call of `choose` that makes it again."""
    engine = "auto" if backend.engine == "fast" else backend.engine  # fast, except for changed functions
    return choose, (backend.device, engine, str, backend.precision)


copyreg.pickle(Backend, _chosen_again)
