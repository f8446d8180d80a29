"""A run that goes on ends with the bits of one never stopped; and everything saved is needed for that."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.runs import checkpoint
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import trainer

ENGINES = ("readable", "fast")
SETTINGS = Settings(size=8, width=2, noise_dim=5, batch_size=8, lr=1e-3, average=0.1)
DATA = Dataset("noise", np.random.default_rng(1).integers(0, 256, (19, 8, 8, 1), dtype=np.uint8), "nowhere")
STEPS = 9  # three epochs of 8, 8 and 3 images; the average moves at step 8
MOVED = 8  # by now every array has


def go(state: State, steps: int, engine: str, settings: Settings = SETTINGS) -> State:
    taking = trainer(state, DATA, settings, cpu(engine))
    for measured in taking.steps(steps):
        state.sums += measured
        state.step += 1
    taking.close()
    return state


def ended(state: State) -> str:
    return checkpoint.content_digest(state.arrays(), {})


@pytest.fixture(scope="module", params=ENGINES)
def whole(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An engine, and the digest of what a run without a stop ends with on it."""
    return request.param, ended(go(State(SETTINGS, cpu(request.param)), STEPS, request.param))


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_run_resumed_after_any_step_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[str, str], stop: int
) -> None:
    engine, expected = whole
    file = tmp_path / "it.npz"
    checkpoint.save(file, go(State(SETTINGS, cpu(engine)), stop, engine).arrays(), {})
    resumed = State(SETTINGS, cpu(engine))
    resumed.restore(checkpoint.read(file)[0], file)
    assert ended(go(resumed, STEPS - stop, engine)) == expected


def test_leaving_out_any_one_of_the_saved_arrays_shows(tmp_path: Path, whole: tuple[str, str]) -> None:
    """The control: another run's start in the place of one of the arrays changes the end."""
    engine, expected = whole
    arrays = go(State(SETTINGS, cpu(engine)), MOVED, engine).arrays()
    arrays = {name: array.copy() for name, array in arrays.items()}  # some are the living ones
    other = State(replace(SETTINGS, seed=1), cpu(engine)).arrays()
    unseen = []
    for left_out in arrays:
        resumed = State(SETTINGS, cpu(engine))
        resumed.restore(arrays | {left_out: other[left_out].copy()}, tmp_path)
        if ended(go(resumed, STEPS - MOVED, engine)) == expected:
            unseen.append(left_out)
    assert unseen == [] and len(arrays) > 60


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 2e-3}, {"beta1": 0.6}, {"average": 0.05}])
def test_leaving_out_any_one_of_the_saved_settings_shows(
    tmp_path: Path, whole: tuple[str, str], change: dict[str, float]
) -> None:
    engine, expected = whole
    settings = replace(SETTINGS, **change)
    resumed = State(settings, cpu(engine))
    resumed.restore(go(State(SETTINGS, cpu(engine)), 4, engine).arrays(), tmp_path)
    assert ended(go(resumed, STEPS - 4, engine, settings)) != expected
