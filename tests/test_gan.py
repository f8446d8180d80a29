"""The training step: losses at the start, repeatability, dtypes, order."""

from math import log

import numpy as np
import pytest

from tests.checks import arrays_in, spied
from tests.game import Game
from tinygan import gan, models
from tinygan.autograd import Tensor, grad
from tinygan.data import normalise
from tinygan.data.strokes import strokes
from tinygan.optim import Adam
from tinygan.rng import stream


def test_first_losses_are_near_those_of_a_discriminator_that_guesses(readable):
    game = Game(readable)
    game.play(models.generator(width=16, backend=readable), models.discriminator(width=16, backend=readable))
    _, noise, real_masks, fake_masks = game.batch(0, 16, 16)
    images = readable.array(normalise(strokes(16, 0)[0]))
    step = game.take((images, noise, real_masks, fake_masks))
    assert float(step.discriminator_loss) == pytest.approx(2 * log(2), abs=0.15)
    assert float(step.generator_loss) == pytest.approx(log(2), abs=0.1)
    assert float(step.real_score) == pytest.approx(0.5, abs=0.1)
    assert float(step.fake_score) == pytest.approx(0.5, abs=0.1)


def test_losses_are_those_of_goodfellow_et_al():
    real, fake = np.array([[2.0], [-1.0]]), np.array([[0.5], [3.0], [-2.0]])
    p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    d_loss = gan.discriminator_loss(Tensor(real), Tensor(fake))
    assert float(d_loss) == pytest.approx(-np.log(p_real).mean() - np.log(1 - p_fake).mean(), rel=1e-14)
    assert float(gan.generator_loss(Tensor(fake))) == pytest.approx(-np.log(p_fake).mean(), rel=1e-14)


def flat(found):
    """Every array that a step returned."""
    return list(arrays_in([x.data if isinstance(x, Tensor) else x for x in found]))


def test_five_steps_are_reproducible_bit_for_bit_and_change_every_array(readable):
    one, other, third = Game(readable), Game(readable), Game(readable)
    start = one.bytes()
    for t in range(5):
        batch = one.batch(t)
        found, again, measured = one.step(batch), other.step(batch), third.take(batch)
        assert [a.tobytes() for a in flat(found)] == [a.tobytes() for a in flat(again)]
        assert all(np.isfinite(readable.numpy(a)).all() for a in flat(found))
        assert measured.generator_loss == found.g_loss.data
        assert measured.discriminator_loss == found.d_loss.data
    assert one.bytes() == other.bytes() == third.bytes()
    assert all(start[name] != value for name, value in one.bytes().items())


def test_losses_and_gradients_alone_move_no_weight(readable):
    game = Game(readable)
    before = game.bytes()
    found = gan.losses_and_gradients(game.G, game.D, *game.batch(0, N=3, M=4))
    after = game.bytes()
    assert {name for name in before if before[name] != after[name]} == {
        f"generator/{name}" for name in game.G.statistics
    }  # they have seen the fakes
    assert game.adam_G.t == game.adam_D.t == 0
    assert [found.fakes.shape, found.real_logits.shape, found.fake_logits.shape] == [
        (4, 8, 8, 1), (3, 1), (4, 1)
    ]  # fmt: skip
    assert found.d_loss.shape == found.g_loss.shape == ()
    for network, gradients in ((game.D, found.d_gradients), (game.G, found.g_gradients)):
        assert [g.shape for g in gradients] == [p.shape for p in network.parameters.values()]


def test_every_array_of_a_training_step_is_float32(readable):
    seen = []

    def spy(name, direction, what):
        for array in arrays_in(what):
            seen.append((name, direction, array.dtype))

    game = Game(spied(readable, spy))
    found = [*flat(game.step(game.batch(0))), *game.take(game.batch(1))]
    for name, direction, dtype in seen:
        assert dtype in (np.float32, np.bool_), (name, direction, dtype)
    assert {(name, direction) for name, direction, _ in seen} >= {
        ("conv2d_transpose", "forward"), ("conv2d_transpose", "backward"), ("dropout", "backward"),
    }  # fmt: skip
    for name, array in game.state().items():
        assert array.dtype == np.float32, name
    assert {array.dtype for array in found} == {np.dtype(np.float32)}
    noise = stream(0, "noise").normal((3, 5))
    assert noise.dtype == np.float32 and gan.generate(game.G, readable.array(noise)).dtype == np.float32


