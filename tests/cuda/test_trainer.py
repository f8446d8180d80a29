"""Runs on a card: graphs, random numbers, epochs, resuming, memory."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from tests.cuda.checks import SMALL, TUTORIAL, batch, distance, masks, memory, players, take
from tests.cuda.reuse import check_reuse
from tests.standin import kernels as standin
from tinygan import penalty
from tinygan.backend import choose, cpu
from tinygan.cuda import buffers
from tinygan.cuda import trainer as fast_trainer
from tinygan.cuda.buffers import STEPS_KEPT
from tinygan.cuda.frequencies import Convolution
from tinygan.cuda.kernels import Kernels
from tinygan.cuda.trainer import Trainer
from tinygan.data import Dataset
from tinygan.errors import DeviceError, NonFiniteError, UsageError
from tinygan.models import discriminator, generator
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import StepByStep, trainer

IMAGES = np.random.default_rng(5).integers(0, 256, (11, 8, 8, 1), dtype=np.uint8)
BATCH = 4  # so that the last of an epoch's three batches is partial
SETTINGS = Settings(
    size=8, width=3, noise_dim=5, batch_size=BATCH, lr=1e-3, lr_d=5e-4, seed=7, average=0.9, penalty=0.5
)
DATA = Dataset("noise", IMAGES, "nowhere")


def begun(backend, *step, **options):
    """`players` and their trainer."""
    ours = players(backend, SMALL)
    return ours, Trainer(*ours, IMAGES, BATCH, 7, *step, **options)


def run(backend, counts, **options):
    """The measurements of steps, taken in groups of `counts`, and all arrays afterwards."""
    ours, taking = begun(backend, **options)
    measured = np.concatenate([taking.steps(count) for count in counts])
    arrays = ours.arrays()
    taking.close()
    return measured, arrays


def same(found, expected):
    assert (found[0] == expected[0]).all()
    assert found[1].keys() == expected[1].keys()
    assert all((found[1][name] == expected[1][name]).all() for name in expected[1])


def test_images_that_do_not_fit_on_the_card_are_named_as_the_reason(card):
    backend, many = choose("gpu"), np.broadcast_to(np.uint8(0), (10_000_000, 8, 8, 1))
    card.limit = card.taken + many.nbytes // 2
    with pytest.raises(DeviceError, match=r"the 0\.6 GB of images .* Use --engine readable"):
        Trainer(*players(backend, SMALL), many, BATCH, 7)


FEW_OR_MORE = [("float32", 20), pytest.param("tf32", 50, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("precision", "steps"), FEW_OR_MORE)
def test_graphs_change_nothing(make_backend, precision, steps):
    backend = make_backend(precision)
    found = run(backend, [steps], penalty=0.5)
    same(found, run(backend, [steps], penalty=0.5, graphs=False))
    assert (found[0] != run(backend, [steps])[0]).any()  # the penalty counts


def test_the_penalty_is_as_strong_in_16_bits(make_backend, monkeypatch):
    monkeypatch.setattr(penalty, "EVERY", 1)  # also in the step taken here
    found, expected = (run(make_backend(how), [1], penalty=50.0)[1] for how in ("float16", "float32"))
    without = run(make_backend(), [1])[1]
    for name in expected:
        if name.startswith("discriminator/") and name.endswith("kernel/m"):
            apart = [distance(other[name], expected[name]) for other in (found, without)]
            assert apart[0] < 0.05 < apart[1], name


def test_the_order_of_threads_and_blocks_changes_nothing(card, monkeypatch):
    backend = choose("gpu")
    first = run(backend, [8])
    monkeypatch.setattr(standin, "BACKWARDS", True)
    same(run(backend, [8]), first)


def test_no_buffer_is_read_after_its_memory_was_reused(make_backend, monkeypatch):
    """During the check no buffers share memory, which makes no difference to the bits."""
    shared = run(make_backend(), [7])
    check_reuse(monkeypatch)
    same(run(make_backend(), [7]), shared)


def test_a_buffer_that_is_read_after_its_memory_was_reused_is_found(make_backend, monkeypatch):
    check_reuse(monkeypatch)
    _, taking = begun(make_backend())
    card, own, right = taking.card, taking.card.buffers, Convolution.lift

    def and_dY(conv, x, X):  # noqa: N802
        right(conv, x, X)
        if X.data.ptr == own.up1.dX.data.ptr:  # before the kernel's gradient has read Y
            conv.down(X, own.up1.W, own.up1.dY)

    taking.steps(1)
    with pytest.raises(RuntimeError, match=r"up1\.X is read, but its memory holds up1\.dX"):
        card.frequencies[1].lower(own.up1.X, own.norm1.h)
    with pytest.raises(RuntimeError, match=r"norm2\.h is read, but its memory holds norm2\.dh"):
        card._normalise(card.up3, own.norm2)
    monkeypatch.setattr(Convolution, "lift", and_dY)
    with pytest.raises(RuntimeError, match=r"up1\.Y is read, but its memory holds up1\.dY"):
        taking.steps(1)


def test_close_waits_for_the_card_after_a_failed_step(card, monkeypatch):
    _, taking = begun(choose("gpu"))
    launch = Kernels.launch

    def interrupted(own, name, *arguments):
        launch(own, name, *arguments)
        if name == "check_finite":
            raise KeyboardInterrupt

    monkeypatch.setattr(Kernels, "launch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        taking.steps(1)
    assert card.busy(taking.card.stream.ptr)
    taking.close()  # the stand-in for cuBLAS fails if the card is busy


def test_the_number_of_steps_at_a_time_changes_nothing(make_backend):
    same(run(make_backend(), [1] * 10), run(make_backend(), [3, 7]))


@pytest.mark.slow
def test_losses_of_more_steps_than_the_card_keeps_are_all_returned(make_backend):
    count = 2 * STEPS_KEPT + 3
    at_once = run(make_backend(), [count])
    same(at_once, run(make_backend(), [1] * count))
    assert len(np.unique(at_once[0], axis=0)) == count


def test_full_and_partial_batches_have_a_graph_each(make_backend):
    _, taking = begun(make_backend())
    taking.steps(7)
    assert sorted(taking.graphs) == [3, 4]
    taking.close()
    assert not taking.graphs


def test_the_same_run_on_the_cpu_measures_the_same(make_backend):
    """Images, noise and masks are the same: nine steps, three epochs with a partial batch each."""
    backend = make_backend()
    ours, theirs = State(SETTINGS, backend), State(SETTINGS, cpu())
    found = trainer(ours, DATA).steps(9)
    expected = StepByStep(theirs, DATA).steps(9)
    assert found == pytest.approx(expected, rel=1e-4)
    found, expected = ours.arrays(), theirs.arrays()
    for name in expected:
        if not name.endswith(("/m", "/v")) and name not in ("step", "sums"):
            assert distance(found[name], expected[name]) < 1e-3 or not expected[name].any(), name
    assert found["generator/adam_t"] == found["discriminator/adam_t"] == 9


def test_adam_counts_its_own_steps(make_backend):
    """The run has taken six steps, Adam five: the next step sizes are those of Adam's sixth and seventh."""
    backend = make_backend()
    ours, taking = begun(backend, 6)
    taking.steps(2)
    own = taking.card.buffers
    assert backend.numpy(own.clock).tolist() == [8, 7] and ours.adam_G.t == ours.adam_D.t == 7
    rate = 1e-3 * np.sqrt(1 - 0.999**7) / (1 - 0.8**7)
    assert backend.numpy(own.rate) == pytest.approx(rate, rel=1e-6)


