"""Whole trainings on several ranks, as real processes: what they write and print, and how they end."""

import json
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.ranks.launch import finish, needs_mpi, start
from tests.standin import cupy, nccl
from tests.standin.kernels import COMPILER
from tinygan import cli
from tinygan.backend import Backend, shared_by
from tinygan.errors import DeviceError
from tinygan.ranks.alone import ALONE
from tinygan.ranks.mpi import MPI, SIZES, started
from tinygan.runs.checkpoint import content_digest, read
from tinygan.train import main

# Twelve steps in four epochs; the last batch of each has 16 images.
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


def sabotaged(cwd: Path, how: str, rank: int, step: int, *more: str) -> tuple[int, str, str]:
    """The end of a training on two ranks, one of which fails as `how` says (see `tests.ranks.saboteur`)."""
    command = ("-m", "tests.ranks.saboteur", how, str(rank), str(step), *TRAIN, *more)
    return finish(2, *command, cwd=cwd, seconds=60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two ranks have trained from end to end, the second without writing into the run."""
    folder = tmp_path_factory.mktemp("whole")
    code, output, errors = sabotaged(folder, "idle", 1, 0)
    assert code == 0, errors
    (folder / "output.txt").write_text(output, encoding="utf-8")
    return folder


def differ_by_rounding(one: Path, other: Path) -> bool:
    a, b = read(one / LAST)[0], read(other / LAST)[0]
    assert a.keys() == b.keys()
    return all(abs(a[name] - b[name]).max() <= 2e-4 * max(1e-3, abs(a[name]).max()) for name in a)


@needs_mpi
def test_only_the_first_rank_prints_and_writes(whole: Path) -> None:
    lines = (whole / "output.txt").read_text(encoding="utf-8").splitlines()
    for word in ("run ", "data ", "device ", "recipe ", "ranks    2 on 1 host", "epoch 4/4 done", "done "):
        assert len([line for line in lines if line.startswith(word)]) == 1, word
    assert json.loads((whole / RUN / "config.json").read_text())["device"]["ranks"] == 2
    assert len((whole / RUN / "stats.jsonl").read_text().splitlines()) == 4
    assert [path.name for path in (whole / "runs").iterdir()] == [RUN.name]


@needs_mpi
def test_a_run_resumes_with_more_and_with_fewer_ranks(tmp_path: Path, whole: Path) -> None:
    train(1, tmp_path, *TRAIN, "--steps", "5")
    train(3, tmp_path, "--resume", "--steps", "8")
    train(2, tmp_path, "--resume", "--steps", "12")
    assert differ_by_rounding(whole, tmp_path)
    log = (tmp_path / RUN / "log.txt").read_text()
    assert "ranks changed from 1 to 3" in log and "ranks changed from 3 to 2" in log


@needs_mpi
@pytest.mark.slow
def test_ranks_that_save_inside_an_epoch_save_together(tmp_path: Path, whole: Path) -> None:
    """One rank requests it, and all learn of that after the same step."""
    train(2, tmp_path, *TRAIN, "--save-minutes", "1e-9", "--steps", "8")
    train(2, tmp_path, "--resume", "--steps", "12")
    assert content_digest(read(tmp_path / LAST)[0], {}) == content_digest(read(whole / LAST)[0], {})


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_saves_and_the_run_resumes_bit_for_bit(
    tmp_path: Path, whole: Path, rank: int
) -> None:
    code, output, errors = sabotaged(tmp_path, "signal", rank, 6)
    assert code == 130 and errors.count("everything is saved") == 1, errors
    assert "Traceback" not in errors and output.count(" done ") == 2
    train(2, tmp_path, "--resume")
    assert content_digest(*read(tmp_path / LAST)) == content_digest(*read(whole / LAST))


@needs_mpi
@EITHER_RANK
@pytest.mark.parametrize("how", [pytest.param("raise", marks=pytest.mark.slow), "kill"])
def test_a_rank_that_fails_ends_all_of_them(tmp_path: Path, whole: Path, how: str, rank: int) -> None:
    start = time.monotonic()
    code, _, errors = sabotaged(tmp_path, how, rank, 7)
    assert code != 0 and time.monotonic() - start < 40
    if how == "raise":
        assert f"rank {rank} on " in errors and "RuntimeError: on purpose" in errors
        assert f"Last checkpoint: {RUN / 'checkpoints/latest.npz'}" in errors
    train(1, tmp_path, "--resume")
    assert differ_by_rounding(whole, tmp_path)


@needs_mpi
@EITHER_RANK
def test_a_number_that_is_not_finite_on_one_rank_stops_all_with_one_line(tmp_path: Path, rank: int) -> None:
    code, _, errors = sabotaged(tmp_path, "nan", rank, 7)
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 6 and len(lines) == 1 and "Traceback" not in errors, errors
    assert "epoch 3, step 8" in lines[0] and "latest.npz" in lines[0]


@needs_mpi
@pytest.mark.slow
def test_a_file_that_only_the_first_rank_fails_to_write_ends_all_and_is_logged(tmp_path: Path) -> None:
    train(1, tmp_path, *TRAIN, "--steps", "3")
    (tmp_path / LAST).mkdir()
    code, _, errors = finish(2, "-m", "tinygan.train", "--resume", cwd=tmp_path)
    line = next(line for line in errors.splitlines() if line.startswith("error: "))
    last = line.partition("Last checkpoint: ")[2]
    assert code == 5 and line.startswith("error: rank 0 on ") and "latest.npz" in last
    assert "epoch_0004.npz is not a regular file" in (tmp_path / RUN / "log.txt").read_text().splitlines()[-1]


@needs_mpi
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_to_the_launcher_saves(tmp_path: Path, number: int) -> None:
    """Ctrl-C in a terminal reaches only mpiexec, which passes it on."""
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
        (("--help",), 0, "usage: "),
        ((*TRAIN, "--dry-run"), 0, "ranks    2 on 1 host"),
        (("--data", "nowhere"), 4, "error: --data nowhere"),
        (("--epochs", "x"), 2, "error: argument --epochs"),
        (("--out", "/dev/null/x", *TRAIN), 5, "error: cannot"),
    ],
)  # fmt: skip
def test_what_is_the_same_on_all_ranks_is_printed_once(
    tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    found, output, errors = finish(2, "-m", "tinygan.train", *options, cwd=tmp_path)
    assert found == code and (output + errors).count(words) == 1, errors
    assert errors.count("error: ") == bool(code) and "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


@needs_mpi
@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no C compiler to run the kernels with")
def test_ranks_with_a_card_each_train_the_same_and_a_processor_resumes(tmp_path: Path, whole: Path) -> None:
    """On the stand-ins: NCCL's sums in the graph, and a checkpoint that one process reads."""
    options = ("--device", "gpu", "--precision", "float32", "--steps", "10")
    code, output, errors = sabotaged(tmp_path, "card", 0, 0, *options)
    assert code == 0 and output.count("ranks    2 on 1 host") == 1, errors
    device = json.loads((tmp_path / RUN / "config.json").read_text())["device"]
    assert (device["device"], device["engine"], device["ranks"]) == ("gpu", "fast", 2)
    train(1, tmp_path, "--resume", "--device", "cpu", "--steps", "12")
    assert differ_by_rounding(whole, tmp_path)


def refuse(*arguments: object) -> None:
    raise nccl.NcclError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")


@pytest.mark.parametrize(
    ("name", "broken", "words"),
    [
        ("available", False, "finds no NCCL"),
        ("NcclCommunicator", refuse, "Start one rank per card"),
        ("NcclCommunicator", lambda *arguments: {}[6], "Start one rank per card"),  # ncclRemoteError
    ],
)
def test_an_nccl_that_does_not_work_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, broken: object, words: str
) -> None:
    xp, card, _ = cupy.make()
    xp.cuda.nccl = nccl.make(card)
    setattr(xp.cuda.nccl, name, broken)
    monkeypatch.setitem(sys.modules, "cupy", xp)
    monkeypatch.setitem(sys.modules, "cupy.cuda", xp.cuda)
    ranks = MPI.__new__(MPI)  # without MPI
    ranks.comm = SimpleNamespace(bcast=lambda value: value)
    with pytest.raises(DeviceError, match=words) as error:
        shared_by(Backend(xp, "gpu"), ranks)
    assert "\n" not in str(error.value)


