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
from tinygan.runs.loop import Training, _signals
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import schedule, trainer


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_stops_at_once(second: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with _signals() as received:
        signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]
        with pytest.raises(SystemExit) as stop:
            signal.raise_signal(second)
        assert stop.value.code == 128 + second
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_array_that_is_not_finite_is_ever_saved(tmp_path: Path, value: float) -> None:
    settings = Settings(size=4, width=1, noise_dim=2, batch_size=2, average=0.5)
    data = Dataset("black", np.zeros((4, 4, 4, 1), np.uint8), "nowhere")
    run, state = RunFolder.create(tmp_path, "run"), State(settings, cpu())
    good, taking = state.arrays(), trainer(state, data, settings, cpu())
    training = Training(run, state, data, settings, taking, Progress(io.StringIO(), 2), print)
    names = [name for name, array in good.items() if array.dtype.kind == "f" and array.size]
    assert len(names) > 60
    for name in names:
        state.arrays = lambda name=name: good | {name: np.full_like(good[name], value)}
        with pytest.raises(NonFiniteError, match=f"{name} is not finite any more; not saved"):
            training.save()
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
    progress = Progress(io.StringIO(), steps.total_steps)
    Training(run, state, data, settings, taking, progress, report).complete()
    assert shown == [None, None, 2, 2, 4] and epochs_on_the_page() == 5
