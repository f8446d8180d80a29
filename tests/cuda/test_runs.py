"""The commands on a card: training, pictures, checkpoints, resuming, in one process with the stand-in."""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygan
from tests.commands import TINY
from tinygan import average, cli, gan, sample, train
from tinygan.errors import UsageError
from tinygan.runs.checkpoint import content_digest, read
from tinygan.views.pictures import read_picture

EVERY_ENGINE = pytest.mark.parametrize("engine", ["fast", "readable"])


@pytest.fixture
def go(make_backend, tmp_path, monkeypatch):
    """Trains in a temporary folder; returns the arrays of the newest checkpoint."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, device="gpu"):
        given = ["--device", device, *map(str, arguments), "--quiet"]
        assert train.main(given) == 0
        return newest(tmp_path / "runs")

    return run


def newest(runs: Path):
    """The arrays of the newest checkpoint of the newest run."""
    run = sorted(runs.iterdir())[-1]
    return read(sorted((run / "checkpoints").glob("*.npz"))[-1])[0]


@pytest.mark.parametrize("given", [None, pytest.param("float32", marks=pytest.mark.slow), "float16"])
def test_configuration_and_log_name_card_and_precision(go, tmp_path, given):
    go(*TINY, "--epochs", 1, *(("--precision", given) if given else ()))
    precision = given or "tf32"
    run = tmp_path / "runs/0001-strokes"
    config = json.loads((run / "config.json").read_text())
    assert config["device"]["precision"] == precision and config["device"]["engine"] == "fast"
    assert config["versions"]["cupy"]
    assert f"{config['device']['card']}, {precision}" in (run / "log.txt").read_text()


def test_resuming_with_other_libraries_prints_a_warning(card, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--device", "gpu", *TINY, "--quiet"]
    assert train.main([*given, "--epochs", "1"]) == 0 and "was" not in capsys.readouterr().err
    cupy = sys.modules["cupy"]
    monkeypatch.setattr(cupy.cuda.cublas, "getVersion", lambda handle: 131100)
    monkeypatch.setattr(cupy, "__version__", "14.3.0")
    assert train.main(["--device", "gpu", "--resume", "--epochs", "2", "--quiet"]) == 0
    warnings = capsys.readouterr().err
    assert "CUDA libraries changed from cuBLAS 131000, NVRTC 13.5 to cuBLAS 131100, NVRTC 13.5" in warnings
    assert "cupy changed from 14.2.0 to 14.3.0" in warnings


@EVERY_ENGINE
def test_a_run_stopped_inside_an_epoch_resumes_bit_for_bit(go, engine):
    whole = go(*TINY, "--epochs", 2, "--engine", engine)
    go(*TINY, "--epochs", 2, "--engine", engine, "--steps", 2)
    assert content_digest(go("--resume", "--steps", 6), {}) == content_digest(whole, {})


@pytest.mark.slow
def test_leaving_a_loop_over_epochs_saves_the_last_one(go, tmp_path):
    """Even though on a card not every epoch is saved."""
    settings = {"data": "strokes", "limit": 80, "batch_size": 32, "width": 2, "noise_dim": 5, "epochs": 4}
    whole = go(*TINY, "--epochs", 4)
    steps = tinygan.training(**settings, device="gpu", quiet=True)
    *_, epoch = (next(steps) for _ in range(3))
    steps.close()
    assert newest(tmp_path / "runs")["step"] == 9
    on_card, on_cpu = (tinygan.load(2, device=device) for device in ("gpu", "cpu"))
    for pictures in (on_card.generate(), copy.deepcopy(on_card).generate(), on_cpu.generate()):
        assert np.allclose(pictures, epoch.samples, atol=1e-2)
    assert content_digest(go("--resume"), {}) == content_digest(whole, {})


@pytest.mark.parametrize(("first", "second"), [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_resumes_on_the_other_device(go, capsys, first, second):
    """The same images, noise and masks: weights and pictures agree up to rounding."""
    precise = ("--precision", "float32") if first == "gpu" else ()
    whole = go(*TINY, "--epochs", 2, device="cpu")
    go(*TINY, "--epochs", 2, "--steps", 2, *precise, device=first)
    moved = go(
        "--resume", "--steps", 6, "--precision", "float32" if second == "gpu" else "auto", device=second
    )
    warned = f"device changed from {first} to {second}: the run continues, but not bit for bit"
    assert warned in capsys.readouterr().err
    for name, values in whole.items():
        if name.endswith(("kernel", "gamma", "running_mean")):
            assert np.linalg.norm(moved[name] - values) < 1e-3 * np.linalg.norm(values), name


def test_precision_without_a_card_is_refused(go):
    with pytest.raises(UsageError, match="--precision tf32 needs a GPU"):
        train.main(["--device", "cpu", "--precision", "tf32", *TINY])


def test_the_readable_engine_refuses_tf32(go):
    with pytest.raises(UsageError, match="the readable engine computes in float32"):
        train.main(["--device", "gpu", "--engine", "readable", "--precision", "tf32", *TINY])


@EVERY_ENGINE
def test_samples_equal_those_on_the_cpu(go, tmp_path, engine):
    go(*TINY, "--epochs", 1, "--engine", engine)
    for device in ("gpu", "cpu"):
        assert sample.main(["--device", device, "--num", "4", "--out", str(tmp_path / f"{device}.png")]) == 0
    pictures = [read_picture(tmp_path / f"{device}.png").astype(int) for device in ("gpu", "cpu")]
    assert abs(pictures[0] - pictures[1]).max() <= 1


def test_a_dry_run_measures_the_step(go, tmp_path, capsys):
    assert train.main(["--device", "gpu", *TINY, "--dry-run"]) == 0
    assert "s (measured)" in capsys.readouterr().out and not (tmp_path / "runs").exists()


def test_pictures_too_large_for_the_fast_engine_train_on_the_readable_one(go, tmp_path, capsys):
    np.save(tmp_path / "large.npy", np.zeros((2, 132, 132), np.uint8))
    given = ["--device", "gpu", "--data", str(tmp_path / "large.npy"), "--size", "132", "--width", "1"]
    assert train.main([*given, "--epochs", "1", "--batch-size", "2", "--noise-dim", "3"]) == 0
    text = capsys.readouterr().out
    assert "engine   readable: on a GPU the fast engine takes pictures up to --size 128" in text
    assert "engine readable" in text
    with pytest.raises(UsageError, match="--engine fast: .* up to --size 128. Use --engine auto"):
        train.main([*given, "--batch-size", "2", "--engine", "fast"])


@pytest.mark.parametrize(
    ("where", "name", "edited"),
    [(gan, "generator_loss", "gan.generator_loss"), (average.Average, "update", "average.Average")],
)
def test_edited_functions_run_on_the_readable_engine(card, capsys, monkeypatch, where, name, edited):
    original = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *given: original(*given))
    assert train.main(["--device", "gpu", *TINY, "--dry-run"]) == 0
    assert f"engine   readable: {edited} was changed" in capsys.readouterr().out


def test_a_full_card_names_the_batch_size_to_try_and_leaves_no_folder(card, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    card.limit = 1_000_000  # bytes
    assert cli.run(train.main, ["--device", "gpu", *TINY, "--epochs", "1"]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: the GPU's memory is full at --batch-size 32")
    assert "Use --batch-size 16." in error and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_card_that_fails_names_the_checkpoint_to_resume_from(card, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["--device", "gpu", *TINY, "--epochs", "4", "--checkpoint-every", "1"]
    assert cli.run(train.main, given) == 0
    whole = newest(tmp_path / "runs")
    card.fails_after = 450  # kernels and products: in the third epoch or later
    assert cli.run(train.main, given) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: the GPU failed (cudaErrorIllegalAddress")
    name = error.strip().rpartition(" ")[2]
    assert "--resume " + name in error and Path(name).exists()
    card.fails_after = None
    assert cli.run(train.main, ["--resume", name, "--epochs", "4"]) == 0
    assert content_digest(newest(tmp_path / "runs"), {}) == content_digest(whole, {})
