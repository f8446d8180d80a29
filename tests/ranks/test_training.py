"""Whole trainings on several ranks, as real processes: what they write, say, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.ranks.launch import ROOT, finish, needs_mpi, start
from tests.standin.kernels import COMPILER
from tinygan.runs.checkpoint import content_digest, read

# Twelve steps of four epochs; the last batch of each has 16 images.
TRAIN = (
    "--data", "strokes", "--limit", "80", "--batch-size", "32", "--width", "2", "--noise-dim", "5",
    "--epochs", "4", "--checkpoint-every", "1", "--average", "0.9", "--device", "cpu", "--threads", "1",
)  # fmt: skip
RUN = Path("runs/0001-strokes")
LAST = RUN / "checkpoints/epoch_0004.npz"
EITHER_RANK = pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])


def train(ranks: int, cwd: Path, *more: str) -> str:
    code, output, errors = finish(ranks, "-m", "tinygan.train", *(more or TRAIN), cwd=cwd)
    assert code == 0, errors
    return output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two ranks have trained from end to end."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "output.txt").write_text(train(2, folder), encoding="utf-8")
    return folder


def weights(folder: Path) -> dict[str, np.ndarray]:
    arrays, _ = read(folder / LAST)
    return arrays


def differ_by_rounding(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return all(abs(a[name] - b[name]).max() <= 2e-4 * max(1e-3, abs(a[name]).max()) for name in a)


@needs_mpi
def test_the_first_rank_alone_speaks_and_writes(whole: Path) -> None:
    lines = (whole / "output.txt").read_text(encoding="utf-8").splitlines()
    for word in ("run ", "data ", "device ", "recipe ", "ranks    2 on 1 host", "epoch 4/4 done", "done "):
        assert len([line for line in lines if line.startswith(word)]) == 1, word
    assert len([line for line in lines if line.startswith("saved ")]) == 4
    assert json.loads((whole / RUN / "config.json").read_text())["device"]["ranks"] == 2
    assert len((whole / RUN / "stats.jsonl").read_text().splitlines()) == 4
    assert [path.name for path in (whole / "runs").iterdir()] == [RUN.name]


@needs_mpi
def test_the_second_rank_writes_nothing_into_the_run(tmp_path: Path) -> None:
    options = [*TRAIN, "--steps", "4"]
    code, _, errors = finish(2, "-m", "tests.ranks.saboteur", "idle", "1", "0", *options, cwd=tmp_path)
    assert code == 0, errors


@needs_mpi
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_checkpoint_of_two_ranks_goes_on_with_more_or_fewer(
    tmp_path: Path, whole: Path, ranks: int
) -> None:
    train(2, tmp_path, *TRAIN, "--steps", "7")
    train(ranks, tmp_path, "--resume", "--steps", "12")
    assert differ_by_rounding(whole, tmp_path)
    assert f"ranks was 2 and is {ranks}" in (tmp_path / RUN / "log.txt").read_text()


@needs_mpi
def test_a_run_of_one_process_goes_on_with_two_ranks(tmp_path: Path, whole: Path) -> None:
    train(1, tmp_path, *TRAIN, "--steps", "7")
    train(2, tmp_path, "--resume", "--steps", "12")
    assert differ_by_rounding(whole, tmp_path)


@needs_mpi
@EITHER_RANK
def test_a_signal_to_one_rank_saves_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, whole: Path, rank: int
) -> None:
    command = ("-m", "tests.ranks.saboteur", "signal", str(rank), "6", *TRAIN)
    code, output, errors = finish(2, *command, cwd=tmp_path)
    assert code == 130 and errors.count("everything is saved") == 1, errors
    assert "Traceback" not in errors and output.count("saved ") == 3
    train(2, tmp_path, "--resume")
    assert content_digest(*read(tmp_path / LAST)) == content_digest(*read(whole / LAST))


@needs_mpi
@EITHER_RANK
@pytest.mark.parametrize("how", [pytest.param("raise", marks=pytest.mark.slow), "kill"])
def test_a_rank_that_fails_ends_all_of_them(tmp_path: Path, whole: Path, how: str, rank: int) -> None:
    start = time.monotonic()
    command = ("-m", "tests.ranks.saboteur", how, str(rank), "7", *TRAIN)
    code, output, errors = finish(2, *command, cwd=tmp_path, seconds=60)
    assert code != 0 and time.monotonic() - start < 40
    assert f"saved    {RUN / 'checkpoints/epoch_0002.npz'}" in output  # named, and whole:
    if how == "raise":
        assert f"rank {rank} on " in errors and "RuntimeError: on purpose" in errors
        assert f"Last checkpoint: {RUN / 'checkpoints/epoch_0002.npz'}" in errors
    train(1, tmp_path, "--resume")
    assert differ_by_rounding(whole, tmp_path)


@needs_mpi
@EITHER_RANK
def test_a_number_that_is_not_finite_on_one_rank_stops_all_with_one_line(tmp_path: Path, rank: int) -> None:
    command = ("-m", "tests.ranks.saboteur", "nan", str(rank), "7", *TRAIN)
    code, _, errors = finish(2, *command, cwd=tmp_path)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 6 and len(lines) == 1 and "Traceback" not in errors, errors
    assert "epoch 3, step 8" in lines[0] and "epoch_0002.npz" in lines[0]


@needs_mpi
@pytest.mark.slow
def test_a_file_that_the_first_rank_alone_cannot_write_ends_all_and_is_logged(tmp_path: Path) -> None:
    train(1, tmp_path, *TRAIN, "--steps", "3")
    (tmp_path / RUN / "training.gif").unlink()
    (tmp_path / RUN / "training.gif").mkdir()
    code, _, errors = finish(2, "-m", "tinygan.train", "--resume", cwd=tmp_path)
    line = next(line for line in errors.splitlines() if line.startswith("error: "))
    assert code == 5 and line.startswith("error: rank 0 on ") and f"Last checkpoint: {LAST}" in line
    assert "training.gif is no regular file" in (tmp_path / RUN / "log.txt").read_text().splitlines()[-1]


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_saves(tmp_path: Path, number: int) -> None:
    """Ctrl-C in a terminal reaches mpiexec alone, which passes it on."""
    more = ("--epochs", "100000", "--checkpoint-every", "100000", "--no-gif", "--no-report")
    process = start(2, "-m", "tinygan.train", *TRAIN, *more, cwd=tmp_path)
    assert process.stdout and any(line.startswith("epoch 2/") for line in process.stdout)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and errors.count("everything is saved") == 1, errors
    assert len(list((tmp_path / RUN / "checkpoints").iterdir())) == 1


@needs_mpi
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--data", "nowhere"), 4, "nowhere"),
        (("--data", "strokes", "--limit", "10", "--batch-size", "1"), 2, "2 ranks share a batch of 1"),
        (("--epochs", "x"), 2, "--epochs"),
        (("--resume",), 5, "runs"),
        (("--out", "/dev/null/x", *TRAIN), 5, "/dev/null/x"),
    ],
)  # fmt: skip
def test_bad_input_is_told_once(tmp_path: Path, options: tuple[str, ...], code: int, words: str) -> None:
    found, output, errors = finish(2, "-m", "tinygan.train", *options, cwd=tmp_path)
    told = [line for line in errors.splitlines() if "error: " in line]
    assert found == code and len(told) == 1 and words in told[0], errors
    assert "Traceback" not in errors


@needs_mpi
@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to run the kernels with")
def test_ranks_with_a_card_each_train_the_same_and_a_processor_goes_on(tmp_path: Path, whole: Path) -> None:
    """On the stand-ins: NCCL's sums in the graph, and a checkpoint that one process reads."""
    options = [*TRAIN, "--device", "gpu", "--precision", "float32", "--steps", "10"]
    code, output, errors = finish(2, "-m", "tests.ranks.saboteur", "card", "0", "0", *options, cwd=tmp_path)
    assert code == 0 and output.count("ranks    2 on 1 host") == 1, errors
    device = json.loads((tmp_path / RUN / "config.json").read_text())["device"]
    assert (device["device"], device["engine"], device["ranks"]) == ("gpu", "fast", 2)
    train(1, tmp_path, "--resume", "--device", "cpu", "--steps", "12")
    assert differ_by_rounding(whole, tmp_path)


