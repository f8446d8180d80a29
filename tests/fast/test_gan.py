"""The fast training step against the readable one, step by step."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.checks import numbers, relative_error
from tests.fast.checks import PLANS, force_plan, play, same_state
from tests.game import Game
from tinygan import gan, models
from tinygan.backend import cpu
from tinygan.errors import NonFiniteError
from tinygan.fast import gan as fast_gan
from tinygan.fast import threads
from tinygan.layers import (
    BatchNorm,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Dropout,
    Init,
    Layer,
    LeakyReLU,
    Network,
    Reshape,
    Tanh,
)
from tinygan.rng import stream
from tinygan.step import Measured


@pytest.fixture
def fused(monkeypatch):
    """Neither the run nor a single batch may fall back to the functions of gan.py."""

    def fail(*arguments):
        pytest.fail("fell back to gan.py")

    monkeypatch.setattr(Game, "WHOLE", True)
    monkeypatch.setattr(fast_gan, "gan", SimpleNamespace(losses_and_gradients=fail))


def compare(**settings: Any) -> None:
    """Compare all arrays and measurements of both engines after some steps in float64 (see `play`)."""
    (found, measured), (expected, others) = (play(engine, **settings) for engine in ("fast", "readable"))
    for f, e in zip(measured, others, strict=True):
        for name, a, b in zip(Measured._fields, f, e, strict=True):
            assert a.shape == () and a.dtype == np.float64 and abs(a - b) < 1e-12, name
    same_state(found, expected, 1e-11)


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 28, "channels": 1},
        {"size": 16, "channels": 3},
        *({"N": N, "M": M} for N, M in ((1, 1), (1, 6), (7, 3), (40, 64))),
        {"size": 8, "width": 16, "N": 64, "M": 64, "steps": 2},
        {"size": 28, "width": 4, "N": 16, "M": 16, "steps": 2},
        {"size": 64, "width": 2, "N": 3, "M": 3, "steps": 2},
    ],
    ids=str,
)
def test_steps_equal_the_readable_ones(fused, settings):
    compare(**settings)


@pytest.mark.parametrize("piece", [threads.PIECE, 300])
@pytest.mark.parametrize("kind", PLANS)
def test_every_plan_serves_every_layer_in_one_piece_or_many(fused, monkeypatch, kind, piece):
    force_plan(monkeypatch, kind)
    monkeypatch.setattr(threads, "PIECE", piece)
    compare(size=12, channels=2, width=3)


@pytest.mark.parametrize("kind", PLANS)
def test_float32_gradients_are_right_to_rounding(fused, monkeypatch, kind):
    """After one step m is a tenth of the gradient, v a thousandth of its square. (The weights do not help:
    Adam's first steps are nearly the gradient's sign, at any size.)"""
    force_plan(monkeypatch, kind)
    single, double = Game("fast", 16, 3, 4), Game("readable", 16, 3, 4, "d")
    for net, other in ((single.G, double.G), (single.D, double.D)):
        for tensor, exact in zip(net.parameters.values(), other.parameters.values(), strict=True):
            exact.data = tensor.data.astype(float)
    images, noise, *sources = single.batch(0, 12, 16)
    measured = single.take((images, noise, *sources))
    double.take((images.astype(float), noise.astype(float), *sources))
    found, expected = single.state(), double.state()
    assert {array.dtype for array in (*measured, *found.values())} == {np.dtype(np.float32)}
    for name in found:
        if name.endswith(("/m", "/v")):
            assert relative_error(found[name], expected[name]) < 5e-6, name


@pytest.mark.parametrize("N", [4, 3])  # with and without a plan
def test_its_fakes_and_logits_equal_those_of_the_definition(N):
    fast, readable = Game("fast", dtype="d"), Game("readable", dtype="d")
    found = fast_gan.FusedStep(fast.G, fast.D, [(4, 6)]).losses_and_gradients(*fast.batch(0, N))
    expected = gan.losses_and_gradients(readable.G, readable.D, *readable.batch(0, N))
    for f, e in zip(found[:5], expected[:5], strict=True):
        assert np.abs(f.data - e.data).max() < 1e-12


def test_weights_can_have_any_memory_order(fused):
    found, expected = Game("fast", dtype="d"), Game("readable", dtype="d")
    for tensor in (*found.G.parameters.values(), *found.D.parameters.values()):
        tensor.data = np.asfortranarray(tensor.data)
    for game in (found, expected):
        game.take(game.batch(0))
    same_state(found, expected, 1e-11)


def test_inputs_are_not_changed(fused):
    game = Game("fast")
    images, noise, real, fake = game.batch(0)
    given = [images, noise]
    tensors = [*game.G.parameters.values(), *game.D.parameters.values(), *game.G.statistics.values()]
    held = [tensor.data for tensor in tensors]
    before = [array.tobytes() for array in (*given, *held)]
    game.take((images, noise, real, fake))
    assert [array.tobytes() for array in (*given, *held)] == before
    assert all((tensor.data != old).any() for tensor, old in zip(tensors, held, strict=True))


def test_read_only_and_strided_batches_work(fused):
    games = Game("fast", dtype="d"), Game("fast", dtype="d")
    for game, copied in zip(games, (True, False), strict=True):
        _, _, *sources = game.batch(0)
        wide, long = np.tanh(numbers(1, 8, 8, 16, 3)), numbers(2, 5, 10)
        images, noise = wide[::2, :, ::-2, 1:2], long[::-1, ::2]
        if copied:
            images, noise = images.copy(), noise.copy()
        for array in (images, noise):
            array.setflags(write=False)
        game.take((images, noise, *sources))
    same_state(*games, 1e-12)


def test_it_takes_no_more_mask_streams_than_there_are_layers(fused):
    game, endless = Game("fast"), stream(3, "dropout").split()
    game.take((*game.batch(0)[:2], endless, endless))
    assert next(endless).path == (3, 4)


def test_blas_does_not_get_its_threads_back_before_the_step_is_over(fused, monkeypatch):
    """Once awake, they spin for milliseconds and take the cores from the pool."""
    game = Game("fast")
    game.take(game.batch(0))  # from now on the networks' shapes are known
    counts: list[int] = []
    monkeypatch.setattr(threads, "limit_blas_threads", lambda count: counts.append(count) or True)
    monkeypatch.setattr(threads, "blas_threads", lambda: 3)
    game.take(game.batch(1))
    assert counts[-1] == 3 and set(counts[:-1]) == {1}


# Other networks, as a reader might write them in models.py.


def maker(engine: str = "fast", *, slope: float = 0.3, bias: bool = False, channels: int = 1) -> list[Layer]:
    n = Init(stream(9, "init"), cpu(engine), np.dtype("d"))
    return [
        Dense(n, 5, 24, bias=bias), BatchNorm(n, 24), LeakyReLU(slope), Reshape(2, 2, 6),
        Conv2DTranspose(n, 6, 4, kernel=3, stride=2, bias=False), BatchNorm(n, 4), LeakyReLU(slope),
        Conv2DTranspose(n, 4, channels, kernel=4, stride=2, bias=False), Tanh(),
    ]  # fmt: skip


def critic(
    engine: str = "fast", *, rate: float = 0.4, slope: float = 0.3, outputs: int = 1, bias: bool = True
) -> list[Layer]:
    """Three stages with pictures of different sizes."""
    n = Init(stream(8, "init"), cpu(engine), np.dtype("d"))
    return [
        Conv2D(n, 1, 3, kernel=3, stride=1, bias=bias), LeakyReLU(slope), Dropout(0.2),
        Conv2D(n, 3, 2, kernel=5, stride=2), LeakyReLU(), Dropout(rate),
        Conv2D(n, 2, 60, kernel=3, stride=2), LeakyReLU(), Dropout(0.3),
        Reshape(240), Dense(n, 240, outputs),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("slope", "rate", "piece"), [(0.3, 0.4, 100), (0.3, 0.4, 400), (0, 0.4, 400), (1, 0, 400)]
)
def test_other_stages_slopes_and_rates_are_right_in_pieces_of_any_size(
    fused, monkeypatch, slope, rate, piece
):
    monkeypatch.setattr(threads, "PIECE", piece)
    force_plan(monkeypatch, "whole")
    games = Game("fast"), Game("readable")
    for game in games:
        engine = game.backend.engine
        game.play(
            Network("generator", (5,), maker(engine, slope=slope)),
            Network("discriminator", (8, 8, 1), critic(engine, slope=slope, rate=rate)),
        )
        for t in range(3):
            game.take(game.batch(t))
    # Some of these gradients are 0 except for rounding, which Adam divides by 1e-7.
    same_state(*games, 1e-9, floor=1.0)


class Softer(LeakyReLU):
    """Another activation under a known name."""


RELU = LeakyReLU()


@pytest.mark.parametrize(
    ("for_G", "for_D", "at"),
    [
        (maker(), critic(), ""),
        (maker(bias=True), critic(), "generator/00_dense"),
        (maker(slope=1.5), critic(), "generator/02_leaky_relu"),  # it is not max(x, 1.5 x)
        (maker(), critic(slope=-0.5), "discriminator/01_leaky_relu"),
        (maker(channels=3), critic(), "discriminator"),  # it takes grey pictures
        (maker(), critic(bias=False), "discriminator/00_conv"),
        (maker(), critic()[-2:], "discriminator/00_reshape"),
        (maker(), [critic()[0], Softer(), *critic()[2:]], "discriminator/01_leaky_relu"),
        (maker(), [*critic()[:2], LeakyReLU(), *critic()[2:]], "discriminator/02_leaky_relu"),
        (maker(), critic(rate=1), "discriminator/05_dropout"),
        (maker(), critic(rate=-0.1), "discriminator/05_dropout"),
        (maker(), [critic()[0], RELU, *critic()[2:4], RELU, *critic()[5:]], "discriminator"),  # RELU twice
        (maker(), critic(outputs=2), "discriminator"),
    ],
)
def test_the_layer_that_it_cannot_compute_is_named(for_G, for_D, at):
    G, D = Network("generator", (5,), for_G), Network("discriminator", (8, 8, 1), for_D)
    assert fast_gan.unfit(G, D) == (f"models.py was changed at {at}" if at else "")


@pytest.mark.parametrize("dtypes", ["fd", "df", "ee", "gg"])
def test_other_dtypes_are_left_to_the_ops(dtypes):
    G = models.generator(size=8, width=2, dtype=dtypes[0])
    D = models.discriminator(size=8, width=2, dtype=dtypes[1])
    assert fast_gan.unfit(G, D) == "the weights are neither all float32 nor all float64"


IMAGES, NOISE, *STREAMS = Game(dtype="d").batch(0)
KEPT = (4, 4, 2), (2, 2, 4)  # the shapes of D's maps
REAL, FAKE = (
    [source.keep((N, *shape), 0.3) for source, shape in zip(some, KEPT, strict=True)]
    for some, N in zip(STREAMS, (len(IMAGES), len(NOISE)), strict=True)
)


def outcome(game: Game, given: tuple[Any, Any, Any, Any]) -> Any:
    """The step's measurements, or the error and its text."""
    try:
        return game.take(given)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((IMAGES, NOISE, STREAMS[0], STREAMS[1][:1]), id="too few sources"),
        pytest.param((IMAGES, NOISE, REAL, FAKE), id="masks"),
        pytest.param((IMAGES, NOISE, [REAL[0], STREAMS[0][1]], STREAMS[1]), id="a mask and a stream"),
        pytest.param((IMAGES, NOISE, [REAL[0], REAL[1][:, :1]], FAKE), id="a mask of another shape"),
        pytest.param((IMAGES[:, :4], NOISE, *STREAMS), id="pictures of another size"),
        pytest.param((IMAGES.astype("f"), NOISE, *STREAMS), id="pictures in single precision"),
        pytest.param((IMAGES, NOISE[:, :3], *STREAMS), id="noise of another length"),
    ],
)
def test_a_batch_that_does_not_fit_gives_the_results_of_the_readable_step(given):
    games = Game("fast", dtype="d"), Game("readable", dtype="d")
    found, expected = (outcome(game, given) for game in games)
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, Measured):
        assert np.array(found) == pytest.approx(np.array(expected), rel=1e-11)
    else:
        assert found == expected
    same_state(*games, 1e-9, floor=1.0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the mean of no numbers, as in a run
def test_a_batch_without_pictures_is_an_error_as_in_the_readable_step():
    given = (IMAGES[:0], NOISE, *STREAMS)
    found, expected = (outcome(Game(engine, dtype="d"), given) for engine in ("fast", "readable"))
    assert found == expected and expected[0] is NonFiniteError
