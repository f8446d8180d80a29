"""The choice of device and engine: `choose` turns ``--device`` and ``--engine`` into a `Backend`.

It is made once, at the start of a run. All else takes its array library and its twins from that object.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType

from tinygan.arrays import CPU, DEVICES, ENGINES, PRECISIONS, Backend
from tinygan.errors import DeviceError, UsageError
from tinygan.fast.originals import CARD_ORIGINALS, ORIGINALS, changed, described, refuse, twins
from tinygan.fast.threads import POOL
from tinygan.gpu_errors import first_failure, import_failure
from tinygan.machine import limit_blas_threads
from tinygan.ranks import twins as shared
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import MPI, NCCL

TF32_SINCE = 80  # compute capability, times ten, of the first cards that have it (Ampere)


def cpu(engine: str = "readable") -> Backend:
    """NumPy on the processor."""
    return CPU if engine == "readable" else Backend(engine=engine, twins=twins(changed()))


@cache
def gpu(engine: str = "readable", precision: str = "auto", number: int | None = None) -> Backend:
    """CuPy on the graphics card. By default the fast engine uses TF32 where the card has it.

    There are no faster ops there: only many small calls are slow on a card, so its fast engine is a step as
    a whole (`cuda`). Several processes on one host give each its `number`, and take the cards in
    turns.

    Raises:
        DeviceError: CuPy is missing, or a first kernel, matrix product and synchronisation fail.
        UsageError: TF32 is asked for, and the engine or the card has none.
    """
    cupy = probed(number)
    able = int(cupy.cuda.Device().compute_capability) >= TF32_SINCE
    if precision == "tf32" and (engine != "fast" or not able):
        reason = "this card has none" if engine == "fast" else "the readable engine computes in float32"
        raise UsageError(f"--precision tf32: {reason}. Use --precision float32.")
    if precision == "auto":
        precision = "tf32" if able and engine == "fast" else "float32"
    return Backend(cupy, "gpu", engine, precision=precision)


def probed(number: int | None = None) -> ModuleType:
    """CuPy, after a first kernel, matrix product and synchronisation; for `number`, see `gpu`.

    Raises:
        DeviceError: it is missing, or one of these fails.
    """
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
    device: str = "auto",
    engine: str = "auto",
    say: Callable[[str], object] = print,
    threads: int | None = None,
    precision: str = "auto",
    number: int | None = None,
) -> Backend:
    """The backend for ``--device`` and ``--engine``; `auto` prefers the GPU and says why it does not.

    `threads` is passed on to `use_threads`; None leaves that as it is. `precision`, `number`: see `gpu`.

    Raises:
        DeviceError: `device` is ``"gpu"`` and there is no usable one.
        UsageError: an unknown name, or a precision that the device does not have; or `engine` is ``"fast"``,
            and a function was changed that it has its own version of.
    """
    given = ("device", device, DEVICES), ("engine", engine, ENGINES), ("precision", precision, PRECISIONS)
    for what, name, known in given:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}. Use one of: {', '.join(known)}.")
    if threads is not None:
        use_threads(threads)
    if device != "cpu":
        try:
            return _on_a_card(engine, say, precision, number)
        except DeviceError as problem:
            if device == "gpu":
                raise
            say(f"no GPU: {str(problem).partition('. ')[0]}; the CPU it is.")
    if precision == "tf32":
        raise UsageError("--precision tf32 needs a GPU. Leave it out, or use --device gpu.")
    refuse(engine, changed())
    return cpu("readable" if engine == "readable" else "fast")


def _on_a_card(engine: str, say: Callable[[str], object], precision: str, number: int | None) -> Backend:
    probed(number)  # whether there is one comes first
    edits = changed(ORIGINALS | CARD_ORIGINALS) if engine != "readable" else []
    refuse(engine, edits)
    if edits:
        say(f"engine   {described(edits)}: readable, which is slower")
        engine, precision = "readable", "float32" if precision == "auto" else precision
    return gpu("readable" if engine == "readable" else "fast", precision, number)


def shared_by(backend: Backend, ranks: Ranks) -> Backend:
    """The same for one of several `ranks`, which add up what is a sum over the batch.

    Raises:
        DeviceError: NCCL is missing, or ranks share a graphics card.
    """
    if isinstance(ranks, MPI) and backend.device == "gpu":
        ranks = NCCL(ranks, backend.xp)
    return replace(backend, ranks=ranks, twins={**backend.twins, **shared.twins(ranks)})


def use_threads(count: int) -> bool:
    """Compute with `count` threads from now on: matrix products, and the fast engine's own pool.

    False where NumPy's BLAS has no switch; then it decides for itself, and the pool has one thread.
    """
    POOL.resize(count)
    return limit_blas_threads(count)