@needs_mpi
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("available = False", "finds no NCCL"),
        ("NcclCommunicator = refuse", "Start one rank to a card"),
        ("NcclCommunicator = lambda *arguments: {}[6]", "Start one rank to a card"),  # ncclRemoteError
    ],
)
def test_what_nccl_lacks_is_told_with_its_remedy(broken: str, words: str) -> None:
    code = f"""if True:
        import sys
        import mpi4py.MPI
        from tests.standin import cupy, nccl
        from tinygan.arrays import Backend
        from tinygan.backend import shared_by
        from tinygan.errors import DeviceError
        from tinygan.ranks.mpi import MPI
        xp, card, _ = cupy.make()
        module = xp.cuda.nccl = nccl.make(card)
        sys.modules |= {{"cupy": xp, "cupy.cuda": xp.cuda}}
        def refuse(*arguments):
            raise nccl.NcclError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")
        module.{broken}
        try:
            shared_by(Backend(xp, "gpu"), MPI(mpi4py.MPI))
        except DeviceError as problem:
            print(problem)
    """
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert words in done.stdout and len(done.stdout.splitlines()) == 1


@needs_mpi
def test_a_rank_with_other_weights_is_told(tmp_path: Path) -> None:
    options = [*TRAIN, "--steps", "6"]
    command = ("-m", "tests.ranks.saboteur", "drift", "1", "4", *options)
    code, output, errors = finish(2, *command, cwd=tmp_path)
    assert code == 0, errors
    before, after = output.split("epoch_0001.npz", 1)
    assert "other weights" not in before and after.count("warning: rank 1 on ") == 1


@needs_mpi
def test_help_is_printed_once(tmp_path: Path) -> None:
    assert train(2, tmp_path, "--help").count("usage: ") == 1


@needs_mpi
def test_a_dry_run_tells_of_ranks_and_hosts(tmp_path: Path) -> None:
    output = train(2, tmp_path, *TRAIN, "--dry-run")
    assert output.count("ranks    2 on 1 host") == 1 and not (tmp_path / "runs").exists()


def test_one_process_imports_nothing_of_mpi(tmp_path: Path) -> None:
    code = "import sys, tinygan.train as t; t.main(sys.argv[1:]); sys.exit('mpi4py' in sys.modules)"
    command = [sys.executable, "-c", code, *TRAIN, "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("raise ImportError('No module named mpi4py')", "pip install"),
        ("raise RuntimeError('cannot load MPI library')", "pip install"),
        (
            "from types import SimpleNamespace as S\n"
            "COMM_WORLD = S(Get_size=lambda: 1)\nGet_library_version = lambda: 'Other MPI 1.0'\n",
            "Other MPI 1.0",
        ),
    ],
)
def test_a_launcher_without_its_mpi_is_told_in_one_line(tmp_path: Path, module: str, words: str) -> None:
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py/__init__.py").write_text("")
    (tmp_path / "mpi4py/MPI.py").write_text(module)
    done = subprocess.run(
        [sys.executable, "-m", "tinygan.train", *TRAIN],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PMI_SIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: 2 processes were started"), done.stderr
    assert len(done.stderr.splitlines()) == 1 and words in done.stderr
