"""The commands: their files, output, errors and exit codes."""

import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.commands import (
    ROOT,
    RUN,
    TINY,
    TINY_STEPS,
    Result,
    checkpoint,
    copy_of,
    digest,
    ended,
    fails,
    start,
    tinygan,
    works,
)
from tinygan import cli
from tinygan.runs.checkpoint import read, save
from tinygan.runs.folder import RunFolder
from tinygan.trained import load
from tinygan.views.pictures import grid, panels, read_picture, save_png, tiles, to_uint8


def preview(cwd: Path, epoch: int) -> Path:
    return cwd / RUN / f"samples/epoch_{epoch:04}.png"


def pictures(path: Path) -> np.ndarray:
    """The 16 pictures of a grid."""
    return tiles(read_picture(path), 16, 28, 28)


def stats(cwd: Path) -> list[dict[str, Any]]:
    return RunFolder(cwd / RUN).read_stats()


def gif_frames(path: Path) -> tuple[int, int]:
    """The number of frames of a GIF, as Pillow reads it, and its loop count (0: forever)."""
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1), image.info["loop"]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A training of 4 epochs: its working directory and its result."""
    cwd = tmp_path_factory.mktemp("trained")
    return cwd, works("train", *TINY, "--epochs", 4, "--checkpoint-every", 2, cwd=cwd)


@pytest.fixture(scope="module")
def trained(training: tuple[Path, Result]) -> Path:
    """A folder with a finished run of 4 epochs in `RUN`."""
    return training[0]


# Starting.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["-m", "tinygan"], "\ntrain      train the DCGAN"),
        (["-m", "tinygan", "--help"], "\nsample     make new pictures"),
        (["-m", "tinygan", "sample", "--help"], "--through-training"),
        (["-m", "tinygan.report", "--version"], f"numpy     {np.__version__}\n"),
        (["-m", "tinygan.train", "--version"], f"numpy     {np.__version__}\n"),
        (["-m", "tinygan", "--version"], f"numpy     {np.__version__}\n"),
        (["-m", "tinygan.train", "--help"], "--device"),
        (["train.py", "--help"], "--device"),
    ],
)
def test_commands_are_listed_and_start_as_modules_and_as_files(command: list[str], words: str) -> None:
    """They also start in the package's folder, which then comes first on `sys.path`."""
    done = ended(start(*command, cwd=ROOT / "tinygan"))
    assert done.returncode == 0 and words in done.stdout, done.stderr


def test_an_unknown_command_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    for words, right in (
        (("trian", "--epochs", 3), "Did you mean train?"),
        (("--versoin",), "Did you mean --version?"),
        (("xyz",), "Use one of train, sample, "),
    ):
        fails(ended(start("-m", "tinygan", *words, cwd=tmp_path)), 2, repr(words[0]), right)


@pytest.mark.parametrize(
    ("words", "right"),
    [
        (("train", "--epcohs", 3), "Did you mean --epochs?"),
        (("train", "--batchsize=32"), "Did you mean --batch-size=32?"),
        (("train", "--recipe", "bset"), "Did you mean best?"),
        (("sample", "--device", "cpuu"), "Did you mean cpu?"),
        (("train", "--learning-rate=1"), "Did you mean --lr=1?"),
        (("train", "--data", "stroeks"), "Did you mean strokes?"),
        (("train", "strokes"), "Did you mean --data strokes?"),
        (("train", "--mirror-images"), "Did you mean --flip?"),
        (("train", "--epochs", 3, "quick"), "arguments: quick. "),
        (("report", "--frames"), " -m tinygan.report --help lists the options."),
    ],
)
def test_an_unknown_option_or_choice_is_refused_with_a_suggestion(
    tmp_path: Path, words: tuple[object, ...], right: str
) -> None:
    fails(tinygan(*map(str, words), cwd=tmp_path), 4 if "stroeks" in words else 2, right)


def test_cuda_means_the_gpu(tmp_path: Path) -> None:
    for command in ("train", "sample"):
        device = importlib.import_module(f"tinygan.{command}").parser().parse(["--device", "cuda"]).device
        assert device == "gpu"


