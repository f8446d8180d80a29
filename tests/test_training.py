"""Training from Python: keyword arguments, arrays, epoch by epoch; starting from a run; changing settings."""

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygan
from tests.commands import RUN, TINY, checkpoint, digest, ended, fails, start, works
from tests.commands import tinygan as command
from tinygan import machine, train
from tinygan.errors import CheckpointError, DataError, TinyganError, UsageError
from tinygan.fast.threads import POOL
from tinygan.runs.checkpoint import read
from tinygan.runs.loop import StoppedError
from tinygan.train import from_python
from tinygan.views.health import measure

SETTINGS: dict[str, Any] = {
    "data": "strokes", "limit": 80, "batch_size": 32, "width": 2, "noise_dim": 5, "quiet": True,
    "no_gif": True, "no_report": True,
}  # fmt: skip
ARRAY = np.random.default_rng(1).random((70, 28, 28))
SMALL: dict[str, Any] = {**SETTINGS, "data": ARRAY, "limit": None}
PLAIN = ("--no-gif", "--no-report")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; checks that a test restores threads, errors and signal handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path / "cache"))

    def state() -> list[Any]:
        return [POOL.threads, machine.blas_threads(), np.geterr(), signal.getsignal(signal.SIGINT)]

    before = state()
    yield tmp_path
    assert state() == before


# Keyword arguments.


def test_keyword_arguments_are_the_options_of_the_command(here: Path) -> None:
    run: tinygan.Run = tinygan.train(**SETTINGS, epochs=2)
    assert Path(run) == here / RUN and train.main([*TINY, "--epochs", 2, *PLAIN, "--quiet"]) == 0
    assert digest(checkpoint(here, 2)) == digest(here / "runs/0002-strokes/checkpoints/epoch_0002.npz")


def test_keyword_arguments_become_words_of_a_command_line() -> None:
    given = {"lr": 1e-4, "no_gif": True, "quiet": False, "name": None, "out": Path("a"), "change": {"lr": 1}}
    job = from_python("strokes", given)
    words = ["--data=strokes", "--lr=0.0001", "--no-gif", "--out=a", "--change=lr=1"]
    assert job.array is None and job.words == words
    job = from_python(ARRAY, {"change": ["lr=1", "beta1=0"]})
    assert job.array is ARRAY and job.words == ["--data=array", "--change=lr=1", "--change=beta1=0"]


def test_help_and_completion_know_the_options() -> None:
    for function in (tinygan.train, tinygan.training):
        found = inspect.signature(function).parameters
        assert next(iter(found)) == "data" and found["batch_size"].default == 256
        assert {"lr", "resume", "change", "quiet"} <= found.keys() and "dry_run" not in found


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"learning_rate": 0.1}, "unrecognized arguments: --learning-rate=0.1. Did you mean --lr=0.1?"),
        ({"lr": -1}, "--lr -1.0 is not a positive number."),
        ({"epochs": "three"}, "argument --epochs: invalid int value: 'three'."),
        ({"change": {"lr": 1}}, "--change works only with --resume."),
        ({"dry_run": True}, "Use tinygan.train.main('--dry-run')"),
        ({"data": "fashion_mnist"}, "Did you mean fashion-mnist?"),
        ({"data": np.full((9, 28, 28), 3e6)}, "the array holds numbers from 3e+06 to 3e+06. Rescale them to"),
        ({"data": [["a"]]}, "the array has dtype <U1. Use integers or floating-point numbers."),
        ({"data": np.zeros((28, 28, 3))}, "the array has shape (28, 28, 3)"),
        ({"data": [[1], [1, 2]]}, "the array cannot be read: "),
        ({"resume": "gone"}, "gone does not exist."),
        ({"start_from": "gone"}, "gone does not exist."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["train", "training"])
def test_bad_input_gives_a_one_line_error_and_writes_nothing(
    here: Path, given: dict[str, Any], line: str, by: str
) -> None:
    with pytest.raises(TinyganError) as problem:
        found = getattr(tinygan, by)(**{"quiet": True, **given})
        next(found)
    assert line in str(problem.value) and "\n" not in str(problem.value)
    assert not (here / "runs").exists()


