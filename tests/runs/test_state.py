"""The averaged generator of a run: it follows all that is trained, is kept, and is what paints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fast.checks import contents
from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.errors import CheckpointError
from tinygan.runs import checkpoint
from tinygan.runs.settings import Settings
from tinygan.runs.state import State, load
from tinygan.runs.training import trainer

SETTINGS = Settings(size=8, width=2, noise_dim=5, batch_size=8, lr=1e-2, average=0.9)
DATA = Dataset("noise", np.random.default_rng(1).integers(0, 256, (19, 8, 8, 1), dtype=np.uint8), "nowhere")
TENSORS = 16  # weights and running statistics of a generator


def go(state: State, steps: int, settings: Settings = SETTINGS) -> State:
    for _ in trainer(state, DATA, settings, cpu()).steps(steps):
        state.step += 1
    return state


def test_the_average_starts_where_training_does_and_follows_every_weight_and_statistic() -> None:
    state = State(SETTINGS, cpu())
    start, expected = state.weights(), {}
    taking = trainer(state, DATA, SETTINGS, cpu())
    for t, d in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        taking.steps(8)
        now = state.weights()
        for name in now:
            if name.startswith("generator/"):
                own = name.replace("generator", "average")
                before = expected.get(own, start[name])
                expected[own] = d * before.astype(float) + (1 - d) * now[name]
                assert np.allclose(now[own], expected[own], rtol=1e-5, atol=1e-6), (t, name)
                assert now[own].dtype == np.float32
    assert len(expected) == TENSORS
    assert np.abs(now["average/00_dense/kernel"] - now["generator/00_dense/kernel"]).max() > 1e-3


def test_both_adams_have_the_settings() -> None:
    for lr_d, expected in ((None, 0.1), (0.4, 0.4)):
        state = State(replace(SETTINGS, lr=0.1, lr_d=lr_d, beta1=0.2, beta2=0.3), cpu())
        for adam, lr in ((state.adam_G, 0.1), (state.adam_D, expected)):
            assert (adam.lr, adam.beta1, adam.beta2) == (lr, 0.2, 0.3)


def test_averaging_does_not_change_the_training() -> None:
    averaged, plain = go(State(SETTINGS, cpu()), 20), State(replace(SETTINGS, average=0.0), cpu())
    go(plain, 20, replace(SETTINGS, average=0.0))
    ours, theirs = averaged.weights(), plain.weights()
    assert len(ours) == len(theirs) + TENSORS
    assert all((ours[name] == theirs[name]).all() for name in theirs)


@pytest.mark.parametrize("stop", [3, 8, 13])
def test_an_averaged_state_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: int) -> None:
    through = go(State(SETTINGS, cpu()), 20)
    checkpoint.save(tmp_path / "it.npz", go(State(SETTINGS, cpu()), stop).arrays(), {})
    resumed = State(SETTINGS, cpu())
    resumed.restore(checkpoint.read(tmp_path / "it.npz")[0], tmp_path)
    assert contents(go(resumed, 20 - stop).arrays()) == contents(through.arrays())


def test_the_averaged_generator_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    state = go(State(SETTINGS, cpu()), 16)
    meta = {"settings": vars(SETTINGS), "data_sha256": DATA.sha256}
    checkpoint.save(tmp_path / "it.npz", state.arrays(), meta)
    trained = load(tmp_path / "it.npz")
    weights = trained.G.parameters["00_dense/kernel"].data
    assert (weights == state.weights()["average/00_dense/kernel"]).all()


def test_a_checkpoint_without_the_average_is_refused(tmp_path: Path) -> None:
    plain = State(replace(SETTINGS, average=0.0), cpu()).arrays()
    with pytest.raises(CheckpointError, match="average/00_dense/kernel"):
        State(SETTINGS, cpu()).restore(plain, tmp_path)
