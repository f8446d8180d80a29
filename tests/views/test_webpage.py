"""The page as text: its contents, its size, and how it handles missing or hostile data."""

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.checks import one_line
from tests.views.reports import STEPS_PER_EPOCH, made_up_run, made_up_state, stats_row
from tinygan.backend import cpu
from tinygan.errors import CheckpointError
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.views.pictures import grid, read_picture, save_png, tiles
from tinygan.views.webpage import MOST_POINTS, curves, write_report

SMALL: dict[str, Any] = {"width": 2, "noise_dim": 5}


@pytest.fixture
def state() -> State:
    return made_up_state(STEPS_PER_EPOCH, **SMALL)


@pytest.fixture
def run(tmp_path: Path, state: State) -> RunFolder:
    """A run of one epoch."""
    return made_up_run(tmp_path, 1, state, **SMALL)[0]


def contents(path: Path) -> dict[str, Any]:
    """The JSON that the page's scripts read."""
    (text,) = re.findall(r'<script id="contents" type="application/json">(.*?)</script>', path.read_text())
    return json.loads(text)


def picture(url: str) -> np.ndarray:
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_report_holds_the_run(tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, epochs=3, **SMALL)
    path = write_report(run, state)
    assert path == run.path / "report.html"
    found = contents(path)
    assert found["name"] == "0001-made-up" and found["config"]["data"]["name"] == "made up"
    assert found["config"] == run.read_config()
    assert found["stats"] == [row | {"evaluation": {}} for row in run.read_stats()]
    assert found["steps_per_epoch"] == STEPS_PER_EPOCH
    assert [frame["epoch"] for frame in found["frames"]] == [0, 1, 2, 3]
    assert found["step"] == 3 * STEPS_PER_EPOCH
    assert np.array(found["noise"]) == pytest.approx(state.preview_noise, rel=1e-4)
    assert [network["name"] for network in found["networks"]] == ["generator", "discriminator"]


def test_evaluations_are_included_if_there_are_any(run: RunFolder, state: State) -> None:
    run.append_stats(stats_row(2) | {"evaluation": {"fcd": 12.5, "floor": 0.25, "odd": 1, "recall": None}})
    found = contents(write_report(run, state))["stats"]
    assert [row["evaluation"] for row in found] == [{}, {"fcd": 12.5, "floor": 0.25}]


def test_the_averaged_generator_is_the_one_to_play_with(run: RunFolder, state: State) -> None:
    averaged = State(Settings(width=2, noise_dim=5, average=0.9), cpu())
    paths = []
    for factor in (1, 2):  # the page has the averaged weights, so the others do not matter
        for tensor in averaged.G.parameters.values():
            tensor.data = tensor.data * factor
        paths.append(write_report(run, averaged).read_text())
    assert paths[0] == paths[1]
    for tensor in averaged.shown_G.parameters.values():
        tensor.data = -tensor.data
    assert write_report(run, averaged).read_text() != paths[0]


def test_pictures_are_those_of_the_grids_without_magnification(run: RunFolder, state: State) -> None:
    found = contents(write_report(run, state))
    for url, path in ((found["frames"][1]["picture"], run.sample_path(1)), (found["reals"], run.reals_path)):
        images = tiles(read_picture(path), 16, 28, 28)
        assert (picture(url) == grid(images, scale=1, gap=0)[:, :, 0]).all()


def test_the_page_names_no_other_file_and_no_address(run: RunFolder, state: State) -> None:
    text = write_report(run, state).read_text()
    assert "{{" not in text
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", text)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, never read
    assert "default-src 'none'" in text  # which the browser enforces


def test_a_run_of_100_epochs_with_the_tutorials_model_stays_under_8_megabytes(tmp_path: Path) -> None:
    """With pictures that do not compress, and losses of 23,500 steps."""
    run, state = made_up_run(tmp_path, epochs=1)
    for epoch in range(2, 101):
        run.sample_path(epoch).write_bytes(run.sample_path(1).read_bytes())
        run.append_stats(stats_row(epoch, "samples look alike: mode collapse? " * 4))
    run.append_losses(np.random.default_rng(0).random((23_500, 4)))
    size = write_report(run, state).stat().st_size
    assert 4.5e6 < size < 8e6, size


HOSTILE = "</script><script>alert(1)</script><!--{{ generator-weights }}"


def test_names_from_outside_never_become_markup(run: RunFolder, state: State) -> None:
    config = run.read_config()
    config["data"]["name"] = config["data"]["source"] = HOSTILE
    run.write_config(config)
    path = write_report(run, state)
    assert contents(path)["config"]["data"]["source"] == HOSTILE
    assert "alert(1)</script>" not in path.read_text()
    (title,) = re.findall("<title>(.*?)</title>", path.read_text())
    (shared,) = re.findall('<meta property="og:title" content="(.*?)">', path.read_text())
    assert title == shared and "<" not in title and HOSTILE in html.unescape(title)


@pytest.mark.parametrize("damage", ["delete", "truncate", "another size", "text"])
def test_a_picture_that_cannot_be_used_is_left_out(tmp_path: Path, damage: str) -> None:
    run, state = made_up_run(tmp_path, epochs=2, **SMALL)
    path = run.sample_path(1)
    if damage == "delete":
        path.unlink()
        run.reals_path.unlink()
    elif damage == "another size":
        save_png(path, np.zeros((5, 7, 1), np.uint8))
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "truncate" else b"not a picture")
    found = contents(write_report(run, state))
    assert [frame["epoch"] for frame in found["frames"]] == [0, 2]
    assert (found["reals"] is None) == (damage == "delete")