@needs_mpi
def test_a_rank_with_other_weights_is_named(tmp_path: Path) -> None:
    code, _, errors = sabotaged(tmp_path, "drift", 1, 4, "--steps", "6")
    assert code == 0, errors
    warned = [line for line in errors.splitlines() if "computed other weights" in line]
    assert len(warned) == 1 and warned[0].startswith("warning: rank 1 on ")
    log = (tmp_path / RUN / "log.txt").read_text()
    assert log.index("epoch 2/4 done") < log.index(warned[0])


def test_one_process_imports_nothing_of_mpi(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # its import would fail
    assert started() is ALONE


class Unloadable:
    @property
    def MPI(self) -> None:  # noqa: N802
        raise RuntimeError("cannot load MPI library")


WORLD = SimpleNamespace(Get_size=lambda: 1)
OTHER = SimpleNamespace(COMM_WORLD=WORLD, Get_library_version=lambda: "Other MPI 1.0\nand more")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (None, "pip install"),
        (Unloadable(), "cannot load MPI library. Install it: "),
        (SimpleNamespace(MPI=OTHER), "mpi4py (Other MPI 1.0) sees 1"),
    ],
)
def test_a_launcher_without_its_mpi_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: object, words: str
) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", module)
    assert cli.run(main, TRAIN) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: 2 processes were started") and words in errors
    assert len(errors.splitlines()) == 1
