"""Signals while a training runs: the first is noted, the second obeyed at once."""

from __future__ import annotations

import os
import signal

import pytest

from tinygan.runs.training import _signals


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