def test_the_package_s_folder_on_the_path_hides_no_other_package(monkeypatch) -> None:
    """CuPy imports NVIDIA's package `cuda`, and tinygan has a folder of that name."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    for own in (str(ROOT / "tinygan"), str(ROOT / "tests" / ".." / "tinygan")):
        monkeypatch.setattr(sys, "path", [own, *sys.path])
        assert cli.run(lambda arguments, own=own: int(own in sys.path)) == 0


# The files of a training.


def test_a_run_has_all_its_files_in_its_folder(trained: Path) -> None:
    run = trained / RUN
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    files = {"config.json", "log.txt", "stats.jsonl", "losses.f32"}
    files |= {"reals.png", "training.gif", "report.html", ".lock"}
    samples = {f"samples/epoch_{epoch:04}.png" for epoch in range(5)}
    checkpoints = {f"checkpoints/{name}.npz" for name in ("epoch_0002", "epoch_0004", "latest")}
    assert names == files | samples | checkpoints


def test_the_losses_of_every_step_are_saved_and_the_statistics_are_their_means(trained: Path) -> None:
    losses, rows = RunFolder(trained / RUN).read_losses(), stats(trained)
    assert losses.shape == (4 * TINY_STEPS, 4)
    means = losses.reshape(4, TINY_STEPS, 4).mean(axis=1)
    assert means[:, 0] == pytest.approx([row["g_loss"] for row in rows], rel=1e-5)
    assert means[:, 3] == pytest.approx([row["fake_score"] for row in rows], rel=1e-5)


def test_the_statistics_have_a_row_for_each_epoch_with_the_logged_verdict(trained: Path) -> None:
    rows, log = stats(trained), (trained / RUN / "log.txt").read_text()
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [TINY_STEPS * epoch for epoch in (1, 2, 3, 4)]
    for row in rows:
        assert 0 < row["g_loss"] < 5 and 0 < row["d_loss"] < 5
        assert 0 < row["real_score"] < 1 and 0 < row["fake_score"] < 1
        assert row["verdict"] in log
        assert set(row["health"]) == {
            "real_accuracy", "fake_accuracy", "real_spread", "fake_spread", "diversity", "nearest", "dead"
        }  # fmt: skip


def test_the_configuration_names_settings_data_device_and_versions(trained: Path) -> None:
    config = json.loads((trained / RUN / "config.json").read_text())
    assert config["settings"]["batch_size"] == 32 and config["settings"]["width"] == 2
    assert config["data"]["name"] == "strokes" and re.fullmatch("[0-9a-f]{64}", config["data"]["sha256"])
    assert config["device"]["device"] == "cpu"
    assert config["versions"]["numpy"] == np.__version__


def test_the_log_contains_printed_lines_only(training: tuple[Path, Result]) -> None:
    log = (training[0] / RUN / "log.txt").read_text()
    assert "epoch 4/4 done" in log
    assert set(log.splitlines()) <= set(training[1].stdout.splitlines())


def test_the_grids_differ_between_epochs_and_the_animation_loops(trained: Path) -> None:
    grids = [read_picture(preview(trained, epoch)) for epoch in range(5)]
    assert all(grid.shape[0] >= 400 for grid in grids)  # magnified
    assert all((a != b).any() for a, b in zip(grids[:-1], grids[1:], strict=True))
    frames, loops = gif_frames(trained / RUN / "training.gif")
    assert frames > 1 and loops == 0  # 0: forever


def test_a_run_prints_first_where_to_find_pictures_and_report(
    training: tuple[Path, Result],
) -> None:
    before, _, _ = training[1].stdout.partition("epoch 1/4")
    assert f"{RUN}/samples: pictures, the first trained ones after about 10 s, then after every" in before
    assert f"{RUN}/report.html: the report" in before


def test_a_named_run_is_found_by_its_name(tmp_path: Path) -> None:
    few = (*TINY, "--epochs", 1, "--no-report", "--no-gif")
    works("train", *few, "--name", "My Träum", cwd=tmp_path)
    works("train", *few, cwd=tmp_path)
    for name in ("my-traum", "My Träum", "0001-my-traum"):
        assert "0001-my-traum" in works("sample", name, "--num", 1, cwd=tmp_path).stdout
    works("train", "--resume", "my-traum", "--epochs", 2, cwd=tmp_path)
    assert checkpoint(tmp_path, 2).name in {path.name for path in (tmp_path / "runs").rglob("*.npz")}
    fails(tinygan("train", "--resume", "--name", "other", cwd=tmp_path), 2, "--name other", "Leave it out")
    fails(tinygan("train", "--name", "", cwd=tmp_path), 2, "--name", "it is empty")


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    result = works("train", *TINY, "--epochs", 1, "--quiet", cwd=tmp_path)
    assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize("given", [(), ("--recipe", "best")], ids=["", "recipe"])
def test_a_dry_run_on_the_cpu_imports_no_cupy(tmp_path: Path, given: tuple[str, ...]) -> None:
    """So it works while a container is built, which has CuPy but no driver."""
    (tmp_path / "cupy.py").write_text("raise SystemExit('CuPy was imported')\n")
    command = ("-m", "tinygan.train", *TINY, "--dry-run", "--device", "cpu", *given)
    result = ended(start(*command, cwd=tmp_path))
    assert (result.returncode, result.stderr) == (0, "") and "NumPy" in result.stdout


def test_a_dry_run_counts_the_parameters_and_trains_nothing(tmp_path: Path) -> None:
    arguments = ("--data", "strokes", "--limit", 300, "--batch-size", 4, "--dry-run")
    printed = works("train", *arguments, cwd=tmp_path).stdout
    for words in ("2,330,944", "25,472", "212,865", "7x7x256", "strokes: 300 images", "cpu", "steps of"):
        assert words in printed, words
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["cache", "cache/reals.png"]


@pytest.mark.parametrize(
    ("engine", "step", "conv"),
    [
        ("fast", "as a whole (tinygan/fast/gan.py)", "frequencies: "),
        ("readable", "op by op (tinygan/gan.py)", "its definition (tinygan/ops/conv.py)"),
    ],
)
def test_how_steps_and_convolutions_are_computed_is_printed_and_saved(
    engine: str, step: str, conv: str, tmp_path: Path
) -> None:
    planned = works("train", *TINY, "--engine", engine, "--dry-run", cwd=tmp_path).stdout
    convolutions = [line.split(": ", 1) for line in planned.splitlines() if line.startswith("conv ")]
    assert [name for name, _ in convolutions] == [
        "conv     generator/04_conv_transpose", "conv     generator/07_conv_transpose",
        "conv     generator/10_conv_transpose", "conv     discriminator/00_conv",
        "conv     discriminator/03_conv",
    ]  # fmt: skip
    assert convolutions[0][1].startswith(conv)
    printed = works("train", *TINY, "--epochs", 1, "--engine", engine, "--threads", 3, cwd=tmp_path).stdout
    assert f"engine {engine}, 3 threads" in printed
    log = (tmp_path / RUN / "log.txt").read_text()
    for text in (planned, printed, log):
        assert [line for line in text.splitlines() if line.startswith("step ")] == [f"step     {step}"]
    assert not re.search("^conv ", printed + log, re.M)  # only a dry run prints these
    assert step in (tmp_path / RUN / "config.json").read_text()


def test_auto_uses_strokes_if_the_download_fails(tmp_path: Path) -> None:
    sizes = ("--limit", 40, "--batch-size", 20, "--width", 2)
    printed = works("train", *sizes, "--epochs", 1, "--no-gif", cwd=tmp_path).stdout
    assert "strokes: 40 images" in printed
    for text in (printed, (tmp_path / RUN / "log.txt").read_text()):
        assert "using the built-in strokes" in text
    config = json.loads((tmp_path / RUN / "config.json").read_text())
    assert config["settings"]["data"] == "strokes"  # so a resumed run keeps the same data


# Resuming.


def test_a_run_stopped_after_any_step_resumes_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    """First inside an epoch, where the sums of the losses must survive; then at its end and in the next."""
    stopped = works("train", *TINY, "--epochs", 2, "--steps", 1, cwd=tmp_path)
    assert re.search(rf"Resume with: \S*python\S* -m tinygan.train --resume {RUN}\n", stopped.stdout)
    assert (tmp_path / RUN / "checkpoints/epoch_0000_step_0000001.npz").exists()
    for steps in (2, 3, 4, 6):
        works("train", "--resume", "--steps", steps, cwd=tmp_path)
    shown = in_page(tmp_path / RUN / "report.html")
    assert shown["curves"]["step"] == [1, 2, 3, 4, 5, 6] and shown["step"] == 6
    works("train", "--resume", "--epochs", 4, "--checkpoint-every", 2, cwd=tmp_path)
    assert digest(checkpoint(tmp_path, 4)) == digest(checkpoint(trained, 4))
    for epoch in range(5):
        assert (read_picture(preview(tmp_path, epoch)) == read_picture(preview(trained, epoch))).all()
    ours, theirs = stats(tmp_path), stats(trained)
    for row in ours + theirs:
        del row["seconds"], row["images_per_second"]
    assert ours == theirs
    losses = [RunFolder(cwd / RUN).read_losses() for cwd in (tmp_path, trained)]
    assert (losses[0] == losses[1]).all()
    commands = json.loads((tmp_path / RUN / "config.json").read_text())["commands"]
    assert ["--resume" in command["command"] for command in commands] == [False] + 5 * [True]


def test_a_run_resumed_from_an_older_checkpoint_file_continues_from_there(
    trained: Path, tmp_path: Path
) -> None:
    works("train", *TINY, "--epochs", 4, "--checkpoint-every", 1, cwd=tmp_path)
    back = works("train", "--resume", checkpoint(tmp_path, 1), "--steps", 4, cwd=tmp_path)
    assert "at step 3 of 4" in back.stdout
    ahead = works("train", "--resume", "--checkpoint-every", 2, cwd=tmp_path)
    assert "at step 4 of 12" in ahead.stdout
    assert digest(checkpoint(tmp_path, 4)) == digest(checkpoint(trained, 4))
    assert [row["epoch"] for row in stats(tmp_path)] == [1, 2, 3, 4]  # no duplicates


def test_a_run_on_a_folder_of_pictures_resumes_in_another_directory(tmp_path: Path) -> None:
    """One file cannot be read, which is printed."""
    folder, elsewhere = tmp_path / "pictures", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (4, 40, 30, 3), np.uint8)):
        save_png(folder / f"{number}.png", image)
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    small = ("--size", 8, "--channels", 3, "--batch-size", 2, "--width", 2, "--no-gif", "--no-report")
    printed = works("train", "--data", "pictures", *small, "--epochs", 1, cwd=tmp_path).stdout
    assert "broken.png" in printed and "4 images 8x8x3" in printed
    resume = ("train", "--resume", tmp_path / "runs/0001-pictures", "--epochs")
    works(*resume, 2, cwd=elsewhere)
    folder.rename(elsewhere / "moved")
    works(*resume, 3, "--data", "moved", cwd=elsewhere)
    np.save(tmp_path / "others.npy", np.zeros((4, 8, 8, 3), np.uint8))
    fails(tinygan(*resume, 4, "--data", "others.npy", cwd=tmp_path), 5, "was not trained on the images")


def test_a_resumed_run_warns_of_everything_that_can_change_its_bits(trained: Path, tmp_path: Path) -> None:
    path = copy_of(trained, tmp_path) / "config.json"
    config = json.loads(path.read_text())
    foreign = [("device", "processor"), ("device", "threads"), ("device", "engine"), ("versions", "numpy"),
               ("versions", "blas"), ("versions", "tinygan")]  # fmt: skip
    for group, name in foreign:
        config[group][name] = "other"
    config["device"]["step"] = "as a whole (an older path of the file)"  # makes no difference
    path.write_text(json.dumps(config))
    warned = works("train", "--resume", cwd=tmp_path).stderr.splitlines()
    assert len(warned) == len(foreign) and all("not bit for bit" in line for line in warned)
    for _, name in foreign:
        assert any(line.startswith(f"warning: {name} changed from other to ") for line in warned)
    assert works("train", "--resume", cwd=tmp_path).stderr == ""  # the configuration was updated


def test_a_damaged_checkpoint_is_skipped_with_a_warning_and_partial_files_are_deleted(
    trained: Path, tmp_path: Path
) -> None:
    half = copy_of(trained, tmp_path) / ".config.json.12-0a1b2c3d.tmp"
    half.write_text("{")
    for newest in (RunFolder(tmp_path / RUN).latest_path, checkpoint(tmp_path, 4)):
        newest.write_bytes(newest.read_bytes()[:-100])
    warned = works("train", "--resume", cwd=tmp_path).stderr.splitlines()
    assert len(warned) == 2 and all("Falling back to runs/0001-strokes" in line for line in warned)
    assert "latest.npz is damaged" in warned[0] and "epoch_0004.npz is damaged" in warned[1]
    assert not half.exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--batch-size", 16), ("--lr", 0.1), ("--seed", 5), ("--width", 3), ("--epochs", 3)]
)
def test_resuming_with_other_settings_is_refused(trained: Path, option: str, value: object) -> None:
    fails(tinygan("train", "--resume", option, value, cwd=trained), 2, option, "0001-strokes")


def test_an_unreadable_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path)
    checkpoint(tmp_path, 4).unlink()
    RunFolder(run).latest_path.unlink()
    checkpoint(tmp_path, 2).write_bytes(b"not a checkpoint")
    for command in ("train", "--resume"), ("sample",), ("report",):
        fails(tinygan(*command, cwd=tmp_path), 5, "epoch_0002.npz")
    assert len(RunFolder(run).read_losses()) == 4 * TINY_STEPS  # not truncated


@pytest.mark.parametrize("text", ['{"device": "gpu"}', '{"versions": []}'])
def test_a_damaged_configuration_is_refused(trained: Path, tmp_path: Path, text: str) -> None:
    (copy_of(trained, tmp_path) / "config.json").write_text(text)
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, "config.json")


def test_a_run_that_is_being_written_is_locked(trained: Path) -> None:
    with RunFolder(trained / RUN).locked():
        fails(tinygan("train", "--resume", cwd=trained), 5, "is being written by this program: end its loop")
        works("train", "--resume", "--dry-run", cwd=trained)


def test_nothing_to_resume_or_to_show(tmp_path: Path) -> None:
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, "runs")
    fails(tinygan("sample", cwd=tmp_path), 5, "runs")
    fails(tinygan("report", cwd=tmp_path), 5, "no run in runs")
    fails(tinygan("report", "gone", cwd=tmp_path), 5, "gone does not exist")
    fails(tinygan("report", "--frames", cwd=tmp_path), 2, "--frames")


# Processes: signals, and output without a reader.


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGUSR1, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_process_saves_on_a_signal_and_another_one_resumes(tmp_path: Path, number: int) -> None:
    """Bit for bit like a run that was never stopped. Until then the run is locked."""
    endless = (*TINY, "--epochs", 100_000, "--checkpoint-every", 50_000, "--no-gif")
    process = start("-m", "tinygan.train", *endless, cwd=tmp_path, stdout=subprocess.DEVNULL)
    statistics = tmp_path / RUN / "stats.jsonl"
    deadline = time.monotonic() + 60
    while not statistics.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, f"is being written by process {process.pid} on")
    process.send_signal(number)
    errors = ended(process).stderr
    assert process.returncode == 128 + number
    answer, line = errors.splitlines()
    assert answer == "saving; send another signal to stop at once"
    assert line.startswith("interrupted; everything is saved")
    assert f" -m tinygan.train --resume {RUN}" in line
    assert (tmp_path / RUN / "log.txt").read_text().endswith(f"{line}\n")
    (saved,) = (tmp_path / RUN / "checkpoints").iterdir()
    steps = int(read(saved)[0]["step"])
    shown = in_page(tmp_path / RUN / "report.html")
    assert shown["step"] == shown["curves"]["step"][-1] == steps
    again = ended(start("-m", "tinygan.train", "--resume", "--steps", steps + 1, "--no-gif", cwd=tmp_path))
    assert again.returncode == 0, again.stderr
    (tmp_path / "whole").mkdir()
    works("train", *endless, "--steps", steps + 1, "--no-report", "--quiet", cwd=tmp_path / "whole")
    newest, whole = (RunFolder(cwd / RUN).checkpoints()[0] for cwd in (tmp_path, tmp_path / "whole"))
    assert read(newest)[0].keys() == read(whole)[0].keys() and newest.name == whole.name
    assert all((array == read(whole)[0][name]).all() for name, array in read(newest)[0].items())


def test_a_training_continues_when_the_reader_of_its_output_is_gone(tmp_path: Path) -> None:
    process = start("-m", "tinygan.train", *TINY, "--epochs", 2, "--no-gif", "--no-report", cwd=tmp_path)
    assert process.stdout and process.stderr
    while not process.stdout.readline().startswith("run "):
        pass
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 1) and process.stderr.read() == ""
    process.stderr.close()
    assert checkpoint(tmp_path, 2).exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["explain", "report"])  # more and less than a buffer holds
def test_output_that_cannot_be_written_is_reported_in_one_line(trained: Path, command: str) -> None:
    with open("/dev/full", "w") as full:
        result = ended(start("-m", f"tinygan.{command}", cwd=trained, stdout=full))
    assert result.returncode == 5
    assert result.stderr == "error: cannot write the output: No space left on device.\n"


def test_a_command_without_a_reader_ends_silently(trained: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    result = ended(start("-m", "tinygan.explain", cwd=trained, stdout=theirs))
    os.close(theirs)
    assert (result.returncode, result.stderr) == (1, "")


def test_device_gpu_without_a_gpu_is_refused_with_a_remedy(tmp_path: Path) -> None:
    fails(ended(start("-m", "tinygan.train", *TINY, "--device", "gpu", cwd=tmp_path)), 3, "--device cpu")


# Errors.


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "cats"], 4, ["cats", "strokes"]),
        (["--data", "folder/that/is/missing"], 4, ["folder/that/is/missing"]),
        (["--data", "fashion-mnist", "--data-dir", "missing"], 4, ["missing"]),
        (["--data", "fashion-mnist"], 4, ["--data-dir"]),
        ([*TINY, "--limit", "20"], 4, ["20 images < --batch-size 32", "--batch-size 20"]),
        (["--bogus"], 2, ["--bogus"]),
        (["--epoch", "0"], 2, ["--epoch"]),
        (["--epochs", "many"], 2, ["many"]),
        (["--epochs", "-1"], 2, ["--epochs -1"]),
        (["--batch-size", "0"], 2, ["--batch-size 0"]),
        (["--lr", "nan"], 2, ["--lr nan"]),
        (["--lr-d", "0"], 2, ["--lr-d 0"]),
        (["--noise-dim", "1" + "0" * 12], 2, ["--noise-dim", "weights"]),
        (["--width", "100000"], 2, ["--width", "weights"]),
        (["--size", "4000000000"], 2, ["--size", "weights"]),
        (["--threads", "1000000"], 2, ["--threads 1000000"]),
        (["--data", "x" * 300], 4, ["xxx", "does not exist"]),
        (["--data", "fashion-mnist", "--data-dir", "x" * 300], 4, ["is not a folder"]),
        ([*TINY, "--out", "x" * 300], 5, ["cannot make a run folder"]),
        (["--beta1", "1"], 2, ["--beta1 1"]),
        (["--beta2", "-0.1"], 2, ["--beta2 -0.1"]),
        (["--average", "1"], 2, ["--average 1"]),
        (["--size", "30"], 2, ["30", "--size"]),
        (["--channels", "2"], 2, ["--channels", "2", "1, 3"]),
        (["--width", "0"], 2, ["width"]),
        (["--recipe", "slow"], 2, ["slow", "quick"]),
        ([*TINY, "--size", "32", "--metrics-every", "1"], 2, ["no classifier for pictures of 32x32x1"]),
        *[([f"--{name}", "9" * 400], 2, [f"--{name}"]) for name in ("epochs", "width", "size", "noise-dim")],
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    arguments: list[str], code: int, words: list[str], tmp_path: Path
) -> None:
    soon_over = ("--device", "cpu", "--steps", 0)  # in case it is not refused
    fails(tinygan("train", *soon_over, *arguments, cwd=tmp_path), code, *words)
    assert list(tmp_path.glob("runs*")) == []


@pytest.mark.parametrize("command", ["sample", "explain", "export", "evaluate", "report"])
def test_a_name_that_is_too_long_is_not_a_run(command: str, tmp_path: Path) -> None:
    options = ("--onnx", "g.onnx") if command == "export" else ()
    fails(tinygan(command, "x" * 300, *options, cwd=tmp_path), 5, "xxx")


def test_a_file_name_that_is_too_long_is_refused(trained: Path) -> None:
    fails(tinygan("sample", "--out", "x" * 300 + ".png", cwd=trained), 5, "cannot write")
    walk = ("--num", 2, "--interpolate", 2, "--out", "x" * 300 + ".gif")
    fails(tinygan("sample", *walk, cwd=trained), 5, "cannot write")
    fails(tinygan("sample", "--separate", "--out", "x" * 300, cwd=trained), 5, "cannot make", "--out")


def test_an_output_folder_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for dry_run in ((), ("--dry-run",)):
        for out in ("file", "file/runs"):
            result = tinygan("train", *TINY, "--out", out, *dry_run, cwd=tmp_path)
            fails(result, 5, "cannot make a run folder in ", "--out")
    assert (tmp_path / "file").read_text() == "in the way"


def test_weights_that_overflow_are_never_saved_and_the_exit_code_is_6(tmp_path: Path) -> None:
    arguments = (*TINY, "--limit", 32, "--lr", "1e39", "--epochs", 1)
    fails(tinygan("train", *arguments, cwd=tmp_path), 6, "no longer finite", "--lr")
    assert list((tmp_path / RUN / "checkpoints").iterdir()) == []


def test_an_overflow_is_reported_with_its_step_and_number(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 2, "--lr", "1e37", cwd=tmp_path)
    fails(result, 6, "epoch 1, step 2: ", " is not finite. Last good checkpoint: none yet. Start a new run")
    assert (tmp_path / RUN / "log.txt").read_text().splitlines()[-1] == result.stderr.strip()


# Samples.


def test_sample_writes_a_grid_and_prints_both_decisions(trained: Path, tmp_path: Path) -> None:
    printed = works("sample", "--num", 10, "--out", tmp_path / "grid.png", cwd=trained).stdout
    assert re.search(r"before training: \d+% real \(logit [+-]\d", printed)
    assert re.search(r"after training: \d+% real \(logit [+-]\d", printed)
    assert read_picture(tmp_path / "grid.png").ndim == 3


def test_sample_is_the_same_for_one_seed_and_differs_between_seeds(trained: Path, tmp_path: Path) -> None:
    grids = []
    for seed in (0, 3, 3):
        works("sample", "--seed", seed, "--out", tmp_path / "a.png", cwd=trained)
        grids.append(read_picture(tmp_path / "a.png"))
    assert (grids[0] == read_picture(preview(trained, 4))).all()  # 0: the run's seed
    assert (grids[1] == grids[2]).all() and (grids[0] != grids[1]).any()


def test_all_pictures_are_by_the_averaged_generator(tmp_path: Path) -> None:
    """Previews, sample, export: after 9 steps at this learning rate the trained weights differ visibly."""
    for averaged in (("--average", 0.9), ()):
        run = ("train", *TINY, "--epochs", 3, "--lr", 0.01, "--no-gif", "--checkpoint-every", 3, *averaged)
        works(*run, cwd=tmp_path)
    average, plain = (tmp_path / "runs" / name for name in ("0001-strokes", "0002-strokes"))
    previews = [read_picture(run / "samples/epoch_0003.png") for run in (average, plain)]
    assert (previews[0] != previews[1]).any()
    untrained = [read_picture(run / "samples/epoch_0000.png") for run in (average, plain)]
    assert (untrained[0] == untrained[1]).all()
    both = [tiles(page, 16, 28, 28)[:2] for page in (untrained[0], previews[0])]
    through = panels(np.stack(both), ["before training", "epoch 3"])
    for options, expected in ((["--num", 16], previews[0]), (["--through-training", "--num", 2], through)):
        works("sample", average, "--seed", 0, *options, "--out", tmp_path / "a.png", cwd=tmp_path)
        assert (read_picture(tmp_path / "a.png") == expected).all()
    onnx = pytest.importorskip("onnx")
    works("export", average, "--onnx", tmp_path / "g.onnx", cwd=tmp_path)
    kernel = onnx.numpy_helper.to_array(onnx.load(tmp_path / "g.onnx").graph.initializer[0])
    assert (kernel == load(average).G.parameters["00_dense/kernel"].data).all()
    result = tinygan("train", "--resume", average, "--average", 0.5, cwd=tmp_path)
    fails(result, 2, "was trained with --average 0.9, not 0.5")


def test_sample_separate_writes_one_file_for_each_picture(trained: Path, tmp_path: Path) -> None:
    works("sample", "--num", 11, "--separate", "--out", tmp_path / "pictures", cwd=trained)
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == [f"{number:02}.png" for number in range(11)]
    assert read_picture(tmp_path / "pictures/03.png").shape == (28, 28, 1)


def test_sample_reads_a_checkpoint_that_was_copied_elsewhere(trained: Path, tmp_path: Path) -> None:
    shutil.copy(checkpoint(trained, 4), tmp_path / "mine.npz")
    works("sample", "mine.npz", "--seed", 0, cwd=tmp_path)
    found = read_picture(tmp_path / "samples_mine_seed_0_num_16.png")
    assert (found == read_picture(preview(trained, 4))).all()
    fails(tinygan("sample", "mine.npz", "--through-training", cwd=tmp_path), 5, "name the run")


def test_sample_interpolates_in_a_looping_gif(trained: Path, tmp_path: Path) -> None:
    works("sample", "--num", 3, "--interpolate", 5, "--out", tmp_path / "walk.gif", cwd=trained)
    frames, loops = gif_frames(tmp_path / "walk.gif")
    assert 3 < frames <= 15 and loops == 0  # more than the end points


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--num 0", "--num 0"), ("--interpolate 1", "at least 2 frames"), ("--seed -1", "--seed -1"),
        ("--seed x", "--seed"), ("--bogus", "--bogus"), ("--num 1 --interpolate 5", "2 pictures"),
        ("--separate --interpolate 5", "not allowed with"), ("--grid 0x3", "ROWSxCOLS"),
        ("--grid 2x2 --num 5", "fit into --grid 2x2"), ("--grid 2x2 --separate", "not allowed with"),
        ("--format npy --separate", "Leave out --separate"), ("--out x.jpg", "does not end in .png or .npy"),
        ("--out x.png --format npy", "does not end in .npy"), ("--out x.png --interpolate 5", "end in .mp4"),
        ("--num 100000000000000000000", "more than 1,000,000"),
        ("--interpolate 1000000", "more than 1,000,000"),
    ],
)  # fmt: skip
def test_sample_refuses_bad_options(trained: Path, arguments: str, words: str) -> None:
    fails(tinygan("sample", *arguments.split(), cwd=trained), 2, words)


def test_sample_arranges_pictures_in_a_grid_of_any_shape(trained: Path, tmp_path: Path) -> None:
    for more, shown in (((), 16), (("--num", 9), 9)):
        works("sample", "--grid", "2x8", *more, "--seed", 0, "--out", tmp_path / "wide.png", cwd=trained)
        expected = grid(pictures(preview(trained, 4))[:shown], columns=8)
        assert (read_picture(tmp_path / "wide.png") == expected).all()


def test_sample_writes_the_exact_numbers(trained: Path, tmp_path: Path) -> None:
    works("sample", "--num", 3, "--seed", 0, "--out", tmp_path / "pictures.npy", cwd=trained)
    found = np.load(tmp_path / "pictures.npy")
    assert found.shape == (3, 28, 28, 1) and found.dtype == np.float32
    assert (to_uint8(found) == pictures(preview(trained, 4))[:3]).all()


def test_sample_shows_the_same_noise_through_the_training(trained: Path, tmp_path: Path) -> None:
    """Untrained and after epochs 2 and 4, up to the given checkpoint. A damaged one is skipped."""
    copy_of(trained, tmp_path)
    through = ("--through-training", "--num", 16, "--seed", 0, "--out", "through.png")
    untrained, two, four = "before training", "epoch 2", "epoch 4"
    for more, titles in (((), (untrained, two, four)), ((checkpoint(tmp_path, 2),), (untrained, two))):
        assert f"pictures, {', '.join(titles)}: " in works("sample", *more, *through, cwd=tmp_path).stdout
        expected = panels(np.stack([pictures(preview(trained, 2 * i)) for i in range(len(titles))]), titles)
        assert (read_picture(tmp_path / "through.png") == expected).all()
    damaged = checkpoint(tmp_path, 2)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = works("sample", *through, cwd=tmp_path)
    assert "warning: " in result.stderr and "before training, epoch 4:" in result.stdout


def test_sample_takes_the_newest_run_that_has_been_trained(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path)
    (tmp_path / "runs/0002-just-begun").mkdir()
    shutil.copy(run / "config.json", tmp_path / "runs/0002-just-begun")
    assert "0001-strokes/samples_epoch_0004_seed_1_num_16.png" in works("sample", cwd=tmp_path).stdout


# Reports.


def in_page(path: Path) -> dict[str, Any]:
    """The contents that a report's scripts read."""
    (text,) = re.findall(r'<script id="contents" type="application/json">(.*?)</script>', path.read_text())
    return json.loads(text)


