"""Mutants of every format, the same ones each time: 300, a thousand, and in `tests.torture` many more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.formats import formats

pytest.importorskip("resource", reason="only POSIX limits a process' memory")


@pytest.mark.parametrize("count", [300, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", formats())
def test_mutants_are_read_or_refused_in_one_line_within_a_gigabyte(name: str, count: int) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.mutants", name, str(count), "1"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert not found["first"], found["first"][0]["problem"]
    assert found.get("refused", 0) > count / 4
