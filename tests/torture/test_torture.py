"""Short versions of the long tests; and that each of them notices when its promise is broken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.torture.disk import failures
from tests.torture.kills import kills
from tests.torture.power import Recorder, power_cuts
from tests.torture.rivals import rivals
from tests.torture.signals import signals
from tests.torture.soak import soak
from tinygan.runs import checkpoint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_while_saving_loses_nothing(tmp_path: Path) -> None:
    found = kills(tmp_path, 40, 1)
    assert found["lost"] == 0, found["first"]
    assert found["saves"] > 20


def test_a_power_cut_while_saving_loses_nothing(tmp_path: Path) -> None:
    found = power_cuts(tmp_path, 200, 1)
    assert found["bad"] == 0, found["first"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_save_without_one_of_its_syncs_would_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sync = Recorder.fsync

    def forgetful(self: Recorder, descriptor: tuple[str, object]) -> None:
        if descriptor[0] != kind:
            sync(self, descriptor)

    monkeypatch.setattr(Recorder, "fsync", forgetful)
    assert power_cuts(tmp_path, 200, 1)["bad"] > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_save_in_place_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(path, write):  # noqa: ANN001, ANN202
        with open(path.with_name("epoch_0001.npz"), "wb") as file:
            write(file)

    monkeypatch.setattr(checkpoint, "write_atomically", in_place)
    assert kills(tmp_path, 60, 1)["lost"] > 0


def test_a_disk_that_fails_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    found = failures(tmp_path, every=12)
    assert found["wrong"] == 0, found["first"]
    assert found["resumed"] >= 5 and found["failures"] >= 12


def test_of_two_processes_one_wins_each_time(tmp_path: Path) -> None:
    found = rivals(tmp_path, 30)
    assert found["one_winner"] == 30 and found["shared_a_number"] == 0, found


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_run_that_is_interrupted_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    found = signals(tmp_path, 6, 1)
    assert found["wrong"] == 0, found["first"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc")
def test_a_long_run_takes_no_more_and_more(tmp_path: Path) -> None:
    found = soak(tmp_path, 600, "--no-report")
    assert found["growth_percent"] < 1 and found["measured"] > 10
    assert found["threads"][0] == found["threads"][1] and found["files"][0] == found["files"][1]