def test_a_run_ends_with_a_complete_report(trained: Path) -> None:
    found = in_page(trained / RUN / "report.html")
    assert [row["epoch"] for row in found["stats"]] == [1, 2, 3, 4]
    assert [frame["epoch"] for frame in found["frames"]] == [0, 1, 2, 3, 4]
    assert len(found["curves"]["step"]) == found["step"] == 4 * TINY_STEPS
    log = (trained / RUN / "log.txt").read_text()
    assert f"Report, to open in a browser: {RUN / 'report.html'}" in log


def test_the_command_writes_the_same_report_again(trained: Path, tmp_path: Path) -> None:
    path = copy_of(trained, tmp_path) / "report.html"
    before, size = in_page(path), path.stat().st_size
    path.unlink()
    assert "0001-strokes/report.html" in works("report", cwd=tmp_path).stdout
    again = in_page(path)
    for found in (before, again):
        del found["config"]  # other tests resumed this run, which adds their commands
    assert again == before and abs(path.stat().st_size - size) < 1000


def test_the_command_report_writes_the_animation_and_the_losses_as_csv(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path)
    (run / "training.gif").unlink()
    printed = works("report", "--csv", cwd=tmp_path).stdout
    assert f"{RUN}/training.gif" in printed and gif_frames(run / "training.gif")[0] == 5
    works("report", "--csv", "--out", tmp_path / "a.html", cwd=tmp_path)
    assert {path.name for path in tmp_path.glob("*.*")} == {"a.html", "a.csv", "a.gif"}
    header, *rows = (run / "losses.csv").read_text().splitlines()
    assert header == "step,g_loss,d_loss,real_score,fake_score"
    assert [row.split(",")[0] for row in rows] == [str(step) for step in range(1, 4 * TINY_STEPS + 1)]
    numbers = np.array([row.split(",")[1:] for row in rows], float)
    assert np.allclose(numbers, RunFolder(run).read_losses(), rtol=1e-5)


