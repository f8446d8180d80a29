"""``python -m benchmarks.roofline``: counts a training step's work on a graphics card, and predicts its time.

A step is a list of launches, of kernels and of matrix products. The step's own code makes that list here, on
arrays that take no memory until they are written, with kernels and products that do nothing. So this needs
no card and computes nothing large. A launch's bytes are those of the arrays that it reads or writes, each
once, as if it fetched nothing twice and no cache kept anything for the next launch.

A launch takes the longer of two times, that of its bytes and that of its operations at the card's rates (the
roofline model of Williams, Waterman & Patterson 2009). To this comes the cost of each launch. If there is a
usable card, the step and both rates are also measured.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf, prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np

from benchmarks import floor, report
from tinygan import cli, models
from tinygan.arrays import Array, Backend
from tinygan.backend import choose
from tinygan.cuda import blas
from tinygan.cuda.blas import Blas
from tinygan.cuda.kernels import Kernels, signatures
from tinygan.cuda.trainer import Trainer
from tinygan.errors import DeviceError, UsageError, first_sentence
from tinygan.optim import Adam

# Parameters that are read before they are written, except clocks and counters. Of the others, a kernel reads
# those that are `const`.
CHANGED = {
    "adam": ["w", "m", "v"],
    "moments": ["running_mean", "running_variance"],
}

# The parameter that counts finished blocks. It has a few bytes, which are left out.
COUNTERS = "arrived"

# The elements of a parameter that a launch touches, if not all: from its arguments by name and its grid.
Count = Callable[[dict[str, Any], tuple[int, ...]], int]


def gathered(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """One batch of pictures, out of all images or out of all pictures that pass through D."""
    return given["N"] * given["pictures"][0].size


def two_shares(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """Two sums for each chunk of rows, in a buffer that is large enough for every kernel."""
    return grid[1] * 2 * given["C"]


def window_shares(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """A kernel and two sums for each chunk of examples."""
    return grid[1] * (given["dkernel"].size + 2 * given["C"])


PARTS: dict[tuple[str, str], Count] = {
    ("begin", "images"): gathered,
    ("begin", "order"): lambda given, grid: given["N"],
    ("begin", "pictures"): gathered,
    # One row of a map.
    ("moments", "x0"): lambda given, grid: given["C"],
    # The whole array if a block has all rows. Otherwise another kernel handles it.
    ("moments", "a"): lambda given, grid: given["a"].size if grid[1] == 1 else 0,
    ("normalise_sums", "dh"): lambda given, grid: given["dh"].size if grid[1] == 1 else 0,
    ("moments", "shares"): two_shares,
    ("normalise_sums", "shares"): two_shares,
    ("answer_back", "shares"): lambda given, grid: grid[1] * 2 * given["dkernel"].size,
    ("make_pictures_sums", "shares"): window_shares,
    ("see_pictures_back", "shares"): window_shares,
    # One step's losses, in an array for many steps.
    ("check_finite", "measured"): lambda given, grid: 4,
}


class Model(NamedTuple):
    """The sizes of a DCGAN. The defaults are the tutorial's."""

    size: int = 28  # pixels, of a picture's side
    channels: int = 1
    width: int = 64  # channels at half size
    noise_dim: int = 100


class Launch(NamedTuple):
    """One kernel, or one matrix product."""

    name: str  # of the kernel; a product's ends with the function that calls for it
    shape: str  # grid and block of a kernel; factors of a product
    bytes_read: int
    bytes_written: int
    operations: int  # additions and multiplications of a product; 0 for a kernel, which is not counted

    @property
    def bytes(self) -> int:
        return self.bytes_read + self.bytes_written


class Card(NamedTuple):
    """The rates of a graphics card."""

    bytes_a_second: float
    operations_a_second: float  # of matrix products
    launch_seconds: float  # the extra cost of each launch, within a CUDA graph

    def seconds(self, launch: Launch) -> float:
        """The least time of a launch, without `launch_seconds`."""
        return max(launch.bytes / self.bytes_a_second, launch.operations / self.operations_a_second)

    def predicted(self, launches: Sequence[Launch]) -> float:
        """Seconds for these launches, one after the other."""
        return sum(map(self.seconds, launches)) + len(launches) * self.launch_seconds


# Assumed rates of an H200, for copies and for cuBLAS's large products, if there is none to measure.
ASSUMED = {
    precision: Card(4.3e12, operations, 2.8e-6)
    for precision, operations in (("tf32", 350e12), ("float32", 48e12), ("float16", 700e12))
}


def of_kernel(name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any]) -> Launch:
    """The launch of a kernel with these arguments. An array that is passed twice counts once."""
    parameters = signatures()[name]
    given = {p.name: value for p, value in zip(parameters, arguments, strict=True)}
    read, written = {}, {}  # bytes by address and size
    for p in parameters:
        if p.pointer and p.name != COUNTERS:
            array = given[p.name]
            count = PARTS[name, p.name](given, grid) if (name, p.name) in PARTS else array.size
            size = count * array.itemsize
            if p.const or p.name in CHANGED.get(name, ()):
                read[array.data.ptr, size] = size
            if not p.const:
                written[array.data.ptr, size] = size
    shape = " of ".join("x".join(map(str, sides)) for sides in (grid, block))
    return Launch(name, shape, sum(read.values()), sum(written.values()), 0)


