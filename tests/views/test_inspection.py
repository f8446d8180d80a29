"""The measurements of layers, against values worked out by hand or in another way."""

from typing import Any

import numpy as np
import pytest

from tinygan.autograd import no_grad
from tinygan.backend import Backend, choose
from tinygan.data import Dataset
from tinygan.data.strokes import strokes
from tinygan.gan import generator_loss
from tinygan.rng import stream
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import Batch, StepByStep
from tinygan.views.inspection import layer_facts, table

DATA = Dataset("strokes", strokes(40, 0)[0], "made up")


def made(engine: str = "readable", **settings: Any) -> tuple[State, Batch]:
    chosen = Settings(data="strokes", **{"batch_size": 16, "width": 4, "noise_dim": 6, **settings})
    backend: Backend = choose("cpu", engine, lambda line: None)
    state = State(chosen, backend)
    return state, StepByStep(state, DATA).batch()


def test_the_tutorials_networks_need_the_multiply_adds_counted_by_hand() -> None:
    """51.7 and 10.35 million per image, 40.1 of them in the first transposed convolution."""
    state, batch = made(width=64, noise_dim=100, batch_size=1)
    in_G, in_D = layer_facts(state, batch)
    assert [at.products for at in in_G if at.products] == [1_254_400, 40_140_800, 10_035_200, 313_600]
    assert sum(at.products for at in in_D) == 10_355_072
    assert sum(at.numbers for at in in_G) == 2_330_944 and sum(at.numbers for at in in_D) == 212_865


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_the_measurements_are_those_of_the_batch(engine: str) -> None:
    state, batch = made(engine)
    in_G, in_D = layer_facts(state, batch)
    assert [at.name for at in in_G] == list(state.G.layers)
    fresh, batch = made(engine)
    pictures = fresh.G(batch.noise, training=True).data
    assert in_G[-1].mean == pytest.approx(pictures.mean(), abs=1e-6)
    assert in_G[-1].spread == pytest.approx(pictures.std(), rel=1e-5)
    assert in_D[1].dead is not None and 0 <= in_D[1].dead <= 1
    assert all(at.forward_ms >= 0 and at.backward_ms >= 0 for at in (*in_G, *in_D))


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    """Of G's loss with respect to the fakes, by differences in float32: good to a percent or two."""
    state, batch = made()
    (*_, tanh), _ = layer_facts(state, batch)
    fresh, batch = made()
    fakes = fresh.G(batch.noise, training=True).data
    masks = stream(0, "dropout")

    def loss_at(pictures: np.ndarray) -> float:
        with no_grad():
            return float(generator_loss(fresh.D(pictures, training=True, masks=masks.at(1).split())))

    rng, slopes = np.random.default_rng(0), []
    for _ in range(200):
        direction = rng.standard_normal(fakes.shape).astype(np.float32)
        ahead, behind = loss_at(fakes + 0.05 * direction), loss_at(fakes - 0.05 * direction)
        slopes.append((ahead - behind) / 0.1)
    # Over random directions, the slope's standard deviation is the norm of the gradient.
    length = np.hypot(tanh.slope_mean, tanh.slope_spread) * np.sqrt(fakes.size)
    assert np.std(slopes) == pytest.approx(length, rel=0.2)


def test_the_gradient_of_a_logit_is_the_answer_minus_the_target() -> None:
    state, batch = made()
    _, (*_, logit) = layer_facts(state, batch)
    fresh, batch = made()
    masks = stream(0, "dropout").at(2).split()
    logits = fresh.D(batch.images, training=True, masks=masks).data.astype(np.float64)
    slopes = (1 / (1 + np.exp(-logits)) - 1) / len(logits)
    assert logit.slope_mean == pytest.approx(slopes.mean(), rel=1e-4)
    assert logit.slope_spread == pytest.approx(slopes.std(), rel=1e-3)


def test_dead_channels_are_counted() -> None:
    state, batch = made()
    state.D.parameters["00_conv/bias"].data[:3] = -1e3  # three of four channels
    _, in_D = layer_facts(state, batch)
    assert in_D[1].dead == 0.75 and in_D[0].dead is None


def test_a_layer_says_how_and_where_it_is_computed() -> None:
    state, batch = made("fast", width=32, batch_size=40)
    (_, _, _, _, conv, *_), _ = layer_facts(state, batch)
    assert conv.how.startswith("frequencies: 121 products")
    assert conv.how.endswith(" of the cost of direct convolution")
    assert conv.where.startswith("tinygan/fast/conv.py:") and ", tinygan/fast/frequencies.py:" in conv.where
    narrow, batch = made("fast", width=4, batch_size=1)
    (_, _, _, _, conv, *_, last, _), _ = layer_facts(narrow, batch)
    assert conv.how == "its definition, since frequencies would cost more for this layer alone"
    assert conv.where.startswith("tinygan/ops/conv.py:")
    assert last.how.startswith("direct: 25 products") and "times as much" in last.how
    readable, batch = made("readable", width=32, batch_size=40)
    (dense, _, _, _, conv, *_), _ = layer_facts(readable, batch)
    assert dense.how.startswith("y = x w + b.") and dense.where.startswith("tinygan/ops/dense.py:")
    assert conv.where.startswith("tinygan/ops/conv.py:")


def test_the_table_has_two_lines_a_layer() -> None:
    state, batch = made()
    facts, _ = layer_facts(state, batch)
    lines = table(state.G, facts)
    assert len(lines) == 2 + 2 * len(facts)
    assert lines[1].startswith("00_dense") and "[tinygan/ops/dense.py:" in lines[2]
    assert lines[-1].startswith("total") and f"{sum(at.products for at in facts):,}" in lines[-1]
