"""The loop: signals are noted, no state that is not finite is saved, each checkpoint writes the report."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.errors import NonFiniteError
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import _save_checkpoint, _signals, train
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import schedule, trainer

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_stops_at_once(first: int, second: int) -> None:
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}  # not those of a shell
    try:
        with _signals() as received:
            signal.raise_signal(first)
            assert received == [first]
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(second)
            assert stop.value.code == 128 + second
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}
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
    good = state.arrays()
    names = [name for name, array in good.items() if array.dtype.kind == "f" and array.size]
    assert len(names) > 60
    for name in names:
        state.arrays = lambda name=name: good | {name: np.full_like(good[name], value)}
        with pytest.raises(NonFiniteError, match=f"{name} is not finite any more; not saved"):
            _save_checkpoint(run, state, data, settings, 2)
    assert run.checkpoints() == []


def test_every_checkpoint_writes_the_report_anew(tmp_path: Path) -> None:
    settings = Settings(epochs=5, checkpoint_every=2, batch_size=4, width=2, noise_dim=5, size=8, no_gif=True)
    data = Dataset("made up", np.zeros((8, 8, 8, 1), np.uint8), "nowhere")
    run, state, steps = RunFolder.create(tmp_path, "made up"), State(settings, cpu()), schedule(settings, 8)
    run.write_config({"settings": {"batch_size": 4}, "data": {"shape": data.images.shape}})
    shown = []  # the last epoch on the page when an epoch ends, before it is saved

    def epochs_on_the_page() -> int:
        found = re.search(r'type="application/json">(.*?)</script>', run.report_path.read_text())
        assert found
        return len(json.loads(found[1])["stats"])

    def report(*lines: str) -> None:
        if " done " in lines[0]:
            shown.append(epochs_on_the_page() if run.report_path.exists() else None)

    taking = trainer(state, data, settings, cpu())
    train(run, state, data, settings, taking, Progress(io.StringIO(), steps.total_steps), report)
    assert shown == [None, None, 2, 2, 4] and epochs_on_the_page() == 5
