"""R1: its gradients against finite differences of its value, and the steps that include it."""

import numpy as np
import pytest

from tests.checks import numbers
from tests.game import Game
from tinygan import layers, models
from tinygan.autograd import Tensor
from tinygan.backend import cpu
from tinygan.errors import UsageError
from tinygan.layers import Init, Network
from tinygan.penalty import EVERY, r1, r1_gradients
from tinygan.rng import stream
from tinygan.step import Step


def logit(D: Network, image: np.ndarray) -> float:
    return float(D(Tensor(image[None], D.backend)).data[0, 0])


def by_definition(D: Network, images: np.ndarray) -> float:
    """R1, with the slope at each pixel as a finite difference."""
    squares = 0.0
    for image in images:
        for at in np.ndindex(image.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = image.copy()
                moved[at] += step
                ends.append(logit(D, moved))
            squares += ((ends[0] - ends[1]) / 2e-6) ** 2
    return squares / (2 * len(images))


def discriminator(engine: str) -> Network:
    D = models.discriminator(size=4, channels=3, width=1, dtype=np.float64, backend=cpu(engine))
    for at, tensor in enumerate(D.parameters.values()):
        tensor.data = tensor.data + 0.1 * numbers(at, *tensor.shape)
    return D


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_the_gradients_of_r1_are_differences_of_its_definition(engine: str) -> None:
    D, images = discriminator(engine), np.tanh(numbers(9, 3, 4, 4, 3))
    found = r1_gradients(D, images, 0.7, 3)
    for tensor, gradient in zip(D.parameters.values(), found, strict=True):
        direction, before = numbers(7, *tensor.shape), tensor.data
        ends = []
        for step in (1e-4, -1e-4):
            tensor.data = before + step * direction
            ends.append(0.7 * by_definition(D, images))
        tensor.data = before
        expected = (ends[0] - ends[1]) / 2e-4
        assert (gradient * direction).sum() == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert gradient.dtype == np.float64 and gradient.any() == (tensor.data.ndim > 1)  # biases have none


def test_r1_is_half_the_mean_square_of_the_slopes() -> None:
    D, images = discriminator("readable"), np.tanh(numbers(9, 3, 4, 4, 3))
    assert r1(D, images) == pytest.approx(by_definition(D, images), rel=1e-7)


def test_parts_of_a_batch_add_up() -> None:
    D, images = discriminator("readable"), np.tanh(numbers(9, 5, 4, 4, 3))
    parts = r1_gradients(D, images[:2], 1.0, 5), r1_gradients(D, images[2:], 1.0, 5)
    for whole, *both in zip(r1_gradients(D, images, 1.0, 5), *parts, strict=True):
        assert sum(both) == pytest.approx(whole, rel=1e-12)


def test_a_discriminator_with_another_layer_is_refused_before_any_step() -> None:
    game, init = Game("readable", dtype="d"), Init(stream(0, "init"), cpu("readable"), np.float64)
    curved = [layers.Reshape(64), layers.Dense(init, 64, 2), layers.Tanh(), layers.Dense(init, 2, 1)]
    game.play(game.G, Network("discriminator", (8, 8, 1), curved))
    with pytest.raises(UsageError, match=r"^--penalty does not support D's layer 02_tanh\. Use --pen"):
        Step(*game.players, [(4, 6)], penalty=1.0)


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_every_16th_step_adds_it_to_the_gradients_of_d_only(engine: str) -> None:
    for taken, strength in ((0, EVERY * 0.5), (1, 0), (EVERY - 1, 0), (EVERY, EVERY * 0.5)):
        plain, other = Game(engine, dtype="d"), Game(engine, dtype="d")
        batch = plain.batch(0)
        expected = r1_gradients(plain.D, batch[0], strength, len(batch[0]))
        for game, penalty in ((plain, 0.0), (other, 0.5)):
            game.adam_D.t = taken
            Step(*game.players, [(4, 6)], penalty=penalty).take(*batch)
        for name, gradient in zip(plain.D.parameters, expected, strict=True):  # Adam's m is a tenth of it
            more = (other.adam_D.m[name] - plain.adam_D.m[name]) / (1 - plain.adam_D.beta1)
            assert more == pytest.approx(gradient, rel=1e-9, abs=1e-12), (taken, name)
        assert all((plain.adam_G.m[name] == other.adam_G.m[name]).all() for name in plain.G.parameters)
