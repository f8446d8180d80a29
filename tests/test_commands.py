"""The commands, each run as a person runs it: in a process of its own, by its name."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tinygan import cli
from tinygan.runs.checkpoint import content_digest, read, save
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import load
from tinygan.views.pictures import grid, read_png, save_png, tiles, to_uint8

# Small enough for a second, with a partial last batch: 3 steps of 32, 32 and 16.
TINY = ("--data", "strokes", "--limit", "80", "--batch-size", "32", "--width", "2", "--noise-dim", "5")
TINY_STEPS = 3


Result = subprocess.CompletedProcess[str]


def tinygan(command: str, *arguments: object, cwd: Path, **environment: str) -> Result:
    """Run ``python -m tinygan.<command>`` in `cwd`, without a network and with a cache of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"tinygan.{command}", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(cwd) | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(command: str, *arguments: str) -> Result:
    """What the command prints to whom misuses it, in this process: before it touches threads or files."""
    module, printed, errors = import_module(f"tinygan.{command}"), io.StringIO(), io.StringIO()
    with redirect_stdout(printed), redirect_stderr(errors):
        code = cli.run(module.main, arguments)
    return subprocess.CompletedProcess(arguments, code, printed.getvalue(), errors.getvalue())


def clean_environment(cwd: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "TINYGAN_DATA"}
    root = str(Path(__file__).parent.parent)
    # Port 9 refuses at once: no test may reach a real server.
    return kept | {
        "PYTHONPATH": root,
        "TINYGAN_CACHE": str(cwd / "cache"),
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }


def fails(result: Result, code: int, *words: str) -> None:
    """It ended with `code` and one line of error that contains `words`, without a traceback."""
    assert result.returncode == code, result
    errors = [line for line in result.stderr.splitlines() if line]
    assert len(errors) == 1 and errors[0].startswith("error: "), result.stderr
    for word in words:
        assert word in errors[0]


def digest(path: Path) -> str:
    return content_digest(*read(path))


