"""How fast a training step could be: its operations and its bytes, over what the machine does a second."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.backend import Backend
from tinygan.cuda.blas import Blas

SIDE, COPIED = 4096, 1 << 28  # of the matrices multiplied; numbers copied
GPU_RUNS, CPU_RUNS = 20, 3

# Multiply-adds of each layer for one picture, by definition: (places, numbers under a kernel, results).
GENERATOR = ((1, 100, 12_544), (49, 25 * 256, 128), (49, 25 * 128, 64), (196, 25 * 64, 1))
DISCRIMINATOR = ((196, 25, 64), (49, 25 * 64, 128), (1, 6272, 1))


def naive_operations(batch: int) -> int:
    """Additions and multiplications of a step by definition, with each network walked back for each loss.

    A layer costs the same forwards, to its weights and to its input. D sees two batches, and real
    pictures and noise need no gradient; G's loss goes back through D to the fakes.
    """
    g, d = (sum(a * b * c for a, b, c in layers) for layers in (GENERATOR, DISCRIMINATOR))
    first_g, first_d = (int(np.prod(layers[0])) for layers in (GENERATOR, DISCRIMINATOR))
    generator = 3 * g - first_g
    discriminator = 2 * (3 * d - first_d) + d
    return 2 * batch * (generator + discriminator)


def rates(backend: Backend) -> dict[str, float]:
    """The median rates of a large product and a large copy on this device, in this precision."""
    xp = backend.xp
    on_card = backend.device == "gpu"
    side, count, runs = (SIDE, COPIED, GPU_RUNS) if on_card else (SIDE // 4, COPIED // 16, CPU_RUNS)
    factor = np.float16 if backend.precision == "float16" else np.float32
    squares = (np.random.default_rng(seed).random((side, side), np.float32) for seed in (0, 1))
    a, b = (backend.array(square.astype(factor)) for square in squares)
    c, source = xp.empty((side, side), dtype=xp.float32), xp.empty(count, dtype=xp.float32)
    source[...] = 1
    target = xp.empty(count, dtype=xp.float32)
    if on_card:
        stream = xp.cuda.Stream(non_blocking=True)
        blas = Blas(xp, stream, backend.precision)
        xp.cuda.Device().synchronize()
        with stream:
            product = seconds(lambda: blas.product(a, b, c), stream.synchronize, runs)
            copy = seconds(lambda: xp.copyto(target, source), stream.synchronize, runs)
        blas.close()
    else:
        product = seconds(lambda: np.matmul(a, b, out=c), lambda: None, runs)
        copy = seconds(lambda: np.copyto(target, source), lambda: None, runs)
    return {"operations_a_second": 2 * side**3 / product, "bytes_a_second": 8 * count / copy}


def seconds(work: Callable[[], object], wait: Callable[[], object], runs: int) -> float:
    """The median time of `work`, finished, after two runs to warm up."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def lines(step_seconds: float, batch: int, facts: dict[str, Any]) -> list[str]:
    """How far a step is from what the machine could do; `facts` are those of tinygan's player."""
    products, copies = facts["operations_a_second"], facts["bytes_a_second"]
    compute, memory = facts["operations"] / products, facts["bytes"] / copies
    naive = naive_operations(batch)
    return [
        f"floor: {facts['operations'] / 1e9:.1f} GFLOP at {products / 1e12:.1f} TFLOP/s = "
        f"{compute * 1e3:.3f} ms; {facts['bytes'] / 1e9:.2f} GB at {copies / 1e12:.2f} TB/s = "
        f"{memory * 1e3:.3f} ms",
        f"tinygan takes {step_seconds / max(compute, memory):.2f} times the larger; by definition the step "
        f"has {naive / 1e9:.1f} GFLOP: {naive / products * 1e3:.3f} ms",
    ]
