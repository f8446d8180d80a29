"""``python -m benchmarks.ranks`` at a tiny size, with real processes."""

import json
import subprocess
import sys

import pytest

from benchmarks import ranks
from tests.ranks.launch import ROOT, needs_mpi
from tinygan import models
from tinygan.errors import TinyganError, UsageError
from tinygan.runs.settings import Settings

SIZE, WIDTH = 8, 4


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    file = tmp_path_factory.mktemp("ranks") / "r.json"
    options = ["--batch", "8", "--rounds", "2", "--size", str(SIZE), "--width", str(WIDTH)]
    # Runs in a separate small process: a child's peak memory starts from its parent's.
    code = "import sys; from benchmarks import competitors as c, ranks; c.SECONDS_A_TURN = 0.1; "
    command = [sys.executable, "-c", code + "ranks.main(sys.argv[1:])", "--ranks", "1x1,2x1", *options]
    result = subprocess.run([*command, "--json", file], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout, json.loads(file.read_text())


@needs_mpi
def test_every_number_that_is_summed_is_counted(measured):
    sums = measured[1]["configurations"]["2x1"]["sums"]
    networks = models.generator(size=SIZE, width=WIDTH), models.discriminator(size=SIZE, width=WIDTH)
    weights = sum(p.data.size for network in networks for p in network.parameters.values())
    assert sums["gradients"]["bytes"] == 4 * (weights + 4)  # the scores and their counts travel with them
    # C channels give sums and a count and then squares in the forward pass, and two sums and a count in the
    # backward pass. Each of the three means in the losses gives a sum and a count.
    channels = (SIZE // 4) ** 2 * 4 * WIDTH, 2 * WIDTH, WIDTH
    assert sums["statistics"]["bytes"] == sum(4 * (C + 1 + C + 2 * C + 1) for C in channels) + 3 * 4 * 2
    assert (sums["gradients"]["calls"], sums["statistics"]["calls"]) == (1, 9 + 3)
    assert sum(sums["messages"]) == sums["bytes"] and len(sums["messages"]) == 13


@needs_mpi
def test_configurations_are_compared_round_by_round(measured):
    rows = measured[1]["configurations"]
    assert list(rows) == ["1x1", "2x1"] and "sums" not in rows["1x1"] and rows["1x1"]["speed"] == 1
    for row in rows.values():
        assert 0 < row["min_seconds"] <= row["median_seconds"] <= row["max_seconds"] < 30
        assert row["steps_a_second"] == 1 / row["median_seconds"]
        assert 0 < row["processor_seconds"] < 30
    speeds = [a / b for a, b in zip(rows["1x1"]["round_seconds"], rows["2x1"]["round_seconds"], strict=True)]
    assert rows["2x1"]["speed_by_work"] == ranks.undisturbed(rows["1x1"]) / ranks.undisturbed(rows["2x1"])
    assert rows["2x1"]["speed"] == pytest.approx(sum(speeds) / 2) and len(speeds) == 2
    # Each of the two processes needs as much memory as the single one.
    assert 1.5 < rows["2x1"]["peak_bytes"] / rows["1x1"]["peak_bytes"] < 5


def test_speed_by_work_counts_only_cores_and_sums():
    sums = {kind: {"min_moving_seconds": 0.05} for kind in ranks.KINDS}
    assert ranks.undisturbed({"processor_seconds": 0.6, "ranks": 1, "threads": 2}) == pytest.approx(0.3)
    two = {"processor_seconds": 0.8, "ranks": 2, "threads": 1, "sums": sums}
    assert ranks.undisturbed(two) == pytest.approx(0.5)


@needs_mpi
def test_time_in_sums_is_divided_into_waiting_and_moving(measured):
    sums = measured[1]["configurations"]["2x1"]["sums"]
    assert 0 < sums["share"] < 1 and sums["waiting_seconds"] > 0
    for kind in ranks.KINDS:
        assert 0 < sums[kind]["min_moving_seconds"] <= sums[kind]["moving_seconds"]


@needs_mpi
def test_sums_are_counted_step_by_step():
    settings = Settings(size=SIZE, width=WIDTH, batch_size=8)
    team = ranks.Team(ranks.Configuration(2, 1, 8), settings)
    answer = team.ask({"steps": 3, "sums": "as they are"})
    later = team.ask({"steps": 1})
    team.close()
    assert [len(calls) for calls in answer["calls"]] == [13, 13, 13] and len(answer["processor"]) == 3
    for calls, whole in zip(answer["calls"], answer["seconds"], strict=True):
        assert 0 < sum(call["seconds"] for call in calls) < whole + 0.1  # rank 0's step, the ranks' mean
    assert later.keys() == {"seconds", "peak_bytes"}


@needs_mpi
def test_many_machines_are_extrapolated_from_the_smaller_batches(measured):
    text, found = measured
    assert list(found["node"]["seconds"]) == ["8", "2"] and found["node"]["threads"] == 2
    work = found["extrapolated"]
    assert (
        work["packing_seconds"] == found["configurations"]["2x1"]["sums"]["gradients"]["min_moving_seconds"]
    )
    assert [link["name"] for link in work["links"]] == ["10 Gbit/s", "100 Gbit/s"]
    assert list(work["nvlink"]["sums_seconds"]) == ["2", "4", "8", "16", "32", "64"]
    row = next(line for line in text.splitlines() if line.startswith("2x1 "))
    assert f"{found['configurations']['2x1']['median_seconds']:.3f}" in row and "NVLink" in text


@pytest.mark.parametrize("name", ["mpiexec", "mpi4py"])
def test_without_mpi_one_line_says_how_to_install_it(name, monkeypatch):
    monkeypatch.setattr(ranks.shutil, "which", lambda *_, **__: None if name == "mpiexec" else "mpiexec")
    monkeypatch.setattr(ranks, "find_spec", lambda _: None if name == "mpi4py" else "a module")
    with pytest.raises(UsageError) as error:
        ranks.main(["--ranks", "1x1,2x1"])
    assert f"2 ranks need {name}. Use pip install -e '.[mpi]', or --ranks 1x2." == str(error.value)


def test_the_error_of_a_failed_worker_is_shown(monkeypatch):
    fails = "import sys; print('error: no such luck\\nBAD TERMINATION', file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(ranks, "launcher", lambda _: [sys.executable, "-c", fails])
    with pytest.raises(TinyganError, match="a worker ended: no such luck"):
        ranks.main(["--batch", "2"])
