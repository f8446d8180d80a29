"""The loop: signals, what it saves and when, and that only the training itself can end a training."""

import io
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.commands import RUN, TINY, TINY_STEPS, checkpoint, digest, ended, fails, start, tinygan, works
from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.errors import NonFiniteError
from tinygan.runs.checkpoint import read
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import SECONDS_ON_A_CARD, Signals, Training, signals
from tinygan.runs.progress import Progress
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import Schedule, StepByStep, trainer
from tinygan.views.pictures import save_png

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("first", SIGNALS)
def test_the_first_signal_is_recorded_and_another_one_stops_only_after_a_second(
    monkeypatch: pytest.MonkeyPatch, first: int, second: int
) -> None:
    def missed(number: int, frame: object) -> None:
        pytest.fail(f"signal {number} was not recorded")

    before = {number: signal.signal(number, missed) for number in SIGNALS}
    now, said, received = [50.0], [], Signals()
    monkeypatch.setattr("tinygan.runs.loop.time.monotonic", lambda: now[0])
    try:
        with signals(said.append, received):
            signal.raise_signal(first)
            again = "press Ctrl-C again" if first == signal.SIGINT else "send another signal"
            assert received.number == first and said == [f"saving; {again} to stop at once"]
            for now[0] in (50.0, 50.3, 50.9):
                signal.raise_signal(second)
            assert received.number == first and len(said) == 1
            now[0] = 51.0
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(second)
            assert stop.value.code == 7 and "is lost" in said[1]
            received.saved = True
            with pytest.raises(SystemExit) as stop:
                signal.raise_signal(second)
            assert stop.value.code == 128 + first and "everything is saved" in said[2]
        assert {signal.getsignal(number) for number in SIGNALS} == {missed}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_signals_while_a_complete_training_writes_its_report_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*arguments: object) -> None:
        signal.raise_signal(signal.SIGINT)
        now[0] += 2
        signal.raise_signal(signal.SIGINT)

    now, said, before = [50.0], [], signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(Progress, "answer", lambda self, text: said.append(text))
    monkeypatch.setattr("tinygan.runs.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tinygan.runs.loop.write_film", twice)
    try:
        done = tinygan("train", *TINY, "--epochs", 1, cwd=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 130 and said[0].startswith("finishing report and animation; press Ctrl-C")
    assert said[1].startswith("stopped at once; everything is saved")
    assert int(read(checkpoint(tmp_path, 1))[0]["step"]) == TINY_STEPS


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_under_nohup_a_terminal_that_closes_is_ignored() -> None:
    before, received = signal.signal(signal.SIGHUP, signal.SIG_IGN), Signals()
    try:
        with signals(pytest.fail, received):
            signal.raise_signal(signal.SIGHUP)
        assert received.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_handler_that_could_not_be_restored_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that Python did not install, and so reports as None."""
    handlers, getsignal = [], signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda n: None if n == signal.SIGTERM else getsignal(n))
    monkeypatch.setattr(signal, "signal", lambda number, handler: handlers.append(number))
    with signals(pytest.fail, Signals()):
        pass
    assert signal.SIGTERM not in handlers and handlers.count(signal.SIGINT) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_array_that_is_not_finite_is_ever_saved(tmp_path: Path, value: float) -> None:
    settings = Settings(size=4, width=1, noise_dim=2, batch_size=2, average=0.5)
    data = Dataset("black", np.zeros((4, 4, 4, 1), np.uint8), "nowhere")
    run, state = RunFolder.create(tmp_path, "run"), State(settings, cpu())
    good, taking = state.arrays(), trainer(state, data)
    training = Training(run, state, data, Schedule(2, 2), taking, Progress(io.StringIO(), 2), print, print)
    names = [name for name, array in good.items() if array.dtype.kind == "f" and array.size]
    assert len(names) > 60
    for name in names:
        state.arrays = lambda name=name: good | {name: np.full_like(good[name], value)}
        with pytest.raises(NonFiniteError, match=f"{name} is no longer finite. Last good"):
            training.save()
    assert run.checkpoints() == []


class Killed(BaseException):
    """Ends a run as ``kill -9`` does: nothing is saved afterwards."""


@pytest.mark.parametrize(("minutes", "step"), [(5, 0), (1e-9, 2)])
def test_a_run_that_is_killed_in_its_first_epoch_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, step: int
) -> None:
    """It resumes from its start or, in a long epoch, from the last save inside it."""

    def die(*arguments: object) -> None:
        raise Killed

    run = ("train", *TINY, "--epochs", 2, "--save-minutes", minutes)
    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(Training, "_close_epoch", die)
        works(*run, cwd=tmp_path)
    resumed = works("train", "--resume", cwd=tmp_path)
    assert f"at step {step} of 6\n" in resumed.stdout and resumed.stderr == ""
    (tmp_path / "whole").mkdir()
    works(*run, cwd=tmp_path / "whole")
    assert digest(checkpoint(tmp_path, 2)) == digest(checkpoint(tmp_path / "whole", 2))
    both = [RunFolder(cwd / RUN).read_losses() for cwd in (tmp_path, tmp_path / "whole")]
    assert (both[0] == both[1]).all() and len(both[0]) == 6


def test_a_resumed_run_that_is_killed_at_its_start_drops_no_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: object) -> None:
        raise Killed

    works("train", *TINY, "--epochs", 2, "--checkpoint-every", 1, cwd=tmp_path)
    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(RunFolder, "go_on_from", die)
        tinygan("train", "--resume", checkpoint(tmp_path, 1), cwd=tmp_path)
    assert len(RunFolder(tmp_path / RUN).read_stats()) == 2
    works("train", "--resume", checkpoint(tmp_path, 1), "--steps", 4, cwd=tmp_path)
    assert len(RunFolder(tmp_path / RUN).read_stats()) == 1


def test_only_the_newest_numbered_checkpoints_are_kept(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 5, "--checkpoint-every", 2, "--keep", 2, "--steps", 13, cwd=tmp_path)
    run = RunFolder(tmp_path / RUN)
    names = [path.name for path in run.checkpoints()]
    assert names == ["latest.npz", "epoch_0004_step_0000013.npz", "epoch_0004.npz"]
    assert digest(run.latest_path) == digest(run.checkpoints()[1])
    (run.checkpoints_dir / "epoch_0001.npz").mkdir()  # which must not end the run
    warned = works("train", "--resume", "--keep", 1, cwd=tmp_path).stderr.splitlines()
    assert warned and all(line.startswith("warning: no deletion of older checkpoints: ") for line in warned)
    assert [path.name for path in run.checkpoints()][:2] == ["latest.npz", "epoch_0005.npz"]


def test_a_run_whose_checkpoints_were_deleted_does_not_start_again(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 2, cwd=tmp_path)
    for path in RunFolder(tmp_path / RUN).checkpoints():
        path.unlink()
    fails(tinygan("train", "--resume", "--epochs", 3, cwd=tmp_path), 5, "no checkpoint", "were deleted")
    assert len(RunFolder(tmp_path / RUN).read_stats()) == 2


@pytest.mark.parametrize(("seconds", "after"), [(0.0, range(1, 10)), (SECONDS_ON_A_CARD, (1, 4, 7, 9))])
def test_every_epoch_is_saved_but_on_a_card_only_after_fifteen_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, after: Sequence[int]
) -> None:
    """On a card an epoch can take two seconds and a save a tenth of one. Here an epoch takes six seconds."""
    now, saved = [0.0], []

    def count(run: RunFolder, arrays: object, *rest: object) -> None:
        saved.append(now[0])

    def pass_time(*arguments: object) -> None:
        now[0] += 6.0

    monkeypatch.setattr("tinygan.runs.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr(RunFolder, "save", count)
    monkeypatch.setattr(Training, "_close_epoch", pass_time)
    settings = Settings(size=4, width=1, noise_dim=2, batch_size=2, epochs=9, no_gif=True, no_report=True)
    data = Dataset("black", np.zeros((4, 4, 4, 1), np.uint8), "nowhere")
    state = State(settings, cpu())
    rest = data, Schedule(2, 18), trainer(state, data), Progress(io.StringIO(), 18), print, print
    training = Training(RunFolder.create(tmp_path, "run"), state, *rest)
    assert training.rarely == 0
    state.backend = replace(cpu(), device="gpu")
    assert Training(training.run, state, *rest).rarely == SECONDS_ON_A_CARD
    state.backend, training.rarely = cpu(), seconds
    assert len([*training.epochs(Signals())]) == len(training.rows)
    assert saved == [6.0 * epoch for epoch in after]


@pytest.mark.parametrize("broken", ["the animation", "the samples", "the reals", "the evaluation"])
def test_a_by_product_that_fails_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("on purpose\nin detail")

    def save_png(path: Path, pixels: np.ndarray) -> None:
        if (path.name == "reals.png") == (broken == "the reals"):
            fail()

    names = {"the animation": "write_film", "the samples": "save_png", "the reals": "save_png"}
    more = ()
    if broken == "the evaluation":
        monkeypatch.setattr("tinygan.train.Evaluation", lambda *arguments, **named: fail)
        more = ("--metrics-every", 2)
    else:
        double = fail if broken == "the animation" else save_png
        monkeypatch.setattr(f"tinygan.runs.loop.{names[broken]}", double)
    done = works("train", *TINY, "--epochs", 2, *more, "--no-report", "--quiet", cwd=tmp_path)
    warned = [line for line in done.stderr.splitlines() if line.endswith(": on purpose")]
    assert len(warned) == (3 if broken == "the samples" else 1)
    assert all(line.startswith("warning: no ") for line in warned)
    assert checkpoint(tmp_path, 2).exists() and "on purpose" in (tmp_path / RUN / "log.txt").read_text()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_signal_aborts_an_evaluation_and_the_run_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation can take longer than the 30 seconds that Kubernetes gives."""

    def long(*arguments: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it continued")

    monkeypatch.setattr("tinygan.train.Evaluation", lambda *arguments, **named: long)
    done = tinygan("train", *TINY, "--epochs", 2, "--metrics-every", 1, "--no-report", cwd=tmp_path)
    assert done.returncode == 143 and "warning: no evaluation: interrupted by a signal\n" in done.stderr
    assert "everything is saved" in done.stderr and len(RunFolder(tmp_path / RUN).read_stats()) == 1
    works("train", "--resume", "--metrics-every", 5, cwd=tmp_path)
    assert checkpoint(tmp_path, 2).exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_a_warning_that_cannot_be_printed_does_not_end_a_training(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 1, cwd=tmp_path)
    (tmp_path / RUN / "training.gif").unlink()
    (tmp_path / RUN / "training.gif").mkdir()
    with open("/dev/full", "w") as full:
        resume = ("-m", "tinygan.train", "--resume", "--epochs", 2)
        assert ended(start(*resume, cwd=tmp_path, stderr=full)).returncode == 0
    assert checkpoint(tmp_path, 2).exists()


def test_a_preview_of_another_size_or_a_missing_folder_does_not_end_a_run(tmp_path: Path) -> None:
    works("train", *TINY, "--epochs", 2, cwd=tmp_path)
    samples = tmp_path / RUN / "samples"
    save_png(samples / "epoch_0001.png", np.zeros((9, 9, 1), np.uint8))
    done = works("train", "--resume", "--epochs", 3, cwd=tmp_path)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: ") and "epoch_0001.png is (9, 9, 1), not (" in line
    shutil.rmtree(samples)
    assert works("train", "--resume", "--epochs", 4, cwd=tmp_path).stderr == ""
    assert [path.name for path in samples.iterdir()] == ["epoch_0004.png"]


def test_the_report_is_written_from_the_first_epoch_on_as_often_as_is_cheap_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, now = [], [0.0]

    def note(run: RunFolder, state: State, portrait: object) -> None:
        shown.append((state.step, len(run.read_stats())))
        now[0] += 1

    def close(training: Training, *arguments: object) -> None:
        close_epoch(training, *arguments)  # pyright: ignore[reportArgumentType]
        now[0] += 30

    close_epoch = Training._close_epoch
    monkeypatch.setattr(Training, "_close_epoch", close)
    monkeypatch.setattr("tinygan.runs.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tinygan.runs.loop.write_report", note)
    works("train", *TINY, "--epochs", 6, "--no-gif", cwd=tmp_path)
    assert shown == [(epochs * TINY_STEPS, epochs) for epochs in (1, 3, 5, 6)]  # at most one second in 50


def early_pictures(cwd: Path) -> list[int]:
    """The steps inside the first epoch after which there is a picture."""
    return [sample.step for sample in RunFolder(cwd / RUN).samples() if sample.step]


def test_pictures_and_a_checkpoint_come_every_n_steps_of_the_first_epoch(tmp_path: Path) -> None:
    few = (*TINY, "--limit", 320, "--epochs", 2, "--sample-steps", 4)
    works("train", *few, "--steps", 9, cwd=tmp_path)
    assert early_pictures(tmp_path) == [4, 8, 9]  # also of the last step
    works("train", "--resume", "--steps", 20, cwd=tmp_path)
    assert early_pictures(tmp_path) == [4, 8, 9]  # none in the second epoch
    (tmp_path / "whole").mkdir()
    works("train", *TINY, "--limit", 320, "--epochs", 2, cwd=tmp_path / "whole")
    assert early_pictures(tmp_path / "whole") == []
    stopped, whole = (read(checkpoint(cwd, 2))[0] for cwd in (tmp_path, tmp_path / "whole"))
    assert all((array == whole[name]).all() for name, array in stopped.items())


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_run_that_is_interrupted_in_its_first_epoch_leaves_a_picture_of_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = StepByStep.steps

    def steps(taking: StepByStep, count: int) -> np.ndarray:
        signal.raise_signal(signal.SIGINT)
        return take(taking, count)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(StepByStep, "steps", steps)
    try:
        assert tinygan("train", *TINY, cwd=tmp_path).returncode == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert early_pictures(tmp_path) == [1]


def test_only_the_first_epoch_s_strides_end_where_a_picture_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, take = [], StepByStep.steps

    def steps(taking: StepByStep, count: int) -> np.ndarray:
        counts.append(count)
        return take(taking, count)

    monkeypatch.setattr(StepByStep, "stride", 8)
    monkeypatch.setattr(StepByStep, "steps", steps)
    works("train", *TINY, "--limit", 320, "--epochs", 2, "--sample-steps", 4, cwd=tmp_path)
    assert sum(counts) == 20 and counts == [4, 4, 2, 8, 2]


def test_the_first_pictures_come_after_10_20_40_seconds_and_can_be_sampled_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, saved = [0.0], []
    take = StepByStep.steps

    def steps(taking: StepByStep, count: int) -> np.ndarray:
        now[0] += 3
        return take(taking, count)

    monkeypatch.setattr(StepByStep, "steps", steps)
    monkeypatch.setattr("tinygan.runs.loop.time.monotonic", lambda: now[0])
    monkeypatch.setattr("tinygan.runs.loop.write_report", lambda *arguments: saved.append(now[0]))
    works("train", *TINY, "--limit", 640, "--epochs", 2, "--steps", 19, cwd=tmp_path)
    assert early_pictures(tmp_path) == [4, 7, 14, 19]  # after 12, 21 and 42 seconds, and at the end
    assert saved[0] == 12
    assert int(read(RunFolder(tmp_path / RUN).latest_path)[0]["step"]) == 19
    works("sample", "--num", 1, cwd=tmp_path)


def figures_of(fcd: float) -> dict[str, float]:
    """The figures of an evaluation."""
    others = ("error", "precision", "recall", "coverage", "floor", "ceiling", "samples")
    return {"fcd": fcd, **dict.fromkeys(others, 1.0)}


def test_the_checkpoint_with_the_best_fcd_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([5.0, 3.0, 4.0, 2.0])
    monkeypatch.setattr("tinygan.train.Evaluation", lambda *_, **named: lambda G: figures_of(next(found)))
    best = ("--metrics-every", 1, "--keep-best", "--no-report", "--no-gif")
    works("train", *TINY, "--epochs", 3, *best, cwd=tmp_path)
    kept = RunFolder(tmp_path / RUN).best_path
    assert int(read(kept)[0]["step"]) == 2 * TINY_STEPS
    done = works("train", "--resume", "--epochs", 4, *best, cwd=tmp_path)
    assert int(read(kept)[0]["step"]) == 4 * TINY_STEPS
    assert f"Checkpoint with the best FCD: {kept.relative_to(tmp_path)}" in done.stdout
    assert "samples_epoch_0004_" in works("sample", kept, "--num", 1, cwd=tmp_path).stdout
    fails(tinygan("train", *TINY, "--keep-best", cwd=tmp_path), 2, "Add --metrics-every")


def test_the_best_checkpoint_is_set_aside_when_a_run_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([5.0, 1.0, 7.0])
    monkeypatch.setattr("tinygan.train.Evaluation", lambda *_, **named: lambda G: figures_of(next(found)))
    best = ("--metrics-every", 1, "--keep-best", "--no-report", "--no-gif")
    works("train", *TINY, "--epochs", 2, "--checkpoint-every", 1, *best, cwd=tmp_path)
    works("train", "--resume", checkpoint(tmp_path, 1), *best, cwd=tmp_path)
    folder = RunFolder(tmp_path / RUN).checkpoints_dir
    assert int(read(folder / "best.npz")[0]["step"]) == 2 * TINY_STEPS  # FCD 7, the best one after going back
    assert (folder / "best.npz.old").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_an_interrupted_run_has_its_report_and_its_animation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Training._close_epoch

    def interrupted(training: Training, *arguments: object) -> None:
        close(training, *arguments)  # pyright: ignore[reportArgumentType]
        for _ in range(2):  # an impatient user
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Training, "_close_epoch", interrupted)
    with caught():
        done = tinygan("train", *TINY, "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 130 and "everything is saved" in done.stderr
    assert {"training.gif", "report.html"} <= {path.name for path in (tmp_path / RUN).iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_run_that_is_interrupted_before_it_has_anything_to_save_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinygan.train.trainer", lambda *arguments: signal.raise_signal(signal.SIGINT))
    with caught():
        done = tinygan("train", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (7, "interrupted before it finished\n")


@contextmanager
def caught() -> Iterator[None]:
    """Make SIGINT raise an exception within this, even if a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_advice_is_printed_once_and_a_resumed_run_gives_the_same(tmp_path: Path) -> None:
    """This learning rate is unstable: every row has the advice, the log has it only when it is new."""
    unstable = ("train", *TINY, "--lr", 3, "--epochs", 4, "--no-gif", "--no-report")
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    works(*unstable, cwd=tmp_path / "whole")
    works(*unstable, "--steps", 2 * TINY_STEPS, cwd=tmp_path / "parts")
    works("train", "--resume", cwd=tmp_path / "parts")
    logs, rows = [], []
    for name in ("whole", "parts"):
        run = RunFolder(tmp_path / name / RUN)
        rows.append([(row["verdict"], row["advice"]) for row in run.read_stats()])
        logs.append((run.path / "log.txt").read_text())
    assert rows[0] == rows[1] and len(rows[0]) == 4
    assert all(advice.startswith("Start again with --lr below 3") for _, advice in rows[0])
    assert [log.count("--lr below 3") for log in logs] == [1, 1]
