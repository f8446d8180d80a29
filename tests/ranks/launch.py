"""Starting real processes under MPI, for the tests that need them."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# pip installs the launcher of its MPI next to Python; otherwise the system's launcher is used.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or find_spec("mpi4py") is None, reason="needs mpi4py and an MPI: pip install -e '.[mpi]'"
)


def start(ranks: int, *command: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``mpiexec -n RANKS python COMMAND``."""
    return subprocess.Popen(
        [str(MPIEXEC), "-n", str(ranks), sys.executable, *command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(ranks: int, *command: str, cwd: Path, seconds: float = 120) -> tuple[int, str, str]:
    """Run the same command to its end. Returns (exit code, output, errors)."""
    process = start(ranks, *command, cwd=cwd)
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output, errors