# NumPy under the stand-in warns where a card does not.
QUIET = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@QUIET
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("net", [0, 1])
def test_no_weight_moves_after_a_number_that_is_not_finite(make_backend, net, value):
    ours, taking = begun(make_backend())
    assert np.isfinite(taking.steps(4)).all() and taking.trouble == ""
    name, tensor = list(ours[net].parameters.items())[2]
    tensor.data[:1] = value
    before = ours.arrays()
    assert np.isnan(taking.steps(3)).all()
    after = ours.arrays()
    moving = ("running_mean", "running_variance")
    assert all(
        np.array_equal(after[n], before[n], equal_nan=True) for n in before if not n.endswith(moving)
    ), name
    assert re.fullmatch(
        r"(a loss|the gradient of (generator|discriminator)/\S+) is not finite", taking.trouble
    )
    assert np.isnan(taking.steps(1)).all()


@QUIET
@pytest.mark.parametrize(("precision", "hint"), [("float32", False), ("float16", True)])
def test_the_step_that_went_wrong_is_named_even_if_losses_are_read_later(make_backend, precision, hint):
    ours = players(make_backend(precision), SMALL)
    ours.adam_G.lr = 1e38
    taking = Trainer(*ours, IMAGES, BATCH, 7)
    rows = taking.steps(5)
    assert np.isfinite(rows[:1]).all() and np.isnan(rows[1:]).all() and "is not finite" in taking.trouble
    assert ("float16 overflows at 65,504; try --precision tf32" in taking.trouble) == hint


@QUIET
@pytest.mark.parametrize("beta1", [0.8, 0.7])  # the same for both Adams; or another, which the kernels refuse
def test_a_single_step_refuses_a_number_that_is_not_finite(make_backend, beta1):
    backend = make_backend()
    ours = players(backend, SMALL)
    ours.adam_D.beta1 = beta1
    before = ours.arrays()
    images, noise = map(backend.array, batch(SMALL))
    noise[:1] = np.inf
    with pytest.raises(NonFiniteError, match="is not finite"):
        take(ours, images, noise, *masks())
    assert ours.adam_G.t == ours.adam_D.t == 5
    after = ours.arrays()
    assert all((after[name] == before[name]).all() for name in before if "running" not in name)


