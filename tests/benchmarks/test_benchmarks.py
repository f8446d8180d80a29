"""The benchmarks at a tiny size, with the frameworks that are installed, and their parity check."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as main
from benchmarks import competitors, generate, page, ranks, recipes, report, worker
from benchmarks.__main__ import Machine, compare
from benchmarks.competitors import (
    COMPETITORS,
    FailedError,
    difference,
    installed,
    installed_bytes,
    parity_steps,
    reference,
)
from tinygan.backend import cpu
from tinygan.errors import TinyganError
from tinygan.runs.settings import Settings
from tinygan.runs.state import State

ROOT = Path(__file__).parents[2]
PEERS = {
    name: c
    for name, c in COMPETITORS.items()
    if name not in ("tinygan-readable", "pytorch-compile", "pytorch-graph")
}


def run(module, *arguments, code=0):
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == code, result.stderr
    return result


def test_the_comparison_prints_a_table_and_writes_json_and_a_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(competitors, "SECONDS_A_TURN", 0.1)
    files = tmp_path / "result.json", tmp_path / "result.png"
    assert main.main([
        "--batch", "4", "--rounds", "1", "--threads", "1",
        "--only", "tinygan,tinygan-readable", "--json", str(files[0]), "--plot", str(files[1]),
    ]) == 0  # fmt: skip
    printed = capsys.readouterr().out
    assert "batch 4" in printed and "1 threads" in printed
    rows = json.loads(files[0].read_text())["competitors"]
    assert list(rows) == ["tinygan", "tinygan-readable"] and rows["tinygan"]["ratio_to_tinygan"] == 1
    for name, row in rows.items():
        assert 0 < row["min_seconds"] <= row["median_seconds"] <= row["max_seconds"]
        assert row["median_seconds"] < row["seconds_to_first_step"] < 60
        assert 2e7 < row["peak_bytes"] < 4e9
        line = next(line for line in printed.splitlines() if line.startswith(f"{name} "))
        assert row["version"] in line and f"{row['median_seconds']:.3f}" in line
    with Image.open(files[1]) as picture:
        assert picture.format == "PNG" and picture.width == 1000


@pytest.mark.parametrize(
    ("module", "arguments", "code", "word"),
    [
        (main, ("--only", "tinygan,caffe"), 2, "caffe"),
        (main, ("--rounds", "0"), 2, "--rounds"),
        (main, ("--batch", "many"), 2, "--batch"),
        (main, ("--seconds", "0"), 2, "--seconds"),
        (main, ("--json", "no/r.json"), 2, "no folder"),
        (recipes, ("slow",), 2, "slow"),
        (recipes, ("--minutes", "0"), 2, "--minutes"),
        (recipes, ("--seeds", "a"), 2, "--seeds"),
        (recipes, ("--record", "no/r.jsonl"), 2, "no folder"),
        (recipes, ("--record", "README.md"), 2, "README.md does not end in .jsonl"),
        (recipes, ("--pictures", "no"), 2, "no folder"),
        (page, ("--walk", "0"), 2, "--walk"),
        (page, ("--runs", "no"), 5, "no run in no"),
        (page, ("no",), 5, "no does not exist"),
        (ranks, ("--ranks", "2"), 2, "--ranks '2'"),
        (ranks, ("--ranks", "1x2,"), 2, "1x2,2x1"),
        (ranks, ("--ranks", "0x1"), 2, "--ranks '0x1'"),
        (ranks, ("--ranks", "2xone"), 2, "--ranks '2xone'"),
        (ranks, ("--batch", "1", "--ranks", "2x1"), 2, "share a batch of 1"),
        (ranks, ("--batch", "0"), 2, "--batch-size"),
        (ranks, ("--rounds", "0"), 2, "--rounds"),
        (ranks, ("--size", "30"), 2, "30"),
    ],
)
def test_bad_options_are_refused_in_one_line(module, arguments, code, word):
    with pytest.raises(TinyganError) as error:
        module.main(arguments)
    assert error.value.exit_code == code and word in str(error.value) and "\n" not in str(error.value)


def result_of(**seconds):
    return {
        "hardware": {"processor": "Test", "python": "3"},
        "device": "cpu", "precision": "float32", "threads": 1, "batch": 2, "not installed": ["jax"],
        "competitors": {
            name: {
                "median_seconds": value, "min_seconds": value, "max_seconds": value, "peak_bytes": 1,
                "seconds_to_first_step": 1.0, "installed_bytes": None, "version": "v",
                "ratio_to_tinygan": value / seconds["tinygan"],
            }
            for name, value in seconds.items()
        },
    }  # fmt: skip


@pytest.mark.parametrize(("device", "packages"), [("cpu", "'.[bench]'"), ("gpu", "'.[bench]' 'jax[cuda13]'")])
def test_the_table_names_what_is_not_installed_and_how_to_install_it(device, packages):
    last = report.table(result_of(tinygan=1.0) | {"device": device}).splitlines()[-1]
    assert "jax" in last and f"pip install -e {packages}" in last


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_length_of_a_bar_is_proportional_to_its_seconds(tmp_path, device):
    report.plot(tmp_path / "plot.png", result_of(tinygan=1.0, pytorch=3.0) | {"device": device})
    with Image.open(tmp_path / "plot.png") as picture:
        rows = [report.TOP + n * (report.BAR + report.GAP) + report.BAR // 2 for n in (0, 1)]
        colours = [[picture.getpixel((x, y)) for x in range(picture.width)] for y in rows]
    lengths = [
        row.count(colour) for row, colour in zip(colours, ((47, 158, 98), (154, 165, 177)), strict=True)
    ]
    assert lengths[1] / lengths[0] == pytest.approx(3, rel=0.02)


def test_installed_size_counts_what_a_package_requires():
    if not (alone := installed_bytes("tinygan")):
        pytest.skip("tinygan itself is not installed here")
    assert 2e7 < alone < 3e8  # NumPy with its OpenBLAS, Pillow, imageio


# Parity.


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return reference(tmp_path_factory.mktemp("parity"))


@pytest.mark.parametrize("name", PEERS)
def test_every_competitor_computes_the_same(name, expected):
    if not installed(name):
        pytest.skip(f"{PEERS[name].package} is not installed")
    start, outcome = expected
    assert difference(start, outcome, parity_steps(PEERS[name], start, 1, "cpu")) is None


def test_a_captured_adam_matches_keras_and_its_warm_up_is_undone(expected):
    torch = pytest.importorskip("torch")
    from benchmarks.torch_dcgan import Player

    start, outcome = expected
    one = Player("eager", 1, "cpu", "float32", 0.0, *worker.batch(competitors.PARITY_BATCH, proof=True))
    with np.load(start) as weights:
        one.set_weights(dict(weights))
    one.adams = one.make_adams(captured=True)
    before = {name: tensor.clone() for name, tensor in one.G.state_dict().items()}
    with one.undone():
        one.take()
        assert not torch.equal(one.G.norm1.running_mean, before["norm1.running_mean"])
    assert all(torch.equal(before[name], tensor) for name, tensor in one.G.state_dict().items())
    losses = []
    for t in (1, 2):
        one.follow_keras(t)
        losses.append([loss.item() for loss in one.take()])
    assert difference(start, outcome, (losses, one.get_weights())) is None


def test_the_losses_and_the_times_are_of_the_same_steps():
    pytest.importorskip("torch")
    from benchmarks.torch_dcgan import Player

    one = Player("eager", 1, "cpu", "float32", 0.0, *worker.batch(2))
    taken = []
    take, one.take = one.take, lambda: taken.append(1) or take()
    one.run(2)
    one.step()
    assert len(taken) == 3


# tinygan's worker, with a padding of (2, 1) instead of (1, 2).
WRONG_PADDING = """
from benchmarks.tinygan_dcgan import Player
from benchmarks.worker import serve
from tinygan.fast import originals
from tinygan.ops import geometry
right = geometry._same_pads
geometry._same_pads = lambda *axis: right(*axis)[::-1]
# The fast engine refuses a changed padding, so the wrong one is registered as the original.
originals.ORIGINALS[geometry]["_same_pads"] = originals.digest(geometry._same_pads)
serve(Player)
"""


def test_a_competitor_that_pads_the_other_side_is_caught(expected, tmp_path, monkeypatch):
    (tmp_path / "wrong_padding.py").write_text(WRONG_PADDING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start, outcome = expected
    wrong = replace(PEERS["tinygan"], module="wrong_padding")
    assert "loss" in (difference(start, outcome, parity_steps(wrong, start, 1, "cpu")) or "")


@pytest.mark.parametrize("answers", [0, 1, 2])  # it fails while warming up, or in one of its turns
def test_the_others_continue_when_a_competitor_fails(answers):
    def one(answers):
        def ask(request):
            if left.pop() == 0:
                raise FailedError("gone")
            return {"seconds": [0.1] * request["steps"], "peak_bytes": 1}

        left = list(range(answers + 1))
        return SimpleNamespace(ask=ask)

    workers: Any = {"tinygan": one(9), "jax": one(answers)}
    rows = competitors.take_turns(workers, rounds=2)
    assert rows["tinygan"]["ratio_to_tinygan"] == 1 and rows["jax"] == {"problem": "failed: gone"}
    lines = report.table(result_of(tinygan=1.0) | {"competitors": {"jax": rows["jax"]}}).splitlines()
    assert any(line.split() == ["jax", "failed:", "gone"] for line in lines)


def test_missing_facts_leave_the_measured_times(monkeypatch):
    def ask(request):
        raise FailedError("gone")

    one = SimpleNamespace(ask=ask, end=lambda: None)
    monkeypatch.setattr(main, "get_ready", lambda rows, workers, *rest: workers.update(tinygan=one))
    monkeypatch.setattr(main, "take_turns", lambda *arguments: {"tinygan": {"median_seconds": 1.0}})
    row = compare(["tinygan"], batch=2, machine=Machine(1, "gpu"), rounds=1)["tinygan"]
    assert row["median_seconds"] == 1 and row["facts"] == "failed: gone" and "problem" not in row


def test_a_competitor_that_computes_something_else_is_named_and_not_timed(monkeypatch):
    one = SimpleNamespace(version="v", seconds_to_start=1.0, end=lambda: None)
    fakes = {
        "reference": lambda folder: (folder, "tinygan"),
        "parity_steps": lambda competitor, *rest, until: competitor.package,
        "difference": lambda start, expected, found, precision: None if found == expected else "loss",
        "Worker": lambda *arguments, until: one,
        "take_turns": lambda workers, *rest: {name: {"median_seconds": 1.0} for name in workers},
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(main, name, fake)
    rows = compare(["tinygan", "jax"], batch=2, machine=Machine(1, "cpu"), rounds=1)
    assert "median_seconds" in rows["tinygan"] and "median_seconds" not in rows["jax"]
    assert rows["jax"]["problem"] == "differs from tinygan: loss"
    table = report.table(result_of(tinygan=1.0) | {"competitors": {"jax": rows["jax"]}})
    assert any(line.startswith("jax") and "differs from tinygan" in line for line in table.splitlines())


# The other measurements.


@pytest.mark.slow
def test_layers_are_timed_on_both_engines(tmp_path):
    options = ("--batch", "2", "--rounds", "1", "--threads", "1", "--json", str(tmp_path / "l.json"))
    run("benchmarks.layers", *options)
    rows = json.loads((tmp_path / "l.json").read_text())["layers"]
    assert {"readable", "fast"} <= {row["by"] for row in rows} and len({row["layer"] for row in rows}) == 6
    assert all(row["forward_gflops"] > 0 and row["backward_gflops"] > 0 for row in rows)


@pytest.mark.slow
def test_scaling_measures_every_batch_with_every_number_of_threads(tmp_path):
    options = ("--batches", "1,2", "--threads", "1", "--rounds", "1", "--only", "tinygan")
    out = run("benchmarks.scaling", *options, "--json", str(tmp_path / "s.json")).stdout
    rows = json.loads((tmp_path / "s.json").read_text())["measured"]
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (1, 2)] and len(out.splitlines()) == 4


def test_generation_is_timed(tmp_path):
    options = ["--count", "20", "--rounds", "1", "--only", "tinygan", "--json", str(tmp_path / "g.json")]
    assert generate.main(options) == 0
    row = json.loads((tmp_path / "g.json").read_text())["competitors"]["tinygan"]
    assert row["pictures_a_second"] == pytest.approx(20 / row["median_seconds"])


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, page.BROWSERS)), reason="no browser")
def test_a_report_and_its_explorer_are_measured(tmp_path):
    pytest.importorskip("playwright")
    options = ("--data", "strokes", "--limit", "40", "--batch-size", "20", "--width", "2", "--epochs", "2")
    run("tinygan.train", *options, "--no-gif", "--out", tmp_path)
    small_run = tmp_path / "0001-strokes"
    before = {path: path.read_bytes() for path in small_run.rglob("*") if path.is_file()}
    out = run("benchmarks.page", small_run, "--walk", "0.5", "--json", tmp_path / "p.json").stdout
    found = json.loads((tmp_path / "p.json").read_text())
    assert found["largest_difference_of_255"] <= 1
    assert found["pictures_a_second"] > found["frames_a_second"] > 2
    assert found["epochs"] == found["steps_per_epoch"] == 2
    assert found["verdict_of_an_epoch"] == pytest.approx(found["verdict_in_steps"] / 2)
    assert found["report_bytes"] == (small_run / "report.html").stat().st_size
    added = found["report_bytes_of_100_epochs"] - found["report_bytes"]
    grids = [path.stat().st_size for path in (small_run / "samples").iterdir()]
    assert 98 * min(grids) / 2 < added < 8e6  # not magnified, so smaller, but in base 64
    assert "verdict of an epoch" in out and len(out.splitlines()) == len(found) - 2
    assert {path: path.read_bytes() for path in before} == before  # the report is rewritten unchanged


def test_the_explorer_needs_a_browser(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TinyganError, match="needs Chromium"):
        page.explored(Path("report.html"), State(Settings(size=4, width=1, batch_size=1), cpu()), 1.0)
