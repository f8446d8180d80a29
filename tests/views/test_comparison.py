"""The comparison of several runs: what the page holds, and what a browser shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.views.reports import made_up_run, stats_row
from tests.views.test_webpage import contents, picture
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import State, sample_noise
from tinygan.views.comparison import MOST_POINTS, together, write_comparison
from tinygan.views.pictures import grid

Models = list[tuple[RunFolder, State]]


@pytest.fixture
def models(tmp_path: Path) -> Models:
    """Three runs: one evaluates, one has another length of noise, and one has not trained yet."""
    kinds = ("a", 3, 5, 1e-4), ("<b>bold", 2, 7, 2e-4), ("new", 0, 5, 1e-4)
    runs = [made_up_run(tmp_path, n, name=name, width=2, noise_dim=z, lr=lr) for name, n, z, lr in kinds]
    for epoch, fcd in ((4, 90.0), (5, 12.5)):
        runs[0][0].append_stats(stats_row(epoch) | {"evaluation": {"fcd": fcd}, "seconds": 60 * epoch})
    return runs


def test_a_comparison_holds_differing_settings_and_pictures_of_the_same_noise(
    models: Models, tmp_path: Path
) -> None:
    write_comparison(models, tmp_path / "it.html")
    found = contents(tmp_path / "it.html")
    assert found["differ"] == ["epochs", "lr", "noise_dim"] and not found["same_noise"]
    assert [one["name"] for one in found["runs"]] == ["0001-a", "0002-b-bold", "0003-new"]
    assert [one["settings"]["lr"] for one in found["runs"]] == [1e-4, 2e-4, 1e-4]
    for one, (_, state) in zip(found["runs"], models, strict=True):
        made = state.G(sample_noise(0, 16, state.G)).data
        assert np.abs(picture(one["pictures"]).astype(int) - grid(made, scale=1, gap=0)[..., 0]).max() <= 1
    write_comparison([models[0], models[2]], tmp_path / "it.html")
    assert contents(tmp_path / "it.html")["same_noise"]


def test_distances_are_placed_by_step_and_minute_and_losses_by_step(
    models: Models, tmp_path: Path
) -> None:
    write_comparison(models, tmp_path / "it.html")
    charts = contents(tmp_path / "it.html")["charts"]
    (stats,) = [run.read_stats() for run, _ in models[:1]]
    minutes = np.cumsum([row["seconds"] for row in stats])[-2:] / 60
    assert charts["fcd_by_step"] == {"x": [20, 25], "lines": [[90, 12.5], [None] * 2, [None] * 2]}
    assert charts["fcd_by_minute"]["x"] == pytest.approx(minutes, rel=1e-4)
    for name, column in (("g_loss", 0), ("d_loss", 1)):
        first, second, new = charts[name]["lines"]
        for line, (run, _) in zip((first, second), models, strict=False):
            expected = run.read_losses()[:, column]
            assert line[: len(expected)] == pytest.approx(expected, rel=1e-4)
            assert set(line[len(expected) :]) <= {None}
        assert charts[name]["x"] == [*range(1, 16)] and set(new) == {None} and second[10:] == [None] * 5


def test_lines_with_different_points_are_interpolated() -> None:
    found = together([([1, 3], [10, 30]), ([2, 4], [5, 5])])
    assert found == {"x": [1, 2, 3, 4], "lines": [[10, 20, 30, None], [None, 5, 5, 5]]}
    many = np.arange(5000.0)
    found = together([(many, 2 * many), ([], [])])
    assert len(found["x"]) == MOST_POINTS and found["x"][-1] == 4999
    assert found["lines"][0] == pytest.approx([2 * x for x in found["x"]], rel=1e-3)
    assert together([([], []), ([], [])]) == {"x": [], "lines": [[], []]}


def test_a_distance_measured_once_is_a_dot(models: Models, tmp_path: Path, browser: Any) -> None:
    models[1][0].append_stats(stats_row(3) | {"evaluation": {"fcd": 50.0}})
    write_comparison(models[:2], tmp_path / "it.html")
    page = browser.new_page()
    page.goto((tmp_path / "it.html").as_uri())
    assert [page.locator(".chart").nth(n).locator("circle").count() for n in range(4)] == [1, 1, 0, 0]
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_every_run_without_an_error(
    models: Models, tmp_path: Path, browser: Any, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.base")
    path = tmp_path / "it.html"
    write_comparison(models, path)
    page, problems = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme=scheme), []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    text = page.locator("body").inner_text()
    assert all(name in text for name in ("0001-a", "0002-b-bold", "0003-new", "no epoch is complete yet"))
    assert "undefined" not in text and "NaN" not in text and page.locator("b b").count() == 0
    keys = page.locator(".chart .key").evaluate_all("(keys) => keys.map((key) => key.innerText.trim())")
    assert keys == ["0001-a", "0001-a", "0001-a\n0002-b-bold", "0001-a\n0002-b-bold"]
    assert page.locator("td", has_text="12.5").count() == 1 and not page.locator("#no-fcd").is_visible()
    page.locator(".chart svg").nth(1).press("End")
    assert page.locator(".chart .key").nth(1).inner_text().split("\n") == ["0001-a 12.500", "at step 25"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.add_script_tag(content=axe.AXE_FILE_PATH.read_text())
    assert page.evaluate("axe.run()")["violations"] == []
    assert problems == []
    page.close()