def of_product(a: Array, b: Array, out: Array, asking: str) -> Launch:
    """The launch of out = a b, for the function `asking`. A factor of a whole batch counts once."""
    n, k = out.shape[-1], a.shape[-1]
    shape = f"{prod(out.shape[:-2])} of {out.shape[-2]}x{k} {k}x{n}"
    moved = a.size * a.itemsize + b.size * b.itemsize
    return Launch(f"product: {asking.strip('_')}", shape, moved, out.size * out.itemsize, 2 * k * out.size)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Record the launches within this context, in order. They run as usual."""
    found: list[Launch] = []
    launch, product = Kernels.launch, Blas.product

    def and_launch(
        own: Kernels, name: str, grid: tuple[int, ...], block: tuple[int, ...], *given: Any
    ) -> None:
        found.append(of_kernel(name, grid, block, given))
        launch(own, name, grid, block, *given)

    def and_product(own: Blas, a: Array, b: Array, out: Array) -> None:
        found.append(of_product(a, b, out, sys._getframe(1).f_code.co_name))
        product(own, a, b, out)

    with patch.object(Kernels, "launch", and_launch), patch.object(Blas, "product", and_product):
        yield found


class Unwritten(np.ndarray):
    """An array with its address in `data.ptr`, like CuPy's."""

    @property
    def data(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return SimpleNamespace(ptr=self.ctypes.data)


class Idle:
    """A stream, a kernel or a library that does nothing. As a status it means "no error"."""

    ptr = 0

    def __getattr__(self, name: str) -> "Idle":
        return self

    def __call__(self, *given: Any, **named: Any) -> "Idle":
        return self

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *problem: Any) -> None:
        pass

    def __bool__(self) -> bool:
        return False


def no_card(precision: str) -> Backend:
    """A stand-in for a graphics card that keeps arrays and computes nothing.

    New arrays are zeros, which the system allocates when they are first touched.
    """
    xp: Any = SimpleNamespace(float16=np.float16, float32=np.float32, int32=np.int32, uint8=np.uint8)
    xp.cuda = xp.RawModule = Idle()
    xp.zeros = xp.empty = lambda shape, dtype: np.zeros(shape, dtype).view(Unwritten)
    xp.asarray = lambda values: np.asarray(values).view(Unwritten)
    xp.full, xp.zeros_like = np.full, np.zeros_like
    return Backend(xp, "gpu", "fast", precision=precision)


def trainer(backend: Backend, model: Model, images: np.ndarray, batch: int, graphs: bool = True) -> Trainer:
    """The trainer of a run with the recipe `seed`: both networks, two equal Adams, no average."""
    size, channels, width, noise_dim = model
    D = models.discriminator(size=size, channels=channels, width=width, backend=backend)
    G = models.generator(size=size, channels=channels, width=width, noise_dim=noise_dim, backend=backend)
    return Trainer(G, D, Adam(G.parameters), Adam(D.parameters), images, batch, 0, graphs=graphs)


def count(model: Model, batch: int, precision: str) -> list[Launch]:
    """The launches of a step with a full batch, in order.
    Raises: UsageError if no network has such sizes, or the fast engine has no step for them."""
    with patch.object(blas, "load", Idle()):
        images = np.zeros((batch, model.size, model.size, model.channels), np.uint8)
        taking = trainer(no_card(precision), model, images, batch, graphs=False)
        with recorded() as launches:
            taking._launch(batch)
    return launches


# A measurement: the least number of images, warm-up steps, steps timed together, and repetitions.
IMAGES, WARM, STEPS, TIMES = 60_000, 10, 320, 7


