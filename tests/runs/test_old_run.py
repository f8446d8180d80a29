"""A run of the version before ops became objects goes on where it would have gone.

``golden/old_run`` was trained by it for 4 of 6 steps, and ``after_epoch_0002.npz`` is what it came to itself.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tinygan import train
from tinygan.runs.checkpoint import read

OLD = Path(__file__).parent.parent / "golden/old_run"


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_a_run_of_the_version_before_goes_on(tmp_path: Path, engine: str) -> None:
    run = tmp_path / "runs/0001-strokes"
    shutil.copytree(OLD, run)
    (run / "samples").mkdir()
    options = f"--resume {run} --device cpu --engine {engine} --no-gif --no-report"
    assert train.main(options.split()) == 0
    found, _ = read(run / "checkpoints/epoch_0002.npz")
    expected, _ = read(OLD / "after_epoch_0002.npz")
    assert found.keys() == expected.keys() and found["step"] == expected["step"] == 6
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        off = np.abs(found[name] - array) / max(1, np.abs(array).max())
        # Where a gradient is next to nothing, rounding alone decides which way Adam steps.
        assert off.max() <= 4e-3 and (off > 1e-4).mean() <= 0.02, (name, off.max())
