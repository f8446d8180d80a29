"""What only a real card can show: the tutorial's full size, its memory, the real images."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cuda.checks import TUTORIAL, check_full_step, players
from tinygan import data
from tinygan.backend import choose
from tinygan.cuda.trainer import Trainer
from tinygan.errors import DataError

pytestmark = pytest.mark.gpu
ROOT = Path(__file__).parents[2]


def test_a_full_step_is_that_of_the_readable_engine_in_float64():
    check_full_step()


def test_the_tutorials_batch_takes_less_than_two_gigabytes_of_the_card():
    import cupy  # pyright: ignore[reportMissingImports]

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    backend = choose("gpu")
    taking = Trainer(*players(backend, TUTORIAL), np.zeros((60_000, 28, 28, 1), np.uint8), 256, 0)
    taking.steps(4)
    assert pool.total_bytes() - before < 2e9
    taking.close()


def test_the_real_images_train_resume_and_make_pictures(tmp_path):
    try:
        data.load("fashion-mnist", limit=1)  # downloads it where it is not there yet
    except DataError as problem:
        pytest.skip(str(problem))

    def run(command, *arguments):
        done = subprocess.run(
            [sys.executable, "-m", f"tinygan.{command}", "--device", "gpu", *arguments],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    for out, steps in (("whole", ["400"]), ("parts", ["150"])):
        run("train", "--data", "fashion-mnist", "--epochs", "2", "--steps", *steps, "--out", out, "--no-gif")
    run("train", "--resume", "--out", "parts", "--steps", "400")
    whole, parts = ((tmp_path / out / "0001-fashion-mnist/losses.f32") for out in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    run("sample", "--runs", "whole", "--num", "16", "--out", "pictures.png")
    assert (tmp_path / "pictures.png").stat().st_size > 1000