def gif_frames(path: Path) -> tuple[int, int]:
    """How many frames Pillow reads back from a GIF, and its loop count (0: for ever)."""
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1), image.info["loop"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run of 4 epochs in runs/0001-strokes."""
    cwd = tmp_path_factory.mktemp("trained")
    result = tinygan("train", *TINY, "--epochs", 4, "--checkpoint-every", 2, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return cwd


@pytest.mark.parametrize(
    ("command", "option"), [("train", "--device"), ("sample", "--out"), ("report", "RUN")]
)
def test_help_names_the_options_and_succeeds(command: str, option: str, tmp_path: Path) -> None:
    result = tinygan(command, "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert option in result.stdout


def test_the_package_lists_its_commands(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tinygan"],
        cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.returncode == 0
    for command in ("train", "sample", "evaluate", "gradcheck", "explain", "export", "report"):
        assert f"python -m tinygan.{command} " in result.stdout


def test_a_run_leaves_everything_in_its_folder(trained: Path) -> None:
    run = trained / "runs" / "0001-strokes"
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    files = {"config.json", "log.txt", "stats.jsonl", "losses.f32"}
    files |= {"reals.png", "training.gif", "report.html", ".lock"}
    samples = {f"samples/epoch_{epoch:04}.png" for epoch in range(5)}
    checkpoints = {"checkpoints/epoch_0002.npz", "checkpoints/epoch_0004.npz"}
    assert names == files | samples | checkpoints


def test_losses_of_every_step_are_kept_and_their_means_are_the_statistics(trained: Path) -> None:
    run = RunFolder(trained / "runs" / "0001-strokes")
    losses, rows = run.read_losses(), run.read_stats()
    assert losses.shape == (4 * TINY_STEPS, 4)
    means = losses.reshape(4, TINY_STEPS, 4).mean(axis=1)
    assert means[:, 0] == pytest.approx([row["g_loss"] for row in rows], rel=1e-5)
    assert means[:, 3] == pytest.approx([row["fake_score"] for row in rows], rel=1e-5)


def test_every_epoch_has_a_verdict_in_the_statistics_and_the_log(trained: Path) -> None:
    run = trained / "runs" / "0001-strokes"
    rows = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    log = (run / "log.txt").read_text()
    assert len(rows) == 4
    for row in rows:
        assert row["verdict"] in log
        assert set(row["health"]) == {
            "real_accuracy", "fake_accuracy", "real_spread", "fake_spread", "diversity", "nearest", "dead"
        }  # fmt: skip


def test_the_statistics_have_a_row_an_epoch(trained: Path) -> None:
    lines = (trained / "runs/0001-strokes/stats.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [TINY_STEPS * epoch for epoch in (1, 2, 3, 4)]
    for row in rows:
        assert 0 < row["g_loss"] < 5 and 0 < row["d_loss"] < 5
        assert 0 < row["real_score"] < 1 and 0 < row["fake_score"] < 1


def test_the_configuration_names_settings_data_device_and_versions(trained: Path) -> None:
    config = json.loads((trained / "runs/0001-strokes/config.json").read_text())
    assert config["settings"]["batch_size"] == 32 and config["settings"]["width"] == 2
    assert config["data"]["name"] == "strokes" and re.fullmatch("[0-9a-f]{64}", config["data"]["sha256"])
    assert config["device"]["device"] == "cpu"
    assert config["versions"]["numpy"] == np.__version__


def test_the_log_holds_what_was_printed(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 1, cwd=tmp_path)
    log = (tmp_path / "runs/0001-strokes/log.txt").read_text()
    assert "epoch 1/1 done" in log
    assert set(log.splitlines()) <= set(result.stdout.splitlines())


def test_the_grids_differ_from_epoch_to_epoch(trained: Path) -> None:
    grids = [read_png(trained / f"runs/0001-strokes/samples/epoch_{epoch:04}.png") for epoch in range(5)]
    assert all(grid.shape[0] >= 400 for grid in grids)  # large enough to look at
    assert all((a != b).any() for a, b in zip(grids[:-1], grids[1:], strict=True))


def test_the_animation_plays_in_a_loop(trained: Path) -> None:
    frames, loops = gif_frames(trained / "runs/0001-strokes/training.gif")
    assert frames > 1 and loops == 0  # 0: for ever


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 1, "--quiet", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_dry_run_counts_the_parameters_and_trains_nothing(tmp_path: Path) -> None:
    arguments = ("--data", "strokes", "--limit", 300, "--batch-size", 4, "--dry-run")
    result = tinygan("train", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for words in ("2,330,944", "25,472", "212,865", "7x7x256", "strokes: 300 images", "cpu", "steps of"):
        assert words in result.stdout, words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("engine", "step", "conv"),
    [
        ("fast", "as a whole (tinygan/fast/gan.py)", "frequencies: "),
        ("readable", "op by op (tinygan/gan.py)", "its definition (tinygan/ops/conv.py)"),
    ],
)
def test_a_dry_run_tells_how_steps_are_taken_and_convolutions_computed(
    engine: str, step: str, conv: str, tmp_path: Path
) -> None:
    result = tinygan("train", *TINY, "--engine", engine, "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("step ")] == [f"step     {step}"]
    convolutions = [line.split(": ", 1) for line in lines if line.startswith("conv ")]
    assert [name for name, _ in convolutions] == [
        "conv     generator/04_conv_transpose", "conv     generator/07_conv_transpose",
        "conv     generator/10_conv_transpose", "conv     discriminator/00_conv",
        "conv     discriminator/03_conv",
    ]  # fmt: skip
    assert convolutions[0][1].startswith(conv)


def test_a_batch_too_small_for_the_fast_step_is_told(tmp_path: Path) -> None:
    sizes = ("--width", 8, "--batch-size", 4)
    result = tinygan("train", *TINY, *sizes, "--engine", "fast", "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    why = "for generator/04_conv_transpose the definition is the fastest at this size"
    assert f"step     op by op (tinygan/gan.py): {why}" in result.stdout
    assert "conv     generator/04_conv_transpose: its definition (tinygan/ops/conv.py)" in result.stdout


@pytest.mark.parametrize("engine", ["fast", "readable"])
def test_a_run_prints_logs_and_keeps_how_its_steps_are_taken(engine: str, tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 1, "--engine", engine, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = tmp_path / "runs/0001-strokes"
    how = "as a whole (tinygan/fast/gan.py)" if engine == "fast" else "op by op (tinygan/gan.py)"
    for text in (result.stdout, (run / "log.txt").read_text()):
        assert [line for line in text.splitlines() if line.startswith("step ")] == [f"step     {how}"]
        assert not re.search("^conv ", text, re.M)  # of a dry run alone
    assert how in (run / "config.json").read_text()


def test_two_runs_get_two_folders(trained: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert tinygan("train", *TINY, "--epochs", 0, "--no-gif", cwd=tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["0001-strokes", "0002-strokes"]


def test_two_epochs_and_two_more_equal_four(trained: Path, tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 2, cwd=tmp_path).returncode == 0
    result = tinygan("train", "--resume", "--epochs", 4, "--checkpoint-every", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    last = "runs/0001-strokes/checkpoints/epoch_0004.npz"
    assert digest(tmp_path / last) == digest(trained / last)
    for epoch in range(5):
        name = f"runs/0001-strokes/samples/epoch_{epoch:04}.png"
        assert (read_png(tmp_path / name) == read_png(trained / name)).all()


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_run_stopped_inside_an_epoch_goes_on_as_if_it_had_not_been(
    trained: Path, tmp_path: Path, steps: int
) -> None:
    """Steps 1 and 2 lie in the first epoch, 4 in the second; the losses' sums must survive too."""
    stop = tinygan("train", *TINY, "--epochs", 4, "--steps", steps, cwd=tmp_path)
    assert stop.returncode == 0, stop.stderr
    go_on = tinygan("train", "--resume", "--checkpoint-every", 2, cwd=tmp_path)
    assert go_on.returncode == 0, go_on.stderr
    last = "runs/0001-strokes/checkpoints/epoch_0004.npz"
    assert digest(tmp_path / last) == digest(trained / last)
    ours, theirs = (
        [json.loads(line) for line in (cwd / "runs/0001-strokes/stats.jsonl").read_text().splitlines()]
        for cwd in (tmp_path, trained)
    )
    for row in ours + theirs:
        del row["seconds"], row["images_per_second"]
    assert ours == theirs
    losses = [RunFolder(cwd / "runs/0001-strokes").read_losses() for cwd in (tmp_path, trained)]
    assert (losses[0] == losses[1]).all()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_the_run_and_names_the_command_that_resumes_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tinygan.train", *TINY, "--epochs", "100000", "--checkpoint-every", "50000"],
        cwd=tmp_path, env=clean_environment(tmp_path), text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # the tests themselves may be under nohup
    )  # fmt: skip
    statistics = tmp_path / "runs/0001-strokes/stats.jsonl"
    deadline = time.monotonic() + 60
    while not statistics.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, f"is being written by process {process.pid} on")
    assert tinygan("train", "--resume", "--dry-run", cwd=tmp_path).returncode == 5  # no checkpoint yet
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "python -m tinygan.train --resume runs/0001-strokes" in errors and len(errors.splitlines()) == 1
    assert errors.startswith("interrupted; everything is saved")
    assert (tmp_path / "runs/0001-strokes/log.txt").read_text().endswith(errors)
    (saved,) = (tmp_path / "runs/0001-strokes/checkpoints").iterdir()
    steps = int(read(saved)[0]["step"])
    shown = in_page(tmp_path / "runs/0001-strokes/report.html")
    assert shown["step"] == shown["curves"]["step"][-1] == steps
    again = tinygan("train", "--resume", "--steps", steps + 1, "--no-gif", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_run_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinygan.train", *TINY, "--epochs", "2", "--no-gif", "--no-report"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(tmp_path), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout and process.stderr
    while not process.stdout.readline().startswith("run "):
        pass
    process.stdout.close()
    assert process.wait(timeout=60) in (0, 1) and process.stderr.read() == ""
    process.stderr.close()
    assert (tmp_path / "runs/0001-strokes/checkpoints/epoch_0002.npz").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_output_that_cannot_be_written_is_told_in_one_line(trained: Path) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "tinygan.explain"], cwd=trained, env=clean_environment(trained), text=True,
            stdout=full, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert result.returncode == 5
    assert result.stderr == "error: cannot write the output: No space left on device.\n"


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    script = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); " + (
        "from tinygan.runs.loop import _signals\n"
        "with _signals() as received:\n"
        "    signal.raise_signal(signal.SIGHUP)\n"
        "print(received)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=clean_environment(tmp_path), capture_output=True, text=True
    )
    assert result.stdout == "[]\n"