def test_a_report_shows_the_generator_of_the_checkpoint_or_an_untrained_one(
    trained: Path, tmp_path: Path
) -> None:
    run = copy_of(trained, tmp_path)
    works("report", checkpoint(tmp_path, 2), cwd=tmp_path)
    found = in_page(run / "report.html")
    assert found["step"] == 2 * TINY_STEPS and len(found["stats"]) == 4 and len(found["frames"]) == 5
    shutil.rmtree(run / "checkpoints")
    assert "no checkpoint yet" in works("report", cwd=tmp_path).stdout
    assert in_page(run / "report.html")["step"] == 0


def test_several_runs_are_shown_side_by_side(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path)
    shutil.copytree(run, run.parent / "0002-again")
    (run.parent / "0003-not-trained").mkdir()
    shutil.copy(run / "config.json", run.parent / "0003-not-trained")
    printed = works("report", "1", run.parent / "0002-again", "not-trained", cwd=tmp_path).stdout
    assert "0003-not-trained has no checkpoint yet" in printed
    assert "runs/comparison.html: 3 side by side" in printed
    found = in_page(run.parent / "comparison.html")
    assert [one["name"] for one in found["runs"]] == ["0001-strokes", "0002-again", "0003-not-trained"]
    assert found["runs"][0]["pictures"] == found["runs"][1]["pictures"] != found["runs"][2]["pictures"]
    works("report", 1, 2, "--out", tmp_path / "a.html", cwd=tmp_path)
    assert len(in_page(tmp_path / "a.html")["runs"]) == 2
    fails(tinygan("report", 1, 2, "--csv", cwd=tmp_path), 2, "--csv writes the losses of one run")
    fails(tinygan("report", 1, "gone", cwd=tmp_path), 5, "gone does not exist")


