"""The fast training step against the readable one, step by step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.checks import numbers, relative_error
from tests.fast.checks import (
    NOISE,
    PLANS,
    Game,
    batch,
    force_plan,
    masks,
    play,
    same_state,
    streams,
)
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
    LeakyReLU,
    Network,
    Reshape,
    Tanh,
)
from tinygan.optim import Adam
from tinygan.rng import stream
from tinygan.step import AS_A_WHOLE, BY_OPS, Measured, Step


@pytest.fixture
def fused(monkeypatch):
    """Nothing may fall back to the functions of gan.py, neither the whole run nor a single batch."""

    def fail(*arguments):
        pytest.fail("fell back to gan.py")

    monkeypatch.setattr(Game, "WHOLE", True)
    monkeypatch.setattr(fast_gan, "gan", SimpleNamespace(losses_and_gradients=fail))


def compare(**settings: Any) -> None:
    """Everything after some steps in float64, on both engines; `settings` are those of `play`."""
    (found, measured), (expected, others) = (play(engine, **settings) for engine in ("fast", "readable"))
    for f, e in zip(measured, others, strict=True):
        for name, a, b in zip(Measured._fields, f, e, strict=True):
            assert a.shape == () and a.dtype == np.float64 and abs(a - b) < 1e-12, name
    same_state(found, expected, 1e-11)


@pytest.mark.parametrize("sources", ["masks", "masks of numbers", "streams"])
@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (28, 1), (28, 3)])
def test_five_steps_equal_the_readable_ones(fused, size, channels, sources):
    compare(steps=5, size=size, channels=channels, sources=sources)


@pytest.mark.parametrize(("N", "M"), [(1, 1), (2, 2), (1, 6), (3, 7), (7, 3), (16, 16), (40, 64)])
def test_whole_and_partial_batches_equal_the_readable_ones(fused, N, M):
    compare(steps=5, N=N, M=M)


@pytest.mark.parametrize(("size", "width", "N"), [(8, 16, 64), (28, 4, 16), (64, 2, 3)])
def test_other_widths_and_sizes_equal_the_readable_ones(fused, size, width, N):
    compare(size=size, width=width, N=N, M=N, steps=2)


@pytest.mark.parametrize("piece", [threads.PIECE, 300])
@pytest.mark.parametrize("kind", PLANS)
def test_every_plan_serves_every_layer_in_one_piece_or_many(fused, monkeypatch, kind, piece):
    force_plan(monkeypatch, kind)
    monkeypatch.setattr(threads, "PIECE", piece)
    compare(size=12, channels=2, width=3, N=4, M=6, steps=3)


@pytest.mark.parametrize("kind", PLANS)
def test_float32_gradients_are_right_to_rounding(fused, monkeypatch, kind):
    """One step: m is a tenth of the gradient, v a thousandth of its square. (The weights would not do:
    Adam's first steps are nearly the gradient's sign, whatever its size.)"""
    force_plan(monkeypatch, kind)
    single, double = Game("fast", 16, 3, 4, "f"), Game("readable", 16, 3, 4)
    for net, other in ((single.G, double.G), (single.D, double.D)):
        for tensor, exact in zip(net.parameters.values(), other.parameters.values(), strict=True):
            exact.data = tensor.data.astype(float)
    images, noise = batch(0, 16, 3, 12, 16, "f")
    sources = masks(0, 0, 16, 4, 12), masks(0, 1, 16, 4, 16)
    single.step(images, noise, *sources)
    double.step(images.astype(float), noise.astype(float), *sources)
    found, expected = single.state(), double.state()
    for name in found:
        if name.endswith(("/m", "/v")):
            assert relative_error(found[name], expected[name]) < 5e-6, name


def test_float32_losses_stay_with_the_readable_ones_over_five_steps(fused):
    settings: dict[str, Any] = {"steps": 5, "N": 16, "M": 16, "sources": "streams", "size": 28, "dtype": "f"}
    found, expected = (np.array(play(engine, **settings)[1]) for engine in ("fast", "readable"))
    assert found.dtype == expected.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("sources", ["masks", "masks of numbers", "streams"])
def test_float32_stays_float32(fused, sources):
    game, measured = play("fast", sources=sources, dtype="f")
    assert {array.dtype for array in game.state().values()} == {np.dtype(np.float32)}
    assert {number.dtype for step in measured for number in step} == {np.dtype(np.float32)}


def test_nothing_that_was_given_is_changed(fused):
    game, (images, noise) = Game("fast"), batch(0, 8, 1, 4, 6, "d")
    real, fake = masks(0, 0, 8, 2, 4), masks(0, 1, 8, 2, 6)
    given = [images, noise, *real, *fake]
    tensors = [*game.G.parameters.values(), *game.D.parameters.values(), *game.G.statistics.values()]
    held = [tensor.data for tensor in tensors]
    before = [array.tobytes() for array in (*given, *held)]
    game.step(images, noise, real, fake)
    assert [array.tobytes() for array in (*given, *held)] == before
    assert all((tensor.data != old).any() for tensor, old in zip(tensors, held, strict=True))


def test_read_only_and_strided_batches_serve_as_well(fused):
    games = Game("fast"), Game("fast")
    for game, copied in zip(games, (True, False), strict=True):
        wide, long = np.tanh(numbers(1, 8, 8, 16, 3)), numbers(2, 5, 2 * NOISE)
        images, noise = wide[::2, :, ::-2, 1:2], long[::-1, ::2]
        if copied:
            images, noise = images.copy(), noise.copy()
        for array in (images, noise):
            array.setflags(write=False)
        game.step(images, noise, streams(0, 0), streams(0, 1))
    same_state(*games, 1e-12)


def test_sources_may_be_one_endless_iterator_for_both_passes(fused):
    games = Game("fast"), Game("readable")
    for game in games:
        endless = stream(3, "dropout").split()
        game.step(*batch(0, 8, 1, 4, 4, "d"), endless, endless)
    same_state(*games, 1e-12)


def test_no_more_sources_are_taken_than_there_are_layers(fused):
    real, fake = stream(3, "dropout").at(0).split(), stream(3, "dropout").at(1).split()
    Game("fast").step(*batch(0, 8, 1, 4, 4, "d"), real, fake)
    assert next(real).path == (3, 0, 2) and next(fake).path == (3, 1, 2)


def test_the_optimizers_may_name_the_parameters_as_they_like():
    games = Game("fast"), Game("readable")
    for game in games:
        game.adam_D = Adam({f"critic {name}": p for name, p in game.D.parameters.items()})
        game.adam_G = Adam({f"maker {name}": p for name, p in game.G.parameters.items()})
    check_outcome(games, lambda t: (*batch(t, 8, 1, 4, 6, "d"), streams(t, 0), streams(t, 1)))


def test_an_optimizer_of_some_parameters_only_is_refused_as_by_the_readable_step():
    for game in (Game("fast"), Game("readable")):
        game.adam_D = Adam(dict(list(game.D.parameters.items())[:3]))
        with pytest.raises(ValueError):
            game.step(IMAGES, NOISES, REAL, FAKE)


def test_parameters_in_another_order_in_memory_are_trained_just_as_well(fused):
    games = Game("fast"), Game("readable")
    for game in games:
        for tensor in (*game.G.parameters.values(), *game.D.parameters.values()):
            tensor.data = np.asfortranarray(tensor.data)
        game.play(game.G, game.D)  # so that the averages have that order, too
    check_outcome(games, lambda t: (*batch(t, 8, 1, 4, 6, "d"), streams(t, 0), streams(t, 1)))


def test_blas_does_not_get_its_threads_back_before_the_step_is_over(fused, monkeypatch):
    """Once woken, they go on turning for milliseconds and take the cores from the pool."""
    game, given = Game("fast"), (*batch(0, 8, 1, 4, 6, "d"), streams(0, 0), streams(0, 1))
    game.step(*given)  # the networks' shapes are known from now on
    counts: list[int] = []
    monkeypatch.setattr(threads, "limit_blas_threads", lambda count: counts.append(count) or True)
    monkeypatch.setattr(threads.POOL, "_threads", 3)
    game.step(*given)
    assert counts[-1] == 3 and set(counts[:-1]) == {1}


# What it does not know, it leaves to the readable step: the same result, or the same error.


def new(engine: str, dtype: Any = "d") -> Init:
    return Init(stream(9, "init"), cpu(engine), np.dtype(dtype))


def maker(
    engine: str, *, slope: float = 0.3, bias: bool = False, side: int = 2, channels: int = 1
) -> Network:
    n = new(engine)
    return Network("generator", (NOISE,), [
        Dense(n, NOISE, side * side * 6, bias=bias), BatchNorm(n, side * side * 6), LeakyReLU(slope),
        Reshape(side, side, 6),
        Conv2DTranspose(n, 6, 4, kernel=3, stride=2, bias=False), BatchNorm(n, 4), LeakyReLU(slope),
        Conv2DTranspose(n, 4, channels, kernel=4, stride=2, bias=bias), Tanh(),
    ])  # fmt: skip


def critic(
    engine: str, *, rate: float = 0.3, slope: float = 0.3, outputs: int = 1, bias: bool = True
) -> Network:
    n = new(engine)
    return Network("discriminator", (8, 8, 1), [
        Conv2D(n, 1, 3, kernel=4, stride=2, bias=bias), LeakyReLU(slope), Dropout(rate),
        Conv2D(n, 3, 4, kernel=3, stride=1, bias=bias), LeakyReLU(), Dropout(rate),
        Reshape(4 * 4 * 4), Dense(n, 4 * 4 * 4, outputs),
    ])  # fmt: skip


class Softer(LeakyReLU):
    """Another activation under a known name."""

    def __call__(self, x: Any, mode: Any) -> Any:
        return super().__call__(super().__call__(x, mode), mode)


def small_maker(engine: str) -> Network:
    """One convolution, of one stage."""
    n = new(engine)
    return Network("generator", (NOISE,), [
        Dense(n, NOISE, 4 * 4 * 2, bias=False), BatchNorm(n, 4 * 4 * 2), LeakyReLU(), Reshape(4, 4, 2),
        Conv2DTranspose(n, 2, 1, kernel=2, stride=2, bias=False), Tanh(),
    ])  # fmt: skip


def tall_critic(engine: str) -> Network:
    """Three stages, whose pictures are cut into pieces of different sizes."""
    n = new(engine)
    return Network("discriminator", (8, 8, 1), [
        Conv2D(n, 1, 3, kernel=3, stride=1), LeakyReLU(), Dropout(0.2),
        Conv2D(n, 3, 2, kernel=5, stride=2), LeakyReLU(), Dropout(0.4),
        Conv2D(n, 2, 60, kernel=3, stride=2), LeakyReLU(), Dropout(0.3), Reshape(240), Dense(n, 240, 1),
    ])  # fmt: skip


def small_critic(engine: str) -> Network:
    n = new(engine)
    layers = [Conv2D(n, 1, 2, kernel=5, stride=3), LeakyReLU(), Dropout(0.2), Reshape(18), Dense(n, 18, 1)]
    return Network("discriminator", (8, 8, 1), layers)


def dense_critic(engine: str) -> Network:
    n = new(engine)
    return Network("discriminator", (8, 8, 1), [Reshape(64), Dense(n, 64, 1)])


def softer_critic(engine: str) -> Network:
    n = new(engine)
    layers = [Conv2D(n, 1, 2, kernel=5, stride=2), Softer(), Dropout(0.2), Reshape(32), Dense(n, 32, 1)]
    return Network("discriminator", (8, 8, 1), layers)


def normed_critic(engine: str) -> Network:
    n = new(engine)
    layers = [Conv2D(n, 1, 2, kernel=5, stride=2), BatchNorm(n, 2), Reshape(32), Dense(n, 32, 1)]
    return Network("discriminator", (8, 8, 1), layers)


def dense_maker(engine: str) -> Network:
    n = new(engine)
    return Network("generator", (NOISE,), [Dense(n, NOISE, 64), Tanh(), Reshape(8, 8, 1)])


def outcome(game: Game, steps: int, given: Any) -> Any:
    """What the steps measured, or the error and its text."""
    try:
        return [game.step(*given(t)) for t in range(steps)]
    except Exception as error:
        return type(error), str(error)


def check_outcome(games: tuple[Game, Game], given: Any, steps: int = 3) -> Any:
    found, expected = (outcome(game, steps, given) for game in games)
    assert type(found) is type(expected), (found, expected)
    if isinstance(expected, tuple):
        assert found == expected
    else:
        np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-11)
        assert [[x.dtype for x in step] for step in found] == [[x.dtype for x in step] for step in expected]
    # Some of these gradients are 0 but for rounding, which Adam divides by 1e-7.
    same_state(*games, 1e-9, floor=1.0)
    return expected


NETWORKS: dict[str, tuple[Any, Any]] = {
    "two stages": (maker, critic),
    "one stage": (small_maker, small_critic),
    "three stages": (maker, tall_critic),
    "no convolution in D": (maker, dense_critic),
    "no convolution in G": (dense_maker, critic),
    "biases in G": (lambda engine: maker(engine, bias=True), critic),
    "no biases in D": (maker, lambda engine: critic(engine, bias=False)),
    "a batch norm in D": (maker, normed_critic),
    "a layer of one's own": (maker, softer_critic),
    "ReLUs that rise": (lambda engine: maker(engine, slope=1.5), lambda engine: critic(engine, slope=1.5)),
    "ReLUs that fall": (lambda engine: maker(engine, slope=-0.5), lambda engine: critic(engine, slope=-0.5)),
    "no ReLUs": (lambda engine: maker(engine, slope=1), lambda engine: critic(engine, slope=1)),
    "two logits": (maker, lambda engine: critic(engine, outputs=2)),
    "no dropout": (maker, lambda engine: critic(engine, rate=0)),
    "dropout of nearly all": (maker, lambda engine: critic(engine, rate=0.999)),
    "dropout of all": (maker, lambda engine: critic(engine, rate=1)),
    "dropout below 0": (maker, lambda engine: critic(engine, rate=-0.1)),
    "pictures of another size": (lambda engine: maker(engine, side=4), critic),
    "pictures in color for a D without": (lambda engine: maker(engine, channels=3), critic),
    "pictures of one channel for a D in color": (
        maker,
        lambda engine: models.discriminator(
            size=8, channels=3, width=2, dtype=np.float64, backend=cpu(engine)
        ),
    ),
}


TAKEN_AS_A_WHOLE = {
    "two stages", "one stage", "three stages", "ReLUs that fall", "no ReLUs", "no dropout",
    "dropout of nearly all",
}  # fmt: skip


@pytest.mark.parametrize("networks", ["two stages", "one stage", "three stages"])
@pytest.mark.parametrize("piece", [100, 400, 4000])
def test_any_number_of_stages_is_computed_in_pieces_of_any_size(fused, monkeypatch, networks, piece):
    monkeypatch.setattr(threads, "PIECE", piece)
    force_plan(monkeypatch, "whole")
    games = Game("fast"), Game("readable")
    for game in games:
        game.play(*(make(game.engine) for make in NETWORKS[networks]))
    check_outcome(
        games,
        lambda t: (*batch(t, 8, 1, 4, 6, "d"), *(stream(t, "dropout").at(which).split() for which in (0, 1))),
    )


@pytest.mark.parametrize("networks", NETWORKS)
def test_networks_of_another_kind_are_trained_as_the_readable_step_does(networks):
    games = Game("fast"), Game("readable")
    for game in games:
        game.play(*(make(game.engine) for make in NETWORKS[networks]))
    channels = 3 if "for a D in color" in networks else 1

    def given(t: int) -> Any:
        return (*batch(t, 8, channels, 4, 6, "d"), streams(t, 0), streams(t, 1))

    fast, readable = (Step(game.G, game.D, game.adam_G, game.adam_D, [(4, 6)]) for game in games)
    assert readable.how == BY_OPS
    if networks in TAKEN_AS_A_WHOLE:
        assert fast.how == AS_A_WHOLE
    else:
        assert fast.how.startswith(f"{BY_OPS}: models.py was changed at ")
    check_outcome(games, given)


IMAGES, NOISES = batch(0, 8, 1, 4, 6, "d")
REAL, FAKE = masks(0, 0, 8, 2, 4), masks(0, 1, 8, 2, 6)
BATCHES: dict[str, tuple[Any, ...]] = {
    "no sources": (IMAGES, NOISES, [], []),
    "too few sources": (IMAGES, NOISES, streams(0, 0)[:1], streams(0, 1)),
    "too few for the fakes": (IMAGES, NOISES, streams(0, 0), streams(0, 1)[:1]),
    "an end instead of a source": (IMAGES, NOISES, [*streams(0, 0)[:1], None], streams(0, 1)),
    "an end instead of a mask": (IMAGES, NOISES, REAL, [FAKE[0], None]),
    "masks and streams": (IMAGES, NOISES, REAL, streams(0, 1)),
    "a mask and a stream": (IMAGES, NOISES, [REAL[0], streams(0, 0)[1]], FAKE),
    "a mask of another shape": (IMAGES, NOISES, [REAL[0], REAL[1][:, :1]], FAKE),
    "a mask for another batch": (IMAGES, NOISES, FAKE, FAKE),
    "masks in the wrong order": (IMAGES, NOISES, REAL[::-1], FAKE),
    "masks of other numbers": (IMAGES, NOISES, [2.5 * m for m in REAL], [m.astype(np.uint8) for m in FAKE]),
    "pictures of another size": (np.zeros((4, 12, 12, 1)), NOISES, streams(0, 0), streams(0, 1)),
    "pictures in color": (np.zeros((4, 8, 8, 3)), NOISES, streams(0, 0), streams(0, 1)),
    "one picture without a batch": (IMAGES[0], NOISES, streams(0, 0), streams(0, 1)),
    "noise of another length": (IMAGES, NOISES[:, :3], streams(0, 0), streams(0, 1)),
    "pictures in single precision": (IMAGES.astype("f"), NOISES, streams(0, 0), streams(0, 1)),
    "noise in single precision": (IMAGES, NOISES.astype("f"), streams(0, 0), streams(0, 1)),
    "whole numbers": (IMAGES.astype(int), NOISES, streams(0, 0), streams(0, 1)),
}


@pytest.mark.parametrize("what", BATCHES)
def test_a_batch_of_another_kind_is_treated_as_the_readable_step_does(what):
    check_outcome((Game("fast"), Game("readable")), lambda t: BATCHES[what], steps=1)


@pytest.mark.parametrize("dtypes", ["fd", "df"])
def test_networks_of_two_dtypes_are_refused_as_by_the_readable_step(dtypes):
    games = Game("fast"), Game("readable")
    for game in games:
        g, d = (Game(game.engine, dtype=dtype) for dtype in dtypes)
        game.play(g.G, d.D)
    given = IMAGES.astype(dtypes[1]), NOISES.astype(dtypes[0]), REAL, FAKE
    expected = check_outcome(games, lambda t: given, steps=1)
    assert "float32" in expected[1] and "float64" in expected[1]


@pytest.mark.parametrize("dtype", ["e", "g"])
def test_half_and_extended_precision_are_left_to_the_ops(dtype, monkeypatch):
    calls, right = [], gan.losses_and_gradients

    def counted(*arguments):
        calls.append(1)
        return right(*arguments)

    monkeypatch.setattr(gan, "losses_and_gradients", counted)
    game, _ = play("fast", steps=1, dtype=dtype)
    assert calls == [1]
    assert {array.dtype for array in game.state().values()} == {np.dtype(dtype)}


@pytest.mark.parametrize("missing", ["picture", "noise"])
def test_no_picture_or_no_noise_ends_as_in_the_readable_step(missing):
    given = (IMAGES[:0], NOISES) if missing == "picture" else (IMAGES, NOISES[:0])
    games = Game("fast"), Game("readable")
    check_outcome(games, lambda t: (*given, streams(0, 0), streams(0, 1)), steps=1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of a mean of nothing: as in a run
@pytest.mark.parametrize("missing", ["picture", "noise"])
def test_no_picture_or_no_noise_is_an_error_where_warnings_are_none(missing):
    given = (IMAGES[:0], NOISES) if missing == "picture" else (IMAGES, NOISES[:0])
    found, expected = (
        outcome(Game(engine), 1, lambda t: (*given, streams(0, 0), streams(0, 1)))
        for engine in ("fast", "readable")
    )
    assert found == expected and expected[0] is NonFiniteError