def test_a_run_on_a_folder_of_pictures_goes_on_from_another_place(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), np.uint8)):
        save_png(tmp_path / f"pictures/{number}.png", image)
    small = ("--batch-size", 8, "--width", 2, "--no-gif", "--no-report")
    assert tinygan("train", "--data", "pictures", *small, "--epochs", 1, cwd=tmp_path).returncode == 0
    resume = ("train", "--resume", tmp_path / "runs/0001-pictures", "--epochs")
    assert tinygan(*resume, 2, cwd=tmp_path / "elsewhere").returncode == 0
    (tmp_path / "pictures").rename(tmp_path / "elsewhere/moved")
    assert tinygan(*resume, 3, "--data", "moved", cwd=tmp_path / "elsewhere").returncode == 0
    other = tinygan(*resume, 4, "--data", "strokes", cwd=tmp_path)
    fails(other, 5, "was trained on other images")


def test_whatever_makes_a_resumed_run_differ_in_its_bits_is_told(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    path = tmp_path / "runs/0001-strokes/config.json"
    config = json.loads(path.read_text())
    foreign = [("device", "processor"), ("device", "threads"), ("device", "engine"), ("versions", "numpy"),
               ("versions", "blas"), ("versions", "tinygan")]  # fmt: skip
    for group, name in foreign:
        config[group][name] = "other"
    path.write_text(json.dumps(config))
    done = tinygan("train", "--resume", cwd=tmp_path)
    assert done.returncode == 0
    told = done.stderr.splitlines()
    assert len(told) == len(foreign) and all("not bit for bit" in line for line in told)
    for _, name in foreign:
        assert any(line.startswith(f"warning: {name} was other and is ") for line in told)
    assert tinygan("train", "--resume", cwd=tmp_path).stderr == ""  # the configuration is now this one


def test_resuming_a_finished_run_says_so(trained: Path) -> None:
    result = tinygan("train", "--resume", cwd=trained)
    assert result.returncode == 0 and "complete" in result.stdout


def test_resuming_from_a_checkpoint_file_starts_there(trained: Path, tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 2, "--checkpoint-every", 1, cwd=tmp_path).returncode == 0
    first = tmp_path / "runs/0001-strokes/checkpoints/epoch_0001.npz"
    result = tinygan("train", "--resume", first, "--epochs", 4, "--checkpoint-every", 2, cwd=tmp_path)
    assert "at step 3 of 12" in result.stdout
    last = "runs/0001-strokes/checkpoints/epoch_0004.npz"
    assert digest(tmp_path / last) == digest(trained / last)
    rows = (tmp_path / "runs/0001-strokes/stats.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4]  # none twice


def test_a_damaged_newest_checkpoint_is_passed_over_loudly(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 2, "--checkpoint-every", 1, cwd=tmp_path).returncode == 0
    newest = tmp_path / "runs/0001-strokes/checkpoints/epoch_0002.npz"
    newest.write_bytes(newest.read_bytes()[:-100])
    result = tinygan("train", "--resume", cwd=tmp_path)
    assert result.returncode == 0
    assert "warning" in result.stderr and "epoch_0001.npz" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--batch-size", 16), ("--lr", 0.1), ("--seed", 5), ("--width", 3), ("--epochs", 3)]
)
def test_resuming_with_other_settings_is_refused(trained: Path, option: str, value: object) -> None:
    fails(tinygan("train", "--resume", option, value, cwd=trained), 2, option, "0001-strokes")


def test_an_unreadable_checkpoint_is_refused(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "0001-strokes"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_bytes((trained / "runs/0001-strokes/config.json").read_bytes())
    (run / "checkpoints/epoch_0001.npz").write_bytes(b"not a checkpoint")
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, "epoch_0001.npz")
    fails(tinygan("sample", cwd=tmp_path), 5, "epoch_0001.npz")


@pytest.mark.skipif(os.name != "posix", reason="needs kill -9")
def test_a_run_that_is_being_written_is_left_alone_until_its_process_is_dead(tmp_path: Path) -> None:
    def checkpoints() -> set[Path]:
        return set(tmp_path.glob("runs/0001-strokes/checkpoints/*.npz"))

    before = checkpoints()
    writer = subprocess.Popen(
        [sys.executable, "-m", "tinygan.train", *TINY, "--epochs", "99999", "--checkpoint-every", "1"],
        cwd=tmp_path, env=clean_environment(tmp_path), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(2):  # a new run, then one that was resumed
            deadline = time.monotonic() + 60
            while checkpoints() <= before:  # until this writer, which thus has the lock, has written one
                assert writer.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            words = f"is being written by process {writer.pid} on"
            fails(tinygan("train", "--resume", cwd=tmp_path), 5, words)
            writer.kill()
            writer.wait()
            before = checkpoints()
            writer = subprocess.Popen(
                [sys.executable, "-m", "tinygan.train", "--resume"],
                cwd=tmp_path, env=clean_environment(tmp_path), stdout=subprocess.DEVNULL,
            )  # fmt: skip
    finally:
        writer.kill()
        writer.wait()


def test_nothing_to_resume_or_to_sample_from(tmp_path: Path) -> None:
    fails(tinygan("train", "--resume", cwd=tmp_path), 5, "runs")
    fails(tinygan("sample", cwd=tmp_path), 5, "runs")
    fails(tinygan("sample", "nowhere", cwd=tmp_path), 5, "nowhere")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "cats"], 4, ["cats", "strokes"]),
        (["--data", "folder/that/is/missing"], 4, ["folder/that/is/missing"]),
        (["--data", "fashion-mnist", "--data-dir", "missing"], 4, ["missing"]),
        (["--data", "fashion-mnist"], 4, ["--data-dir"]),
        (["--data", "strokes", "--limit", "196"], 4, ["196 images < --batch-size 256", "--batch-size 196"]),
        (["--bogus"], 2, ["--bogus"]),
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
        (["--data", "fashion-mnist", "--data-dir", "x" * 300], 4, ["is no folder"]),
        (["--data", "strokes", "--out", "x" * 300], 5, ["cannot make a run folder"]),
        (["--beta1", "1"], 2, ["--beta1 1"]),
        (["--beta2", "-0.1"], 2, ["--beta2 -0.1"]),
        (["--average", "1"], 2, ["--average 1"]),
        (["--size", "30"], 2, ["30", "--size"]),
        (["--channels", "2"], 2, ["--channels 2"]),
        (["--width", "0"], 2, ["width"]),
        (["--recipe", "slow"], 2, ["slow", "quick"]),
        *[([f"--{name}", "9" * 400], 2, [f"--{name}"]) for name in ("epochs", "width", "size", "noise-dim")],
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    arguments: list[str], code: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if code == 2:
        fails(refused("train", "--device", "cpu", *arguments), code, *words)
    else:
        fails(tinygan("train", "--device", "cpu", *arguments, cwd=tmp_path), code, *words)
    assert list(tmp_path.glob("runs*")) == []