def test_generated_pictures_do_not_depend_on_batch_size_and_change_nothing(readable):
    game = Game(readable, size=28)
    game.step(game.batch(0))
    before, noise = game.bytes(), readable.array(stream(0, "samples").normal((7, 5)))
    together = gan.generate(game.G, noise)
    assert together.shape == (7, 28, 28, 1) and abs(together).max() <= 1
    for batch_size in (1, 3, 7, 1000):
        assert abs(gan.generate(game.G, noise, batch_size) - together).max() < 1e-6
    assert game.bytes() == before


def test_no_noise_gives_no_pictures(readable):
    noise = readable.array(np.zeros((0, 5), np.float32))
    assert gan.generate(Game(readable).G, noise).shape == (0, 8, 8, 1)


@pytest.mark.parametrize("M", [3, 5])
def test_losses_and_scores_are_means_over_n_real_and_over_m_fake_pictures(readable, M):
    game = Game(readable)
    images, noise, real_masks, fake_masks = game.batch(0, 3, M)
    real = readable.numpy(game.D(images, training=True, masks=real_masks).data).astype(float)
    fakes = game.G(noise, training=True)
    fake = readable.numpy(game.D(fakes, training=True, masks=fake_masks).data).astype(float)
    assert (len(real), len(fake)) == (3, M)
    step = game.take((images, noise, real_masks, fake_masks))
    expected = np.log1p(np.exp(-real)).mean() + np.log1p(np.exp(fake)).mean()
    assert float(step.discriminator_loss) == pytest.approx(expected, rel=1e-5)
    assert float(step.generator_loss) == pytest.approx(np.log1p(np.exp(-fake)).mean(), rel=1e-5)
    assert float(step.real_score) == pytest.approx((1 / (1 + np.exp(-real))).mean(), rel=1e-5)
    assert float(step.fake_score) == pytest.approx((1 / (1 + np.exp(-fake))).mean(), rel=1e-5)


def test_running_statistics_see_the_fakes_once_a_step(readable):
    game = Game(readable)
    batch = game.batch(0)
    noise, kernel = map(readable.numpy, (batch[1], game.G.parameters["00_dense/kernel"].data))
    features = noise.astype(float) @ kernel.astype(float)
    game.step(batch)
    found = readable.numpy(game.G.statistics["01_batchnorm/running_mean"].data)
    assert np.abs(found - 0.01 * features.mean(axis=0)).max() < 1e-7
    found = readable.numpy(game.G.statistics["01_batchnorm/running_variance"].data)
    assert np.abs(found - (0.99 + 0.01 * features.var(axis=0))).max() < 1e-6


@pytest.mark.parametrize("way", [Game.step, Game.take])
def test_both_gradients_are_taken_before_either_network_moves(readable, monkeypatch, way):
    events, game = [], Game(readable)
    monkeypatch.setattr(gan, "grad", lambda *args: (events.append("grad"), grad(*args))[1])
    monkeypatch.setattr(Adam, "step", lambda self, gradients: events.append("step"))
    way(game, game.batch(0))
    assert events == ["grad", "grad", "step", "step"]


def test_fakes_have_separate_dropout_masks(readable):
    def after(real, fake):
        game = Game(readable)
        images, noise, *_ = game.batch(0)
        masks = [stream(0, "dropout").at(0, which).split() for which in (real, fake)]
        game.step((images, noise, masks[0], masks[1]))
        return game.bytes()

    assert after(0, 1) != after(0, 2) and after(0, 1) != after(2, 1)