# Arrays.


def test_an_array_trains_like_a_file_of_it_and_its_range_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tinygan.train(**SMALL | {"quiet": False}, epochs=1)
    said = capsys.readouterr().out
    assert "numbers  assumed to be in [0, 1]" in said
    assert "data     array: 70 images 28x28x1 (the array)" in said
    np.save("array.npy", ARRAY)
    tinygan.train(**SMALL | {"data": Path("array.npy")}, epochs=1)
    losses = [tinygan.Run(here / "runs" / name).read_losses() for name in ("0001-array", "0002-array")]
    assert (losses[0] == losses[1]).all()


def test_a_run_trained_on_an_array_resumes_only_with_the_same_array(here: Path) -> None:
    tinygan.train(**SMALL, epochs=1)
    with pytest.raises(DataError, match="were an array in a Python program"):
        tinygan.train(resume=True, epochs=2, quiet=True)
    with pytest.raises(CheckpointError, match="was not trained on the images that the array holds now"):
        tinygan.train(ARRAY + 0.01, resume=True, epochs=2, quiet=True)
    run = tinygan.train(ARRAY, resume=True, epochs=2, quiet=True)
    assert run.epochs["epoch"].tolist() == [1, 2]
    fails(command("explain", cwd=here), 4, "were an array in a Python program")
    works("sample", "--num", 2, cwd=here)


# Epoch by epoch.


def test_epochs_are_those_of_the_whole_training(here: Path) -> None:
    found, threads = [], POOL.threads
    for epoch in tinygan.training(**SETTINGS, epochs=3, threads=threads + 1):
        found.append(epoch)
        assert (POOL.threads, np.geterr()["over"]) == (threads, "warn")  # the caller's
    run = tinygan.train(**SETTINGS, epochs=3, threads=threads + 1)
    assert [epoch.number for epoch in found] == [1, 2, 3]
    assert [epoch.losses["g_loss"] for epoch in found] == run.epochs["g_loss"].tolist()
    assert (tinygan.load(run).generate() == found[-1].samples).all()
    assert digest(checkpoint(here, 3)) == digest(Path(run) / "checkpoints/epoch_0003.npz")
    assert "too early to say" in found[0].verdict


SLOW = pytest.mark.slow


@pytest.mark.parametrize("way", ["break", *(pytest.param(way, marks=SLOW) for way in ("exception", "close"))])
def test_leaving_the_loop_saves_everything_and_resuming_is_bit_for_bit(here: Path, way: str) -> None:
    steps = tinygan.training(**SETTINGS | {"no_report": False, "no_gif": False}, epochs=3)
    try:
        for epoch in steps:
            if way == "exception" and epoch.number == 2:
                raise ZeroDivisionError
            if epoch.number == 2:
                break
    except ZeroDivisionError:
        pass
    with pytest.raises(CheckpointError, match="written by this program: end its loop"):  # still open
        tinygan.train(resume=True, quiet=True)
    steps.close()
    assert (here / RUN / "report.html").exists() and (here / RUN / "training.gif").exists()
    assert [epoch.number for epoch in tinygan.training(resume=True, quiet=True)] == [3]
    tinygan.train(**SETTINGS, epochs=3)
    one, other = (read(here / f"runs/000{n}-strokes/checkpoints/epoch_0003.npz")[0] for n in (1, 2))
    assert all((one[name] == other[name]).all() for name in one)


def test_leaving_the_loop_unlocks_the_run(here: Path) -> None:
    for _ in tinygan.training(**SETTINGS, epochs=3):
        break
    assert tinygan.train(resume=True, quiet=True).epochs["epoch"].tolist() == [1, 2, 3]


def test_the_working_directory_and_the_array_may_change_during_the_loop(here: Path) -> None:
    (here / "elsewhere").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (70, 28, 28, 1), np.uint8)
    before = tinygan.train(**SMALL | {"data": pictures}, epochs=2)
    mine = pictures.copy()
    for _ in tinygan.training(**SMALL | {"data": mine}, epochs=2):
        os.chdir(here / "elsewhere")
        mine[:] = 7
    run = tinygan.Run(here / "runs/0002-array")
    assert (run.read_losses() == before.read_losses()).all() and "epoch 2" in before._repr_html_()