@pytest.mark.parametrize("command", ["sample", "explain", "export", "evaluate", "report"])
def test_a_name_that_is_too_long_is_no_run(command: str, tmp_path: Path) -> None:
    options = ("--onnx", "g.onnx") if command == "export" else ()
    fails(tinygan(command, "x" * 300, *options, cwd=tmp_path), 5, "xxx")


def test_a_file_that_cannot_have_its_name_is_refused(trained: Path) -> None:
    fails(tinygan("sample", "--out", "x" * 300 + ".png", cwd=trained), 5, "cannot write")
    fails(tinygan("sample", "--num", 10**20, cwd=trained), 2, "more than 1,000,000")
    fails(tinygan("sample", "--interpolate", 10**6, cwd=trained), 2, "more than 1,000,000")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are no Unicode")
def test_folders_whose_names_are_no_unicode_work(tmp_path: Path) -> None:
    out = os.fsdecode(b"a\xff b")
    result = tinygan("train", *TINY, "--epochs", 1, "--out", out, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = tmp_path / out / "0001-strokes"
    assert (run / "report.html").exists() and (run / "training.gif").exists()
    assert "a\\udcff b/0001-strokes" in (run / "log.txt").read_text()
    for command in ("sample", "explain", "report"):
        result = tinygan(command, run, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    assert tinygan("train", "--resume", run, "--epochs", 2, cwd=tmp_path).returncode == 0


def test_an_empty_picture_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    fails(tinygan("train", "--data", "pictures", cwd=tmp_path), 4, "pictures")


def test_a_corrupt_picture_among_good_ones_is_named_and_passed_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        save_png(folder / f"{number}.png", rng.integers(0, 256, (40, 30, 3), dtype=np.uint8))
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:60])
    result = tinygan(
        "train", "--data", "pictures", "--size", 8, "--channels", 3, "--batch-size", 2, "--width", 2,
        "--epochs", 1, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "broken.png" in result.stdout and "4 images 8x8x3" in result.stdout


def test_a_truncated_gz_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"\x00\x00\x08\x03" + np.array([4, 28, 28], ">i4").tobytes() + bytes(4 * 784))
    folder = tmp_path / "data" / "fashion-mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(whole[:-12])
    fails(tinygan("train", "--data", "fashion-mnist", "--data-dir", "data", cwd=tmp_path), 4, "gz")


