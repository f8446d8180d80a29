"""The manual's exercises: `train` runs each edit, made in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.search(r"```diff\n(.*?)```", (ROOT / "tinygan/README.md").read_text(encoding="utf-8"), re.S)
assert BLOCK
# (title, file, lines)
EXERCISES = [
    (title, file, body.strip("\n").splitlines())
    for title, file, body in re.findall(r"^# (.*?)  (tinygan/\S+)\n(.*?)(?=^# |\Z)", BLOCK[1], re.M | re.S)
]
# Why the fast engine then takes steps op by op; it computes the other edits as a whole.
EXPECTED = {
    "Label": "gan.discriminator_loss was changed",
    "Least": "gan.discriminator_loss and gan.generator_loss were changed",
    "No batch": "models.py was changed at generator/08_leaky_relu",
    "Spectral": "layers.Conv2D was changed",
    "D learns": "gan.train_step was changed",
}
ARGUMENTS = "--data strokes --limit 64 --batch-size 32 --width 8 --steps 3 --no-gif --no-report".split()


def edited(lines: list[str], diff: list[str]) -> list[str]:
    """`lines` with every block of ``-`` lines replaced by the ``+`` lines after it, everywhere."""
    hunks = re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", "\n".join(diff) + "\n", re.M)
    for old, new in hunks:
        old, new = ([line[1:] for line in part.splitlines()] for part in (old, new))
        code = [line.partition("  #")[0].rstrip() for line in lines]  # without comments
        found = [at for at in range(len(lines)) if code[at : at + len(old)] == old]
        assert found, f"the manual's exercise does not fit the file: {old}"
        for at in reversed(found):
            lines = lines[:at] + new + lines[at + len(old) :]
    return lines


def copy_package(folder: Path) -> None:
    shutil.copytree(ROOT / "tinygan", folder / "tinygan", ignore=shutil.ignore_patterns("__pycache__"))


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train with the package in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "tinygan.train", *ARGUMENTS, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip


def trained(folder: Path, *arguments: str) -> tuple[str, list[float]]:
    """The output of `train` and its losses."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    result = train(folder, *arguments)
    assert result.returncode == 0, result.stderr
    stats = json.loads((folder / "runs/0001-strokes/stats.jsonl").read_text().splitlines()[-1])
    return result.stdout, [stats["g_loss"], stats["d_loss"]]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[float]]:
    folder = tmp_path_factory.mktemp("unchanged")
    copy_package(folder)
    return trained(folder)


def test_without_an_edit_the_fast_engine_takes_its_own_step(unchanged: tuple[str, list[float]]) -> None:
    assert "step     as a whole" in unchanged[0]


@pytest.mark.parametrize(
    ("title", "file", "diff"),
    [  # one of them always, the others only with the slow tests
        pytest.param(*one, id=one[0], marks=[] if one[0].startswith("Label") else [pytest.mark.slow])
        for one in EXERCISES
    ],
)
def test_an_exercise_is_what_runs_on_both_engines(
    title: str, file: str, diff: list[str], unchanged: tuple[str, list[float]], tmp_path: Path
) -> None:
    written = [line for line in diff if line.startswith("+") and f"-{line[1:]}" not in diff]
    assert len(written) <= 5 and len(EXERCISES) == 8
    copy_package(tmp_path)
    options = title.partition("train with ")[2].rstrip(".").split()
    before = trained(tmp_path, *options)[1] if options else unchanged[1]
    path = tmp_path / file
    path.write_text("\n".join(edited(path.read_text().splitlines(), diff)) + "\n")
    said, losses = trained(tmp_path, *options)
    expected = next((text for start, text in EXPECTED.items() if title.startswith(start)), None)
    assert (f"step     op by op (tinygan/gan.py): {expected}" if expected else "step     as a whole") in said
    assert losses != pytest.approx(before, rel=1e-5)  # the edit makes a difference
    assert losses == pytest.approx(trained(tmp_path, *options, "--engine", "readable")[1], rel=1e-4)
    if expected:
        result = train(tmp_path, "--engine", "fast")
        assert result.returncode == 2 and result.stderr.startswith(f"error: --engine fast: {expected}")


@pytest.mark.slow
def test_an_edit_that_makes_fcd_unmeasurable_only_disables_the_evaluations(tmp_path: Path) -> None:
    copy_package(tmp_path)
    path = tmp_path / "tinygan/ops/activation.py"
    path.write_text(path.read_text().replace("slope: float = 0.3", "slope: float = 0.2"))
    result = train(tmp_path, "--metrics-every", "1")
    assert result.returncode == 0 and "done     3 steps" in result.stdout
    line = "warning: --metrics-every is ignored. ops.activation.leaky_relu was changed: FCD cannot"
    assert result.stderr.startswith(line)
