"""Trials of recipes: how they are named, the slopes of their losses, a record that loses nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import recipes
from benchmarks.coloured import in_grey, write_coloured
from benchmarks.ideas import FALLS, IDEAS, LOSSES, Ideas
from tests.checks import numbers
from tinygan.backend import cpu
from tinygan.data import load
from tinygan.errors import UsageError
from tinygan.fast import gan
from tinygan.ops.loss import bce_with_logits
from tinygan.runs.settings import RECIPES, new_settings
from tinygan.runs.state import State

SMALL = "width=2,noise_dim=5"


def state(**settings: Any) -> State:
    return State(new_settings({"width": 2, "noise_dim": 5, **settings}), cpu("fast"))


@pytest.mark.parametrize("N", [5, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_the_slopes_of_a_loss_match_finite_differences(name: str, N: int) -> None:
    both = [3 * numbers(1, N, 1), 3 * numbers(2, 5, 1)]
    losses = LOSSES[name](*both)
    found = ("d_loss", 0, losses.by_real), ("d_loss", 1, losses.by_fake), ("g_loss", 1, losses.by_fooled)
    for loss, which, slopes in found:
        for i in range(len(both[which])):
            ends = []
            for step in (1e-6, -1e-6):
                moved = [x.copy() for x in both]
                moved[which][i] += step
                ends.append(getattr(LOSSES[name](*moved), loss))
            assert slopes[i, 0] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-6), (loss, i)


@pytest.mark.parametrize(
    ("name", "d_loss", "g_loss"),
    [
        ("hinge", (0 + 1) / 2 + (0 + 1.5) / 2, 0.75),
        ("squares", (1 + 1) / 2 + (1 + 2.25) / 2, (9 + 0.25) / 2),
        # log(1 + exp(x)) of -4 and 0.5, of 4 and -0.5.
        ("pairs", (0.018150 + 0.974077) / 2, (4.018150 + 0.474077) / 2),
        ("means", 0.485751, 3.985751),  # of -2.75, -0.75, -3, -0.5; 2.75, 0.75, 3, 0.5
    ],
)
def test_losses_match_those_computed_by_hand(name: str, d_loss: float, g_loss: float) -> None:
    found = LOSSES[name](np.array([[2.0], [0.0]]), np.array([[-2.0], [0.5]]))
    assert (float(found.d_loss), float(found.g_loss)) == pytest.approx((d_loss, g_loss), abs=2e-6)


def test_the_reach_of_tinygan_s_average_is_9() -> None:
    ours, theirs = state(recipe="best"), state(recipe="best")
    for one, reach in ((ours, {"reach": 9}), (theirs, {})):
        with Ideas(reach, one).at(0.5, 0):
            for number in range(8, 48, 8):
                for at, tensor in enumerate(one.G.parameters.values()):
                    tensor.data = numbers(number + at, *tensor.shape).astype(np.float32)
                assert one.average
                one.average.update(number)
    for name, array in ours.weights().items():
        assert (array == theirs.weights()[name]).all(), name


def test_the_logistic_loss_is_tinygan_s() -> None:
    logits = 3 * numbers(3, 9, 1)
    ours = Ideas({"loss": "logistic"}, state()).losses_and_slopes(None, logits, 4)
    for own, expected in zip(ours, gan.losses_and_slopes(bce_with_logits, logits, 4), strict=True):
        assert own == pytest.approx(expected, rel=1e-12)


def test_in_the_end_g_learns_only_from_the_most_real_fakes() -> None:
    ideas, logits = Ideas({"top": 0.5}, state()), np.array([[0.0], [1], [-1], [3], [2]])
    *_, slopes = ideas.losses_and_slopes(None, logits, 1)
    assert (slopes[5:] != 0).all()
    with ideas.at(1.0, 10):
        *_, slopes = ideas.losses_and_slopes(None, logits, 1)
    assert [at for at in range(4) if slopes[5 + at]] == [2, 3]


@pytest.mark.parametrize("falls", FALLS)
def test_learning_rates_fall_to_zero(falls: str) -> None:
    trained = state(recipe="best")
    ideas, rates = Ideas({"falls": falls}, trained), []
    for progress in (0.0, 0.5, 0.75, 1.0):
        with ideas.at(progress, 0):
            rates.append((trained.adam_G.lr, trained.adam_D.lr))
    assert rates[0] == (8e-4, 4e-4) and rates[-1] == (0, 0)
    assert rates[0] >= rates[1] > rates[2] > rates[3]


def test_a_batch_doubles_in_equal_parts_of_the_time() -> None:
    ideas, sizes = Ideas({"grows": 3}, state()), []
    for progress in (0.0, 0.33, 0.34, 0.66, 0.67, 0.99):
        with ideas.at(progress, 0):
            sizes.append(ideas.batch_size(16, progress))
    assert sizes == [16, 16, 32, 32, 64, 64]


def test_functions_that_an_idea_replaces_are_restored_after_each_turn() -> None:
    before = gan.losses_and_slopes, gan.discriminator
    with Ideas({"loss": "hinge", "noise": 0.1, "reach": 5}, state()).at(0.5, 3):
        assert gan.losses_and_slopes != before[0] and gan.discriminator != before[1]
    assert (gan.losses_and_slopes, gan.discriminator) == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("slow", "unknown recipe 'slow'"),
        ("best,loss", "'loss' in 'best,loss' is unknown"),
        ("best,flip=True", "'flip=True' in .* is unknown"),  # a trial does not load other images
        ("best,lr=-1", "--lr -1 is not a positive number"),
        ("best,loss=hing", "Use one of: logistic, hinge"),
        ("best,top=x", "top=x is not a number above 0"),
        ("best,fades=1", "fades changes nothing"),  # `best` has no dropout
        ("quick,every=4", "every changes nothing"),
        ("best,loss=hinge,smooth=0.9", "smooth changes nothing"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipes.trial(text)


def test_a_trial_is_parsed_into_settings_and_ideas() -> None:
    assert recipes.trial("best,lr=1e-3,loss=hinge,top=0.7") == (
        "best,lr=1e-3,loss=hinge,top=0.7", {"recipe": "best", "lr": 1e-3}, {"loss": "hinge", "top": 0.7}
    )  # fmt: skip
    assert not IDEAS.keys() & RECIPES["best"].keys()


def tried(record: Path, *more: object) -> list[dict[str, Any]]:
    options = ("--data", "strokes", "--minutes", "0.01", "--samples", "100", "--record", record)
    assert recipes.main([str(part) for part in (*options, *more)]) == 0
    return [json.loads(line) for line in record.read_text().splitlines()]


@pytest.mark.usefixtures("few_strokes")
def test_trials_get_the_same_time_and_are_added_to_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "TURN", 0.1)
    record = tmp_path / "r.jsonl"
    names = [f"best,{SMALL},limit=99", f"quick,{SMALL},noise=0.1,grows=2,init=0.02,fades=1"]
    rows = tried(record, *names, "--seeds", "0", "--pictures", tmp_path)
    assert [row["trial"] for row in rows] == names and rows[0]["fcd"] != rows[1]["fcd"]
    for row in rows:
        assert 0.6 <= row["seconds"] < 5 and [at["seconds"] for at in row["measured"]][-1] == row["seconds"]
        assert sum(row["classes"]) == pytest.approx(1, abs=1e-3) and row["epochs"] > 0
    again = tried(record, *names, "--seeds", "0,7")
    assert again[:2] == rows and [row["seed"] for row in again] == [0, 0, 7, 7]
    table = capsys.readouterr().out.splitlines()[-2:]
    mean = np.mean([row["fcd"] for row in again if row["trial"] == names[0]])
    assert any(names[0] in line and "| 0,7 |" in line and f"{mean:.1f} (" in line for line in table)
    assert len(list(tmp_path.glob("*_seed_0.png"))) == 2
    with Image.open(tmp_path / "r.png") as chart:
        assert chart.width == 1000


@pytest.mark.parametrize("line", ["{", "[1]", '{"trial": "best"}'])
def test_a_file_that_is_not_a_record_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.jsonl").write_text(f"{line}\n")
    with pytest.raises(UsageError, match=r"r\.jsonl is not a record of trials"):
        recipes.recorded(tmp_path / "r.jsonl")


@pytest.mark.usefixtures("few_strokes")
def test_stopped_trials_resume_from_their_last_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, count = recipes.Contender.measure, 0

    def stopping(contender: Any, *rest: Any) -> None:
        nonlocal count
        measure(contender, *rest)
        if (count := count + 1) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(recipes.Contender, "measure", stopping)
    record, names = tmp_path / "r.jsonl", [f"best,{SMALL}", f"quick,{SMALL}"]
    with pytest.raises(KeyboardInterrupt):
        tried(record, *names, "--seeds", "1")
    kept = {path.name: recipes.checkpoint.read(path)[1] for path in (tmp_path / "r").iterdir()}
    assert not record.exists() and sorted(len(meta["measured"]) for meta in kept.values()) == [1, 2]
    monkeypatch.setattr(recipes.Contender, "measure", measure)
    rows = tried(record, *names, "--seeds", "1")
    found = [kept[f"{name}_strokes_0.01_minutes_seed_1.npz"] for name in names]
    for row, meta in zip(rows, found, strict=True):
        assert row["measured"][: len(meta["measured"])] == meta["measured"] and len(row["measured"]) == 5
    assert not list((tmp_path / "r").iterdir())


def test_coloured_pictures_without_their_colour_are_the_images(tmp_path: Path) -> None:
    images = np.random.default_rng(3).integers(0, 256, (30, 28, 28, 1), np.uint8)
    write_coloured(images, tmp_path)
    pictures = load(str(tmp_path), size=32, channels=3).images[:]
    assert pictures.shape == (30, 32, 32, 3) and (in_grey(pictures) == images).all()
    colours = pictures.reshape(30, -1, 3).max(axis=1)
    assert len(np.unique(colours, axis=0)) > 25 and (colours.min(axis=1) < 200).mean() > 0.5


@pytest.mark.usefixtures("few_strokes")
def test_a_folder_of_colour_pictures_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "FASHION", "strokes")  # this needs no files
    (row,) = tried(tmp_path / "r.jsonl", f"best,{SMALL}", "--seeds", "0", "--data", "coloured")
    assert row["data"] == "coloured" and row["fcd"] > 0 and row["epochs"] > 0