def test_gpu_without_a_gpu_is_refused_with_the_remedy(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--device", "gpu", cwd=tmp_path, CUDA_VISIBLE_DEVICES="-1")
    fails(result, 3, "--device cpu")


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for dry_run in ((), ("--dry-run",)):
        fails(tinygan("train", *TINY, "--out", "file/runs", *dry_run, cwd=tmp_path), 5, "--out")


def test_auto_falls_back_to_strokes_in_one_line_where_nothing_can_be_downloaded(tmp_path: Path) -> None:
    result = tinygan(
        "train", "--limit", 40, "--batch-size", 20, "--width", 2, "--epochs", 1, "--no-gif", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "strokes: 40 images" in result.stdout
    assert (tmp_path / "runs/0001-strokes").is_dir()


def test_sample_writes_a_grid_and_prints_both_decisions(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "grid.png"
    result = tinygan("sample", "--num", 10, "--out", target, cwd=trained)
    assert result.returncode == 0, result.stderr
    assert re.search(r"untrained: logit [+-]\d", result.stdout)
    assert re.search(r", trained: logit [+-]\d", result.stdout)
    assert read_png(target).ndim == 3


def test_sample_is_the_same_for_one_seed_and_differs_between_seeds(trained: Path, tmp_path: Path) -> None:
    grids = []
    for seed in (3, 3, 4):
        assert tinygan("sample", "--seed", seed, "--out", tmp_path / "a.png", cwd=trained).returncode == 0
        grids.append(read_png(tmp_path / "a.png"))
    assert (grids[0] == grids[1]).all() and (grids[0] != grids[2]).any()


def test_sample_with_the_run_s_own_seed_gives_the_last_preview(trained: Path, tmp_path: Path) -> None:
    assert tinygan("sample", "--seed", 0, "--out", tmp_path / "a.png", cwd=trained).returncode == 0
    preview = read_png(trained / "runs/0001-strokes/samples/epoch_0004.png")
    assert (read_png(tmp_path / "a.png") == preview).all()


def test_all_that_shows_pictures_shows_the_averaged_generator_s(tmp_path: Path) -> None:
    """Previews, sample, both exports: what trains would paint otherwise, after 9 steps at this rate."""
    for averaged in (("--average", 0.9), ()):
        run = ("train", *TINY, "--epochs", 3, "--lr", 0.01, "--no-gif", "--checkpoint-every", 3, *averaged)
        assert tinygan(*run, cwd=tmp_path).returncode == 0
    average, plain = (tmp_path / "runs" / name for name in ("0001-strokes", "0002-strokes"))
    previews = [read_png(run / "samples/epoch_0003.png") for run in (average, plain)]
    assert (previews[0] != previews[1]).any()
    assert (read_png(average / "samples/epoch_0000.png") == read_png(plain / "samples/epoch_0000.png")).all()
    pictures = tiles(previews[0], 16, 28, 28)
    for options, expected in (
        (["--num", 16], previews[0]),
        (["--through-training", "--num", 2], grid(pictures[:2], columns=1)),
    ):
        sample = ("sample", average, "--seed", 0, *options, "--out", tmp_path / "a.png")
        assert tinygan(*sample, cwd=tmp_path).returncode == 0
        assert (read_png(tmp_path / "a.png") == expected).all()
    onnx = pytest.importorskip("onnx")
    assert tinygan("export", average, "--onnx", tmp_path / "g.onnx", cwd=tmp_path).returncode == 0
    kernel = onnx.numpy_helper.to_array(onnx.load(tmp_path / "g.onnx").graph.initializer[0])
    assert (kernel == load(average).G.parameters["00_dense/kernel"].data).all()
    result = tinygan("train", "--resume", average, "--average", 0.5, cwd=tmp_path)
    fails(result, 2, "was trained with --average 0.9, not 0.5")


def test_sample_separate_writes_one_file_a_picture(trained: Path, tmp_path: Path) -> None:
    result = tinygan("sample", "--num", 11, "--separate", "--out", tmp_path / "pictures", cwd=trained)
    assert result.returncode == 0, result.stderr
    files = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert files == [f"{number:02}.png" for number in range(11)]
    assert read_png(tmp_path / "pictures/03.png").shape == (28, 28, 1)


def test_sample_reads_a_checkpoint_that_was_copied_elsewhere(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mine.npz"
    copy.write_bytes((trained / "runs/0001-strokes/checkpoints/epoch_0004.npz").read_bytes())
    assert tinygan("sample", copy, "--seed", 0, cwd=tmp_path).returncode == 0
    preview = read_png(trained / "runs/0001-strokes/samples/epoch_0004.png")
    assert (read_png(tmp_path / "samples_mine_seed_0.png") == preview).all()


def test_sample_interpolates_in_a_looping_gif(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "walk.gif"
    result = tinygan("sample", "--num", 3, "--interpolate", 5, "--out", target, cwd=trained)
    assert result.returncode == 0, result.stderr
    frames, loops = gif_frames(target)
    assert 1 < frames <= 15 and loops == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--num 0", "--num 0"), ("--interpolate 1", "at least 2 frames"), ("--seed -1", "--seed -1"),
        ("--seed x", "--seed"), ("--bogus", "--bogus"), ("--num 1 --interpolate 5", "2 ends"),
        ("--separate --interpolate 5", "not allowed with"), ("--grid 0x3", "ROWSxCOLS"),
        ("--grid 2x2 --num 5", "--grid 2x2 holds"), ("--grid 2x2 --separate", "leave it out"),
        ("--format npy --separate", "leave the other"), ("--out x.jpg", "does not end in .png or .npy"),
        ("--out x.png --format npy", "does not end in .npy"), ("--out x.png --interpolate 5", "end in .gif"),
    ],
)  # fmt: skip
def test_sample_refuses_bad_options(
    trained: Path, arguments: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    fails(refused("sample", *arguments.split()), 2, words)


def test_sample_arranges_pictures_as_told(trained: Path, tmp_path: Path) -> None:
    wide, loose = tmp_path / "wide.png", tmp_path / "loose.png"
    assert tinygan("sample", "--grid", "2x8", "--seed", 0, "--out", wide, cwd=trained).returncode == 0
    assert (
        tinygan("sample", "--grid", "2x8", "--num", 9, "--seed", 0, "--out", loose, cwd=trained).returncode
        == 0
    )
    preview = tiles(read_png(trained / "runs/0001-strokes/samples/epoch_0004.png"), 16, 28, 28)
    assert (read_png(wide) == grid(preview, columns=8)).all()
    assert (read_png(loose) == grid(preview[:9], columns=8)).all()


def test_sample_writes_the_very_numbers(trained: Path, tmp_path: Path) -> None:
    target = tmp_path / "pictures.npy"
    assert tinygan("sample", "--num", 3, "--seed", 0, "--out", target, cwd=trained).returncode == 0
    pictures = np.load(target)
    assert pictures.shape == (3, 28, 28, 1) and pictures.dtype == np.float32
    preview = tiles(read_png(trained / "runs/0001-strokes/samples/epoch_0004.png"), 16, 28, 28)
    assert (to_uint8(pictures) == preview[:3]).all()


def test_sample_shows_the_same_noise_through_the_training(trained: Path, tmp_path: Path) -> None:
    """Rows are pictures, columns checkpoints, of epochs 2 and 4."""
    target = tmp_path / "through.png"
    result = tinygan("sample", "--through-training", "--num", 16, "--seed", 0, "--out", target, cwd=trained)
    assert result.returncode == 0 and "epoch_0002, epoch_0004" in result.stdout
    previews = [
        tiles(read_png(trained / f"runs/0001-strokes/samples/epoch_{epoch:04}.png"), 16, 28, 28)
        for epoch in (2, 4)
    ]
    in_rows = np.stack(previews, axis=1).reshape(32, 28, 28, 1)
    assert (read_png(target) == grid(in_rows, columns=2)).all()


def test_sample_through_training_passes_over_a_damaged_checkpoint(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    damaged = tmp_path / "runs/0001-strokes/checkpoints/epoch_0002.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    result = tinygan("sample", "--through-training", cwd=tmp_path)
    assert result.returncode == 0 and "warning: " in result.stderr and "epoch_0002" not in result.stdout


def test_sample_through_training_needs_the_run(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mine.npz"
    copy.write_bytes((trained / "runs/0001-strokes/checkpoints/epoch_0004.npz").read_bytes())
    fails(tinygan("sample", copy, "--through-training", cwd=tmp_path), 5, "name the run")


def test_sample_takes_the_newest_run_that_has_been_trained(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    (tmp_path / "runs/0002-just-begun").mkdir()
    shutil.copy(tmp_path / "runs/0001-strokes/config.json", tmp_path / "runs/0002-just-begun")
    result = tinygan("sample", cwd=tmp_path)
    assert result.returncode == 0 and "0001-strokes" in result.stdout


def test_weights_that_overflow_are_never_saved_and_exit_with_6(tmp_path: Path) -> None:
    arguments = (*TINY, "--limit", 32, "--lr", "1e39", "--epochs", 1)
    fails(tinygan("train", *arguments, cwd=tmp_path), 6, "not finite", "--lr")
    assert list((tmp_path / "runs/0001-strokes/checkpoints").iterdir()) == []


def test_the_step_and_the_number_that_went_wrong_are_named(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 1, "--lr", "1e30", cwd=tmp_path).returncode == 6
    result = tinygan("train", *TINY, "--epochs", 2, "--lr", "1e37", cwd=tmp_path)
    fails(result, 6, "epoch 1, step 2: ", " is not finite. Last good checkpoint: none yet. Start a new run")
    log = (tmp_path / "runs/0002-strokes/log.txt").read_text()
    assert log.splitlines()[-1] == result.stderr.strip()


def test_a_run_that_went_back_does_not_jump_ahead_again(trained: Path, tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 4, "--checkpoint-every", 1, cwd=tmp_path).returncode == 0
    first = tmp_path / "runs/0001-strokes/checkpoints/epoch_0001.npz"
    assert tinygan("train", "--resume", first, "--steps", 4, cwd=tmp_path).returncode == 0
    assert "at step 4 of 12" in tinygan("train", "--resume", cwd=tmp_path).stdout
    rows = (tmp_path / "runs/0001-strokes/stats.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("text", ["{", "[]", '{"device": "gpu"}', '{"versions": []}'])
def test_a_damaged_configuration_is_refused(trained: Path, tmp_path: Path, text: str) -> None:
    run = tmp_path / "runs/0001-strokes"
    (run / "checkpoints").mkdir(parents=True)
    saved = (trained / "runs/0001-strokes/checkpoints/epoch_0004.npz").read_bytes()
    (run / "checkpoints/epoch_0004.npz").write_bytes(saved)
    (run / "config.json").write_text(text)
    result = tinygan("train", "--resume", cwd=tmp_path)
    fails(result, 5, "config.json")


# Reports.


def in_page(path: Path) -> dict[str, Any]:
    """What a report's scripts read."""
    (text,) = re.findall(r'<script id="contents" type="application/json">(.*?)</script>', path.read_text())
    return json.loads(text)


def test_a_run_ends_with_a_report_of_all_of_it(trained: Path) -> None:
    run = trained / "runs/0001-strokes"
    found = in_page(run / "report.html")
    assert [row["epoch"] for row in found["stats"]] == [1, 2, 3, 4]
    assert [frame["epoch"] for frame in found["frames"]] == [0, 1, 2, 3, 4]
    assert len(found["curves"]["step"]) == found["step"] == 4 * TINY_STEPS
    assert (
        f"The report, to open in a browser: {run.relative_to(trained) / 'report.html'}"
        in (run / "log.txt").read_text()
    )


def test_the_command_writes_the_same_report_again(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    path = tmp_path / "runs/0001-strokes/report.html"
    before, size = in_page(path), path.stat().st_size
    path.unlink()
    result = tinygan("report", cwd=tmp_path)
    assert result.returncode == 0 and "0001-strokes/report.html" in result.stdout
    again = in_page(path)
    for found in (before, again):
        del found["config"]  # other tests went on with this run, which adds their commands
    assert again == before and abs(path.stat().st_size - size) < 1000


def test_a_report_of_a_checkpoint_shows_its_generator(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    result = tinygan("report", "runs/0001-strokes/checkpoints/epoch_0002.npz", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    found = in_page(tmp_path / "runs/0001-strokes/report.html")
    assert found["step"] == 2 * TINY_STEPS and len(found["stats"]) == 4


def test_a_run_that_was_stopped_has_a_report_and_goes_on_with_it(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 3, "--steps", 4, cwd=tmp_path).returncode == 0
    path = tmp_path / "runs/0001-strokes/report.html"
    assert in_page(path)["curves"]["step"] == [1, 2, 3, 4]
    assert tinygan("train", "--resume", cwd=tmp_path).returncode == 0
    assert len(in_page(path)["curves"]["step"]) == 3 * TINY_STEPS


def test_no_report_writes_none(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 1, "--no-report", cwd=tmp_path)
    assert result.returncode == 0 and "report" not in result.stdout
    assert not (tmp_path / "runs/0001-strokes/report.html").exists()


def test_a_run_without_a_checkpoint_is_shown_untrained(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs/0001-strokes/checkpoints")
    result = tinygan("report", cwd=tmp_path)
    assert result.returncode == 0 and "no checkpoint yet" in result.stdout
    assert in_page(tmp_path / "runs/0001-strokes/report.html")["step"] == 0


def test_a_report_that_fails_does_not_stop_the_training(tmp_path: Path) -> None:
    """Here report.html is a folder."""
    first = tinygan("train", *TINY, "--epochs", 1, "--no-report", cwd=tmp_path)
    assert first.returncode == 0
    (tmp_path / "runs/0001-strokes/report.html").mkdir()
    result = tinygan("train", "--resume", "--epochs", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "warning: no report: " in result.stdout and "The report" not in result.stdout
    assert (tmp_path / "runs/0001-strokes/checkpoints/epoch_0002.npz").exists()


def test_resuming_a_complete_run_brings_its_report_back(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 1, "--no-report", "--no-gif", cwd=tmp_path).returncode == 0
    again = tinygan("train", "--resume", cwd=tmp_path)
    assert again.returncode == 0 and "report.html" in again.stdout
    run = tmp_path / "runs/0001-strokes"
    assert (run / "report.html").is_file() and (run / "training.gif").is_file()


def test_damaged_statistics_do_not_stop_the_training(tmp_path: Path) -> None:
    assert tinygan("train", *TINY, "--epochs", 1, cwd=tmp_path).returncode == 0
    with open(tmp_path / "runs/0001-strokes/stats.jsonl", "a") as file:
        file.write("{}\n")
    result = tinygan("train", "--resume", "--epochs", 2, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "warning: no report: " in result.stdout and "without epoch" in result.stdout


def test_an_evaluation_stands_beside_its_floor_and_its_ceiling(trained: Path, tmp_path: Path) -> None:
    run, figures = trained / "runs/0001-strokes", tmp_path / "figures.json"
    result = tinygan("evaluate", run, "--samples", 300, "--json", figures, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line.strip()}
    found = json.loads(figures.read_text())
    judged = found["judged"]
    assert judged["real images"]["fcd"] < judged["generator"]["fcd"] and judged["noise"]["recall"] < 0.1
    assert f"{judged['generator']['fcd']:.2f} +- {judged['generator']['error']:.2f}" in lines["generator"]
    assert "the floor" in lines["real"] and "the ceiling" in lines["noise"] and "No FID" in lines["FCD"]
    assert sum(found["classes"].values()) == pytest.approx(1) and len(found["nearest"]["rms"]) == 16
    assert read_png(run / "nearest_epoch_0004_seed_1.png").shape[2] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--samples", "99"], 2, "--samples 99 is less than 100"),
        (["--samples", "10001"], 4, "more than the 10,000 test images"),
        (["--seed", "-1"], 2, "--seed -1"),
        (["--json", "gone/figures.json"], 2, "there is no folder gone"),
        (["--json", "."], 2, "--json . is a folder"),
    ],
)
def test_evaluate_refuses_what_it_cannot_do(
    trained: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    fails(tinygan("evaluate", trained / "runs/0001-strokes", *arguments, cwd=tmp_path), code, words)


@pytest.mark.slow
def test_an_evaluation_gives_the_same_figures_again(trained: Path, tmp_path: Path) -> None:
    found = []
    for name in ("once.json", "again.json"):
        options = ("--samples", 300, "--json", name)
        assert tinygan("evaluate", trained / "runs/0001-strokes", *options, cwd=tmp_path).returncode == 0
        found.append(json.loads((tmp_path / name).read_text()))
    assert found[0] == found[1]


@pytest.mark.slow
def test_metrics_are_recorded_and_equal_those_of_evaluate(tmp_path: Path) -> None:
    result = tinygan("train", *TINY, "--epochs", 3, "--metrics-every", 2, "--no-gif", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("FCD") == 1 and "10,000 of each" in result.stdout
    rows = RunFolder(tmp_path / "runs/0001-strokes").read_stats()
    assert ["evaluation" in row for row in rows] == [False, True, False]
    shown = in_page(tmp_path / "runs/0001-strokes/report.html")["stats"]
    assert shown[1]["evaluation"] == rows[1]["evaluation"]
    # The checkpoint of epoch 2, from a run that ends there.
    short = tinygan("train", *TINY, "--epochs", 2, "--no-gif", cwd=tmp_path)
    assert short.returncode == 0
    assert tinygan("evaluate", "--json", "figures.json", cwd=tmp_path).returncode == 0
    judged = json.loads((tmp_path / "figures.json").read_text())["judged"]
    beside = {"floor": judged["real images"]["fcd"], "ceiling": judged["noise"]["fcd"], "samples": 10_000}
    assert judged["generator"] | beside == pytest.approx(rows[1]["evaluation"], abs=1e-3)


def test_metrics_of_pictures_without_a_classifier_are_refused_at_once(tmp_path: Path) -> None:
    words = "no classifier for pictures of 32x32x1"
    fails(tinygan("train", *TINY, "--size", 32, "--metrics-every", 1, cwd=tmp_path), 2, words)
    assert not (tmp_path / "runs").exists()


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    fails(tinygan("report", cwd=tmp_path), 5, "no run in runs")
    fails(tinygan("report", "gone", cwd=tmp_path), 5, "gone does not exist")
    fails(tinygan("report", "--frames", cwd=tmp_path), 2, "--frames")


def test_gradcheck_runs_and_knows_its_ops(tmp_path: Path) -> None:
    result = tinygan("gradcheck", "--op", "tanh", cwd=tmp_path)
    assert result.returncode == 0 and "pass" in result.stdout
    fails(tinygan("gradcheck", "--op", "sine", cwd=tmp_path), 2, "no op. Use one of add, reshape, dense")


def test_export_writes_what_other_programs_read(trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    files = ("--onnx", tmp_path / "g.onnx", "--safetensors", tmp_path / "both.safetensors")
    result = tinygan("export", *files, cwd=trained)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2 and "epoch_0004.npz" in result.stdout
    ours = load(trained / "runs/0001-strokes").generate(3)
    assert (load(tmp_path / "both.safetensors").generate(3) == ours).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [("", "nothing to write"), ("--onnx g.pb", "not end in .onnx"), ("--safetensors g", "in .safetensors")],
)
def test_export_refuses_what_it_cannot_write(trained: Path, arguments: str, words: str) -> None:
    fails(tinygan("export", *arguments.split(), cwd=trained), 2, words)


# A look inside.


def test_explain_tells_of_every_layer_of_both_networks(trained: Path) -> None:
    before = digest(trained / "runs/0001-strokes/checkpoints/epoch_0004.npz")
    result = tinygan("explain", "--layers", cwd=trained)
    assert result.returncode == 0, result.stderr
    for name in ("00_dense", "04_conv_transpose", "11_tanh", "00_conv", "07_dense", "in all"):
        assert f"\n{name}" in result.stdout
    assert "engine fast" in result.stdout and "[tinygan/fast/conv.py:" in result.stdout
    readable = tinygan("explain", "--layers", "--engine", "readable", cwd=trained)
    assert "engine readable" in readable.stdout and "[tinygan/ops/conv.py:" in readable.stdout
    assert "\nA training step is taken as a whole (tinygan/fast/gan.py).\n" in result.stdout
    assert "\nA training step is taken op by op (tinygan/gan.py).\n" in readable.stdout
    assert digest(trained / "runs/0001-strokes/checkpoints/epoch_0004.npz") == before


def test_explain_shows_one_layer(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    result = tinygan("explain", "--layer", "generator/07_conv_transpose", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "here: x (32, 7, 7, 4) -> y (32, 14, 14, 2)" in result.stdout
    assert "kernel (5, 5, 2, 4), trained" in result.stdout and "sum over c" in result.stdout
    run = tmp_path / "runs/0001-strokes"
    assert read_png(run / "generator_07_conv_transpose_kernels.png").shape[2] == 1
    assert tiles(read_png(run / "generator_07_conv_transpose_maps.png"), 2, 14, 14).std() > 0


@pytest.mark.parametrize("command", ["explain", "export --onnx g.onnx"])
def test_exported_weights_are_no_checkpoint(trained: Path, tmp_path: Path, command: str) -> None:
    pytest.importorskip("safetensors")
    file = tmp_path / "g.safetensors"
    exported = tinygan("export", trained / "runs/0001-strokes", "--safetensors", file, cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    fails(tinygan(*command.split(), file, cwd=tmp_path), 5, "holds weights alone")


def test_explain_explains_a_step(trained: Path) -> None:
    result = tinygan("explain", cwd=trained)
    assert result.returncode == 0, result.stderr
    assert "Step 13, in epoch 5" in result.stdout and "[tinygan/gan.py:" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--layer 99_dense", "no layer. Use one of generator/00_dense"),
        ("--layer 07_dense --layers", "not allowed with"),
        ("--engine fast", "readable engine"),
    ],
)
def test_explain_refuses_what_there_is_not(trained: Path, arguments: str, words: str) -> None:
    fails(tinygan("explain", *arguments.split(), cwd=trained), 2, words)


def test_explain_refuses_other_images(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "runs", tmp_path / "runs")
    path = tmp_path / "runs/0001-strokes/checkpoints/epoch_0004.npz"
    arrays, meta = read(path)
    save(path, arrays, meta | {"data_sha256": "0" * 64})
    fails(tinygan("explain", cwd=tmp_path), 5, "was trained on other images")
