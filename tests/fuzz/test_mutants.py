"""Mutants of every format, the same ones each time: 150 or 1,000 here, and many more in `tests.torture`."""

import pytest

from tests.fuzz.formats import formats
from tests.fuzz.mutants import run_apart

pytest.importorskip("resource", reason="only POSIX limits the memory of a process")


@pytest.mark.parametrize("count", [150, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", formats())
def test_mutants_are_read_or_refused_in_one_line_within_a_gigabyte(name: str, count: int) -> None:
    found = run_apart(name, count, 1)
    assert not found["first"], found["first"][0]["problem"]
    assert found.get("refused", 0) > count / 4
