"""Health: what is measured, on networks made for the test, and the verdicts on the numbers."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks import verdicts
from tests.checks import numbers
from tests.commands import ROOT
from tinygan.autograd import Tensor
from tinygan.backend import cpu
from tinygan.data import normalise
from tinygan.data.strokes import strokes
from tinygan.layers import Dense, Init, Layer, LeakyReLU, Mode, Network
from tinygan.models import discriminator, generator
from tinygan.rng import stream
from tinygan.runs.settings import RECIPES, Settings, new_settings
from tinygan.views.health import (
    CERTAIN,
    COLLAPSED,
    DEAD,
    LEADING,
    PART,
    REPEATED,
    RISING,
    RUNAWAY,
    Health,
    measure,
    verdict,
)  # fmt: skip

N, SIDE = 48, 6


class Apply(Layer):
    """A layer that applies a function."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        assert not mode.training
        return Tensor(self.function(x.data))


def network(function):
    return Network("player", (1,), [Apply(function)])


def smooth(seed, count=N):
    """Pictures with large soft shapes, each different, like real data."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 2, 1))
    return coarse.repeat(3, axis=1).repeat(3, axis=2).astype(np.float32)


def knows_smooth(x):
    """A discriminator's logits: positive for pictures whose neighbouring pixels are alike."""
    rough = np.abs(np.diff(x, axis=1)).mean(axis=(1, 2, 3))
    return (8 * (0.35 - rough))[:, None].astype(np.float32)


def knows_nothing(x):
    """Logits of both signs, unrelated to the pictures."""
    return np.sin(50 * x.sum(axis=(1, 2, 3)))[:, None]


def measured(fakes, D=knows_smooth, reals=None):
    G, noise = network(lambda noise: fakes.astype(np.float32)), np.zeros((len(fakes), 1), np.float32)
    return measure(G, network(D), smooth(0) if reals is None else reals, noise)


def test_pictures_like_the_data_are_healthy():
    health = measured(smooth(0))
    assert health.diversity == pytest.approx(1) and health.real_accuracy == 1 and health.fake_accuracy == 0
    health = measured(smooth(4), knows_nothing)
    assert 0.2 < health.real_accuracy < 0.8 and verdict_on(health).kind == "healthy"


