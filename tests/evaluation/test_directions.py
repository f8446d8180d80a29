"""Meaningful directions of the noise, which a report offers as sliders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tests.views.reports import made_up_run, made_up_state
from tinygan import layers
from tinygan.arrays import CPU, Backend
from tinygan.autograd import Tensor
from tinygan.data import normalise
from tinygan.data.strokes import strokes
from tinygan.evaluation.directions import PARALLEL, appearance, directions, features_of, for_report
from tinygan.layers import Dense, Init, Network, Reshape, Tanh
from tinygan.rng import stream
from tinygan.runs.settings import Settings
from tinygan.runs.state import State, pictures_of
from tinygan.views.webpage import write_report


def picture(*columns: float) -> np.ndarray:
    """A picture of 8 rows (1, 8, W, 1), each with these pixels."""
    return np.tile(np.array(columns, np.float32)[:, None], (1, 8, 1, 1))


def small_generator(scale: float = 1.0) -> Network:
    """Noise (3,) -> pictures (8, 8, 1) through one layer of random weights and tanh."""
    G = Network("generator", (3,), [Dense(Init(stream(0, "init"), CPU), 3, 64), Reshape(8, 8, 1), Tanh()])
    G.parameters["00_dense/kernel"].data = (scale * numbers(1, 3, 64)).astype(np.float32)
    G.parameters["00_dense/bias"].data = numbers(2, 64).astype(np.float32)
    return G


def found_in(G: Network, features: Any = appearance) -> list[dict[str, Any]]:
    noise = np.random.default_rng(0).standard_normal((1064, *G.input_shape)).astype(np.float32)
    return directions(G, noise, pictures_of(G, noise[:1000]), features)


# Appearance.


def test_brightness_and_contrast_are_those_of_the_pixels() -> None:
    found = appearance(np.concatenate([picture(1, 1, 1, 1), picture(-1, -1, -1, -1), picture(-1, -1, 1, 1)]))
    assert found["brighter"] == pytest.approx([1, 0, 0.5])
    assert found["more contrast"] == pytest.approx([0, 0, 1])


def test_the_width_of_a_bar_does_not_depend_on_its_position() -> None:
    bars = [picture(*(1 if first <= i < first + 8 else -1 for i in range(32))) for first in (0, 5, 24)]
    assert appearance(np.concatenate(bars))["wider"] == pytest.approx([0.25] * 3, rel=0.01)


def test_light_with_a_mirror_image_is_symmetric() -> None:
    some = [picture(1, 0, 0, 1), picture(1, 1, -1, -1), picture(1, -1, 1, 1)]
    assert appearance(np.concatenate(some))["more symmetric"] == pytest.approx([1, 0, 2 / 3], abs=1e-4)


def test_colours_count_by_their_mean_and_black_pictures_have_an_appearance() -> None:
    red = np.full((1, 4, 4, 3), -1, np.float32)
    assert all(np.isfinite(value).all() for value in appearance(red).values())
    red[..., 0] = 1
    assert appearance(red)["brighter"] == pytest.approx([1 / 3])


# Directions.


def test_a_direction_is_the_mean_gradient_of_its_feature() -> None:
    """By finite differences on the generator, at other noise."""
    G = small_generator(0.3)
    noise = numbers(5, 400, 3).astype(np.float32)
    steps = 0.01 * np.eye(3, dtype=np.float32)
    ends = [[appearance(pictures_of(G, noise + sign * step)) for step in steps] for sign in (1, -1)]
    for one in found_in(G):
        up, down = ([feature[one["name"]].mean() for feature in side] for side in ends)
        gradient = np.subtract(up, down)
        cosine = np.array(one["noise"]) @ gradient / np.linalg.norm(gradient)
        assert cosine > 0.97, one["name"]


def test_before_and_after_are_what_a_push_does() -> None:
    G = small_generator()
    fresh = numbers(6, 500, 3).astype(np.float32)
    found = found_in(G)
    assert found
    for one in found:
        pushed = fresh + 2 * np.array(one["noise"], np.float32)
        for when, noise in (("before", fresh), ("after", pushed)):
            mean = appearance(pictures_of(G, noise))[one["name"]].mean()
            assert float(one[when].removesuffix("%")) == pytest.approx(100 * mean, abs=5)
        assert np.linalg.norm(one["noise"]) == pytest.approx(1, abs=1e-3)


def test_at_most_eight_directions_that_have_an_effect_and_differ() -> None:
    G = small_generator()

    def features(pictures: np.ndarray) -> dict[str, np.ndarray]:
        pixels = (pictures.reshape(len(pictures), -1) + 1) / 2
        many = {f"pixel {i}": pixels[:, i] for i in range(64)} | {"again": pixels[:, 0]}
        return many | {"nothing": np.zeros(len(pixels))}

    found = found_in(G, features)
    names = [one["name"] for one in found]
    assert 1 < len(found) <= 8 and "nothing" not in names
    units = np.array([one["noise"] for one in found])
    assert (np.abs(units @ units.T - np.eye(len(found))) < PARALLEL).all()
    assert all(one["before"] != one["after"] for one in found)
    assert found_in(G, lambda pictures: {"a little": 0.03 * features(pictures)["pixel 0"]}) == []


def test_with_a_classifier_directions_lead_to_classes() -> None:
    """A generator of two numbers: the first fades a 0 into a 1, the second does nothing."""
    images, labels = strokes(100, 0)
    zero, one = (normalise(images[labels == kind][0]).reshape(-1) for kind in (0, 1))
    G = Network("generator", (2,), [Dense(Init(stream(0, "init"), CPU), 2, 784), Reshape(28, 28, 1), Tanh()])
    G.parameters["00_dense/kernel"].data = np.stack([one - zero, 0 * one])
    G.parameters["00_dense/bias"].data = one + zero
    features = features_of(made_up_state(data="strokes", width=2))
    found = found_in(G, lambda pictures: {k: features(pictures)[k] for k in ("towards 0", "towards 1")})
    (only,) = found  # the other one is its opposite
    assert only["noise"][0] * (1 if only["name"] == "towards 1" else -1) > 0.99
    assert int(only["before"][:-1]) < 60 and int(only["after"][:-1]) > 80
    assert features_of(made_up_state(data="somewhere", width=2)) is appearance


def test_directions_are_reproducible() -> None:
    found = for_report(made_up_state(200, width=2, noise_dim=5))
    assert found["directions"] and found == for_report(made_up_state(200, width=2, noise_dim=5))
    assert for_report(made_up_state(199, width=2, noise_dim=5)) == {}


def test_directions_are_the_same_on_any_device_up_to_rounding(backend: Backend) -> None:
    settings = Settings(width=2, noise_dim=3, size=8)
    states = State(settings, backend), State(settings, CPU)
    for state in states:
        state.step = 200
    found, expected = map(for_report, states)
    names = [[one["name"] for one in each["directions"]] for each in (found, expected)]
    assert names[0] == names[1]
    assert found["ranked"]["probabilities"] == pytest.approx(expected["ranked"]["probabilities"], abs=1e-4)


# In the report.


def test_with_a_changed_layer_there_are_no_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.Tanh, "__call__", lambda self, x, mode: Tensor(np.tanh(x.data)))
    found = for_report(made_up_state(200, width=2, noise_dim=5))
    assert found["directions"] == [] and len(found["ranked"]["probabilities"]) == 24


@pytest.mark.parametrize(
    "settings", [{}, {"noise_dim": 1}, {"noise_dim": 2}, {"size": 32, "channels": 3}, {"data": "strokes"}]
)
@pytest.mark.parametrize("step", [0, 5])
def test_what_is_measured_of_any_model_fits_into_its_page(tmp_path: Path, settings: Any, step: int) -> None:
    run, state = made_up_run(tmp_path, 1, **{"width": 2, "noise_dim": 5, **settings})
    if step == 0:
        state = State(state.settings, CPU)  # with the weights of the start
    state.step = 200
    shape = (9, *state.D.input_shape)
    found = for_report(state, np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    assert all(len(one["noise"]) == state.settings.noise_dim for one in found["directions"])
    page = write_report(run, state, found).read_text()
    assert all(f'"name": "{one["name"]}"' in page for one in found["directions"])
    assert found["ranked"]["nearest"]["sprite"] in page and found["ranked"]["of"] == 256