def test_a_program_that_ends_inside_the_loop_still_writes_the_report(here: Path) -> None:
    settings = SETTINGS | {"no_report": False, "epochs": 9}
    code = f"import tinygan\nsteps = tinygan.training(**{settings})\nnext(steps)"
    done = ended(start("-c", code, cwd=here))
    assert (done.returncode, done.stderr) == (0, "")
    assert '"step": 3' in (here / RUN / "report.html").read_text()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_while_it_trains_and_between_two_epochs(here: Path) -> None:
    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return measure(*arguments)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):  # raised in the caller's code
            for _ in tinygan.training(**SETTINGS, epochs=9):
                signal.raise_signal(signal.SIGINT)
        with pytest.raises(StoppedError, match="everything is saved"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("tinygan.runs.loop.measure", interrupted)
            for _ in tinygan.training(resume=True, quiet=True):
                pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert tinygan.load().name == "epoch_0002"


# Starting from trained weights; changing settings.

OTHER: dict[str, Any] = {"batch_size": 40, "lr": 1e-3, "quiet": True, "no_gif": True, "no_report": True}


def arrays(run: tinygan.Run) -> dict[str, np.ndarray]:
    return read(run.latest_path)[0]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_new_run_starts_from_trained_weights_with_other_pictures_and_batches(average: float) -> None:
    first = tinygan.train(**SETTINGS, epochs=2, average=0.5)
    second = tinygan.train(ARRAY, start_from=first, epochs=0, average=average, **OTHER)
    old, new = arrays(first), arrays(second)
    names = [*tinygan.load(first).G.parameters, *tinygan.load(first).G.statistics]
    taken = [f"generator/{name}" for name in names] + [f"average/{name}" for name in names if average]
    taken += [f"discriminator/{name}" for name in tinygan.load(first).D.parameters]
    assert all((old[name] == new[name]).all() for name in taken) and len(taken) > 20
    assert new["step"] == 0 and not new["generator/00_dense/kernel/m"].any()  # Adam starts from zero


def test_a_new_average_starts_from_the_weights() -> None:
    first = tinygan.train(**SETTINGS, epochs=1)
    new = arrays(tinygan.train(ARRAY, start_from=first, epochs=0, average=0.9, **OTHER))
    assert (new["average/00_dense/kernel"] == arrays(first)["generator/00_dense/kernel"]).all()


def test_the_checkpoint_that_a_run_starts_from_is_recorded_printed_and_reused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("safetensors")
    first = tinygan.train(**SETTINGS, epochs=2)
    works("export", "--safetensors", "g.safetensors", cwd=here)
    given = OTHER | {"quiet": False, "epochs": 1}
    by_run, by_number, by_file = (
        tinygan.train(ARRAY, start_from=where, **given) for where in (first, "1", "g.safetensors")
    )
    assert (by_run.read_losses() == by_file.read_losses()).all() and by_number.losses["g_loss"].size == 2
    latest = str(first.latest_path)
    assert by_run.read_config()["settings"]["start_from"] == latest
    assert f"start    from the weights of {latest}" in capsys.readouterr().out
    for file in by_run.checkpoints():  # as if killed before the first save
        file.unlink()
    again = tinygan.train(ARRAY, resume=by_run, quiet=True)
    assert (again.read_losses() == by_file.read_losses()).all()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"width": 4}, "has --width 2, not 4. Leave it out."),
        ({"size": 32}, "has --size 28, not 32. Leave it out."),
        ({"resume": True}, "was trained with --start-from None, not "),
    ],
)
def test_an_error_names_the_option_that_does_not_fit(given: dict[str, Any], line: str) -> None:
    run = tinygan.train(**SETTINGS, epochs=1)
    with pytest.raises(UsageError) as problem:
        tinygan.train(data="strokes", start_from=run, quiet=True, **given)
    assert line in str(problem.value)