@pytest.mark.parametrize("pictures", [1, 2, 3, 8, N // 2])
def test_a_few_repeated_pictures_are_a_collapse(pictures):
    """However far apart they are."""
    health = measured(np.resize(smooth(1)[:pictures], (N, SIDE, SIDE, 1)))
    assert health.nearest == 0 and (health.diversity == 0) == (pictures == 1)
    found = verdict_on(health)
    assert found.words.startswith("samples look alike: mode collapse?") and found.advice


def test_a_few_digits_with_noise_are_distinguished_from_many_different_ones():
    """Like a generator that varies eight pictures slightly."""
    digits = normalise(strokes(200, seed=0)[0])
    noise = 0.05 * numbers(0, 64, 28, 28, 1)
    different, few = (
        measured(fakes, knows_nothing, digits[:64])
        for fakes in (digits[64:128], np.resize(digits[64:72], (64, 28, 28, 1)) + noise)
    )
    assert different.nearest == pytest.approx(1, abs=0.1) and verdict_on(different).kind == "healthy"
    assert few.diversity > 2 * COLLAPSED, "the mean distance alone sees nothing"
    assert 0 < few.nearest < REPEATED and verdict_on(few).kind == "collapse"


def test_real_pictures_are_compared_with_equally_many_fakes():
    """With more pictures, nearest neighbours are closer: that is not a collapse."""
    assert measured(smooth(1, 1000), reals=smooth(0, 5)).nearest > 0.7
    assert measured(smooth(0, 1), reals=smooth(1, 1)).diversity == 1


def test_noise_is_recognised():
    health = measured(np.random.default_rng(3).uniform(-1, 1, (N, SIDE, SIDE, 1)))
    assert health.real_accuracy == health.fake_accuracy == 1 and health.diversity > 0.9


def test_a_discriminator_with_constant_answers_has_no_spread():
    health = measured(smooth(2), lambda x: np.full((len(x), 1), -0.01, np.float32))
    assert max(health.real_spread, health.fake_spread) < 1e-9


def test_identical_real_pictures_are_noticed():
    assert verdict_on(measured(smooth(2), reals=np.ones((N, SIDE, SIDE, 1), np.float32))).kind == "blank"


def test_measuring_in_parts_gives_the_same_result(monkeypatch):
    """No layer mixes the examples of a batch, and all parts count."""
    G, D = generator(width=4), discriminator(width=4)
    images = numbers(0, 2 * PART + 7, 28, 28, 1).astype(np.float32)
    noise = numbers(1, 2 * PART + 7, 100).astype(np.float32)
    in_parts = measure(G, D, images, noise)
    monkeypatch.setattr("tinygan.views.health.PART", 10_000)
    assert measure(G, D, images, noise) == pytest.approx(in_parts, abs=1e-6)


def test_a_channel_that_any_part_makes_positive_is_alive(monkeypatch):
    monkeypatch.setattr("tinygan.views.health.PART", 2)
    D = Network("D", (2,), [LeakyReLU(), Apply(lambda x: x[:, :1])])
    images = np.full((5, 2), -1, np.float32)
    images[4, 0] = 1
    assert measure(network(lambda noise: images), D, images, np.zeros((5, 1), np.float32)).dead == 0.5


def test_dead_channels_are_counted_in_both_networks():
    init = Init(stream(0, "init"), cpu())
    dense = Dense(init, 1, 4)
    dense.kernel.data[...] = [[1, 1, 1, 1]]
    assert dense.bias
    dense.bias.data[...] = [5, -50, -50, 0.5]  # two of four are never positive
    G = Network("G", (1,), [dense, LeakyReLU(), Apply(lambda x: smooth(1))])
    health = measure(G, network(knows_smooth), smooth(0), np.zeros((N, 1), np.float32))
    assert health.dead == 0.5
    D = Network("D", (4,), [LeakyReLU(), Apply(lambda x: x[:, :1])])
    G = network(lambda noise: np.array([[1, -1, -1, 1]] * N, np.float32))
    health = measure(G, D, -np.abs(numbers(0, N, 4)).astype(np.float32), np.zeros((N, 1), np.float32))
    assert health.dead == 0.5


def test_real_networks_are_measured_on_every_device(backend):
    G, D = generator(width=4, backend=backend), discriminator(width=4, backend=backend)
    images = backend.array(numbers(0, 8, 28, 28, 1).astype(np.float32))
    found = measure(G, D, images, backend.array(numbers(1, 8, 100).astype(np.float32)))
    assert all(type(number) is float and 0 <= number for number in found) and found.dead < 0.5


GOOD = Health(0.8, 0.8, 0.2, 0.2, 0.9, 0.8, 0.0)
MEANS = {"g_loss": 0.8, "d_loss": 1.3, "real_score": 0.55, "fake_score": 0.45}
BEATEN: dict[str, Any] = {"d_loss": CERTAIN - 0.01, "real_score": 0.99, "fake_score": 0.02}
QUICK = new_settings({"recipe": "quick"})


def row(epoch: int, *, steps: int = 300, **change: Any) -> dict[str, Any]:
    health = {name: change.get(name, number) for name, number in GOOD._asdict().items()}
    means = {name: change.get(name, number) for name, number in MEANS.items()}
    return {"epoch": epoch, "step": epoch * steps, **means, "health": health}


def verdict_on(health):
    """The verdict on two epochs with these measurements."""
    return verdict([row(epoch, **health._asdict()) for epoch in (1, 2)], QUICK)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, "healthy"),
        ({"diversity": COLLAPSED - 0.01}, "collapse"),
        ({"nearest": REPEATED - 0.01}, "collapse"),
        (BEATEN, "D"),
        ({**BEATEN, "g_loss": RUNAWAY + 1}, "unstable"),
        ({"g_loss": 2_170_066.0, "d_loss": 0.0, "real_score": 1.0, "fake_score": 0.0}, "unstable"),
        ({"d_loss": 2.0}, "unstable"),
        ({"real_score": 0.4, "fake_score": 0.41 + LEADING}, "G"),
        ({"dead": DEAD + 0.01}, "dead"),
        ({"dead": DEAD + 0.01, "diversity": 0.1}, "dead"),
        ({"diversity": 0.1, **BEATEN}, "D"),
        ({"diversity": 0.1, "real_score": 0.4, "fake_score": 0.6}, "G"),
        ({"diversity": 1.0, "nearest": 1.0}, "blank"),
        ({"real_accuracy": 1.0, "fake_accuracy": 0.0}, "healthy"),  # only a bias of D
    ],
)
def test_causes_come_before_symptoms(change, kind):
    found = verdict([row(1, **change), row(2, **change)], QUICK)
    assert found.kind == kind and bool(found.advice) == (kind != "healthy")
    assert "\n" not in str(found)


