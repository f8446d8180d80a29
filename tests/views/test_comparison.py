"""Several runs on one page: what is in it, and what a browser shows of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.views import test_page
from tests.views.reports import made_up_run, stats_row
from tests.views.test_webpage import contents, picture
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import State, sample_noise
from tinygan.views.pictures import grid
from tinygan.views.webpage import write_comparison

browser = test_page.browser  # the fixture


@pytest.fixture
def models(tmp_path: Path) -> list[tuple[RunFolder, State]]:
    """Three runs, of which one evaluates, one has noise of its own length, and one has not trained yet."""
    kinds = ("a", 3, 5, 1e-4), ("<b>bold", 2, 7, 2e-4), ("new", 0, 5, 1e-4)
    runs = [made_up_run(tmp_path, n, name=name, width=2, noise_dim=z, lr=lr) for name, n, z, lr in kinds]
    runs[0][0].append_stats(stats_row(4) | {"evaluation": {"fcd": 12.5}})
    return runs


def test_a_comparison_holds_what_differs_and_the_pictures_of_the_same_noise(
    models: list[tuple[RunFolder, State]], tmp_path: Path
) -> None:
    write_comparison(models, tmp_path / "it.html")
    found = contents(tmp_path / "it.html")
    assert found["differ"] == ["epochs", "lr", "noise_dim"] and not found["same_noise"]
    first, second, new = found["runs"]
    assert {name: first["config"]["settings"][name] for name in found["differ"]}["lr"] == 1e-4
    assert second["config"]["settings"]["noise_dim"] == 7 and new["stats"] == new["curves"]["step"] == []
    assert first["stats"][-1]["evaluation"] == {"fcd": 12.5} and first["steps_per_epoch"] == 5
    assert len(first["curves"]["step"]) == 15
    for one, (_, state) in zip(found["runs"], models, strict=True):
        made = state.G(sample_noise(0, 16, state.G)).data
        assert np.abs(picture(one["pictures"]).astype(int) - grid(made, scale=1, gap=0)[..., 0]).max() <= 1
    write_comparison([models[0], models[2]], tmp_path / "it.html")
    assert contents(tmp_path / "it.html")["same_noise"]


def test_a_browser_shows_every_run_without_a_complaint(
    models: list[tuple[RunFolder, State]], tmp_path: Path, browser: Any
) -> None:
    path = tmp_path / "it.html"
    write_comparison(models, path)
    page, complaints = browser.new_page(viewport={"width": 400, "height": 800}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    text = page.locator("body").inner_text()
    assert all(name in text for name in ("0001-a", "0002-b-bold", "0003-new", "no epoch is complete yet"))
    assert "undefined" not in text and "NaN" not in text and page.locator("b").count() == 0
    assert page.locator(".chart").count() == 5 and page.locator("#pictures img").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert complaints == []
    page.close()