def test_no_step_copies_anything_to_the_host(card):
    _, taking = begun(choose("gpu"))
    taking.steps(6)
    before = card.copies
    taking.steps(40)
    assert card.copies == before + 2  # the losses and `trouble`, once each


def test_losses_are_read_about_ten_times_a_second(card, monkeypatch):
    _, taking = begun(choose("gpu"))
    times = [0.0]
    monkeypatch.setattr(fast_trainer, "time", SimpleNamespace(perf_counter=lambda: times[0]))
    found = []
    for seconds_a_step in (0, 0, 0, 0, 0, 0, 0, 2**-10, 2**-6, 2**-6, 0.5):  # powers of 2, so sums are exact

        def later(seconds=seconds_a_step):
            times[0] += seconds

        monkeypatch.setattr(taking, "_one", later)
        taking.steps(taking.stride)
        found.append(taking.stride)
    assert found == [2, 4, 8, 16, 32, STEPS_KEPT, STEPS_KEPT, STEPS_KEPT, 6, 6, 1]


def test_every_weight_is_aligned_to_128_bytes(make_backend):
    ours, taking = begun(make_backend())
    start = taking.card.weights.data.ptr
    for net in ours[:2]:
        for tensor in net.parameters.values():
            assert (tensor.data.data.ptr - start) % 128 == 0


def test_networks_or_adams_that_it_cannot_train_are_refused(make_backend):
    ours = players(make_backend(), SMALL)
    ours.adam_D.beta2 = 0.5
    with pytest.raises(UsageError, match="DCGAN.*--engine readable"):
        Trainer(*ours, IMAGES, BATCH, 7)


# Memory, as planned.


def count(*networks):
    return sum(parameter.data.size for net in networks for parameter in net.parameters.values())


@pytest.mark.parametrize(("size", "expected"), [(256, 0.488e9), (4096, 4.32e9)])  # README: 0.5 and 4.3 GB
def test_a_batch_takes_the_memory_that_the_readme_states(size, expected):
    networks = generator(), discriminator()
    sizes = buffers.sizes_of(*networks)
    assert sizes
    assert memory(sizes, size, count(*networks), 60_000) == pytest.approx(expected, rel=0.02)


def test_the_plan_counts_the_memory_that_is_allocated(card):
    ours = players(choose("gpu"), SMALL)
    sizes, weights = buffers.sizes_of(ours.G, ours.D), count(ours.G, ours.D)
    before = card.taken
    assert sizes
    Trainer(*ours, IMAGES, BATCH, 7)
    # Beyond the plan: the constant matrices of two convolutions, and weights rounded up to 128 bytes.
    assert 0 < card.taken - before - memory(sizes, BATCH, weights, len(IMAGES)) < 100_000


@pytest.mark.gpu
def test_the_tutorials_batch_takes_less_than_two_gigabytes_of_the_card():
    import cupy  # pyright: ignore[reportMissingImports]

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    backend = choose("gpu")
    taking = Trainer(*players(backend, TUTORIAL), np.zeros((60_000, 28, 28, 1), np.uint8), 256, 0)
    taking.steps(4)
    assert pool.total_bytes() - before < 2e9
    taking.close()


def test_a_batch_too_large_for_the_kernels_counters_is_refused(make_backend):
    ours = players(make_backend(), SMALL)
    with pytest.raises(UsageError, match="or less") as error:
        Trainer(*ours, np.zeros((10**8, 8, 8, 1), np.bool_).view(np.uint8), 10**8, 7)
    most, sizes = int(re.findall(r"--batch-size (\d+)", str(error.value))[0]), buffers.sizes_of(*ours[:2])
    assert sizes
    counters = [buffers.counted(sizes, n).largest for n in (most, most + 8)]
    assert counters[0] < 2**31 - 1024 * 4 < counters[1]  # a block of 1,024 threads, 4 each, may count further


def test_networks_too_large_for_the_kernels_counters_are_refused(card, monkeypatch):
    monkeypatch.setattr(buffers, "INDEXED", 1000)
    with pytest.raises(UsageError, match="Use a smaller --width"):
        begun(choose("gpu"))


def test_a_capture_that_fails_says_why_and_is_ended(card, monkeypatch):
    _, taking = begun(choose("gpu"))
    taking.steps(5)  # the next is the second partial batch

    def fail(*given):
        raise RuntimeError("the reason")

    monkeypatch.setattr(taking.card, "train_step", fail)
    with pytest.raises(RuntimeError, match="the reason"):
        taking.steps(1)
    assert card.capturing is None and list(taking.graphs) == [4]
