"""What is measured of a run, on players made for it, and what is said of the numbers."""

from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tinygan.autograd import Tensor
from tinygan.backend import cpu
from tinygan.data import normalise
from tinygan.data.strokes import strokes
from tinygan.layers import Dense, Init, Layer, LeakyReLU, Mode, Network
from tinygan.models import discriminator, generator
from tinygan.rng import stream
from tinygan.views.health import ASLEEP, CERTAIN, COLLAPSED, DEAD, FOOLED, REPEATED, Health, measure, verdict

N, SIDE = 48, 6


class Does(Layer):
    """A layer that does what a function does."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        assert not mode.training
        return Tensor(self.function(x.data))


def network(function):
    return Network("player", (1,), [Does(function)])


def smooth(seed, count=N):
    """Pictures with large soft shapes, of different kinds, as data has them."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 2, 1))
    return coarse.repeat(3, axis=1).repeat(3, axis=2).astype(np.float32)


def knows_smooth(x):
    """A discriminator's logits: positive for pictures whose neighbours are alike."""
    rough = np.abs(np.diff(x, axis=1)).mean(axis=(1, 2, 3))
    return (8 * (0.35 - rough))[:, None].astype(np.float32)


def knows_nothing(x):
    """Logits of both signs, whatever the pictures are."""
    return np.sin(50 * x.sum(axis=(1, 2, 3)))[:, None]


def measured(fakes, D=knows_smooth, reals=None):
    G, noise = network(lambda noise: fakes.astype(np.float32)), np.zeros((len(fakes), 1), np.float32)
    return measure(G, network(D), smooth(0) if reals is None else reals, noise)


def test_copies_of_the_data_are_healthy():
    health = measured(smooth(0))
    assert health.diversity == pytest.approx(1) and health.real_accuracy == 1 and health.fake_accuracy == 0
    health = measured(smooth(0), knows_nothing)
    assert 0.2 < health.real_accuracy < 0.8 and str(verdict(health)).startswith("healthy")


@pytest.mark.parametrize("pictures", [1, 2, 3, 8, N // 2])
def test_some_pictures_again_and_again_are_a_collapse(pictures):
    """However far apart they are."""
    health = measured(np.resize(smooth(1)[:pictures], (N, SIDE, SIDE, 1)))
    assert health.nearest == 0 and (health.diversity == 0) == (pictures == 1)
    assert verdict(health).words.startswith("samples look alike: mode collapse?") and verdict(health).advice


def test_a_few_digits_with_some_noise_are_distinguished_from_as_many_different_ones():
    """A generator that makes the most of eight pictures changes each a little."""
    digits = normalise(strokes(200, seed=0)[0])
    noise = 0.05 * numbers(0, 64, 28, 28, 1)
    different, few = (
        measured(fakes, knows_nothing, digits[:64])
        for fakes in (digits[64:128], np.resize(digits[64:72], (64, 28, 28, 1)) + noise)
    )
    assert different.nearest == pytest.approx(1, abs=0.1) and verdict(different).words.startswith("healthy")
    assert few.diversity > 2 * COLLAPSED, "the mean distance alone sees nothing"
    assert 0 < few.nearest < REPEATED and verdict(few).words.startswith("samples look alike")


def test_fewer_real_pictures_than_fakes_are_compared_with_as_many():
    """Among many pictures the nearest one is nearer: that is no collapse."""
    assert measured(smooth(1, 1000), reals=smooth(0, 5)).nearest > 0.7
    assert measured(smooth(0, 1), reals=smooth(1, 1)).diversity == 1


def test_noise_is_recognised():
    health = measured(np.random.default_rng(3).uniform(-1, 1, (N, SIDE, SIDE, 1)))
    assert health.real_accuracy == health.fake_accuracy == 1 and health.diversity > 0.9
    assert verdict(health).words == "D is winning: 100 % of fakes are rejected"


def test_a_discriminator_that_says_the_same_of_everything_is_asleep():
    health = measured(smooth(2), lambda x: np.full((len(x), 1), -0.01, np.float32))
    assert max(health.real_spread, health.fake_spread) < 1e-9
    assert verdict(health).words == "D says the same of every picture"


def test_dead_channels_are_counted_in_both_networks():
    init = Init(stream(0, "init"), cpu())
    dense = Dense(init, 1, 4)
    dense.kernel.data[...] = [[1, 1, 1, 1]]
    assert dense.bias
    dense.bias.data[...] = [5, -50, -50, 0.5]  # two of four are never positive
    G = Network("G", (1,), [dense, LeakyReLU(), Does(lambda x: smooth(1))])
    health = measure(G, network(knows_smooth), smooth(0), np.zeros((N, 1), np.float32))
    assert health.dead == 0.5
    D = Network("D", (4,), [LeakyReLU(), Does(lambda x: x[:, :1])])
    G = network(lambda noise: np.array([[1, -1, -1, 1]] * N, np.float32))
    health = measure(G, D, -np.abs(numbers(0, N, 4)).astype(np.float32), np.zeros((N, 1), np.float32))
    assert health.dead == 0.5


def test_real_networks_are_measured_on_every_device(backend):
    G, D = generator(width=4, backend=backend), discriminator(width=4, backend=backend)
    images = backend.array(numbers(0, 8, 28, 28, 1).astype(np.float32))
    found = measure(G, D, images, backend.array(numbers(1, 8, 100).astype(np.float32)))
    assert all(type(number) is float and 0 <= number for number in found) and found.dead < 0.5


GOOD = Health(0.8, 0.8, 0.2, 0.2, 0.9, 0.8, 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "healthy"),
        ({"diversity": COLLAPSED - 0.01}, "samples look alike"),
        ({"real_accuracy": CERTAIN, "fake_accuracy": CERTAIN}, "D is winning"),
        ({"real_accuracy": CERTAIN, "fake_accuracy": CERTAIN - 0.02}, "healthy"),
        ({"nearest": REPEATED - 0.01}, "samples look alike: mode collapse? Nearest ones differ 34 % as much"),
        ({"fake_accuracy": FOOLED}, "G is winning"),
        ({"fake_accuracy": FOOLED, "real_accuracy": FOOLED}, "G is winning"),
        ({"fake_accuracy": 0.0, "real_spread": 0.0, "fake_spread": 0.0}, "D says the same"),
        ({"real_spread": ASLEEP / 2, "fake_spread": ASLEEP / 2}, "D says the same"),
        ({"real_spread": ASLEEP / 2}, "healthy"),
        ({"dead": DEAD + 0.01}, "26 % of the LeakyReLU channels are dead"),
        ({"diversity": 0.1, "fake_accuracy": 1.0, "real_accuracy": 1.0}, "samples look alike"),
    ],
)
def test_the_worst_is_said_first(change, words):
    found = verdict(GOOD._replace(**change))
    assert found.words.startswith(words) and bool(found.advice) == (words != "healthy")
    assert "\n" not in str(found)