def test_a_report_without_the_training_images_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8))
    short = ("--epochs", 3, "--batch-size", 1, "--width", 1, "--noise-dim", 5, "--no-gif")
    works("train", "--data", "mine.npy", *short, cwd=tmp_path)
    path = RunFolder.find(None, tmp_path / "runs")[0].path / "report.html"
    assert in_page(path)["ranked"]["nearest"]["among"] == 70
    assert "without" not in works("report", cwd=tmp_path).stderr
    assert in_page(path)["ranked"]["nearest"]["among"] == 70
    for change in (lambda file: np.save(file, np.zeros((70, 28, 28), np.uint8)), Path.unlink):
        change(tmp_path / "mine.npy")
        done = works("report", cwd=tmp_path)
        assert done.stderr.count("the report lacks the training images nearest to the samples: ") == 1
        found = in_page(path)["ranked"]
        assert found["nearest"] is None and len(found["probabilities"]) == 24


def test_no_report_and_no_gif_are_respected_and_a_resumed_run_writes_both(
    tmp_path: Path,
) -> None:
    printed = works("train", *TINY, "--epochs", 1, "--no-report", "--no-gif", cwd=tmp_path).stdout
    files = [tmp_path / RUN / name for name in ("report.html", "training.gif")]
    assert "report" not in printed and not any(file.exists() for file in files)
    again = works("train", "--resume", cwd=tmp_path).stdout
    assert "complete" in again and "report.html" in again and all(file.is_file() for file in files)


