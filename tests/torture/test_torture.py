"""Short versions of the long tests, and controls: each test detects a promise that is broken."""

import os
from pathlib import Path

import pytest

from tests.torture.cost import check_cost, save_cost
from tests.torture.disk import failures
from tests.torture.interrupts import interrupts
from tests.torture.kills import exits, kills
from tests.torture.power import Recorder, power_cuts
from tests.torture.rivals import rivals
from tests.torture.signals import signals
from tests.torture.soak import soak
from tinygan.runs import checkpoint


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_while_saving_loses_nothing(tmp_path: Path) -> None:
    found = kills(tmp_path, 40, 1)
    assert found["lost"] == 0, found["first"]
    assert found["saves"] > 20 and found["with_a_file_half_written"] > 4  # about 90 and 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_ends_before_or_after_any_operation_of_a_save_loses_nothing(tmp_path: Path) -> None:
    found = exits(tmp_path)
    assert found["lost"] == 0, found["first"]
    assert found["before"] == found["after"] == 17  # eight for each of two files, and one that is deleted


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_a_power_cut_while_saving_loses_nothing(tmp_path: Path) -> None:
    found = power_cuts(tmp_path, 200, 1)
    assert found["bad"] == 0, found["first"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX only")
def test_a_run_without_any_one_of_its_syncs_would_be_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, counted, forgotten = Recorder.fsync, 0, 0

    def forgetful(self: Recorder, descriptor: int) -> None:
        nonlocal counted
        counted += 1
        if counted != forgotten:
            sync(self, descriptor)

    monkeypatch.setattr(Recorder, "fsync", forgetful)
    (tmp_path / "0").mkdir()
    assert power_cuts(tmp_path / "0", 0, 1, saves=1)["bad"] == 0
    unseen, syncs = [], counted
    for forgotten in range(1, syncs + 1):
        counted, place = 0, tmp_path / str(forgotten)
        place.mkdir()
        if power_cuts(place, 100, 1, saves=1)["bad"] == 0:
            unseen.append(forgotten)
    # The run's own folder is synced again before anything is promised: with its configuration (6), and its
    # statistics (10).
    assert unseen == [1, 8] and syncs == 12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_save_in_place_would_be_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_place(path, write):  # noqa: ANN001, ANN202
        with open(path.with_name("epoch_0001.npz"), "wb") as file:
            write(file)

    monkeypatch.setattr(checkpoint, "write_atomically", in_place)
    assert kills(tmp_path, 60, 1)["lost"] > 0


@pytest.mark.slow
def test_a_disk_that_fails_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    found = failures(tmp_path, every=12)
    assert found["wrong"] == 0, found["first"]
    assert found["resumed"] >= 5 and found["failures"] >= 12


def test_one_of_two_processes_wins_each_time(tmp_path: Path) -> None:
    found = rivals(tmp_path, 30)
    assert found["one_winner"] == 30 and found["shared_a_number"] == 0, found


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_run_that_is_interrupted_or_killed_resumes_as_if_it_had_not_been(tmp_path: Path) -> None:
    found = signals(tmp_path, 8, 1)  # two of each kind
    assert found["wrong"] == 0, found["first"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_run_that_is_interrupted_while_it_writes_loses_nothing(tmp_path: Path) -> None:
    found = interrupts(tmp_path, every=11)
    assert found["wrong"] == 0, found["first"]
    assert found["resumed"] >= 5 and len(set(found["while_writing"])) >= 5  # kinds of files


@pytest.mark.slow
def test_checking_losses_and_gradients_costs_little() -> None:
    assert check_cost("fast", 5)["percent"] < 2  # about 0.5 if nothing else runs


@pytest.mark.slow
def test_saving_after_every_epoch_costs_less_than_one_percent(tmp_path: Path) -> None:
    assert save_cost(tmp_path, 5)["percent"] < 1  # about 0.2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_long_run_does_not_grow(tmp_path: Path) -> None:
    found = soak(tmp_path, 600, "--no-report")
    # A heap of 77 MB that still grows once, by 3 MB, is not a leak: 600 steps are few.
    assert found["growth_percent"] < 4 and found["measured"] > 10
    assert found["threads"][0] == found["threads"][1] and found["files"][0] == found["files"][1]
