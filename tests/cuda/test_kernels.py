"""Single kernels against `ops`, or a loop written from their definition; test_gan tests them together."""

import numpy as np
import pytest

from tests.checks import numbers
from tests.standin import kernels as standin
from tinygan.autograd import Tensor
from tinygan.cuda.kernels import ALONG, BLOCKS, Kernels, chunks
from tinygan.ops import loss
from tinygan.optim import Adam
from tinygan.rng import key, stream

SIDE, CHANNELS = 3, 2
P = SIDE * SIDE


@pytest.fixture(params=[1, 4])
def wide(request):
    """The number of neighbouring channels that a thread processes."""
    return request.param


@pytest.fixture
def run(make_backend, monkeypatch, wide):
    """Launches kernels on NumPy arrays and scalars; returns the arrays as the kernel left them.

    It launches each kernel twice, the second time with the last threads and blocks first. If a thread reads
    what another writes, without a barrier in between, the results differ.
    """
    backend = make_backend()
    kernels = Kernels(backend.xp, SIDE, CHANNELS, wide)

    def launch(*arguments, **keywords):
        monkeypatch.setattr(standin, "BACKWARDS", False)
        first = once(*arguments, **keywords)
        monkeypatch.setattr(standin, "BACKWARDS", True)
        second = once(*arguments, **keywords)
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
        assert not first.get("arrived", np.zeros(1)).any()  # reset for the next kernel
        return first

    def once(way, name, *shape, **arguments):
        values = {
            key: backend.array(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
            for key, value in arguments.items()
        }
        getattr(kernels, way)(name, *shape, *values.values())
        return {key: backend.numpy(v) for key, v in values.items() if isinstance(arguments[key], np.ndarray)}

    return launch


def normal(seed, *shape):
    return numbers(seed, *shape).astype(np.float32)


def empty(*shape):
    return np.full(shape, np.nan, np.float32)


def unarrived(count=64):
    """The counter of arrived blocks before a launch."""
    return np.zeros(count, np.uint32)


# `alone`: a single process. Otherwise ranks share a batch and add up their sums.
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("rows", [1, 64, 65, 200])
@pytest.mark.parametrize("C", [4, 36, 100])
def test_statistics_and_activations_are_right_for_each_channel(run, wide, rows, C, alone):
    x = normal(1, rows, C) * 3 + 1000 * normal(2, C)  # far from 0: squares would cancel
    count = chunks(rows, -(-C // (ALONG * wide)), 64)
    gamma, beta, running = normal(6, C), normal(7, C), (normal(3, C), normal(4, C))
    learnt = {
        "x0": x[-1] + normal(5, C), "gamma": gamma, "beta": beta, "eps": 1e-3, "momentum": 0.9,
        "known": empty(4, C), "mean": running[0], "variance": running[1],
    }  # fmt: skip
    found = run(
        "columns", "moments", C, rows, h=x, rows=rows, C=C, shares=empty(count, 2, C),
        arrived=unarrived(), sums=empty(2, C), alone=alone, **learnt, slope=0.3, stored=1, a=empty(rows, C),
    )  # fmt: skip
    if not alone:
        assert np.isnan(found["known"]).all() and np.isnan(found["a"]).all()
        found |= run("flat", "learn_from_all", C, sums=2 * found["sums"], rows=2 * rows, C=C, **learnt)
    mean, variance = x.astype(np.float64).mean(axis=0), x.astype(np.float64).var(axis=0)
    assert found["known"][0] == pytest.approx(mean, rel=1e-6, abs=1e-5)
    assert found["known"][1] == pytest.approx(1 / np.sqrt(variance + 1e-3), rel=1e-4)
    assert (found["known"][2:] == [gamma, beta]).all()
    assert found["mean"] == pytest.approx(0.9 * running[0] + 0.1 * mean, rel=1e-5, abs=1e-4)
    assert found["variance"] == pytest.approx(0.9 * running[1] + 0.1 * variance, rel=1e-4, abs=1e-5)
    if count > 1 or not alone:
        assert np.isnan(found["a"]).all()  # a separate kernel computes it
        given = {"h": x, "known": found["known"], "count": x.size, "C": C, "slope": 0.3}
        found |= run("flat", "normalise", x.size, **given, a=empty(rows, C))
    y = (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    assert found["a"] == pytest.approx(np.where(y > 0, y, 0.3 * y), rel=1e-3, abs=1e-3)


def begun(run, wide, N=3, M=4, rank=1, K=16, batch=8, C=(4, 8), noise=7):
    """The start of a rank's step: N pictures of `batch` and M fakes, after as many of each lower rank."""
    images = np.random.default_rng(1).integers(0, 256, (K, 4 * SIDE, 4 * SIDE, CHANNELS), np.uint8)
    order = np.random.default_rng(2).permutation(K).astype(np.int32)
    masks = []
    for mask_C, scale, threshold in zip(C, (2, 1), (19_661, 30_000), strict=True):
        words = -(-P * scale * scale * mask_C // 16)
        masks += [np.zeros((N + M, words), np.uint16), mask_C, threshold]
    most = max(N * images[0].size // wide, M * noise // 4 + 1, masks[0].size)
    values = [
        empty(M + N, *images.shape[1:]), images, order, rank * N, N, batch, -(-K // batch),
        empty(M, noise), empty(M, noise), rank * M * noise, M * noise, *key(5, stream(5, "noise").path, 1),
        *masks, rank * M, M, *key(5, stream(5, "dropout").path, 3), np.array([11, 4]), empty(2),
        3e-4, 1e-3, 0.5, 0.999, unarrived(),
    ]  # fmt: skip
    given = {str(at): value for at, value in enumerate(values)}
    found = run("flat", "begin", most * wide, **given)
    return images, order, [found[at] for at in given if at in found]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_step_begins_with_the_batch_the_noise_and_the_masks_of_any_device(run, wide, rank):
    N, M = 3, 4
    images, order, found = begun(run, wide, N, M, rank)
    pictures, _, _, noise, lifted, *masks, clock, rate, arrived = found
    expected = images[order[8 + rank * N :][:N]] / 127.5 - 1  # step 12 is the second of an epoch's two
    assert pictures[:N] == pytest.approx(expected, abs=1e-6) and np.isnan(pictures[N:]).all()
    whole = stream(5, "noise").at(11).normal(((rank + 1) * M, 7))
    assert noise == pytest.approx(whole[rank * M :], rel=1e-5, abs=1e-6) and (lifted == noise).all()
    layers = zip(masks, (4, 8), (2, 1), (19_661, 30_000), strict=True)
    for layer, (mask, C, scale, threshold) in enumerate(layers):
        for which, part in enumerate((mask[:N], mask[N:])):
            shape = (len(part), scale * SIDE, scale * SIDE, C)
            place = stream(5, "dropout").at(11, which, layer).of_examples_from(rank * len(part))
            bits = np.unpackbits(part.view(np.uint8), axis=1, bitorder="little")[:, : np.prod(shape[1:])]
            assert (bits.reshape(shape) == place.keep(shape, threshold / 65_536)).all()
    assert clock.tolist() == [12, 5] and not arrived.any()
    assert rate == pytest.approx(np.array([3e-4, 1e-3]) * np.sqrt(1 - 0.999**5) / (1 - 0.5**5), rel=1e-6)


@pytest.mark.parametrize("spread", [1, 30, 200])
@pytest.mark.parametrize(("N", "M"), [(5, 5), (2, 7), (300, 300), (1, 1), (0, 3)])
@pytest.mark.parametrize("others", [0, 10])
def test_losses_scores_and_slopes_equal_those_of_ops(run, spread, N, M, others):
    """For a whole batch in which other ranks have 2 * `others` real pictures and `others` fakes; scaled."""
    scale = 1 + others
    logits, all_N, all_M, C = spread * normal(1, N + M), max(1, N + 2 * others), M + others, 4
    h, kernel = np.zeros((N + M, P * C), np.float32), np.zeros(P * C, np.float32)
    h[:, 7], kernel[7] = logits - 1, 1  # with nothing dropped, and LeakyReLU's slope 1
    found = run(
        "launch", "answer", (N + M,), (1, 256), h=h, bias=np.ones(C, np.float32),
        mask=np.full((N + M, -(-P * C // 16)), 0xFFFF, np.uint16), C=C, slope=1, growth=1, kernel=kernel,
        dense_bias=np.zeros(1, np.float32), logits=empty(N + M), arrived=unarrived(), N=N, M=M, all_N=all_N,
        all_M=all_M, scale=scale, found=empty(4), D=empty(N + M), ratios=empty(M), dbias=empty(1),
    )  # fmt: skip
    assert found["logits"] == pytest.approx(logits, rel=1e-6, abs=1e-6)
    real, fake = (part[:, None].astype(np.float64) for part in (found["logits"][:N], found["logits"][N:]))

    def part(x, target, count):
        """The part of x in the mean loss of `count` numbers, and the slopes."""
        if not x.size:
            return 0, np.zeros(0)
        mean, saved = loss.bce_with_logits_forward(x, target=target)
        share = np.float64(x.size / count)
        return mean * share, np.asarray(loss.bce_with_logits_backward(saved, share, (True,))[0])[:, 0]

    with np.errstate(over="ignore"):
        asked = (fake, 1.0, all_M), (real, 1.0, all_N), (fake, 0.0, all_M)
        parts, slopes = zip(*(part(*each) for each in asked), strict=True)
        scores = [loss.sigmoid(x).sum() / count for x, count in ((real, all_N), (fake, all_M))]
    assert found["found"] == pytest.approx([parts[0], parts[1] + parts[2], *scores], rel=1e-5, abs=1e-7)
    assert found["D"] / scale == pytest.approx(np.concatenate(slopes[1:]), rel=1e-5, abs=1e-9)
    assert found["D"][N:] / scale * found["ratios"] == pytest.approx(slopes[0], rel=1e-5)  # even if D is sure
    assert found["dbias"] / scale == pytest.approx(sum(s.sum() for s in slopes[1:]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("count", [4, 256, 1000])
def test_adam_equals_that_of_optim(run, count):
    w, g, m, v = normal(1, count), normal(2, count), normal(3, count), normal(4, count) ** 2
    parameter = Tensor(w.astype(np.float64))
    lr = np.where(np.arange(count) < count // 8 * 4, 0.01, 0.03)
    adam = Adam({"w": parameter}, lr=0.01, beta1=0.7, beta2=0.9, eps=1e-3)
    adam.m["w"], adam.v["w"], adam.t = m.astype(np.float64), v.astype(np.float64), 4
    adam.step([g.astype(np.float64)])
    rate = np.array([0.01, 0.03], np.float32) * np.float32(np.sqrt(1 - 0.9**5) / (1 - 0.7**5))
    given = {
        "w": w, "g": 8 * g, "m": m, "v": v, "count": count, "of_G": count // 8 * 4, "unscale": 1 / 8,
        "rate": rate, "beta1": 0.7, "beta2": 0.9, "left1": 1 - 0.7, "left2": 1 - 0.9, "eps": 1e-3,
        "clock": np.array([7, 3]),
    }  # fmt: skip
    for trouble in (-1, 0, count - 1):
        found = run("flat", "adam", count, **given, trouble=np.array([trouble, 0], np.int32))
        assert found["trouble"].tolist() == [trouble, 7]
        assert all((found[name] == given[name]).all() for name in "wmv")
    found = run("flat", "adam", count, **given, trouble=np.array([count, 0], np.int32))
    assert found["trouble"].tolist() == [count, 0]
    moved = w + (parameter.data - w) * (lr / 0.01)
    for name, expected in (("w", moved), ("m", adam.m["w"]), ("v", adam.v["w"])):
        assert found[name] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("bad", "losses", "at"),
    [
        ({}, (1, 2), 1000),
        ({700: np.nan, 800: np.inf}, (1, 2), 700),
        ({999: -np.inf}, (1, 2), 999),
        ({3: 8e20}, (1, 2), 3),
        ({3: 8e18}, (1, 2), 1000),  # an eighth of this is the gradient
        ({3: np.nan}, (np.nan, 2), -1),
        ({}, (1, np.inf), -1),
    ],
)
def test_check_finite_finds_the_first_number_that_is_not_finite(run, bad, losses, at):
    g, measured = normal(1, 1000), empty(4, 4)
    for place, value in bad.items():
        g[place] = value
    just = np.array([*losses, 0.25, 0.5], np.float32)
    found = run(
        "flat", "check_finite", 1000, g=g, count=1000, unscale=1 / 8, found=just, measured=measured,
        measured_rows=4, clock=np.array([7, 3]), trouble=np.array([1000, 0], np.int32),
    )  # fmt: skip
    assert found["trouble"].tolist() == [at, 0]
    assert found["measured"][2].tobytes() == just.tobytes()  # the row of step 7
    assert np.isnan(np.delete(found["measured"], 2, axis=0)).all()


@pytest.mark.parametrize(("step", "d"), [(8, 2 / 11), (24, 4 / 13), (8000, 0.9), (9, 1), (7, 1)])
@pytest.mark.parametrize("count", [4, 1000])
def test_average_equals_that_of_the_readable_engine(run, count, step, d):
    a, w = normal(1, count), normal(2, count)
    found = run(
        "flat", "average", count, a=a, w=w, count=count, clock=np.array([step, 3]), every=8, decay=0.9
    )["a"]
    assert found == pytest.approx(d * a + (1 - d) * w, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 50_176, 3_211_264])
@pytest.mark.parametrize("columns", [1, 2, 196, 1000])
@pytest.mark.parametrize("least", [1, 64])
def test_chunks_cover_all_rows_and_no_chunk_is_empty(rows, columns, least):
    count = chunks(rows, columns, least)
    each = -(-rows // count)  # CHUNK_ROWS
    assert count * each >= rows > (count - 1) * each
    assert count * columns <= max(BLOCKS, columns)
    assert count * columns > BLOCKS / 3 or rows / count <= least