def test_a_report_that_fails_does_not_stop_the_training(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 1, "--no-report", cwd=tmp_path)
    (tmp_path / RUN / "report.html").mkdir()
    done = works("train", "--resume", "--epochs", 2, cwd=tmp_path)
    assert "warning: no report: " in done.stderr and "not a regular file" in done.stderr
    assert "Report" not in done.stdout
    assert checkpoint(tmp_path, 2).exists()


def test_a_failed_attempt_to_resume_does_not_change_the_run(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 1, "--no-report", cwd=tmp_path)
    config, stats_file = (tmp_path / RUN / name for name in ("config.json", "stats.jsonl"))
    stats_file.write_text("garbage\n" + stats_file.read_text())
    before = config.read_bytes(), stats_file.read_bytes()
    fails(tinygan("train", "--resume", "--epochs", 2, cwd=tmp_path), 5, "stats.jsonl is damaged on line 1")
    assert before == (config.read_bytes(), stats_file.read_bytes())


def test_out_of_memory_at_the_start_is_one_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(images: np.ndarray) -> np.ndarray:
        raise MemoryError("no memory")

    monkeypatch.setattr("tinygan.runs.loop.normalise", full)
    words = "out of memory at --batch-size 32 (no memory). Use --batch-size 16."
    fails(tinygan("train", *TINY, cwd=tmp_path), 3, words)
    assert (tmp_path / RUN / "log.txt").read_text().endswith(f"error: {words}\n")


