"""``python -m benchmarks.roofline``: what a training step asks of a graphics card, and the time that takes.

A step is a list of launches, of kernels and of matrix products. Here the step's own code makes that list,
with arrays that take no memory until they are written to, and kernels and products that do nothing: so no
card is needed, and nothing large is computed. Bytes are those of the arrays that a launch reads or writes,
each once: as if a launch fetched nothing twice, and no cache kept anything for the next one.

A launch takes the longer of two times, that of its bytes and that of its operations at the card's rates, and
on top the cost of being a launch (the roofline of Williams, Waterman & Patterson 2009). Where there is a
usable card, the step is measured as well, and so are both rates.
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

# Parameters that are read before they are written, clocks and counters aside; of the others, a kernel
# reads those that are `const`.
CHANGED = {
    "adam": ["w", "m", "v"],
    "moments": ["running_mean", "running_variance"],
}

# The parameter in which blocks count themselves: a few bytes.
COUNTERS = "arrived"

# Parameters of which a launch touches only a part: how many elements, from its arguments by name and grid.
Count = Callable[[dict[str, Any], tuple[int, ...]], int]


def gathered(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """The pictures of a batch, of all images or of all that pass D."""
    return given["N"] * given["pictures"][0].size


def two_shares(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """Of a buffer that is large enough for every sum: two sums for each chunk of rows."""
    return grid[1] * 2 * given["C"]


def window_shares(given: dict[str, Any], grid: tuple[int, ...]) -> int:
    """A kernel and two sums for each chunk of examples."""
    return grid[1] * (given["dkernel"].size + 2 * given["C"])


PARTS: dict[tuple[str, str], Count] = {
    ("begin", "images"): gathered,
    ("begin", "order"): lambda given, grid: given["N"],
    ("begin", "pictures"): gathered,
    # A row, of a map.
    ("moments", "x0"): lambda given, grid: given["C"],
    # All, where a block has all rows; else it is for another kernel.
    ("moments", "a"): lambda given, grid: given["a"].size if grid[1] == 1 else 0,
    ("normalise_sums", "dh"): lambda given, grid: given["dh"].size if grid[1] == 1 else 0,
    ("moments", "shares"): two_shares,
    ("normalise_sums", "shares"): two_shares,
    ("answer_back", "shares"): lambda given, grid: grid[1] * 2 * given["dkernel"].size,
    ("make_pictures_sums", "shares"): window_shares,
    ("see_pictures_back", "shares"): window_shares,
    # This step's losses, of those of many steps.
    ("check_finite", "measured"): lambda given, grid: 4,
}


class Model(NamedTuple):
    """The sizes of a DCGAN; by default those of the tutorial."""

    size: int = 28  # pixels, of a picture's side
    channels: int = 1
    width: int = 64  # channels at half size
    noise_dim: int = 100


class Launch(NamedTuple):
    """One kernel, or one matrix product."""

    name: str  # the kernel's; that of a product ends with the function that asks for it
    shape: str  # grid and block of a kernel; factors of a product
    bytes_read: int
    bytes_written: int
    operations: int  # additions and multiplications of a product; those of kernels are not counted

    @property
    def bytes(self) -> int:
        return self.bytes_read + self.bytes_written


class Card(NamedTuple):
    """What a graphics card can do."""

    bytes_a_second: float
    operations_a_second: float  # of matrix products
    launch_seconds: float  # what each launch costs besides, within a CUDA graph

    def seconds(self, launch: Launch) -> float:
        """The least that a launch takes, without the cost of being one."""
        return max(launch.bytes / self.bytes_a_second, launch.operations / self.operations_a_second)

    def predicted(self, launches: Sequence[Launch]) -> float:
        """Seconds for these launches, one after the other."""
        return sum(map(self.seconds, launches)) + len(launches) * self.launch_seconds


# Assumptions about an H200, for where there is none to measure: its copies, cuBLAS's large products.
ASSUMED = {
    precision: Card(4.3e12, operations, 2.8e-6)
    for precision, operations in (("tf32", 350e12), ("float32", 48e12), ("float16", 700e12))
}


def of_kernel(name: str, grid: tuple[int, ...], block: tuple[int, ...], arguments: Sequence[Any]) -> Launch:
    """What a kernel with these arguments moves; an array that is handed over twice counts once."""
    parameters = signatures()[name]
    given = {p.name: value for p, value in zip(parameters, arguments, strict=True)}
    read, written = {}, {}  # bytes by place
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
    """What out = a b moves and computes, asked for by a function; a factor of a whole batch counts once."""
    n, k = out.shape[-1], a.shape[-1]
    shape = f"{prod(out.shape[:-2])} of {out.shape[-2]}x{k} {k}x{n}"
    moved = a.size * a.itemsize + b.size * b.itemsize
    return Launch(f"product: {asking.strip('_')}", shape, moved, out.size * out.itemsize, 2 * k * out.size)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """The launches within this context, in order; they do what they always do."""
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
    """An array that knows its address as CuPy's do."""

    @property
    def data(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return SimpleNamespace(ptr=self.ctypes.data)


class Idle:
    """A stream, a kernel or a library that does nothing, whatever it is asked; as a status: no error."""

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
    """A graphics card that keeps arrays, and does nothing with them.

    New ones are zeros that the system hands out when they are first touched.
    """
    xp: Any = SimpleNamespace(float16=np.float16, float32=np.float32, int32=np.int32, uint8=np.uint8)
    xp.cuda = xp.RawModule = Idle()
    xp.zeros = xp.empty = lambda shape, dtype: np.zeros(shape, dtype).view(Unwritten)
    xp.asarray = lambda values: np.asarray(values).view(Unwritten)
    xp.full, xp.zeros_like = np.full, np.zeros_like
    return Backend(xp, "gpu", "fast", precision=precision)


def trainer(backend: Backend, model: Model, images: np.ndarray, batch: int, graphs: bool = True) -> Trainer:
    """A run of the seed's kind: both networks, two Adams alike, no average."""
    size, channels, width, noise_dim = model
    D = models.discriminator(size=size, channels=channels, width=width, backend=backend)
    G = models.generator(size=size, channels=channels, width=width, noise_dim=noise_dim, backend=backend)
    return Trainer(G, D, Adam(G.parameters), Adam(D.parameters), images, batch, 0, graphs=graphs)


def count(model: Model, batch: int, precision: str) -> list[Launch]:
    """The launches of a step with a full batch, in order.

    Raises:
        UsageError: no network has such sizes, or the fast engine has no step for them.
    """
    with patch.object(blas, "load", Idle()):
        images = np.zeros((batch, model.size, model.size, model.channels), np.uint8)
        taking = trainer(no_card(precision), model, images, batch, graphs=False)
        with recorded() as launches:
            taking._launch(batch)
    return launches


# A measurement: a run's images at least, steps to warm up, steps that are timed together, how often.
IMAGES, WARM, STEPS, TIMES = 60_000, 10, 320, 7


def measured(backend: Backend, model: Model, batch: int) -> float:
    """Seconds a step on a card, as graphs: the median of several measurements."""
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
    """The launches by name, those that move most first; then all together."""
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
    """Bytes that they read and write together."""
    return sum(launch.bytes for launch in launches)


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.roofline", "Count what a training step asks of a graphics card.")
    parser.add_argument("--batch", type=int, default=256, help="default: 256")
    for name, default in Model()._asdict().items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, help=f"default: {default}")
    parser.add_argument("--precision", choices=tuple(ASSUMED), default="tf32", help="default: tf32")
    rates = "default: as measured, or else as assumed of an H200"
    parser.add_argument("--bandwidth", type=float, metavar="TB/s", help=f"of copies; {rates}")
    parser.add_argument("--tflops", type=float, metavar="N", help=f"of large products; {rates}")
    cost = "what a launch costs within a graph; default: 2.8, assumed"
    parser.add_argument("--launch-us", type=float, metavar="N", help=cost)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every launch there")
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
    told = zip(("{:.2f} TB/s", "{:.1f} TFLOP/s", "{:.1f} us a launch"), rates, origins, strict=True)
    print("\n" + ", ".join(f"{text.format(rate)} ({origin})" for text, rate, origin in told))
    print(f"predicted: {predicted * 1e3:.3f} ms a step")
    if seconds:
        print(f"measured:  {seconds * 1e3:.3f} ms a step, {seconds / predicted:.2f} times that")
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
    """A card to measure on, or why there is none."""
    try:
        return choose("gpu", "fast", precision=precision), ""
    except DeviceError as problem:
        return None, f"{first_sentence(str(problem))}."


def rated(
    given: tuple[float | None, float | None, float | None], found: dict[str, float], assumed: Card
) -> tuple[Card, list[str]]:
    """The card to predict with, and where each of its numbers comes from.

    `given`: TB/s, TFLOP/s and microseconds, where the command names them; `found`: see `floor.rates`.
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
