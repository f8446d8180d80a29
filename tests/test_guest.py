"""tinygan as a guest in another program: a notebook, a thread, a web server, a service without a terminal."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.commands import RUN, TINY, checkpoint, clean_environment, digest, ended, start, works
from tinygan import cli, machine, sample, train
from tinygan.errors import UsageError, pasted, pip
from tinygan.fast.threads import POOL
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import StoppedError

SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def blas_limited_to(count: int) -> Iterator[None]:
    """As ``threadpoolctl.threadpool_limits`` does it."""
    before = machine.blas_threads()
    if not machine.limit_blas_threads(count):
        pytest.skip("this NumPy's BLAS does not let its number of threads be set")
    try:
        yield
    finally:
        machine.limit_blas_threads(before)


# Threads and signals.


def test_a_training_in_a_thread_is_the_same_and_changes_no_handlers(here: Path) -> None:
    handlers, codes = [signal.getsignal(number) for number in SIGNALS], []
    arguments = (*TINY, "--epochs", 2, "--quiet")
    thread = threading.Thread(target=lambda: codes.append(train.main(arguments)))
    thread.start()
    thread.join(60)
    assert codes == [0] and [signal.getsignal(number) for number in SIGNALS] == handlers
    assert train.main(arguments) == 0
    assert digest(checkpoint(here, 2)) == digest(here / "runs/0002-strokes/checkpoints/epoch_0002.npz")


def test_two_trainings_at_once_are_the_same_as_one_after_the_other(here: Path) -> None:
    before = POOL.threads, machine.blas_threads()
    sizes = ("--limit", 640, "--width", 8, "--epochs", 2, "--quiet")  # pieces for several threads

    def of(threads: int) -> None:
        train.main([*TINY, *sizes, "--threads", threads, "--out", f"{threads} threads"])

    both = [threading.Thread(target=of, args=(threads,)) for threads in (2, 3)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    train.main([*TINY, *sizes, "--out", "alone"])
    states = {
        out: RunFolder(here / out / "0001-strokes").read_losses().tobytes()
        for out in ("2 threads", "3 threads", "alone")
    }
    assert len(set(states.values())) == 1 and len(states["alone"]) > 100
    assert before == (POOL.threads, machine.blas_threads())


def test_a_notebook_shows_errors_as_one_line() -> None:
    problem = StoppedError(130, "python -m tinygan.train --resume runs/0001")
    (line,) = problem._render_traceback_()  # IPython calls it to show an exception
    assert line == str(problem) and "everything is saved" in line
    (line,) = UsageError("--lr 0.0 is not a positive number.")._render_traceback_()
    assert line == "error: --lr 0.0 is not a positive number."


# Streams.


class Writes:
    """A stream that has nothing but `write`, like the logs of some programs."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)


def test_streams_need_nothing_but_a_method_write(here: Path) -> None:
    printed: Any = Writes()
    with redirect_stdout(printed), redirect_stderr(printed):
        assert train.main([*TINY, "--epochs", 1]) == 0
        assert cli.run(train.main, ["--resume", "gone"]) == 5
    assert "done     3 steps" in printed.text and "error: gone does not exist" in printed.text


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes descriptors")
def test_all_commands_work_without_streams(tmp_path: Path) -> None:
    for command, code in (
        (f"train {shlex.join(TINY)} --epochs 1", 0), ("train --resume --epochs 2", 0), ("sample", 0),
        ("report", 0), ("explain --layers", 0), ("gradcheck --op tanh", 0), ("train --resume --lr 7", 2),
    ):  # fmt: skip
        line = f"{shlex.quote(sys.executable)} -m tinygan.{command} <&- >&- 2>&-"
        done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=clean_environment(tmp_path), timeout=120)
        assert done.returncode == code, command
    assert checkpoint(tmp_path, 2).exists()
    RunFolder(tmp_path / RUN).read_stats()  # checks that nothing was printed into it


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that closes descriptors")
def test_no_file_gets_the_descriptor_of_a_closed_stream(tmp_path: Path) -> None:
    """A C library would print into it."""
    code = "import os; from tinygan import cli; cli.run(lambda words: os._exit(os.open(os.devnull, 0)))"
    line = shlex.join([sys.executable, "-c", code]) + " <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], env=clean_environment(tmp_path), timeout=60)
    assert done.returncode == 3


# Libraries.