# Evaluations.


@pytest.mark.usefixtures("few_strokes")
def test_an_evaluation_is_printed_with_its_floor_and_ceiling(trained: Path, tmp_path: Path) -> None:
    run, figures = trained / RUN, tmp_path / "figures.json"
    out = ("--json", figures, "--out", tmp_path / "new")
    printed = works("evaluate", run, "--samples", 300, *out, cwd=tmp_path).stdout
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    found = json.loads(figures.read_text())
    rows = found["measured"]
    assert rows["real images"]["fcd"] < rows["generator"]["fcd"] and rows["noise"]["recall"] < 0.1
    assert f"{rows['generator']['fcd']:.2f} +- {rows['generator']['error']:.2f}" in lines["generator"]
    assert "the floor" in lines["real"] and "the ceiling" in lines["noise"] and "not FID" in lines["FCD"]
    assert sum(found["classes"].values()) == pytest.approx(1) and len(found["nearest"]["rms"]) == 24
    how, side = found["shrunk_as_far"]
    assert how in lines["in"] and f"real digits shrunk to {side}x{side} pixels" in lines["in"]
    rare = [name for name, share in found["classes"].items() if share < 0.7 * found["test_classes"][name]]
    assert re.findall(r"(\d) \d+\.\d% \(", lines["rare"]) == rare and rare
    page = read_picture(tmp_path / "new/evaluated_epoch_0004_seed_1.png")
    assert len(set(found["shown"]["pictures"])) == 24 and page.shape[2] == 1


