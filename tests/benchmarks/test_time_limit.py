"""A comparison that is cut short, by --seconds or by a signal, keeps the rounds it has measured."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from benchmarks import report
from benchmarks.competitors import Answering, LateError, take_turns
from tests.benchmarks.test_benchmarks import ROOT, result_of


class Comparison:
    """A comparison of fakes, in a separate process."""

    def __init__(self, folder: Path, kinds: dict[str, str], *arguments: str) -> None:
        self.json, self.log = folder / "result.json", folder / "log"
        command = [sys.executable, "-m", "tests.benchmarks.fakes", json.dumps(kinds), *arguments]
        self.process = subprocess.Popen(
            [*command, "--json", self.json], cwd=ROOT, env=os.environ | {"FAKES_LOG": str(self.log)},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            # Tests in the background of a shell ignore Ctrl-C, and this process would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def result(self) -> dict[str, Any]:
        return json.loads(self.json.read_text())

    def ended(self) -> tuple[str, str]:
        return self.process.communicate(timeout=60)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize(("by", "code"), [("TERM", 143), ("INT", 7), ("KILL", -9)])
def test_a_killed_comparison_keeps_its_rounds_and_leaves_no_worker(tmp_path, by, code):
    one = Comparison(tmp_path, {"tinygan": "quick", "jax": "quick"}, "--rounds", "500")
    until = monotonic() + 60
    while not one.json.exists() or one.result()["rounds"]["taken"] < 2:
        assert monotonic() < until and one.process.poll() is None
        time.sleep(0.02)
    one.process.send_signal(getattr(signal, f"SIG{by}"))
    printed, errors = one.ended()
    assert one.process.returncode == code and "Traceback" not in errors
    result = one.result()
    taken = result["rounds"]["taken"]
    assert result["rounds"]["of"] == 500 and result["finished"] is False
    assert all(len(row["round_seconds"]) == taken for row in result["competitors"].values())
    # Every round is written to the file and then printed. The last one may have been written only.
    assert any(f"after {rounds} of 500 rounds" in errors for rounds in (taken - 1, taken))
    if by != "KILL":
        assert printed.count("ratio") == 1 and f"after {taken} of 500 rounds" in printed
    processes = [int(row["version"].split()[1]) for row in result["competitors"].values()]
    while any(map(alive, processes)):  # after a KILL they end by themselves, when their input ends
        assert by == "KILL" and monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["proof", "start"])
def test_a_competitor_that_is_not_ready_in_time_is_dropped_and_the_others_are_measured(tmp_path, at):
    began = monotonic()
    kinds = {"jax": f"hangs at {at}", "tinygan": "quick"}
    one = Comparison(tmp_path, kinds, "--rounds", "2", "--seconds", "8")
    printed, _ = one.ended()
    assert monotonic() - began < 8 and one.process.returncode == 0
    rows = one.result()["competitors"]
    assert re.fullmatch(r"not ready after [23] s", rows["jax"]["problem"])  # half of three quarters
    assert len(rows["tinygan"]["round_seconds"]) == 2 and one.result()["finished"] is True
    assert rows["jax"]["problem"] in printed and "rounds" not in printed


def test_rounds_end_when_the_time_is_over(tmp_path):
    began = monotonic()
    one = Comparison(tmp_path, {"tinygan": "quick", "jax": "hangs at turn 4"}, "--seconds", "6")
    printed, _ = one.ended()
    assert monotonic() - began < 8 and one.process.returncode == 0
    result = one.result()
    assert result["rounds"] == {"taken": 3, "of": 6} and "after 3 of 6 rounds" in printed
    assert all(len(row["round_seconds"]) == 3 for row in result["competitors"].values())


@pytest.mark.slow
def test_a_competitor_that_hangs_while_warming_up_leaves_time_for_the_others(tmp_path):
    kinds = {"jax": "hangs at turn 0", "tinygan": "quick"}
    one = Comparison(tmp_path, kinds, "--rounds", "2", "--seconds", "8")
    one.ended()
    rows = one.result()["competitors"]
    assert rows["jax"]["problem"].startswith("failed: no answer within")
    assert len(rows["tinygan"]["round_seconds"]) == 2


def test_competitors_that_compile_long_always_come_last(tmp_path):
    one = Comparison(tmp_path, {"pytorch-compile": "quick", "tinygan": "quick"}, "--rounds", "2")
    printed, errors = one.ended()
    assert one.process.returncode == 0, errors
    ours, theirs = "tinygan", "pytorch-compile"
    turns = [f"{name} turn {number}" for number in range(3) for name in (ours, theirs)]
    assert one.lines() == [f"{name} {what}" for name in (ours, theirs) for what in ("proof", "start")] + turns
    assert printed.count("ratio") == 1 and errors.count("ratio") == 1


def test_a_process_that_does_not_answer_is_killed():
    once = "import time; input(); print('{\"version\": \"v\", \"started\": 1}', flush=True); time.sleep(60)"
    one = Answering([sys.executable, "-c", once], {}, until=monotonic() + 30)
    try:
        one.until = monotonic() + 0.2
        with pytest.raises(LateError, match="no answer within 0 s"):
            one.ask({"steps": 1})
        assert one.process.wait(timeout=10) == -signal.SIGKILL
    finally:
        one.end()


def test_without_time_for_a_round_nothing_is_measured():
    class Ready:
        def ask(self, request):
            return {"seconds": [0.1] * request["steps"], "peak_bytes": 1}

    workers: Any = {"tinygan": Ready()}
    assert "no time left" in take_turns(workers, 2, until=monotonic())["tinygan"]["problem"]


def test_a_result_that_cannot_be_written_leaves_the_previous_one(tmp_path):
    report.write_json(tmp_path / "r.json", {"old": 1})
    with pytest.raises(TypeError):
        report.write_json(tmp_path / "r.json", {"new": object()})
    assert json.loads((tmp_path / "r.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_the_table_says_how_many_rounds_there_were():
    result = result_of(tinygan=1.0) | {"not installed": [], "rounds": {"taken": 2, "of": 6}}
    assert report.table(result).endswith("\n\nafter 2 of 6 rounds")
    assert "rounds" not in report.table(result | {"rounds": {"taken": 6, "of": 6}})


@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("timeout")), reason="needs bash and timeout")
@pytest.mark.parametrize("stage", ["bench", "bench32", "batches", "compile"])
def test_on_a_card_comparisons_end_before_their_stage_does(tmp_path, stage):
    python = tmp_path / "python"  # prints its arguments instead of running them
    python.write_text("#!/bin/sh\necho \"$@\"\n")
    python.chmod(0o755)
    given = {"PY": str(python), "OUT": str(tmp_path / "out"), "WORK": str(tmp_path / "work"), "LIMIT": "100"}
    subprocess.run(
        ["bash", "tests/on_a_card.sh", stage], cwd=ROOT, env=os.environ | given, check=True, timeout=60,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    (asked,) = re.findall("^-m benchmarks .*", (tmp_path / f"work/logs/{stage}.log").read_text(), re.M)
    found = re.fullmatch(r"-m benchmarks --device gpu --seconds (\d+) --json \S+\.json .*", asked)
    assert found and 80 < int(found[1]) < 92  # 8 of the 100 are left for collecting the results
