"""The work of a step on a card, counted without one: that it is what a step does, and its prediction."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import floor, roofline
from benchmarks.roofline import CHANGED, COUNTERS, PARTS, Card, Launch, Model
from tests.standin import kernels as standin
from tinygan.backend import choose
from tinygan.cuda.blas import Blas
from tinygan.cuda.kernels import Kernels, signatures
from tinygan.errors import UsageError

MOST_LAUNCHES, MOST_GB = 58, 1.4  # of the tutorial's step with 256 pictures

RESULTS = Path(roofline.__file__).parent / "results"
SMALL, BATCH = Model(size=8, channels=1, width=8, noise_dim=5), 4


def test_the_tutorials_step_has_few_launches_and_moves_few_bytes():
    launches = roofline.count(Model(), 256, "tf32")
    assert MOST_LAUNCHES / 2 < len(launches) <= MOST_LAUNCHES
    assert MOST_GB / 2 < roofline.total_bytes(launches) / 1e9 <= MOST_GB
    assert sum(launch.operations for launch in launches) == pytest.approx(34.2e9, rel=0.02)


@pytest.mark.parametrize("precision", roofline.ASSUMED)
def test_the_recorded_counts_match_the_current_step(precision):
    kept = json.loads((RESULTS / f"roofline_{precision}.json").read_text())
    assert [Launch(**row) for row in kept["launches"]] == roofline.count(Model(), kept["batch"], precision)
    assert kept["measured_seconds"] is None and kept["precision"] == precision


@pytest.fixture
def taking(card):
    """A run on the stand-in, with an epoch of three batches."""
    backend = choose("gpu", "fast", precision="float32")
    size = SMALL.size
    images = np.random.default_rng(0).integers(0, 256, (3 * BATCH, size, size, SMALL.channels), np.uint8)
    return roofline.trainer(backend, SMALL, images, BATCH, graphs=False)


def test_what_is_counted_is_what_a_step_does(taking, monkeypatch):
    counted, done = roofline.count(SMALL, BATCH, "float32"), []
    launch, product = Kernels.launch, Blas.product

    def note_launch(own, name, grid, block, *given):
        done.append((name, 0))
        launch(own, name, grid, block, *given)

    def note_product(own, a, b, out):
        product(own, a, b, out)
        done.append(((a.shape, b.shape, a.nbytes + b.nbytes, out.nbytes), 2 * out.size * a.shape[-1]))

    with monkeypatch.context() as noting:
        noting.setattr(Kernels, "launch", note_launch)
        noting.setattr(Blas, "product", note_product)
        taking.steps(1)
    assert 40 < len(counted) == len(done) < 60
    for ours, (what, operations) in zip(counted, done, strict=True):
        assert ours.operations == operations
        if operations:
            a, b, read, written = what
            shape = f"{a[-2]}x{a[-1]} {b[-2]}x{b[-1]}"
            assert ours.name.startswith("product: ") and ours.shape.endswith(f" of {shape}")
            assert (ours.bytes_read, ours.bytes_written) == (read, written)
        else:
            assert ours.name == what


def test_a_step_on_a_card_is_counted_as_one_without(taking):
    with roofline.recorded() as launches:
        taking.steps(1)
    assert launches == roofline.count(SMALL, BATCH, "float32")


@pytest.fixture
def each_kernel(taking, monkeypatch):
    """Calls `check(name, grid, values, run)` for each kernel of a step. `values` are its arguments, NumPy
    arrays and numbers; `run` runs the kernel with other values."""

    def start(check):
        launch = Kernels.launch

        def and_check(own, name, grid, block, *given):
            def run(values):
                parameters = zip(signatures()[name], values, strict=True)
                handed = [value.ctypes.data if p.pointer else p.convert(value) for p, value in parameters]
                standin.launch(own.module.code, own.module.options, name, grid, block, handed)

            taking.card.stream.synchronize()
            check(name, grid, [getattr(value, "_numpy", value) for value in given], run)
            launch(own, name, grid, block, *given)

        monkeypatch.setattr(Kernels, "launch", and_check)
        taking.steps(1)

    return start


def copies(values):
    return [value.copy() if isinstance(value, np.ndarray) else value for value in values]


def counted_elements(name, grid, values, at):
    parameters = signatures()[name]
    given = {p.name: value for p, value in zip(parameters, values, strict=True)}
    part = PARTS.get((name, parameters[at].name))
    return part(given, grid) if part else values[at].size


def test_kernels_write_and_change_in_place_what_the_tables_say(each_kernel):
    tried = set()

    def check(name, grid, values, run):
        places = set()
        for at, p in enumerate(signatures()[name]):
            # Integers are clocks and the like, on whose values a step depends.
            numbers = p.pointer and p.dtype.kind != "i" and p.name != COUNTERS
            if numbers and not p.const and values[at].ctypes.data not in places:
                places.add(values[at].ctypes.data)
                written, read = touched(values, at, run)
                assert written == counted_elements(name, grid, values, at), f"{name}: {p.name}"
                assert read == (p.name in CHANGED.get(name, ())), f"{name}: {p.name}"
                tried.add((name, p.name))

    each_kernel(check)
    assert {(name, parameter) for name, changed in CHANGED.items() for parameter in changed} < tried


def touched(given, at, run):
    """The number of elements of one array that a kernel writes, and whether it reads them first, from two
    launches with different values in that array. Zeros in other arrays could leave it unchanged, so these
    are shifted as well."""
    found = []
    for shift in (1, 3):
        values = copies(given)
        for value in values:
            if isinstance(value, np.ndarray) and value.dtype == np.float32:
                value += 0.7
        values[at] += values[at].dtype.type(shift)
        before = values[at].copy()
        run(values)
        found.append((before, values[at]))
    (one, after_one), (other, after_other) = found
    changed = (one != after_one) | (other != after_other)
    return int(changed.sum()), bool((after_one != after_other)[changed].any())


def test_only_the_counted_elements_of_an_array_that_a_kernel_reads_affect_its_result(each_kernel):
    tried = set()

    def check(name, grid, values, run):
        for at, p in enumerate(signatures()[name]):
            if p.pointer and p.const and p.dtype == np.float32:
                count, results = counted_elements(name, grid, values, at), []
                for spoilt in (slice(0), slice(count, None), slice(count // 2, count)):
                    found = copies(values)
                    found[at].reshape(-1)[spoilt] = np.nan
                    run(found)
                    arrays = (x for i, x in enumerate(found) if i != at and isinstance(x, np.ndarray))
                    results.append([array.tobytes() for array in arrays])
                assert results[0] == results[1] != results[2], f"{name}: {p.name}"
                tried.add((name, p.name))

    each_kernel(check)
    parameters = {(name, p.name): p for name, found in signatures().items() for p in found}
    of_parts = {key for key in PARTS if parameters[key].const and parameters[key].dtype == np.float32}
    assert of_parts < tried


def test_the_tables_name_existing_parameters():
    named = {(name, parameter) for name, changed in CHANGED.items() for parameter in changed} | set(PARTS)
    assert named <= {(name, p.name) for name, parameters in signatures().items() for p in parameters}


def test_a_kernel_reads_what_is_const_and_writes_what_is_not():
    """Even if one array is passed for both."""
    xp = roofline.no_card("float32").xp
    da, h, known, sums = (xp.zeros(shape, np.float32) for shape in ((8, 5), (8, 5), (4, 5), (2, 5)))
    launch = roofline.of_kernel("normalise_back", (1, 1), (256,), [da, h, known, sums, 8, 40, 5, 0.3, h])
    assert launch == Launch("normalise_back", "1x1 of 256", 4 * (40 + 40 + 20 + 10), 4 * 40, 0)


def test_a_product_reads_its_factors_and_writes_its_result():
    a, b, out = np.zeros((3, 5), "f"), np.zeros((7, 5, 2), "f"), np.zeros((7, 3, 2), "f")
    launch = roofline.of_product(a, b, out, "_lift")
    assert launch == Launch("product: lift", "7 of 3x5 5x2", 4 * (15 + 70), 4 * 42, 2 * 7 * 3 * 5 * 2)


def test_a_launch_takes_the_longer_of_two_times_and_its_cost():
    card = Card(bytes_a_second=100, operations_a_second=1000, launch_seconds=0.5)
    launches = [Launch("moves", "", 150, 50, 1000), Launch("computes", "", 10, 0, 3000)]
    assert card.predicted(launches) == pytest.approx(2 + 3 + 2 * 0.5)


def test_the_command_prints_a_table_and_writes_every_launch(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(roofline, "on_a_card", lambda precision: (None, "no card today."))
    file, sizes = tmp_path / "roofline.json", ["--size", "8", "--width", "8", "--noise-dim", "5"]
    given = ["--batch", "4", *sizes, "--precision", "float32", "--bandwidth", "2", "--json", str(file)]
    assert roofline.main(given) == 0
    lines, result = capsys.readouterr().out.splitlines(), json.loads(file.read_text())
    launches = roofline.count(SMALL, BATCH, "float32")
    assert lines[0] == "a step of the DCGAN (8x8x1, width 8, noise 5), batch 4, float32"
    assert [Launch(**row) for row in result["launches"]] == launches
    rows = {line[:34].strip(): line[34:].split() for line in lines if line}
    assert {launch.name for launch in launches} < set(rows) and rows["all"][0] == str(len(launches))
    assert float(rows["all"][1]) + float(rows["all"][2]) == pytest.approx(result["bytes"] / 1e6, abs=0.02)
    assert lines[-3:] == [
        "2.00 TB/s (given), 48.0 TFLOP/s (assumed), 2.8 us per launch (assumed)",
        f"predicted: {result['predicted_seconds'] * 1e3:.3f} ms per step",
        "counted, not measured: no card today.",
    ]
    assert result["predicted_seconds"] == Card(2e12, 48e12, 2.8e-6).predicted(launches)
    assert result["measured_seconds"] is None and result["card"] is None


def test_on_a_card_the_step_and_the_rates_are_measured(card, capsys, monkeypatch):
    for module, name, value in (
        (floor, "SIDE", 64), (floor, "COPIED", 1 << 16),
        (roofline, "IMAGES", 5), (roofline, "WARM", 1), (roofline, "STEPS", 2), (roofline, "TIMES", 1),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    assert roofline.main(["--batch", "4", "--size", "8", "--width", "8", "--tflops", "3"]) == 0
    rates, _, measured = capsys.readouterr().out.splitlines()[-3:]
    assert "TB/s (measured), 3.0 TFLOP/s (given), 2.8 us per launch (assumed)" in rates
    assert measured.startswith("measured: ") and measured.endswith(" times the prediction")


@pytest.mark.parametrize(
    "words", ["--batch 0", "--tflops 0", "--bandwidth nan", "--launch-us inf", "--size 7", "--channels 2"]
)
def test_what_cannot_be_counted_is_refused(words):
    with pytest.raises(UsageError):
        roofline.main(words.split())
