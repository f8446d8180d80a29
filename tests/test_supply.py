"""The package: a wheel that contains all it needs, and runs without a checkout."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.commands import ROOT, ended, start

NEEDED = (
    "tinygan/py.typed", "tinygan/cuda/*.cu", "tinygan/views/page/*.html", "tinygan/views/page/*.css",
    "tinygan/views/page/*.js", "tinygan/evaluation/weights/*.npz", "*.dist-info/licenses/LICENSE",
)  # fmt: skip


@pytest.mark.slow
def test_a_wheel_contains_everything_and_runs_outside_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], capture_output=True, text=True
    )
    if "No matching distribution found for setuptools" in built.stderr + built.stdout:
        pytest.skip("building a wheel fetches setuptools, and there is no network")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("tinygan-*.whl")
    held = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    for pattern in NEEDED:
        assert any(path.match(pattern) for path in held), pattern
    tops = {path.parts[0] for path in held}
    assert tops <= {"tinygan", next(top for top in tops if top.endswith(".dist-info"))}
    assert wheel.stat().st_size < 2e6

    place = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", place, wheel], check=True)

    def outside(*arguments: str) -> str:
        """Run Python with the installed package only; return what it prints."""
        done = ended(start(*arguments, cwd=tmp_path, environment={"PYTHONPATH": str(place)}))
        shown = done.stdout.replace(sys.executable, "")  # Python itself may be in the checkout
        assert done.returncode == 0 and str(ROOT) not in shown, (arguments, done)
        return done.stdout

    for command in (
        "train --data strokes --limit 300 --batch-size 100 --width 4 --epochs 1 --metrics-every 1",
        "sample --num 4",
        "report",
        "explain",
        "gradcheck",
    ):
        outside("-m", *f"tinygan.{command}".split())
    assert str(place) in outside("-c", "import tinygan; print(tinygan.__file__)")


def test_every_dependency_has_a_lower_bound() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", text, re.M)
    assert re.findall(r'"(\w+)>=[\d.]+"', line) == ["numpy", "pillow", "imageio"]
