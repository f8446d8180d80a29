"""``python -m benchmarks.layers``: times each layer's passes on both engines and in PyTorch.

GFLOP/s count the multiplications and additions of the definition, even if an engine needs fewer. So a fast
convolution can exceed the peak, which is the best rate of a large matrix product on this machine.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import report
from benchmarks.competitors import hardware
from tinygan import backend, cli
from tinygan.errors import UsageError
from tinygan.fast.threads import POOL
from tinygan.machine import keep_memory, usable_cores
from tinygan.ops.conv import conv2d, conv2d_transpose
from tinygan.ops.dense import dense

OPS = {"dense": dense, "conv2d": conv2d, "conv2d_transpose": conv2d_transpose}
Passes = tuple[Callable[[], Any], Callable[[], Any]]  # forward, backward


class Case(NamedTuple):
    """A layer of the DCGAN and the size of its batch. D's batch holds real images and fakes."""

    name: str
    op: str
    x: tuple[int, ...]  # without the batch
    w: tuple[int, ...]
    stride: int
    batches: int  # 1, or 2 for D
    gradients: int  # 2, or 1 for a network's first layer, whose input needs none

    def flop(self, batch: int) -> int:
        """Operations of a forward pass by definition. A backward pass takes as many for each gradient."""
        if self.op == "dense":
            return 2 * batch * self.w[0] * self.w[1]
        H, W, _ = self.x
        places = H * W if self.op == "conv2d_transpose" else (H // self.stride) * (W // self.stride)
        return 2 * batch * self.batches * places * int(np.prod(self.w))


CASES = [
    Case("G dense", "dense", (100,), (100, 12544), 1, 1, 1),
    Case("G conv_transpose 1", "conv2d_transpose", (7, 7, 256), (5, 5, 128, 256), 1, 1, 2),
    Case("G conv_transpose 2", "conv2d_transpose", (7, 7, 128), (5, 5, 64, 128), 2, 1, 2),
    Case("G conv_transpose 3", "conv2d_transpose", (14, 14, 64), (5, 5, 1, 64), 2, 1, 2),
    Case("D conv 1", "conv2d", (28, 28, 1), (5, 5, 1, 64), 2, 2, 1),
    Case("D conv 2", "conv2d", (14, 14, 64), (5, 5, 64, 128), 2, 2, 2),
]


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.layers", "Time the layers of the tutorial's networks one by one.")
    parser.add_argument("--batch", type=int, default=256, help="batch size (default: 256)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="(default: all usable cores)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each layer (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if min(options.batch, options.threads, options.rounds) < 1:
        raise UsageError("--batch, --threads and --rounds must be at least 1.")
    keep_memory()
    POOL.resize(options.threads)
    peak = matrix_product_peak()
    print(
        f"{hardware()['processor']}, {options.threads} threads, batch {options.batch}, float32; "
        f"a matrix product reaches {peak:.0f} GFLOP/s"
    )
    print(
        f"{'':<20}{'':<10}"
        + "".join(f"{text:>10}{'GFLOP/s':>9}{'of peak':>9}" for text in ("forward", "backward"))
    )
    measured = []
    for case in CASES:
        makers = {"readable": engine("readable"), "fast": engine("fast")}
        if importlib.util.find_spec("torch"):
            makers["pytorch"] = pytorch
        passes = {name: make(case, options.batch, options.threads) for name, make in makers.items()}
        for name, (forward, backward) in time_all(passes, options.rounds).items():
            flop = case.flop(options.batch) / 1e9
            row = {
                "layer": case.name, "by": name, "forward_seconds": forward, "backward_seconds": backward,
                "forward_gflops": flop / forward, "backward_gflops": case.gradients * flop / backward,
            }  # fmt: skip
            measured.append(row)
            cells = (
                f"{row[way + '_seconds'] * 1e3:>7.1f} ms{rate:>9.0f}{rate / peak:>9.0%}"
                for way in ("forward", "backward")
                for rate in (row[way + "_gflops"],)
            )
            print(f"{case.name:<20}{name:<10}" + "".join(cells), flush=True)
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed. Use pip install -e '.[bench]'.")
    if options.json:
        command = " ".join(["python", "-m", "benchmarks.layers", *arguments])
        result = {
            "command": command, "hardware": hardware(), "threads": options.threads, "batch": options.batch,
            "peak_gflops": peak, "layers": measured,
        }  # fmt: skip
        report.write_json(options.json, result)
    return 0


def matrix_product_peak() -> float:
    """GFLOP/s of the fastest of ten products of 2048 x 2048 float32 matrices."""
    a = np.ones((2048, 2048), np.float32)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        np.matmul(a, a)
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds) / 1e9


def arrays(case: Case, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch * case.batches, *case.x), np.float32)
    return x, rng.standard_normal(case.w, np.float32) / 32


def engine(name: str) -> Callable[[Case, int, int], Passes]:
    """The passes of a case on one of tinygan's engines."""

    def make(case: Case, batch: int, threads: int) -> Passes:
        x, w = arrays(case, batch)
        op = backend.cpu(name).twin(OPS[case.op])
        attributes = {} if case.op == "dense" else {"stride": case.stride}
        y, saved = op.forward(x, w, None, **attributes)
        dy = np.ones_like(y)
        wanted = (case.gradients == 2, True, False)
        return lambda: op.forward(x, w, None, **attributes), lambda: op.backward(saved, dy, wanted)

    return make


def pytorch(case: Case, batch: int, threads: int) -> Passes:
    """The passes of a case in PyTorch, with channels first."""
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(threads)
    x, w = (torch.from_numpy(array) for array in arrays(case, batch))
    if case.op != "dense":
        x, w = x.permute(0, 3, 1, 2).contiguous(), w.permute(3, 2, 0, 1).contiguous()
    x.requires_grad_(case.gradients == 2)
    w.requires_grad_()

    def forward() -> Any:
        if case.op == "dense":
            return x @ w
        if case.op == "conv2d":  # 'same' pads (1, 2)
            return functional.conv2d(functional.pad(x, (1, 2, 1, 2)), w, stride=case.stride)
        if case.stride == 1:
            return functional.conv_transpose2d(x, w, padding=2)
        return functional.conv_transpose2d(x, w, stride=2, padding=1)[:, :, :-1, :-1]

    y = forward()
    dy = torch.ones_like(y)
    inputs = [tensor for tensor in (x, w) if tensor.requires_grad]
    return forward, lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def time_all(passes: dict[str, Passes], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds of the forward and backward passes. All take turns, with pauses for spinning threads."""
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in passes}
    for turn in range(rounds + 1):
        for name, both in passes.items():
            for times, function in zip(seconds[name], both, strict=True):
                time.sleep(0.1)
                function()  # warms up
                start = time.perf_counter()
                function()
                if turn:
                    times.append(time.perf_counter() - start)
    return {name: (statistics.median(f), statistics.median(b)) for name, (f, b) in seconds.items()}


if __name__ == "__main__":
    sys.exit(cli.run(main))
