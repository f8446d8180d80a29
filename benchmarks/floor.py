"""How fast a training step could be: its operations and bytes, divided by the machine's rates."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygan.backend import Backend
from tinygan.cuda.blas import Blas

SIDE, COPIED = 4096, 1 << 28  # side of the multiplied matrices; numbers copied
GPU_RUNS, CPU_RUNS = 20, 3

# Factors of each layer's multiply-adds for one picture: (positions, inputs of a kernel, output channels).
GENERATOR = ((1, 100, 12_544), (49, 25 * 256, 128), (49, 25 * 128, 64), (196, 25 * 64, 1))
DISCRIMINATOR = ((196, 25, 64), (49, 25 * 64, 128), (1, 6272, 1))


def naive_operations(batch: int) -> int:
    """Additions and multiplications of a step by definition, with a separate backward pass for each loss.

    A layer's forward pass, the gradient of its weights and that of its input cost the same. D sees two
    batches. Real images and noise need no gradient. G's loss goes back through D to the fakes.
    """
    g, d = (sum(a * b * c for a, b, c in layers) for layers in (GENERATOR, DISCRIMINATOR))
    first_g, first_d = (int(np.prod(layers[0])) for layers in (GENERATOR, DISCRIMINATOR))
    generator = 3 * g - first_g
    discriminator = 2 * (3 * d - first_d) + d
    return 2 * batch * (generator + discriminator)


def rates(backend: Backend) -> dict[str, float]:
    """Measure the median rates of a large matrix product and a large copy on this device."""
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
    """The median time of `work` followed by `wait`, after two warm-up runs."""
    times = []
    for _ in range(runs + 2):
        start = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def lines(step_seconds: float, batch: int, facts: dict[str, Any]) -> list[str]:
    """Compare a step with the least time it could take on this machine; `facts` are from tinygan's player."""
    products, copies = facts["operations_a_second"], facts["bytes_a_second"]
    compute, memory = facts["operations"] / products, facts["bytes"] / copies
    naive = naive_operations(batch)
    return [
        f"floor: {facts['operations'] / 1e9:.1f} GFLOP at {products / 1e12:.1f} TFLOP/s = "
        f"{compute * 1e3:.3f} ms; {facts['bytes'] / 1e9:.2f} GB at {copies / 1e12:.2f} TB/s = "
        f"{memory * 1e3:.3f} ms",
        f"tinygan takes {step_seconds / max(compute, memory):.2f} times the larger time. By definition, the "
        f"step has {naive / 1e9:.1f} GFLOP: {naive / products * 1e3:.3f} ms",
    ]
