"""The benchmark on a GPU: tinygan's player, the floor, the table. Other frameworks' players need a GPU."""

import numpy as np
import pytest

from benchmarks import floor, report, worker
from benchmarks.__main__ import main
from benchmarks.competitors import COMPETITORS, DEFAULTS, difference
from benchmarks.tinygan_dcgan import Player
from tests.benchmarks.test_benchmarks import result_of, run
from tinygan.backend import cpu
from tinygan.errors import UsageError


def player(device, engine, precision="float32"):
    return Player(engine, 1, device, precision, 0.0, *worker.batch(4, proof=True))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_the_trainers_steps_match_the_readable_engine(card, precision, tmp_path):
    theirs, ours = player("cpu", "readable"), player("gpu", "fast", precision)
    assert ours.backend.precision == precision
    np.savez(tmp_path / "start.npz", **theirs.get_weights())  # pyright: ignore[reportArgumentType]
    ours.set_weights(theirs.get_weights())
    expected, found = (([one.step(), one.step()], one.get_weights()) for one in (theirs, ours))
    assert difference(tmp_path / "start.npz", expected, found, precision) is None
    assert list(ours.trainer.graphs) == [4] and ours.adams[0].t == 2  # the second step replayed it
    before = ours.get_weights()
    ours.run(1)  # as it is timed: it continues with the same trainer
    assert all((before[name] != values).any() for name, values in ours.get_weights().items())


@pytest.mark.slow
def test_timed_steps_are_the_trainers_and_report_their_cost(card, monkeypatch):
    monkeypatch.setattr(floor, "SIDE", 64)
    monkeypatch.setattr(floor, "COPIED", 1 << 16)
    ours = player("gpu", "fast")
    before = ours.get_weights()
    ours.run(2)
    assert ours.trainer.step == 2
    assert all((before[name] != values).any() for name, values in ours.get_weights().items())
    facts = ours.facts()
    assert 40 < facts["launches"] < 60 and facts["card"]["card"] == "Stand-in"
    assert facts["operations"] > 0 and facts["operations_a_second"] > 0 and facts["bytes_a_second"] > 0
    assert 2 * 2.5e6 * 4 < facts["bytes"] < 2 * (ours.card_bytes() or 0)


def test_rates_are_also_measured_on_a_processor():
    rates = floor.rates(cpu())
    assert rates["operations_a_second"] > 1e8 and rates["bytes_a_second"] > 1e8


def test_the_operations_of_a_step_by_definition_match_the_count_by_hand():
    assert floor.naive_operations(256) == pytest.approx(115.6e9, rel=1e-3)
    assert floor.naive_operations(512) == 2 * floor.naive_operations(256)


def test_the_table_of_a_card_has_its_own_columns_and_the_floor():
    result = result_of(tinygan=1e-3, pytorch=2e-3) | {"device": "gpu", "precision": "tf32", "batch": 256}
    result["competitors"]["tinygan"] |= {
        "operations": 30e9, "operations_a_second": 60e12, "bytes": 1e9, "bytes_a_second": 2.5e12,
        "launches": 80, "card": {"card": "Some GPU", "CUDA": "13.0"},
    }  # fmt: skip
    lines = report.table(result).splitlines()
    assert lines[0].startswith("card Some GPU, CUDA 13.0, batch 256, tf32")
    rows = {line.split()[0]: line.split() for line in lines if line.startswith(("tinygan  ", "pytorch  "))}
    assert rows["pytorch"][1] == "2.000" and rows["pytorch"][4] == "2.00" and rows["pytorch"][5] == "0.470"
    assert "80" in rows["tinygan"]
    floors = lines[-4:]
    assert "30.0 GFLOP at 60.0 TFLOP/s = 0.500 ms; 1.00 GB at 2.50 TB/s = 0.400 ms" in floors[0]
    assert "2.00 times the larger" in floors[1] and "115.6 GFLOP: 1.927 ms" in floors[1]


def test_each_device_has_its_competitors():
    assert set(DEFAULTS["gpu"]) | set(DEFAULTS["cpu"]) == set(COMPETITORS)
    assert "pytorch-graph" in DEFAULTS["gpu"] and "pytorch-graph" not in DEFAULTS["cpu"]


def test_a_comparison_in_which_nothing_could_be_measured_fails(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = run("benchmarks", "--device", "gpu", "--only", "tinygan-readable", "--rounds", "1", code=3)
    assert done.stderr == "error: nothing could be measured; the table says why.\n"
    row = next(line for line in done.stdout.splitlines() if line.startswith("tinygan-readable"))
    assert row.split()[1] == "failed:" and "tinygan.errors" not in row and "--device cpu" in row


def test_tf32_without_a_gpu_is_refused():
    with pytest.raises(UsageError, match="--device gpu"):
        main(["--precision", "tf32"])
