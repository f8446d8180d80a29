"""What each of several ranks reads: the first all images, the others only those they train on."""

from pathlib import Path

import numpy as np

from tests.ranks.launch import finish, needs_mpi

pytestmark = needs_mpi
# A rank that computes a digest prints that, although only the first one is allowed to print. RANK in an
# argument stands for its number, so that each rank can get a different array.
TRAIN = """
import os, sys
from tinygan import cli, train
from tinygan.data import Dataset
rank = os.environ["PMI_RANK"]
whole = Dataset.sha256.func
line = f"rank {rank} reads all"
Dataset.sha256 = property(lambda self: print(line, file=sys.__stdout__, flush=True) or whole(self))
arguments = [argument.replace("RANK", rank) for argument in sys.argv[1:]]
sys.exit(cli.run(train.main, arguments))
"""
OPTIONS = ("--size", "8", "--width", "2", "--noise-dim", "3", "--batch-size", "4", "--no-gif", "--no-report")


def arrays(folder: Path) -> None:
    """Write the identical files 0.npy and 1.npy."""
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    for rank in (0, 1):
        np.save(folder / f"{rank}.npy", images)


def test_the_first_rank_reads_all_images_and_the_others_a_few(tmp_path: Path) -> None:
    arrays(tmp_path)
    command = ("-c", TRAIN, *OPTIONS, "--data", "0.npy", "--steps", "2")
    code, output, errors = finish(2, *command, cwd=tmp_path)
    assert code == 0, errors
    assert "rank 0 reads all" in output and "rank 1 reads all" not in output


def test_ranks_with_other_images_are_refused(tmp_path: Path) -> None:
    arrays(tmp_path)
    images = np.load(tmp_path / "1.npy")
    images[199] ^= 1
    np.save(tmp_path / "1.npy", images)
    command = ("-c", TRAIN, *OPTIONS, "--data", "RANK.npy", "--steps", "2")
    code, output, errors = finish(2, *command, cwd=tmp_path)
    assert code == 4
    (line,) = (line for line in errors.splitlines() if line.startswith("error"))
    assert line.startswith("error: rank 1 on ") and "differs from the images of rank 0" in line
    assert not (tmp_path / "runs").exists() and "reads all" not in output.replace("rank 0 reads all", "")


def test_the_first_of_every_host_goes_before_its_neighbours(tmp_path: Path) -> None:
    code, _, errors = finish(5, "-m", "tests.ranks.turns", str(tmp_path / "turns"), cwd=tmp_path)
    assert code == 0, errors
    lines = (tmp_path / "turns").read_text().splitlines()
    assert len(lines) == 10 and lines[:2] == ["begins 0", "ends 0"]
    assert lines.index("ends 3") < lines.index("begins 4")
    # Within a host all others enter at once, without waiting for other hosts.
    assert {lines.index("begins 1"), lines.index("begins 2")} <= set(range(2, 5))