def test_threads_signal_handlers_and_the_working_directory_are_restored(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "keep_memory", lambda: pytest.fail("it cannot be undone"))

    def found() -> list[Any]:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        return [machine.blas_threads(), np.geterr(), handlers, os.getcwd(), sys.path[:]]

    with blas_limited_to(3), np.errstate(over="raise", under="warn"):
        before, threads = found(), threading.active_count()
        assert train.main([*TINY, "--epochs", 1, "--quiet", "--threads", 2]) == 0
        assert found() == before
        assert train.main([*TINY, "--epochs", 1, "--quiet", "--engine", "readable", "--threads", 1]) == 0
        assert threading.active_count() == threads
        with pytest.raises(UsageError):
            train.main(["--resume", "--lr", 7])
        assert sample.main() == 0
        assert threading.active_count() == threads
        assert found() == before


@pytest.mark.parametrize(
    ("environment", "options", "words"),
    [
        ({}, (), "{cores} threads (all usable cores)"),
        ({"OMP_NUM_THREADS": "1"}, (), "1 thread (OMP_NUM_THREADS)"),
        ({"OMP_NUM_THREADS": "1"}, ("--threads", 3), "3 threads (--threads)"),
        ({"OMP_NUM_THREADS": "x", "OPENBLAS_NUM_THREADS": "1"}, (), "1 thread (OPENBLAS_NUM_THREADS)"),
    ],
)
def test_the_output_says_which_setting_determines_the_number_of_threads(
    environment: dict[str, str], options: tuple[object, ...], words: str, tmp_path: Path
) -> None:
    cores = machine.usable_cores()
    if cores == 1:
        pytest.skip("needs two cores")
    process = start("-m", "tinygan.train", *TINY, "-n", *options, cwd=tmp_path, environment=environment)
    (line,) = [line for line in ended(process).stdout.splitlines() if line.startswith("device ")]
    assert line.endswith(f", {words.format(cores=cores)}")


def test_a_limit_on_blas_threads_is_respected(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with blas_limited_to(1):
        train.main([*TINY, "--dry-run"])
    assert "1 thread (the limit of NumPy's BLAS)" in capsys.readouterr().out


# Arguments.


def test_arguments_can_be_text_numbers_and_paths(here: Path) -> None:
    out = here / "my runs"
    words = ["--limit", np.int64(80), "--batch-size", 32, "--lr", 1e-4, "--out", out, "--data", b"strokes"]
    assert train.main([*words, "--width", 2, "--noise-dim", 5, "--epochs", 1, "--quiet"]) == 0
    assert train.main(f"--resume --out '{out}' --epochs 2 --quiet") == 0
    assert sample.main(["--runs", out, "--num", 4, "--out", here / "few.png"]) == 0
    assert (here / "few.png").is_file()
    config = RunFolder(out / "0001-strokes").read_config()
    assert shlex.split(config["commands"][0]["command"])[3:7] == ["--limit", "80", "--batch-size", "32"]
    assert train.main(b"--resume --dry-run --out 'my runs' --quiet") == 0
    with pytest.raises(UsageError, match="No closing quotation"):
        train.main("--out 'my")


@pytest.mark.skipif(os.name != "posix", reason="needs sh")
def test_printed_commands_can_be_pasted(tmp_path: Path) -> None:
    cwd = tmp_path / "it's $HOME & more"
    cwd.mkdir()
    printed = works("train", *TINY, "--epochs", 2, "--steps", 1, "--out", "my runs", cwd=cwd).stdout
    commands = [line.partition(": ")[2] for line in printed.splitlines() if " -m tinygan" in line]
    assert len(commands) == 2
    for command in commands:  # unchanged: they name the Python that runs these tests
        done = subprocess.run(["sh", "-c", command], cwd=cwd, env=clean_environment(cwd), capture_output=True)
        assert done.returncode == 0, done


@pytest.mark.skipif(os.name != "posix", reason="needs sh")
def test_pip_commands_use_the_python_that_is_running(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = subprocess.run(["sh", "-c", pip("list")], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^tinygan +\d", shown, re.M)
    monkeypatch.setattr("tinygan.errors.find_spec", lambda name: None)  # as in uv's environments
    assert pip("install", "a[b]") == f"uv pip install --python {shlex.quote(sys.executable)} 'a[b]'"


def test_commands_for_cmd_exe_have_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    quoted = pasted("python", "--resume", "C:\\my runs\\0001", "--data", "a&b")
    assert quoted == 'python --resume "C:\\my runs\\0001" --data "a&b"'
    assert cli.words(quoted) == ["python", "--resume", "C:\\my runs\\0001", "--data", "a&b"]