@pytest.mark.usefixtures("few_strokes")
def test_json_to_stdout_prints_nothing_else_there(trained: Path, tmp_path: Path) -> None:
    out = ("--json", "-", "--out", tmp_path / "new")
    done = works("evaluate", trained / RUN, "--samples", 300, *out, cwd=tmp_path)
    assert json.loads(done.stdout)["samples"] == 300 and "the floor" in done.stderr
    assert not (tmp_path / "-").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--out", "-"], 2, "--out: cannot write to the standard output"),
        (["--samples", "99"], 2, "--samples 99 is too few to measure. Use 100 or more."),
        (["--samples", "10001"], 4, "more than the 10,000 test images"),
        (["--seed", "-1"], 2, "--seed -1"),
        (["--json", "gone/figures.json"], 2, "there is no folder gone"),
        (["--json", "."], 2, "--json . is a folder"),
        (["--out", "near.jpg"], 2, "--out near.jpg does not end in .png"),
    ],
)
def test_evaluate_refuses_bad_options(
    trained: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    fails(tinygan("evaluate", trained / RUN, *arguments, cwd=tmp_path), code, words)


@pytest.mark.slow
@pytest.mark.usefixtures("few_strokes")
def test_an_evaluation_is_reproducible(trained: Path, tmp_path: Path) -> None:
    for name in ("once.json", "again.json"):
        works("evaluate", trained / RUN, "--samples", 300, "--json", name, cwd=tmp_path)
    assert (tmp_path / "once.json").read_bytes() == (tmp_path / "again.json").read_bytes()


@pytest.mark.slow
def test_metrics_during_training_equal_those_of_evaluate(tmp_path: Path) -> None:
    printed = works("train", *TINY, "--epochs", 3, "--metrics-every", 2, "--no-gif", cwd=tmp_path).stdout
    assert printed.count("FCD") == 1 and "10,000 of each" in printed
    rows = stats(tmp_path)
    assert ["evaluation" in row for row in rows] == [False, True, False]
    shown = in_page(tmp_path / RUN / "report.html")["stats"]
    assert shown[1]["evaluation"] == rows[1]["evaluation"]
    # A run that ends with epoch 2 has the same checkpoint.
    works("train", *TINY, "--epochs", 2, "--no-gif", cwd=tmp_path)
    works("evaluate", "--json", "figures.json", cwd=tmp_path)
    measured = json.loads((tmp_path / "figures.json").read_text())["measured"]
    more = {"floor": measured["real images"]["fcd"], "ceiling": measured["noise"]["fcd"], "samples": 10_000}
    assert measured["generator"] | more == pytest.approx(rows[1]["evaluation"], abs=1e-3)


# Gradient checks and exports.


def test_gradcheck_runs_and_knows_its_ops(tmp_path: Path) -> None:
    assert "pass" in works("gradcheck", "--op", "tanh", cwd=tmp_path).stdout
    fails(tinygan("gradcheck", "--op", "sine", cwd=tmp_path), 2, "invalid choice: 'sine'")


def test_export_writes_onnx_and_safetensors(trained: Path, tmp_path: Path) -> None:
    """A .safetensors file has weights only, so it cannot be explained or exported again."""
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    weights = tmp_path / "both.safetensors"
    printed = works("export", "--onnx", tmp_path / "g.onnx", "--safetensors", weights, cwd=trained).stdout
    assert len(printed.splitlines()) == 2 and printed.count("latest.npz") == 2
    assert (load(weights).generate(3) == load(trained / RUN).generate(3)).all()
    works("export", "--onnx", "--safetensors", "--out", tmp_path / "new", cwd=trained)
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"epoch_0004.onnx", "epoch_0004.safetensors"}
    fails(tinygan("explain", weights, cwd=tmp_path), 5, "holds only weights")
    fails(tinygan("export", weights, "--onnx", "g.onnx", cwd=tmp_path), 5, "holds only weights")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("", "nothing to write"), ("--onnx g.pb", "not end in .onnx"), ("--safetensors g", "in .safetensors")],
)
def test_export_refuses_bad_options(trained: Path, arguments: str, words: str) -> None:
    fails(tinygan("export", *arguments.split(), cwd=trained), 2, words)


# Explanations.


def test_explain_shows_every_layer_of_both_networks(trained: Path) -> None:
    before = digest(checkpoint(trained, 4))
    fast = works("explain", "--layers", cwd=trained).stdout
    for name in ("00_dense", "04_conv_transpose", "11_tanh", "00_conv", "07_dense", "total"):
        assert f"\n{name}" in fast
    assert "engine fast" in fast and "[tinygan/fast/conv.py:" in fast
    readable = works("explain", "--layers", "--engine", "readable", cwd=trained).stdout
    assert "engine readable" in readable and "[tinygan/ops/conv.py:" in readable
    assert "\nA training step runs as a whole (tinygan/fast/gan.py).\n" in fast
    assert "\nA training step runs op by op (tinygan/gan.py).\n" in readable
    assert digest(checkpoint(trained, 4)) == before


def test_explain_shows_one_layer(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path)
    printed = works("explain", "--layer", "generator/07_conv_transpose", cwd=tmp_path).stdout
    assert "here: x (32, 7, 7, 4) -> y (32, 14, 14, 2)" in printed
    assert "kernel (5, 5, 2, 4), trained" in printed and "sum over c" in printed
    assert read_picture(run / "generator_07_conv_transpose_kernels.png").shape[2] == 1
    assert tiles(read_picture(run / "generator_07_conv_transpose_maps.png"), 2, 14, 14).std() > 0


def test_explain_follows_a_step(trained: Path) -> None:
    printed = works("explain", cwd=trained).stdout
    assert "The next step, 13 (epoch 5)" in printed and "[tinygan/gan.py:" in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--layer 99_dense", "no layer. Use one of generator/00_dense"),
        ("--layer 07_dense --layers", "not allowed with"),
        ("--engine fast", "readable engine"),
    ],
)
def test_explain_refuses_bad_options(trained: Path, arguments: str, words: str) -> None:
    fails(tinygan("explain", *arguments.split(), cwd=trained), 2, words)


def test_explain_refuses_other_images(trained: Path, tmp_path: Path) -> None:
    copy_of(trained, tmp_path)
    arrays, meta = read(checkpoint(tmp_path, 4))
    save(checkpoint(tmp_path, 4), arrays, meta | {"data_sha256": "0" * 64})
    result = tinygan("explain", checkpoint(tmp_path, 4), cwd=tmp_path)
    fails(result, 5, "was not trained on the images")