def measured(backend: Backend, model: Model, batch: int) -> float:
    """Seconds per step on a card, as CUDA graphs: the median of several measurements."""
    shape = -(-IMAGES // batch) * batch, model.size, model.size, model.channels
    taking = trainer(backend, model, np.random.default_rng(0).integers(0, 256, shape, np.uint8), batch)
    taking.steps(WARM)
    times = []
    for _ in range(TIMES):
        start = time.perf_counter()
        taking.steps(STEPS)
        times.append((time.perf_counter() - start) / STEPS)
    taking.close()
    return statistics.median(times)


def table(launches: Sequence[Launch], card: Card) -> list[str]:
    """The launches by name, those that move most bytes first, and then the totals."""
    named: dict[str, list[Launch]] = {}
    for launch in launches:
        named.setdefault(launch.name, []).append(launch)
    kernels = [launch for launch in launches if not launch.operations]
    products = [launch for launch in launches if launch.operations]
    rows = sorted(named.items(), key=lambda row: -total_bytes(row[1]))
    together = [("kernels", kernels), ("products", products), ("all", launches)]
    head = f"{'':<34}{'launches':>9}{'MB read':>10}{'written':>10}{'GFLOP':>9}{'us at least':>13}"
    return [
        head,
        *(line(name, some, card) for name, some in rows),
        "",
        *(line(name, some, card) for name, some in together),
    ]


def line(name: str, launches: Sequence[Launch], card: Card) -> str:
    read, written = sum(x.bytes_read for x in launches), sum(x.bytes_written for x in launches)
    operations = sum(x.operations for x in launches)
    return (
        f"{name:<34}{len(launches):>9}{read / 1e6:>10.2f}{written / 1e6:>10.2f}"
        f"{f'{operations / 1e9:.2f}' if operations else '-':>9}"
        f"{sum(map(card.seconds, launches)) * 1e6:>13.1f}"
    )


def total_bytes(launches: Sequence[Launch]) -> int:
    """The bytes that all launches read and write."""
    return sum(launch.bytes for launch in launches)


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.roofline", "Count a training step's work on a graphics card.")
    parser.add_argument("--batch", type=int, default=256, help="batch size (default: 256)")
    for name, default in Model()._asdict().items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, help=f"(default: {default})")
    parser.add_argument("--precision", choices=tuple(ASSUMED), default="tf32", help="(default: tf32)")
    rates = "(default: measured if there is a card, or else assumed for an H200)"
    parser.add_argument("--bandwidth", type=float, metavar="TB/s", help=f"rate of copies {rates}")
    parser.add_argument("--tflops", type=float, metavar="N", help=f"rate of large products {rates}")
    cost = "cost of a launch within a CUDA graph, in microseconds (default: 2.8, assumed)"
    parser.add_argument("--launch-us", type=float, metavar="N", help=cost)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every launch to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    given = options.bandwidth, options.tflops, options.launch_us
    if options.batch < 1 or not all(rate is None or 0 < rate < inf for rate in given):
        raise UsageError("--batch, --bandwidth, --tflops and --launch-us must be numbers above 0.")
    model = Model(*(getattr(options, name) for name in Model._fields))
    launches = count(model, options.batch, options.precision)
    backend, why = on_a_card(options.precision)
    found = floor.rates(backend) if backend else {}
    card, origins = rated(given, found, ASSUMED[options.precision])
    seconds = measured(backend, model, options.batch) if backend else None
    predicted = card.predicted(launches)
    print(f"a step of {words(model)}, batch {options.batch}, {options.precision}\n")
    print("\n".join(table(launches, card)))
    rates = card.bytes_a_second / 1e12, card.operations_a_second / 1e12, card.launch_seconds * 1e6
    named = zip(("{:.2f} TB/s", "{:.1f} TFLOP/s", "{:.1f} us per launch"), rates, origins, strict=True)
    print("\n" + ", ".join(f"{text.format(rate)} ({origin})" for text, rate, origin in named))
    print(f"predicted: {predicted * 1e3:.3f} ms per step")
    if seconds:
        print(f"measured:  {seconds * 1e3:.3f} ms per step, {seconds / predicted:.2f} times the prediction")
    else:
        print(f"counted, not measured: {why}")
    if options.json:
        result = {
            "command": " ".join(["python", "-m", "benchmarks.roofline", *arguments]),
            "card": backend.card() if backend else None,
            "model": model._asdict(), "batch": options.batch, "precision": options.precision,
            "rates": card._asdict(), "origins": dict(zip(Card._fields, origins, strict=True)),
            "predicted_seconds": predicted, "measured_seconds": seconds, "bytes": total_bytes(launches),
            "operations": sum(launch.operations for launch in launches),
            "launches": [launch._asdict() for launch in launches],
        }  # fmt: skip
        report.write_json(options.json, result)
    return 0


def on_a_card(precision: str) -> tuple[Backend | None, str]:
    """A card to measure on, or the reason why there is none."""
    try:
        return choose("gpu", "fast", precision=precision), ""
    except DeviceError as problem:
        return None, f"{first_sentence(str(problem))}."


def rated(
    given: tuple[float | None, float | None, float | None], found: dict[str, float], assumed: Card
) -> tuple[Card, list[str]]:
    """The card to predict with, and the origin of each of its numbers.

    `given`: TB/s, TFLOP/s and microseconds from the command line, or None. `found`: see `floor.rates`.
    """
    rates, origins = [], []
    for name, number, unit in zip(Card._fields, given, (1e12, 1e12, 1e-6), strict=True):
        if number is not None:
            rate, origin = number * unit, "given"
        elif name in found:
            rate, origin = found[name], "measured"
        else:
            rate, origin = getattr(assumed, name), "assumed"
        rates.append(rate)
        origins.append(origin)
    return Card(*rates), origins


def words(model: Model) -> str:
    size, channels, width, noise_dim = model
    return f"the DCGAN ({size}x{size}x{channels}, width {width}, noise {noise_dim})"


if __name__ == "__main__":
    sys.exit(cli.run(main))