def test_a_resumed_run_makes_the_given_changes_and_records_them(here: Path) -> None:
    plain = tinygan.train(**SETTINGS, epochs=2, name="plain")
    run = tinygan.train(**SETTINGS, epochs=1)
    printed = works(
        "train", "--resume", run, "--epochs", 2, "--change", "lr=0.05", "--change", "beta1=0.5", cwd=here
    ).stdout
    assert "change   --lr 0.0001 -> 0.05, from step 4 on" in printed
    assert (run.losses[:3] == plain.losses[:3]).all() and (run.losses[5] != plain.losses[5]).all()
    assert (run.losses[3] == plain.losses[3]).all()  # measured before the first update at the new rate
    config = run.read_config()
    assert (config["settings"]["lr"], config["settings"]["beta1"]) == (0.05, 0.5)
    assert {"step": 3, "setting": "lr", "from": 0.0001, "to": 0.05} in config["changes"]
    works("report", run, cwd=here)
    assert '"setting": "beta1"' in run.report_path.read_text()
    tinygan.train(resume=f"{run}/checkpoints/epoch_0001.npz", epochs=3, change={"lr_d": 1e-3}, quiet=True)
    assert [one["setting"] for one in run.read_config()["changes"]] == ["lr_d"]
    assert run.read_config()["settings"]["lr"] == 0.0001  # the rate of that checkpoint


@SLOW
def test_a_change_lasts_even_if_no_step_is_saved_after_it() -> None:
    run = tinygan.train(**SETTINGS, epochs=1)
    tinygan.train(resume=True, change={"lr": 0.05}, steps=3, quiet=True)
    tinygan.train(resume=True, epochs=2, change={"beta2": 0.9}, quiet=True)
    changes = [(one["step"], one["setting"]) for one in run.read_config()["changes"]]
    assert changes == [(3, "lr"), (3, "beta2")] and run.read_config()["settings"]["lr"] == 0.05
    assert tinygan.load(run).settings.lr == 0.05
    for lr in (1e-3, 1e-3, 1e-2):
        tinygan.train(resume=True, change={"lr": lr}, quiet=True)
    changes = [one["to"] for one in run.read_config()["changes"] if one["step"] == 6]
    assert changes == [1e-3, 1e-2]  # one that changes nothing is not recorded


@SLOW
def test_a_resumed_run_can_start_and_stop_averaging() -> None:
    run = tinygan.train(**SETTINGS, epochs=2)
    before = arrays(run)
    tinygan.train(resume=True, change={"average": 0.9, "checkpoint_every": 1}, quiet=True)
    kernel = "00_dense/kernel"
    assert (arrays(run)[f"average/{kernel}"] == before[f"generator/{kernel}"]).all()
    assert tinygan.load(run).settings.checkpoint_every == 1
    tinygan.train(resume=True, epochs=6, quiet=True)  # an update comes every 8 steps
    assert (arrays(run)[f"average/{kernel}"] != arrays(run)[f"generator/{kernel}"]).any()
    tinygan.train(resume=True, change={"average": 0}, quiet=True)
    assert arrays(run).keys() == before.keys()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"lr": 0.05}, "was trained with --lr 0.0001, not 0.05. Leave it out, or use --change lr=0.05."),
        ({"change": {"width": 4}}, "--change width: only lr, lr-d, beta1, beta2, "),
        ({"change": {"batch_size": 4}}, "checkpoint-every can change. Use --start-from in a new run."),
        ({"change": {"data": "mnist"}}, "Use --data instead."),
        ({"change": {"lr": "fast"}}, "argument --lr: invalid float value: 'fast'."),
        ({"change": ["lr"]}, "--change lr has no value. Write --change lr=VALUE."),
        ({"change": {"lr": -1}}, "--lr -1.0 is not a positive number."),
        ({"change": {"learning_rate": 1}}, "Did you mean --lr=1?"),
    ],
)
def test_a_change_that_is_not_allowed_is_refused(given: dict[str, Any], line: str) -> None:
    run = tinygan.train(**SETTINGS, epochs=1)
    before = run.config_path.read_bytes()
    with pytest.raises(UsageError) as problem:
        tinygan.train(resume=True, epochs=2, quiet=True, **given)
    assert line in str(problem.value) and "\n" not in str(problem.value)
    assert run.config_path.read_bytes() == before
