"""A run on the fast engine that stops and goes on, and one with more threads: bit for bit the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fast.checks import FAST, contents
from tests.test_commands import TINY, tinygan
from tinygan.data import Dataset
from tinygan.fast import gan as fast_gan
from tinygan.fast import threads
from tinygan.fast.threads import POOL
from tinygan.runs import checkpoint
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import trainer
from tinygan.step import AS_A_WHOLE

BATCH = 8
SETTINGS = Settings(size=8, width=2, noise_dim=5, batch_size=BATCH, lr=1e-3)
PICTURES = np.random.default_rng(1).integers(0, 256, (2 * BATCH + 3, 8, 8, 1), dtype=np.uint8)
DATA = Dataset("noise", PICTURES, "nowhere")


@pytest.fixture(autouse=True)
def fused(monkeypatch):
    """Every step is the fast engine's own, and cut into pieces."""
    monkeypatch.setattr(fast_gan, "gan", None)  # so that falling back for a batch fails
    monkeypatch.setattr(threads, "PIECE", 300)


def go(state: State, steps: int) -> State:
    """Take the state's next steps; every third batch is a partial one."""
    taking = trainer(state, DATA, SETTINGS, FAST)
    assert taking.how == AS_A_WHOLE
    for measured in taking.steps(steps):
        state.sums += measured
        state.step += 1
    return state


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_state_that_was_saved_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: int) -> None:
    through = go(State(SETTINGS, FAST), 6)
    checkpoint.save(tmp_path / "it.npz", go(State(SETTINGS, FAST), stop).arrays(), {})
    resumed = State(SETTINGS, FAST)
    resumed.restore(checkpoint.read(tmp_path / "it.npz")[0], tmp_path)
    assert contents(go(resumed, 6 - stop).arrays()) == contents(through.arrays())


def test_two_states_made_from_the_same_arrays_go_their_own_ways(tmp_path: Path) -> None:
    arrays = go(State(SETTINGS, FAST), 2).arrays()
    states = State(SETTINGS, FAST), State(SETTINGS, FAST)
    for state in states:
        state.restore(arrays, tmp_path)
    once = contents(go(states[0], 1).arrays())
    assert contents(go(states[1], 1).arrays()) == once


@pytest.mark.parametrize("count", [2, 4])
def test_a_run_has_the_same_bits_with_any_number_of_threads(count: int) -> None:
    before = POOL.threads
    try:
        found = []
        for threads_then in (1, count):
            POOL.resize(threads_then)
            found.append(contents(go(State(SETTINGS, FAST), 4).arrays()))
    finally:
        POOL.resize(before)
    assert found[0] == found[1]


def final_arrays(cwd: Path) -> dict[str, Any]:
    return checkpoint.read(cwd / "runs/0001-strokes/checkpoints/epoch_0002.npz")[0]


def test_the_command_resumes_bit_for_bit_with_one_thread_or_two(tmp_path: Path) -> None:
    fast = ("--device", "cpu", "--engine", "fast")
    results = []
    for name, count, stop in (("through", 2, None), ("one", 1, None), ("stopped", 2, 4)):
        cwd = tmp_path / name
        cwd.mkdir()
        arguments = (*TINY, *fast, "--epochs", 2, "--threads", count, "--no-gif")
        done = tinygan("train", *arguments, *(("--steps", stop) if stop else ()), cwd=cwd)
        assert done.returncode == 0, done.stderr
        assert f"engine fast, {count} thread" in done.stdout
        if stop:
            done = tinygan("train", "--resume", cwd=cwd)
            assert done.returncode == 0 and "at step 4 of 6" in done.stdout, done.stderr
        results.append(final_arrays(cwd))
    for other in results[1:]:
        assert other.keys() == results[0].keys() and contents(other) == contents(results[0])
