"""Kernels by themselves, against `ops`, or a loop written from their definition; test_gan has all of them."""

import numpy as np
import pytest

from tests.checks import numbers
from tests.standin import kernels as standin
from tinygan.autograd import Tensor
from tinygan.cuda.kernels import Kernels, chunks
from tinygan.ops import loss
from tinygan.optim import Adam
from tinygan.rng import key, stream

SIDE, CHANNELS = 3, 2
P = SIDE * SIDE


@pytest.fixture
def run(make_backend, monkeypatch):
    """Launches kernels on NumPy arrays and scalars; arrays come back as the kernel left them.

    Twice: the stand-in runs the last threads and blocks first then. Where one reads what another
    writes, without a barrier between, that comes out otherwise.
    """
    backend = make_backend()
    kernels = Kernels(backend.xp, SIDE, CHANNELS)

    def launch(*arguments, **keywords):
        monkeypatch.setattr(standin, "BACKWARDS", False)
        first = once(*arguments, **keywords)
        monkeypatch.setattr(standin, "BACKWARDS", True)
        second = once(*arguments, **keywords)
        assert all(np.array_equal(first[key], second[key], equal_nan=True) for key in first)
        return first

    def once(way, name, *shape, lanes=None, **arguments):
        values = {
            key: backend.array(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
            for key, value in arguments.items()
        }
        options = {} if lanes is None else {"lanes": lanes}
        getattr(kernels, way)(name, *shape, *values.values(), **options)
        return {key: backend.numpy(v) for key, v in values.items() if isinstance(arguments[key], np.ndarray)}

    return launch


def normal(seed, *shape):
    return numbers(seed, *shape).astype(np.float32)


def empty(*shape):
    return np.full(shape, np.nan, np.float32)


def images_of(rows, T, scale):
    """(places, T, phases, C) -> pictures (T, scale SIDE, scale SIDE, C), by the definition of phases."""
    pictures = np.empty((T, scale * SIDE, scale * SIDE, rows.shape[-1]), rows.dtype)
    for y in range(scale * SIDE):
        for x in range(scale * SIDE):
            place, phase = y // scale * SIDE + x // scale, y % scale * scale + x % scale
            pictures[:, y, x] = rows.reshape(P, T, scale * scale, -1)[place, :, phase]
    return pictures


@pytest.mark.parametrize("rows", [1, 7, 64, 65, 300, 2000])
@pytest.mark.parametrize("C", [1, 31, 33, 100])
def test_moments_are_those_of_each_channel(run, rows, C):
    x = normal(1, rows, C) * 3 + 1000 * normal(2, C)  # far from 0: squares would cancel
    count, each = chunks(rows, C)
    x0 = x[-1] + normal(5, C)
    shares = run(
        "shares", "moments", count, C, x=x, x0=x0, rows=rows, C=C, chunk=each, shares=empty(count, 2, C)
    )["shares"]
    running = normal(3, C), normal(4, C)
    found = run(
        "shares", "batch_statistics", 1, C, shares=shares, chunks=count, x0=x0, rows=rows, C=C, eps=1e-3,
        momentum=0.9, mean=empty(C), inverse=empty(C), running_mean=running[0], running_variance=running[1],
        lanes=32,
    )  # fmt: skip
    mean, variance = x.astype(np.float64).mean(axis=0), x.astype(np.float64).var(axis=0)
    assert found["mean"] == pytest.approx(mean, rel=1e-6, abs=1e-5)
    assert found["inverse"] == pytest.approx(1 / np.sqrt(variance + 1e-3), rel=1e-4)
    assert found["running_mean"] == pytest.approx(0.9 * running[0] + 0.1 * mean, rel=1e-5, abs=1e-4)
    assert found["running_variance"] == pytest.approx(0.9 * running[1] + 0.1 * variance, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize(("N", "M", "C"), [(3, 3, 16), (1, 4, 70), (2, 1, 1), (5, 2, 9), (2, 2, 12)])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_mask_is_drawn_as_a_picture_and_stored_as_a_map(run, scale, N, M, C, before):
    """`before`: so many examples of the batch are another rank's."""
    T, side = N + M, scale * SIDE
    mask = np.full((P, T, scale * scale, C), 7, np.uint8)
    place = stream(5, "dropout")
    for which, (first, count) in enumerate(((0, N), (N, M))):
        elements, start = count * side * side * C, before * side * side * C
        mask = run(
            "flat", "draw_mask", -(-(start % 16 + elements) // 16), mask=mask, start=start, count=elements,
            key0=key(5, place.path, 3)[0], key1=key(5, place.path, 3)[1], clock=np.array([12, 0]),
            which=which, layer=1, threshold=30_000, C=C, scale=scale, T=T, first=first,
        )["mask"]  # fmt: skip
    expected = [
        place.at(11, which, 1).keep((before + n, side, side, C), 30_000 / 65_536)[before:]
        for which, n in ((0, N), (1, M))
    ]
    assert (images_of(mask, T, scale) == np.concatenate(expected)).all()


@pytest.mark.parametrize(("start", "count"), [(0, 100), (0, 7), (4, 9), (5, 1), (6, 10), (7, 40), (301, 2)])
def test_noise_is_a_part_of_that_of_the_whole_batch(run, start, count):
    words = key(5, stream(5, "noise").path, 1)
    found = run(
        "flat", "draw_noise", -(-(start % 4 + count) // 4), z=empty(count), start=start, count=count,
        key0=words[0], key1=words[1], clock=np.array([12, 0]),
    )["z"]  # fmt: skip
    whole = stream(5, "noise").at(11).normal((start + count,))
    assert found == pytest.approx(whole[start:], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("spread", [1, 30, 200])
@pytest.mark.parametrize(("N", "M"), [(5, 5), (2, 7), (300, 300), (1, 1), (0, 3)])
@pytest.mark.parametrize("others", [0, 10])
def test_losses_scores_and_slopes_are_those_of_ops(run, spread, N, M, others):
    """Of a whole batch in which `others` have twice as many real pictures and as many fakes."""
    logits, all_N, all_M = spread * normal(1, N + M), max(1, N + 2 * others), M + others
    found = run(
        "blocks", "losses", 1, logits=logits, N=N, M=M, all_N=all_N, all_M=all_M, found=empty(4),
        D=empty(N + M), G=empty(M), dbias=empty(1),
    )  # fmt: skip
    real, fake = (part[:, None].astype(np.float64) for part in (logits[:N], logits[N:]))

    def part(x, target, count):
        """Its part in the mean of `count` numbers, and the slopes."""
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
    assert found["D"] == pytest.approx(np.concatenate(slopes[1:]), rel=1e-5, abs=1e-9)
    assert found["G"] == pytest.approx(slopes[0], rel=1e-5, abs=1e-9)
    assert found["dbias"] == pytest.approx(sum(s.sum() for s in slopes[1:]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("count", [1, 256, 1000])
def test_adam_is_that_of_optim(run, count):
    w, g, m, v = normal(1, count), normal(2, count), normal(3, count), normal(4, count) ** 2
    parameter = Tensor(w.astype(np.float64))
    lr = np.where(np.arange(count) < count // 2, 0.01, 0.03)
    adam = Adam({"w": parameter}, lr=0.01, beta1=0.7, beta2=0.9, eps=1e-3)
    adam.m["w"], adam.v["w"], adam.t = m.astype(np.float64), v.astype(np.float64), 4
    adam.step([g.astype(np.float64)])
    rate = np.array([0.01, 0.03], np.float32) * np.float32(np.sqrt(1 - 0.9**5) / (1 - 0.7**5))
    given = {
        "w": w, "g": g, "m": m, "v": v, "count": count, "of_G": count // 2, "rate": rate, "beta1": 0.7,
        "beta2": 0.9, "left1": 1 - 0.7, "left2": 1 - 0.9, "eps": 1e-3, "clock": np.array([7, 3]),
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
        ({3: 1e20}, (1, 2), 3),
        ({3: 1e18}, (1, 2), 1000),
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
        "flat", "check_finite", 1000, g=g, count=1000, found=just, measured=measured, measured_rows=4,
        clock=np.array([7, 3]), trouble=np.array([1000, 0], np.int32),
    )  # fmt: skip
    assert found["trouble"].tolist() == [at, 0]
    assert found["measured"][2].tobytes() == just.tobytes()  # the row of step 7
    assert np.isnan(np.delete(found["measured"], 2, axis=0)).all()


@pytest.mark.parametrize(("step", "d"), [(8, 2 / 11), (24, 4 / 13), (8000, 0.9), (9, 1), (7, 1)])
@pytest.mark.parametrize("count", [1, 1000])
def test_average_is_that_of_the_readable_engine(run, count, step, d):
    a, w = normal(1, count), normal(2, count)
    found = run(
        "flat", "average", count, a=a, w=w, count=count, clock=np.array([step, 3]), every=8, decay=0.9
    )["a"]
    assert found == pytest.approx(d * a + (1 - d) * w, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000, 50_176, 3_211_264])
@pytest.mark.parametrize("C", [1, 32, 33, 64, 12_544])
def test_chunks_cover_all_rows_and_no_chunk_is_empty(rows, C):
    count, each = chunks(rows, C)
    assert count * each >= rows > (count - 1) * each
    blocks = count * -(-C // 32)
    assert blocks <= max(1024, -(-C // 32)) and (blocks > 500 or rows / count <= 64)
