"""The loop: signals are noted, no state that is not finite is saved, each checkpoint writes the report."""

import io
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.commands import TINY, TINY_STEPS, works
from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.errors import NonFiniteError
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import Training, _signals
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import Schedule, trainer

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_stops_at_once(first: int, second: int) -> None:
    def missed(number: int, frame: object) -> None:
        pytest.fail(f"signal {number} was not noted")

    before = {number: signal.signal(number, missed) for number in SIGNALS}
    try:
        with _signals() as received:
            signal.raise_signal(first)
            assert received == [first]
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(second)
            assert stop.value.code == 128 + second
        assert {signal.getsignal(number) for number in SIGNALS} == {missed}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_under_nohup_a_terminal_that_goes_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_array_that_is_not_finite_is_ever_saved(tmp_path: Path, value: float) -> None:
    settings = Settings(size=4, width=1, noise_dim=2, batch_size=2, average=0.5)
    data = Dataset("black", np.zeros((4, 4, 4, 1), np.uint8), "nowhere")
    run, state = RunFolder.create(tmp_path, "run"), State(settings, cpu())
    good, taking = state.arrays(), trainer(state, data)
    training = Training(run, state, data, Schedule(2, 2), taking, Progress(io.StringIO(), 2), print)
    names = [name for name, array in good.items() if array.dtype.kind == "f" and array.size]
    assert len(names) > 60
    for name in names:
        state.arrays = lambda name=name: good | {name: np.full_like(good[name], value)}
        with pytest.raises(NonFiniteError, match=f"{name} is not finite any more. Last good"):
            training.save()
    assert run.checkpoints() == []


def test_every_checkpoint_writes_the_report_of_all_epochs_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def note(run: RunFolder, state: State) -> None:
        shown.append((state.step, len(run.read_stats())))

    monkeypatch.setattr("tinygan.runs.loop.write_report", note)
    works("train", *TINY, "--epochs", 5, "--checkpoint-every", 2, "--no-gif", cwd=tmp_path)
    assert shown == [(epochs * TINY_STEPS, epochs) for epochs in (2, 4, 5)]