def test_one_epoch_or_few_steps_are_too_early_for_a_symptom():
    alike = {"diversity": 0.1, "nearest": 0.1}
    assert verdict([row(1, steps=3000, **alike)], QUICK).words == (
        "too early to say: a verdict takes 300 steps and two epochs; see epoch 2"
    )
    rows = [row(epoch, steps=60, **alike) for epoch in range(1, 6)]
    kinds = [verdict(rows[:end], QUICK).kind for end in range(1, 6)]
    assert kinds == ["early", "early", "early", "early", "collapse"]
    assert verdict(rows[:1], QUICK).words.endswith("see epoch 5")
    assert verdict(rows[:1], replace(QUICK, epochs=4)).words.endswith("train for 5 epochs in all")


def test_a_smaller_learning_rate_means_a_later_verdict():
    rows = [row(1), row(2)]  # 600 steps
    assert verdict(rows, new_settings({"recipe": "seed"})).kind == "healthy"
    assert verdict(rows, new_settings({"lr": 5e-5})).kind == "early"
    assert verdict([row(1, steps=90), row(2, steps=90)], new_settings({"recipe": "best"})).kind == "early"


def test_pictures_that_become_varied_or_just_were_are_not_a_collapse():
    low, high = 0.5 * COLLAPSED, (0.5 + 2 * RISING) * COLLAPSED
    for before, after, kind in ((low, high, "early"), (high, low, "collapse"), (0.9, low, "early")):
        assert verdict([row(1, diversity=before), row(2, diversity=after)], QUICK).kind == kind
    stays = [row(n, diversity=0.9 if n == 1 else low) for n in (1, 2, 3)]
    assert verdict(stays, QUICK).kind == "collapse"


def test_short_epochs_are_evaluated_together():
    """D is winning only if it has been ahead for 100 steps."""
    rows = [row(n, steps=1, **(BEATEN if n > 350 else {})) for n in range(1, 461)]
    assert [verdict(rows[:end], QUICK).kind for end in (360, 449, 450)] == ["healthy", "healthy", "D"]


def test_an_unstable_run_stays_unstable_until_it_is_calm():
    rows = [row(1, d_loss=3.0), row(2), row(3)]
    assert [verdict(rows[:end], QUICK).kind for end in (1, 2, 3)] == ["unstable", "unstable", "healthy"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_advice_fits_the_settings(recipe):
    settings = new_settings({"recipe": recipe})
    changes: list[dict[str, Any]] = [{"d_loss": 3.0}, BEATEN, {"nearest": 0.1}]
    advice = [verdict([row(1, **change), row(2, **change)], settings).advice for change in changes]
    assert f"--lr below {settings.lr:g}" in advice[0]
    assert f"--lr-d below {settings.lr_d or settings.lr:g}" in advice[1]
    assert all(("--recipe best" in text) == (settings.recipe != "best") for text in advice)


def test_a_batch_of_one_is_named_as_the_cause():
    found = verdict([row(1, diversity=0.1)], Settings(batch_size=1))
    assert found.words.startswith("batches of one picture") and "--batch-size" in found.advice


@pytest.mark.parametrize("damage", [{"health": 7}, {"health": {}}, {"g_loss": "low"}, {"g_loss": None}])
def test_unusable_rows_are_left_out(damage):
    """Rows of an older version, or edited ones. Only the epochs after them count."""
    spoilt = {**row(1), **damage}
    assert verdict([spoilt, row(2)], QUICK).kind == "early"
    assert verdict([spoilt, row(2), row(3)], QUICK).kind == "healthy"


RECORDED = json.loads((ROOT / "benchmarks/results/verdicts.json").read_text())["runs"]


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_runs_get_the_recorded_verdicts(name):
    run = RECORDED[name]
    compared = verdicts.compared(name, run)
    assert compared == run, "python -m benchmarks.verdicts --json writes them anew"
    assert compared["new_wrong"] == 0


def test_at_least_twelve_runs_are_recorded_and_the_old_rules_were_often_wrong():
    assert set(RECORDED) == set(verdicts.CASES) and len(RECORDED) >= 12
    assert sum(run["old_wrong"] for run in RECORDED.values()) > 40
