"""The run folder: unique numbers, newest by number, files that are complete or absent."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from tests.test_files import names
from tinygan.errors import CheckpointError
from tinygan.runs.checkpoint import read, save
from tinygan.runs.folder import RunFolder


def make_run(out: Path, name: str = "strokes") -> RunFolder:
    run = RunFolder.create(out, name)
    run.write_config({"name": name})
    return run


# create


def test_the_number_is_one_above_the_highest_even_if_others_are_missing(tmp_path):
    for name in ("0007-mnist", "0002-x", "12345-y", "notes", "99-short"):
        (tmp_path / name).mkdir()
    assert RunFolder.create(tmp_path, "z").path.name == "12346-z"


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Fashion MNIST", "fashion-mnist"),
        ("C:\\Pictures: été/", "c-pictures-ete"),
        ("../../etc", "etc"),
        ("", "run"),
        ("日本", "run"),
        ("a" * 100, "a" * 40),
    ],
)
def test_names_become_safe_in_a_path(tmp_path, name, slug):
    assert RunFolder.create(tmp_path, name).path == tmp_path / f"0001-{slug}"


def test_a_number_that_another_process_has_just_taken_is_not_shared(tmp_path, monkeypatch):
    mkdir = os.mkdir

    def other_process_first(path, *rest):
        if Path(path).name == "0001":
            mkdir(tmp_path / "0001-other")
            monkeypatch.undo()
        mkdir(path, *rest)

    monkeypatch.setattr(os, "mkdir", other_process_first)
    assert RunFolder.create(tmp_path, "mine").path.name == "0002-mine"
    assert names(tmp_path) == ["0001-other", "0002-mine"]


@pytest.mark.parametrize("name", ["0001", "samples", "checkpoints"])
def test_a_folder_that_cannot_be_made_leaves_nothing_behind(tmp_path, monkeypatch, name):
    mkdir = os.mkdir

    def refuse(path, *rest):
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        mkdir(path, *rest)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(CheckpointError, match="Permission denied"):
        RunFolder.create(tmp_path, "mnist")
    assert names(tmp_path) == []


# find


def test_the_newest_run_is_the_one_with_the_highest_number_not_the_latest_time(tmp_path):
    runs = [make_run(tmp_path, name) for name in ("b", "c", "a")]
    runs[1] = RunFolder(runs[1].path.rename(tmp_path / "9999-c"))
    runs[2] = RunFolder(runs[2].path.rename(tmp_path / "10000-a"))
    for years, run in zip((10, 0, -10), runs, strict=True):
        seconds = 1_700_000_000 + years * 31_557_600
        os.utime(run.path, (seconds, seconds))
    assert RunFolder.find(None, tmp_path) == (runs[2], None)


def test_a_run_that_never_wrote_its_configuration_is_skipped(tmp_path):
    run = make_run(tmp_path)
    RunFolder.create(tmp_path, "killed-at-once")
    assert RunFolder.find(None, tmp_path) == (run, None)


def test_a_run_is_found_by_its_folder_and_by_a_checkpoint_in_it(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    checkpoint = run.checkpoint_path(20)
    checkpoint.write_bytes(b"")
    assert RunFolder.find(str(run.path), Path("elsewhere")) == (run, None)
    assert RunFolder.find(checkpoint, Path("elsewhere")) == (run, checkpoint)
    monkeypatch.chdir(run.checkpoints_dir)
    assert RunFolder.find("epoch_0020.npz", Path("elsewhere")) == (run, checkpoint)


def test_a_run_is_found_by_name_even_if_a_folder_of_pictures_has_that_name(tmp_path, monkeypatch):
    run = make_run(tmp_path / "runs", "shirts")
    (tmp_path / "shirts").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("shirts", "Shirts", "0001-shirts", "0001", "1"):
        assert RunFolder.find(name, tmp_path / "runs") == (run, None)
    newer = make_run(tmp_path / "runs", "shirts")
    assert RunFolder.find("shirts", tmp_path / "runs") == (newer, None)
    with pytest.raises(CheckpointError, match="shrits does not exist. Did you mean shirts?"):
        RunFolder.find("shrits", tmp_path / "runs")


def test_what_cannot_be_found_is_named_with_a_remedy(tmp_path):
    RunFolder.create(tmp_path, "empty")
    (tmp_path / "file.npz").write_bytes(b"")
    for where, out, words in [
        (None, tmp_path / "nowhere", "nowhere.*tinygan.train.*another folder"),
        (None, tmp_path, "no numbered folder with a config.json.*tinygan.train"),
        (None, tmp_path / "file.npz", "file.npz: Not a directory"),
        (tmp_path / "0009-mnist", tmp_path, "0009-mnist does not exist. Name a run, such as"),
        (tmp_path / "0001-empty", tmp_path, "config.json is missing"),
        (tmp_path / "file.npz", tmp_path, "config.json is missing"),
        ("x" * 5000, tmp_path, "Name a run, such as"),
    ]:
        with pytest.raises(CheckpointError, match=words) as caught:
            RunFolder.find(where, out)
        assert "\n" not in str(caught.value)


# names of checkpoints


def test_checkpoints_are_ordered_by_the_numbers_in_their_names(tmp_path):
    run = make_run(tmp_path)
    oldest_first = [
        run.checkpoint_path(0, 12),
        run.checkpoint_path(3),
        run.checkpoint_path(3, 583),
        run.checkpoint_path(3, 12_345_678),
        run.checkpoint_path(20),
        run.checkpoint_path(9_999),
        run.checkpoint_path(10_000),
    ]
    for age, path in enumerate(oldest_first):
        path.write_bytes(b"")
        os.utime(path, (1_000_000_000 - age * 1_000_000, 1_000_000_000 - age * 1_000_000))
    for other in (".epoch_0030.npz.1-ab.tmp", "epoch_0030.npz.old", "best.npz"):
        (run.checkpoints_dir / other).write_bytes(b"")
    assert run.checkpoints() == oldest_first[::-1]
    assert [path.name for path in oldest_first[1:3]] == ["epoch_0003.npz", "epoch_0003_step_0000583.npz"]


def states(run: RunFolder) -> dict[str, int]:
    """The step in each file of the checkpoints folder of `run`, by file name."""
    return {path.name: int(read(path)[0]["step"]) for path in run.checkpoints_dir.iterdir()}


def go_on_from(run: RunFolder, start: Path) -> None:
    run.go_on_from(start, *read(start))


def test_newer_checkpoints_are_set_aside_and_kept_and_the_start_is_the_latest(tmp_path):
    run = make_run(tmp_path)
    for epoch in (1, 2, 3):
        run.save({"step": np.array(epoch)}, {}, run.checkpoint_path(epoch))
    go_on_from(run, run.latest_path)
    assert states(run) == {"latest.npz": 3, "epoch_0003.npz": 3, "epoch_0002.npz": 2, "epoch_0001.npz": 1}
    go_on_from(run, run.checkpoint_path(2))
    first = {"latest.npz": 2, "latest.npz.old": 3, "epoch_0003.npz.old": 3}
    assert states(run) == first | {"epoch_0002.npz": 2, "epoch_0001.npz": 1}
    go_on_from(run, run.checkpoints_dir / "latest.npz.old")  # no longer one of the run's checkpoints
    second = {"latest.npz": 3, "latest.npz.old2": 2, "epoch_0002.npz.old": 2, "epoch_0001.npz.old": 1}
    assert states(run) == first | second
    backup = tmp_path / "backup/latest.npz"
    backup.parent.mkdir()
    save(backup, {"step": np.array(9)}, {})
    go_on_from(run, backup)
    assert states(run) == first | second | {"latest.npz": 9, "latest.npz.old3": 3}


def test_going_back_keeps_older_checkpoints_including_the_best_one(tmp_path):
    def saved(folder: str, best_name: str) -> RunFolder:
        run = make_run(tmp_path / folder)
        for epoch in (1, 2, 3):
            name = run.checkpoint_path(epoch).stem
            kept = [run.checkpoint_path(epoch)] + [run.best_path] * (name == best_name)
            run.save({"step": np.array(epoch)}, {"name": name}, *kept)
        return run

    run = saved("older", "epoch_0001")
    go_on_from(run, run.checkpoint_path(2))
    left = {"epoch_0001.npz": 1, "epoch_0002.npz": 2, "epoch_0003.npz.old": 3, "latest.npz.old": 3}
    assert states(run) == left | {"best.npz": 1, "latest.npz": 2}
    run = saved("newer", "epoch_0003")
    go_on_from(run, run.checkpoint_path(2))
    assert states(run) == left | {"best.npz.old": 3, "latest.npz": 2}
    run = saved("itself", "epoch_0002")
    go_on_from(run, run.best_path)
    assert states(run) == left | {"best.npz": 2, "latest.npz": 2}
    run = saved("damaged", "epoch_0001")
    run.best_path.write_bytes(b"damaged")
    go_on_from(run, run.checkpoint_path(3))
    assert not run.best_path.exists() and run.checkpoint_path(3).exists()


def test_checkpoints_that_cannot_be_renamed_are_reported(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    for epoch in (1, 2):
        run.save({"step": np.array(epoch)}, {}, run.checkpoint_path(epoch))

    def refuse(*paths):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(CheckpointError, match="cannot rename checkpoints"):
        go_on_from(run, run.checkpoint_path(1))


def test_a_deleted_checkpoints_folder_is_made_again(tmp_path):
    run = make_run(tmp_path)
    run.checkpoints_dir.rmdir()
    run.save({"step": np.array(1)}, {})
    assert states(run) == {"latest.npz": 1}


# configuration, log, statistics


def test_the_configuration_comes_back(tmp_path):
    run = make_run(tmp_path)
    found = {"lr": 1e-4, "place": "a/b", "steps": 3, "list": [1, None, True]}
    run.write_config(found)
    missing = {"settings": {}, "data": {}, "device": {}, "versions": {}, "commands": [], "changes": []}
    assert run.read_config() == found | missing
    assert run.config_path.read_text().startswith('{\n  "lr": 0.0001,\n')  # readable


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b'{"device": 1}', b'{"commands": {}}', b'{"changes": [1]}'],
)
def test_a_damaged_or_missing_configuration_is_refused(tmp_path, text):
    run = make_run(tmp_path)
    run.config_path.write_bytes(text)
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        run.read_config()
    run.config_path.unlink()
    with pytest.raises(CheckpointError, match="cannot read .*config.json: No such file"):
        run.read_config()


def test_statistics_come_back_in_order_without_those_after_the_checkpoint(tmp_path):
    run = make_run(tmp_path)
    assert run.read_stats() == []
    run.keep_stats_until(5)
    assert not run.stats_path.exists()
    for step in (10, 20, 30):
        run.append_stats({"epoch": 1, "step": step, "loss": 0.5 + step})
    assert [row["step"] for row in run.read_stats()] == [10, 20, 30]
    run.keep_stats_until(20)
    rows = [{"epoch": 1, "step": 10, "loss": 10.5}, {"epoch": 1, "step": 20, "loss": 20.5}]
    assert run.read_stats() == rows


@pytest.mark.parametrize(
    "torn",
    [b'{"step": 30', b"{", b"\x00\x00\x00", b'{"step": 30, "name": "\xc3', b'{"st\n\xff\n\n', b"\xff\n1\n"],
)
def test_a_last_row_truncated_by_a_kill_is_skipped_and_removed(tmp_path, torn):
    run = make_run(tmp_path)
    run.append_stats({"epoch": 1, "step": 10})
    with open(run.stats_path, "ab") as file:
        file.write(torn)
    assert run.read_stats() == [{"epoch": 1, "step": 10}]
    run.keep_stats_until(10)
    run.append_stats({"epoch": 1, "step": 20})
    assert run.read_stats() == [{"epoch": 1, "step": 10}, {"epoch": 1, "step": 20}]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense", "[1]", "{}", '{"epoch": 2}', '{"step"', '{"epoch": 1, "step": 2.5}',
        '{"epoch": "x", "step": 9}', '{"epoch": 2, "step": NaN}', '{"epoch": 2, "step": 9, "g_loss": 1e999}',
    ],
)  # fmt: skip
def test_a_damaged_row_in_the_middle_is_named(tmp_path, line):
    run, row = make_run(tmp_path), '{"epoch": 1, "step": 1}\n'
    run.stats_path.write_text(row + line + "\n" + row)
    with pytest.raises(CheckpointError, match="stats.jsonl is damaged on line 2"):
        run.read_stats()


def test_losses_of_all_steps_come_back_and_those_after_the_checkpoint_are_dropped(tmp_path):
    run, rows = make_run(tmp_path), np.arange(20, dtype=np.float64).reshape(5, 4)
    assert run.read_losses().shape == (0, 4)
    run.append_losses(rows[:2])
    run.append_losses(rows[2:])
    with open(run.losses_path, "ab") as file:
        file.write(b"half a row")  # of a run that was killed
    assert (run.read_losses() == rows).all() and run.read_losses().dtype == np.float32
    run.keep_stats_until(3)
    assert (run.read_losses() == rows[:3]).all() and run.losses_path.stat().st_size == 3 * 16
    run.append_losses(rows[:1])
    assert (run.read_losses() == rows[[0, 1, 2, 0]]).all()
    run.keep_stats_until(6)  # more than there are
    assert np.isnan(run.read_losses()[4:]).all() and len(run.read_losses()) == 6


def test_statistics_hold_only_numbers_that_json_has(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(ValueError):
        run.append_stats({"g_loss": float("nan")})
    assert run.read_stats() == []
