"""tests/on_a_card.sh, the script for machines with a graphics card, still runs: on the stand-in."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.standin.kernels import COMPILER

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/on_a_card.sh"
NOT_ON_THE_STAND_IN = {"kernels_compile_and_load"}


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to run the kernels with")
@pytest.mark.skipif(not (shutil.which("bash") and shutil.which("timeout")), reason="needs bash and timeout")
def test_every_check_of_the_smoke_stage_passes_on_the_stand_in(tmp_path: Path) -> None:
    (tmp_path / "stand-in").mkdir()
    (tmp_path / "stand-in/sitecustomize.py").write_text(  # Python imports this at startup
        "from tests.standin.processes import stand_in\nstand_in()\n"
    )
    given = {
        "PY": sys.executable, "OUT": str(tmp_path / "out"), "WORK": str(tmp_path / "work"),
        "EXTRA_PATH": str(tmp_path / "stand-in"), "GPU_DAY_TINY": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", str(SCRIPT), "smoke"], cwd=ROOT, env=os.environ | given, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    log = (tmp_path / "work/logs/smoke.log").read_text()
    results = {name: result for result, name in re.findall(r"^(ok|skip|FAIL) +(\w+)", log, re.M)}
    checks = re.findall(r"^@check\ndef (\w+)", SCRIPT.read_text(encoding="utf-8"), re.M)
    assert len(checks) > 8 and list(results) == checks, log
    assert results == {name: "skip" if name in NOT_ON_THE_STAND_IN else "ok" for name in checks}, log
    passed = len(checks) - len(NOT_ON_THE_STAND_IN)
    assert f"{passed} of {passed} checks passed" in (tmp_path / "out/summary.txt").read_text()