def test_pictures_past_the_statistics_are_left_out(tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, epochs=3, **SMALL)
    run.keep_stats_until(2 * STEPS_PER_EPOCH)
    found = contents(write_report(run, state))
    assert [frame["epoch"] for frame in found["frames"]] == [0, 1, 2]
    assert len(found["curves"]["step"]) == 2 * STEPS_PER_EPOCH


def test_a_run_before_its_first_epoch_has_a_report(tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, epochs=0, **SMALL)
    found = contents(write_report(run, state))
    assert found["stats"] == [] and found["curves"]["step"] == []
    assert [frame["epoch"] for frame in found["frames"]] == [0]


def test_a_data_set_smaller_than_a_grid_is_shown(run: RunFolder, state: State) -> None:
    config = run.read_config()
    config["data"]["shape"][0] = 3
    run.write_config(config)
    save_png(run.reals_path, grid(np.zeros((3, 28, 28, 1), np.uint8)))
    assert picture(contents(write_report(run, state))["reals"]).shape == (56, 56)


GOOD_SETTINGS = '"settings": {"batch_size": 4}'


@pytest.mark.parametrize(
    "config",
    [
        "{}", '{"data": 3}', '{"data": {"name": "a", "shape": [1, 2]}}', "[]", '{"data": NaN}',
        f'{{"data": {{"shape": [0, 0, 0, 0]}}, {GOOD_SETTINGS}}}',
        f'{{"data": {{"shape": [1e999, 28, 28, 1]}}, {GOOD_SETTINGS}}}',
        f'{{"data": {{"shape": ["9", 28, 28, 1]}}, {GOOD_SETTINGS}}}',
        '{"data": {"shape": [9, 28, 28, 1]}, "settings": {"batch_size": 1e-320}}',
        '{"data": {"shape": [9, 28, 28, 1]}, "settings": 5}',
    ],
)  # fmt: skip
def test_a_configuration_without_the_facts_is_refused(run: RunFolder, state: State, config: str) -> None:
    run.config_path.write_text(config)
    with pytest.raises(CheckpointError, match="config.json is damaged") as caught:
        write_report(run, state)
    one_line(caught)
    assert not run.report_path.exists()


@pytest.mark.parametrize("row", [{}, {"epoch": 2}, {"step": 9}])
def test_a_row_of_the_statistics_without_epoch_or_step_is_refused(
    run: RunFolder, state: State, row: dict[str, int]
) -> None:
    run.append_stats(row)
    with pytest.raises(CheckpointError, match="stats.jsonl is damaged") as caught:
        write_report(run, state)
    one_line(caught)


def test_values_of_the_wrong_type_never_reach_the_page(run: RunFolder, state: State) -> None:
    run.append_stats(
        stats_row(2) | {"verdict": 5, "g_loss": "low", "seconds": None, "health": {"dead": "yes", "odd": 1}}
    )
    run.append_stats(stats_row(3) | {"health": 7})
    found = contents(write_report(run, state))
    assert not {"verdict", "g_loss", "seconds"} & set(found["stats"][1])
    assert found["stats"][1]["health"] == found["stats"][2]["health"] == {}


def test_statistics_that_claim_to_be_huge_cost_nothing(run: RunFolder, state: State) -> None:
    run.append_stats(stats_row(2) | {"epoch": 10**15, "step": 10**300})
    assert len(contents(write_report(run, state))["frames"]) == 2


def test_the_title_is_the_folder_s_name_even_from_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, state = made_up_run(tmp_path, epochs=1, **SMALL)
    odd = tmp_path / "0001-\udcff\n"
    run.path.rename(odd)
    monkeypatch.chdir(odd)
    assert contents(write_report(RunFolder(Path(".")), state))["name"] == r"0001-\udcff\n"


# Curves.


def test_a_short_run_has_a_point_for_every_step() -> None:
    losses = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = curves(losses, [])
    assert found["every"] == 1 and found["step"] == [1, 2, 3]
    assert found["mean"] == found["low"] == found["high"] == losses.T.tolist()


def test_a_long_run_has_means_and_ranges_of_several_steps() -> None:
    losses = np.random.default_rng(0).random((2 * MOST_POINTS + 1, 4)).astype(np.float32)
    found = curves(losses, [])
    every = found["every"]
    assert every == 3 and len(found["step"]) <= MOST_POINTS
    assert found["step"][:2] == [3, 6] and found["step"][-1] == len(losses)
    for place, first in ((0, 0), (7, 21), (-1, (len(losses) - 1) // 3 * 3)):
        part = losses[first : first + every]
        for name, expected in (("mean", part.mean(0)), ("low", part.min(0)), ("high", part.max(0))):
            assert [curve[place] for curve in found[name]] == pytest.approx(expected, rel=1e-4)


def test_unknown_steps_are_gaps() -> None:
    losses = np.full((4, 4), np.nan, np.float32)
    losses[2:] = 1
    assert curves(losses, [])["mean"][0] == [None, None, 1, 1]


def test_without_losses_of_steps_the_means_of_the_epochs_are_used() -> None:
    rows = [stats_row(1), stats_row(2)]
    for losses in (np.zeros((0, 4), np.float32), np.full((10, 4), np.nan, np.float32)):
        found = curves(losses, rows)
        assert found["every"] is None and found["step"] == [5, 10]
        assert found["mean"][0] == pytest.approx([0.71, 0.72])


def test_unknown_steps_take_the_means_of_their_epochs() -> None:
    """A run started by a version that did not record steps, then resumed."""
    losses = np.full((15, 4), np.nan, np.float32)
    losses[10:] = 3
    found = curves(losses, [stats_row(1), stats_row(2) | {"g_loss": 0.5}, stats_row(3)])
    assert found["mean"][0] == pytest.approx([0.71] * 5 + [0.5] * 5 + [3] * 5)
