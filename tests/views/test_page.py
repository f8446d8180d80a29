"""The report in headless Chromium, driven by Playwright and used as a person uses it."""

import base64
import io
import re
import time
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.views.reports import STEPS_PER_EPOCH, made_up_run, made_up_state, stats_row
from tinygan import layers
from tinygan.autograd import Tensor, grad, no_grad
from tinygan.evaluation.neighbours import nearest, ranked
from tinygan.layers import Mode
from tinygan.ops.loss import bce_with_logits
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import State, pictures_of
from tinygan.trained import Trained, great_circle
from tinygan.views import health
from tinygan.views.pictures import read_picture, tiles, to_uint8
from tinygan.views.webpage import write_report

SMALL: dict[str, Any] = {"width": 4, "noise_dim": 10}
EPOCHS = 3
# Directions along single numbers of the noise.
DIRECTIONS = [
    {"name": f"direction {n}", "measure": "width", "before": "4%", "after": "61%", "noise": one}
    for n, one in enumerate(np.eye(8, 10).tolist(), start=1)
]
IMAGES = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), np.uint8)  # the training images
EVALUATION = {
    "fcd": 100.0, "error": 1.0, "precision": 0.5, "recall": 0.25, "coverage": 0.75,
    "floor": 0.28, "ceiling": 400.0, "samples": 10_000,
}  # fmt: skip
Made = tuple[RunFolder, State]
Open = Callable[..., "Visit"]


class Visit:
    """An open report; it collects console messages, errors and requests."""

    def __init__(
        self,
        browser: Any,
        path: Path,
        size: tuple[int, int] = (1000, 800),
        fragment: str = "",
        **options: Any,
    ) -> None:
        self.page = browser.new_page(
            viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options
        )
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri() + fragment)
        self.settle()

    def settle(self) -> None:
        """Wait until the networks have answered everything and all is drawn."""
        self.until(
            "RUN.edits || (explorer.drawn && explorer.networks.questions.size === 0 && explorer.galleries"
            ".every((gallery) => gallery.stale === 0))"
        )

    def until(self, expression: str) -> None:
        """Wait until some JavaScript is true. Playwright's own wait needs eval, which the page forbids."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"never: {expression}"
            self.page.wait_for_timeout(20)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.inner_text()

    def pixels(self, selector: str) -> np.ndarray:
        """The pixels of a canvas (H, W, 3)."""
        url = self.page.evaluate("(selector) => document.querySelector(selector).toDataURL()", selector)
        data = base64.b64decode(url.partition(",")[2])
        return np.array(Image.open(io.BytesIO(data)).convert("RGB"))

    def set(self, selector: str, value: float) -> None:
        """Move a slider, as a person does."""
        self.page.locator(selector).fill(str(value))
        self.settle()

    def click(self, selector: str) -> None:
        self.page.click(selector)
        self.settle()

    def noise(self) -> np.ndarray:
        """The noise that the explorer shows now, (1, noise_dim)."""
        return np.array(self.page.evaluate("Array.from(explorer.noise)"), np.float32)[None]

    def chart(self, title: str) -> Any:
        return self.page.locator(".chart").filter(
            has=self.page.get_by_role("heading", name=title, include_hidden=True)
        )

    def numbers(self, title: str, *keys: str) -> list[str]:
        """The texts in a chart's legend after these keys were pressed on it."""
        chart = self.chart(title)
        chart.locator("svg").focus()
        for key in keys:
            self.page.keyboard.press(key)
        return chart.locator(".key li").all_inner_texts()

    def scale(self, title: str) -> Callable[[float], float]:
        """Converts a height on the screen to a number on a chart's axis, by the lowest two labels."""
        labels = """(chart) => [...chart.querySelectorAll("text[text-anchor=end]")].slice(0, 2)
            .map((text) => [parseFloat(text.textContent), text.y.baseVal[0].value - 4])"""
        (low, bottom), (high, top) = self.chart(title).evaluate(labels)
        return lambda y: low + (high - low) * (bottom - y) / (bottom - top)


@pytest.fixture
def open_report(browser: Any) -> Iterator[Open]:
    """Opens reports, and checks after the test that none logged an error."""
    visits: list[Visit] = []

    def opened(path: Path, **options: Any) -> Visit:
        visits.append(Visit(browser, path, **options))
        return visits[-1]

    yield opened
    for visit in visits:
        assert visit.problems == []
        assert all(url.startswith(("file:", "data:", "blob:")) for url in visit.requests), visit.requests
        visit.page.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small run with its report."""
    run, state = made_up_run(tmp_path_factory.mktemp("runs"), EPOCHS, **SMALL)
    pictures = pictures_of(state.G, np.random.default_rng(0).standard_normal((60, 10)).astype(np.float32))
    write_report(run, state, {"directions": DIRECTIONS, "ranked": ranked(state.D, pictures, IMAGES)})
    return run, state


@pytest.fixture
def state(made: Made) -> State:
    return made[1]


@pytest.fixture
def visit(open_report: Open, made: Made) -> Visit:
    return open_report(made[0].report_path)


def wait_for_grid(visit: Visit, path: Path) -> None:
    """Wait until the grid shows the pictures in `path`."""
    expected = tiles(read_picture(path), 16, 28, 28)[..., 0]
    visit.settle()
    for i in (0, 6, 15):
        assert (visit.pixels(f"#grid button:nth-child({i + 1}) canvas")[..., 0] == expected[i]).all()


# Samples.


def test_the_slider_shows_the_pictures_and_the_numbers_of_its_epoch(visit: Visit, made: Made) -> None:
    assert visit.text("#epoch-facts").startswith(f"After epoch {EPOCHS}: ")
    visit.set("#epoch", 1)
    visit.until("explorer.when === 'after epoch 1'")
    facts = visit.text("#epoch-facts")
    assert facts.startswith("After epoch 1: mean loss of the generator 0.710")
    assert "a probability of 60% of being real" in facts
    assert visit.text("#epoch-number") == f"1 of {EPOCHS}"
    wait_for_grid(visit, made[0].sample_path(1))
    visit.set("#epoch", 0)
    assert visit.text("#epoch-facts") == "Before training."


def test_the_player_runs_to_the_last_epoch_and_stops(visit: Visit) -> None:
    """Meanwhile, text that a screen reader announces changes at most once by itself."""
    visit.page.evaluate(
        """() => {
            window.readOut = 0;
            for (const region of document.querySelectorAll("[aria-live], output")) {
                new MutationObserver(() => (window.readOut += region.ariaLive !== "off"))
                    .observe(region, {childList: true, characterData: true, subtree: true});
            }
        }"""
    )
    # In one go, before the next picture: it was at the end, and starts from the beginning.
    texts = "byId('play').click(); ['epoch-facts', 'play'].map((id) => byId(id).textContent)"
    assert visit.page.evaluate(texts) == ["Before training.", "Pause"]
    visit.until("document.querySelector('#play').textContent === 'Play'")
    assert visit.text("#epoch-facts").startswith(f"After epoch {EPOCHS}: ")
    assert visit.page.evaluate("window.readOut") <= 2  # the first, before it is off


@pytest.mark.parametrize("by", ["button", "slider"])
def test_the_player_pauses(visit: Visit, by: str) -> None:
    pause = "byId('play').click()"
    if by == "slider":
        pause = "Object.assign(byId('epoch'), { value: 1 }).dispatchEvent(new Event('input'))"
    visit.page.evaluate(f"() => {{ byId('play').click(); {pause}; }}")
    assert visit.text("#play") == "Play"
    now = visit.text("#epoch-facts")
    visit.page.wait_for_timeout(450)
    assert visit.text("#epoch-facts") == now and not now.startswith(f"After epoch {EPOCHS}")


def test_real_images_are_shown_below_the_samples(visit: Visit, made: Made) -> None:
    visit.until("byId('real-grid').width > 300")
    shown = visit.pixels("#real-grid")[..., 0]
    reals = tiles(read_picture(made[0].reals_path), 16, 28, 28)[..., 0]
    scale = (len(shown) + 6) // 4 // 28
    assert (shown[scale // 2 : 28 * scale : scale, scale // 2 : 28 * scale : scale] == reals[0]).all()


# Keyboard only.


def test_every_control_can_be_reached_with_tab_and_shows_its_focus(visit: Visit) -> None:
    reached, outlines = [], []
    for _ in range(150):
        visit.page.keyboard.press("Tab")
        name, outline = visit.page.evaluate(
            """() => {
                const focus = document.activeElement;
                const name = focus.id || focus.href || focus.ariaLabel || focus.tagName;
                return [name, getComputedStyle(focus).outlineStyle];
            }"""
        )
        if name == "BODY":
            break
        reached.append(name)
        outlines.append(outline)
    controls = {
        "new-picture",
        "morph",
        "show-slope",
        "way",
        "reset",
        "new-strip",
        "save-film",
        "clear",
        "quiz-next",
    }
    assert controls | {"play", "epoch"} <= set(reached), reached
    assert {"Picture 1", "Picture 16", "Real picture 1", "Real picture 16"} <= set(reached)
    assert "Losses" in reached and any(
        name.startswith("generator, 06 leaky relu: channel") for name in reached
    )
    assert {f"direction {n}" for n in range(1, 9)} <= set(reached)
    assert set(outlines) == {"solid"}


def test_a_chart_can_be_read_with_the_keyboard(visit: Visit) -> None:
    chart = visit.chart("Losses").locator("svg")
    for key, at in (("PageUp", 14), ("PageDown", 0), ("End", 14), ("ArrowLeft", 13), ("Home", 0)):
        where = visit.numbers("Losses", key)[-1]
        assert chart.get_attribute("aria-valuenow") == str(at), key
        assert where == f"at epoch {(at + 1) / STEPS_PER_EPOCH:g}"
    text = chart.get_attribute("aria-valuetext") or ""
    assert text.startswith("at epoch 0.2: generator ") and ", discriminator " in text


# Facts and tables.


def test_the_facts_of_the_run_are_listed(visit: Visit) -> None:
    facts = dict(
        zip(*(visit.page.locator(f"#facts {tag}").all_inner_texts() for tag in ("dt", "dd")), strict=True)
    )
    assert facts["data set"] == "made up, 100 images of 28 × 28 × 1"
    assert facts["trained"] == "3 of 3 epochs, 15 steps"
    assert facts["time"] == "6 s, 102 images/s"  # three epochs of 2 s; the median of 101, 102, 103
    assert facts["settings"] == "recipe seed, batch 20, penalty 0, dropout 0.3, seed 0"


def test_tables_hold_the_epochs_and_the_configuration(visit: Visit) -> None:
    for part in ("settings", "versions", "commands", "epochs"):
        # By key: drawing can move the target of a click.
        visit.page.locator(f"#{part} summary").press("Enter")
    rows = visit.page.locator("#epochs tbody tr").all_inner_texts()
    assert [row.split("\t")[:3] for row in rows] == [
        ["1", "0.710", "1.300"], ["2", "0.720", "1.300"], ["3", "0.730", "1.300"]
    ]  # fmt: skip
    assert "batch size\t20" in visit.text("#settings") and "numpy\t2.0.0" in visit.text("#versions")
    assert "python -m tinygan.train" in visit.text("#commands")


# Curves.


def test_curves_show_the_losses_of_the_steps(visit: Visit, made: Made) -> None:
    losses = made[0].read_losses()

    def shown(chart: str, *keys: str) -> list[float]:
        """The values of both lines."""
        words = [item.split()[-1] for item in visit.numbers(chart, *keys)[:2]]
        return [float(word[:-1]) / 100 if word[-1] == "%" else float(word) for word in words]

    for key, step in (("End", len(losses) - 1), ("Home", 0)):
        for chart, columns, exact in (("Losses", [0, 1], 6e-4), ("How real", [2, 3], 6e-3)):
            assert shown(chart, key) == pytest.approx(losses[step, columns], abs=exact)


def test_a_long_run_s_curves_are_moving_averages(open_report: Open, tmp_path: Path) -> None:
    """Over 2% of the points on either side."""
    run, state = made_up_run(tmp_path, 20, **SMALL)
    losses, visit = run.read_losses(), open_report(write_report(run, state))
    words = visit.numbers("Losses", "Home", *["ArrowRight"] * 9)
    assert words[-1] == "mean around epoch 2"
    assert [float(one.split()[-1]) for one in words[:2]] == pytest.approx(losses[7:12, :2].mean(0), abs=6e-4)


def test_steps_without_numbers_are_gaps(visit: Visit) -> None:
    assert visit.page.evaluate("smooth([1, null, 3, 5, 7], 1)") == [1, None, 4, 5, 7]
    lines = "path([0, 1, 2, 3, 4], [1, 2, null, 3, 4], (x) => x, (y) => y)"
    assert visit.page.evaluate(lines) == "M0.0 1.0L1.0 2.0M3.0 3.0L4.0 4.0"
    line = "{x: [0, 1, 2, 3, 4], low: [1, 1, null, 2, 2], high: [5, 5, null, 6, 6]}"
    assert visit.page.evaluate(f"band({line}, (x) => x, (y) => y)") == (
        "M0.0 5.0L1.0 5.0L1.0 1.0L0.0 1.0ZM3.0 6.0L4.0 6.0L4.0 2.0L3.0 2.0Z"
    )


def test_lines_are_drawn_at_their_numbers(visit: Visit, made: Made) -> None:
    """D(x) of the first and the last step, from the path, by the labels of the axis."""
    losses, title = made[0].read_losses(), "How real"
    path = visit.chart(title).locator("path.line").first.get_attribute("d") or ""
    points = [tuple(map(float, point.split())) for point in path.replace("M", "L").split("L")[1:]]
    assert len(points) == len(losses)
    for at in (0, -1):
        assert visit.scale(title)(points[at][1]) == pytest.approx(100 * min(1, losses[at, 2]), abs=1)


def test_the_epoch_on_the_slider_is_marked_in_the_charts(visit: Visit) -> None:
    def markers() -> list[float]:
        lines = visit.page.locator(".chart .marker").all()
        return [float(line.get_attribute("x1") or "nan") for line in lines]

    visit.page.evaluate("byId('more-charts').open = true")
    visit.page.wait_for_timeout(100)
    at_end = markers()
    assert len(at_end) == 7
    visit.set("#epoch", 0)
    assert all(x == 46 for x in markers()) and all(x > 100 for x in at_end)


def test_the_limits_of_the_verdict_are_drawn_at_their_numbers(visit: Visit) -> None:
    visit.page.evaluate("byId('more-charts').open = true")
    right = ["on real images 75%", "on fakes 50%"]
    alike = ["any two 90%", "nearest neighbours 80%"]
    for title, numbers, limits in (
        ("How often the discriminator is right", right, [0.5]),
        ("How varied", alike, [1, health.COLLAPSED, health.REPEATED]),
        ("How much the", ["on real images 0.100", "on fakes 0.200"], []),
        ("Dead channels", ["never positive 13%"], [health.DEAD]),
        ("Speed", [f"images per second {100 + EPOCHS}"], []),
    ):
        assert visit.numbers(title, "End")[: len(numbers)] == numbers
        chart, scale = visit.chart(title), 1 if title.startswith("How much") else 100
        places = [float(line.get_attribute("y1") or "nan") for line in chart.locator("line.limit").all()]
        found = [visit.scale(title)(y) for y in places]
        assert found == pytest.approx([scale * limit for limit in limits], abs=0.01 * scale), title
        words = chart.locator(".dashed").all_inner_texts()
        numbers = [float(text.split()[-1].rstrip("%")) for text in words]
        assert numbers == pytest.approx([100 * limit for limit in limits])
    lines = visit.chart("Losses").locator("line.limit").all()
    found = [visit.scale("Losses")(float(line.get_attribute("y1") or "nan")) for line in lines]
    assert found == pytest.approx([np.log(2), 2 * np.log(2), health.CERTAIN], abs=0.01)


def test_each_chart_has_an_explanation(visit: Visit) -> None:
    words = visit.chart("Losses").locator(".help p")
    assert not words.is_visible()
    visit.chart("Losses").locator(".help summary").click()
    assert words.inner_text().startswith("Each network tries to lower its loss.")


def test_a_chart_can_be_read_with_a_mouse_and_with_a_finger(
    visit: Visit, open_report: Open, made: Made
) -> None:
    where = visit.chart("Losses").locator(".where")
    visit.chart("Losses").locator("svg").hover(position={"x": 200, "y": 100})
    assert where.inner_text().startswith("at epoch ")
    visit.page.mouse.move(0, 0)
    assert where.inner_text() == ""
    touched = open_report(made[0].report_path, size=(400, 800), has_touch=True).chart("Losses")
    touched.locator("svg").tap(position={"x": 200, "y": 100})
    assert "epoch 1.6" in touched.locator(".where").inner_text()


def test_distances_are_drawn_where_they_were_measured(open_report: Open, tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, 1, **SMALL)
    title = "Distance from real images (FCD)"
    run.append_stats(stats_row(2) | {"evaluation": {"fcd": 50.0}})  # from a version without the floor
    chart = open_report(write_report(run, state)).chart(title)
    assert chart.count() == 1 and chart.locator("line.limit").count() == 0
    for epoch, fcd in ((3, None), (4, 25.0)):
        measured = {"fcd": fcd, "error": 1.0, "precision": 0.5, "recall": 0.25, "coverage": 0.75}
        scale = {"floor": 0.28, "ceiling": 389.7, "samples": 10_000}
        run.append_stats(stats_row(epoch) | ({"evaluation": measured | scale} if fcd else {}))
    visit = open_report(write_report(run, state))
    assert "went from 50 after epoch 2 to 25." in visit.text("#story")
    titles = visit.page.locator("#good-charts h3").all_inner_texts()
    assert titles == [title, "Quality and variety"]
    chart = visit.chart(title)
    assert chart.locator("path.raw").count() == 1  # the band of the standard error
    assert visit.numbers(title, "End") == ["FCD 25.000", "other real images: 0.28", "at epoch 4"]


# The explorer.


# The red values that `drawPicture` makes of numbers.
BYTES = """(values) => {
    const canvas = element("canvas"), context = canvas.getContext("2d");
    drawPicture(canvas, values, [1, values.length, 1]);
    const { data } = context.getImageData(0, 0, values.length, 1);
    return Array.from(values, (_, i) => data[4 * i]);
}"""


def test_bytes_are_rounded_as_in_the_picture_files(visit: Visit) -> None:
    values = np.concatenate([np.linspace(-1.2, 1.2, 997), (np.arange(256) - 127) / 127.5])  # and ties
    assert visit.page.evaluate(BYTES, values.tolist()) == to_uint8(values).tolist()


def shows(visit: Visit, state: State, noise: np.ndarray, canvas: str = "#picture") -> None:
    """The canvas shows G's picture for `noise` (1, noise_dim)."""
    shown = visit.pixels(canvas).astype(int)
    assert np.abs(shown - to_uint8(pictures_of(state.G, noise))[0]).max() <= 1


def test_the_decision_of_the_discriminator_is_shown_below_the_picture(visit: Visit, state: State) -> None:
    with no_grad():
        logit = float(state.D(pictures_of(state.G, state.preview_noise[:1])).data[0, 0])
    words = "The discriminator says this picture is real with a probability of"
    assert visit.text("#decision") == f"{words} {100 / (1 + np.exp(-logit)):.0f}%."
    visit.page.locator("#discriminator summary").scroll_into_view_if_needed()
    visit.click("#discriminator summary")
    visit.until("document.querySelector('.logit')?.textContent")
    assert float(visit.text(".logit")) == pytest.approx(logit, abs=0.02)
    captions = visit.page.locator("#discriminator-layers .hint").all_inner_texts()
    assert captions[-2] == "392 numbers. The same numbers, in a single row."
    assert captions[-1].startswith("1 number, from 393 weights.")
    assert captions[-1].endswith("below 0 for a fake.")
    assert visit.pixels("#discriminator-layers canvas").max() > 0


def test_the_first_picture_needs_no_network(browser: Any, made: Made) -> None:
    """It is the first of the newest samples, which come from the same noise."""
    page = browser.new_page(reduced_motion="reduce")
    page.add_init_script("window.Worker = class { postMessage() {} }")  # a worker that never answers
    page.goto(made[0].report_path.as_uri())
    page.wait_for_timeout(500)
    url = page.evaluate("document.getElementById('picture').toDataURL()")
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))
    assert (shown == tiles(read_picture(made[0].sample_path(EPOCHS)), 16, 28, 28)[0, ..., 0]).all()
    page.close()


def test_a_new_picture_has_new_noise_and_joins_the_strip(visit: Visit, state: State) -> None:
    shows(visit, state, state.preview_noise[:1])
    before = visit.noise()
    visit.click("#new-picture")
    assert (visit.noise() != before).all()
    shows(visit, state, visit.noise())
    shows(visit, state, visit.noise(), "#strip canvas")
    shows(visit, state, state.preview_noise[1:2], "#strip canvas:nth-child(4)")
    drawn = np.array(visit.page.evaluate("Array.from(drawNoise(20000, 7))"))
    assert abs(drawn.mean()) < 0.04 and abs(drawn.std() - 1) < 0.03
    assert abs((np.abs(drawn) < 1).mean() - 0.6827) < 0.02
    seeds = visit.page.evaluate("[1, 2, 3, 4, 1].map((seed) => Array.from(drawNoise(1000, seed)))")
    assert seeds[0] == seeds[4]
    assert np.abs(np.corrcoef(seeds[:4]) - np.eye(4)).max() < 0.15


def test_the_grid_has_the_training_s_noise_and_its_pictures_can_be_chosen(visit: Visit, state: State) -> None:
    noise = state.preview_noise
    visit.click("#grid button:nth-child(7)")
    shows(visit, state, noise[6:7])
    shows(visit, state, noise[6:7], "#grid button:nth-child(7) canvas")
    shows(visit, state, noise[6:7], "#strip canvas")


def test_a_direction_pushes_every_picture_and_can_be_reset(visit: Visit, state: State) -> None:
    start = state.preview_noise
    first, second = np.eye(10, dtype=np.float32)[:2]
    visit.set(".direction:nth-child(2) input", -2.5)
    visit.set(".direction:nth-child(1) input", 3)
    push = 3 * first - 2.5 * second
    shows(visit, state, start[:1] + push)
    shows(visit, state, start[4:5] + push, "#grid button:nth-child(5) canvas")
    visit.page.locator(".direction input").first.dispatch_event("change")
    visit.settle()
    shows(visit, state, start[1:2] + push, "#strip canvas:nth-child(4)")
    assert visit.text("#directions .value") == "3.0"
    for end, reach in enumerate((-2, 2)):  # the second slider at its ends
        shows(
            visit,
            state,
            start[:1] + 3 * first + reach * second,
            f".direction:nth-child(2) canvas:nth-of-type({end + 1})",
        )
    visit.click("#reset")
    shows(visit, state, start[:1])


def test_the_slider_moves_from_picture_to_picture_on_great_circles(visit: Visit, state: State) -> None:
    noise = state.preview_noise
    for way, expected in ((1, noise[1]), (2, noise[2]), (4, noise[0])):
        visit.set("#way", way)
        assert visit.noise()[0] == pytest.approx(expected, abs=1e-4)
    visit.set("#way", 3.5)
    halfway = great_circle(noise[3], noise[0], np.array([0.5], np.float32))
    assert visit.noise()[0] == pytest.approx(halfway[0], abs=1e-4)
    shows(visit, state, halfway)
    visit.page.locator("#strip canvas").nth(4).click()
    visit.settle()
    third = great_circle(noise[1], noise[2], np.array([1 / 3], np.float32))
    shows(visit, state, third)
    shows(visit, state, third, "#strip canvas:nth-child(5)")


def test_a_morph_can_reach_the_layers_before_their_channels_are_chosen(browser: Any, made: Made) -> None:
    page, problems = browser.new_page(reduced_motion="no-preference"), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(made[0].report_path.as_uri())
    page.evaluate("""async () => {
        const outputs = await explorer.networks.ask("outputs", { noise: explorer.noise });
        explorer.draw = () => {}; // no other frames
        byId("layers-section").scrollIntoView();
        while (!explorer.all) await new Promise(requestAnimationFrame);
        for (const frame of [1, 2]) explorer.onPicture(explorer.noise, outputs);
        delete explorer.draw;
    }""")
    page.wait_for_timeout(300)
    assert problems == []
    # Layers below the visible screen are drawn when the morph stops.
    page.evaluate("explorer.setMorphing(false)")
    page.wait_for_timeout(300)
    assert not page.evaluate("inSight(document.querySelector('#layers figure'))")
    last, picture = "document.querySelector('#layers figure canvas')", "byId('picture')"
    assert page.evaluate(f"{last}.toDataURL() === {picture}.toDataURL()")
    page.close()


def test_the_picture_morphs_unless_reduced_motion_is_set_and_stops_for_the_user(
    browser: Any, made: Made, visit: Visit
) -> None:
    assert visit.page.evaluate("[explorer.way, explorer.morphing]") == [0, False]  # reduced motion
    page = browser.new_page(reduced_motion="no-preference")
    page.goto(made[0].report_path.as_uri())
    page.wait_for_timeout(1000)
    assert page.evaluate("explorer.way") > 0.1 and page.inner_text("#morph") == "Pause"
    page.locator("#way").fill("2.5")
    page.wait_for_timeout(300)
    assert (
        page.evaluate("[explorer.way, explorer.morphing]") == [2.5, False]
        and page.inner_text("#morph") == "Morph"
    )
    page.click("#morph")
    page.locator("#quiz").scroll_into_view_if_needed()  # out of sight
    page.wait_for_timeout(200)
    there = page.evaluate("explorer.way")
    page.wait_for_timeout(300)
    assert page.evaluate("explorer.way") == there
    page.close()


def test_the_grid_and_the_picture_follow_the_epochs(visit: Visit, made: Made) -> None:
    early = tiles(read_picture(made[0].sample_path(1)), 16, 28, 28)
    visit.set("#epoch", 1)
    visit.until("byId('decision').textContent === 'The picture of the same noise after epoch 1.'")
    visit.settle()
    assert (visit.pixels("#picture")[..., 0] == early[0, ..., 0]).all()
    assert (visit.pixels("#grid button:nth-child(7) canvas")[..., 0] == early[6, ..., 0]).all()
    visit.set("#epoch", EPOCHS)
    visit.until("byId('decision').textContent.startsWith('The discriminator')")


def test_the_address_holds_the_state(visit: Visit, open_report: Open, made: Made) -> None:
    visit.click("#new-picture")
    visit.set("#way", 0.25)
    visit.set(".direction:nth-child(3) input", 1.5)
    visit.page.locator(".direction input").nth(2).dispatch_event("change")
    visit.page.evaluate("explorer.names[1] = nameOf(explorer.point(1))")
    visit.click("#strip canvas:nth-child(2)")
    address, noise = visit.page.evaluate("location.hash"), visit.noise()
    for written in (address, address.replace(",", "%2C").replace("+", "%2B")):
        other = open_report(made[0].report_path, fragment=written)
        assert other.noise() == pytest.approx(noise, abs=1e-3)
        assert other.text("#morph") == "Morph"
    short = ["#n=,p1,p2,p3/0/", "#nAAAA,p1,p2,p3/0/", "#p99,x/", "#s1,s2,s3,nAAAA/9/8,x,0"]
    for broken in (*short, "#p1,p2,p3,p4/-1/nan", "#nÿ,s1,s2,s3", f"#n{27 * 'A'}==,p1,p2,p3/0/"):
        visit.page.evaluate("(hash) => (location.hash = hash)", broken)
        visit.settle()
        assert np.isfinite(visit.noise()).all()


def test_the_map_of_what_seems_more_real_is_the_gradient_of_the_logit(visit: Visit, state: State) -> None:
    picture = Tensor(pictures_of(state.G, state.preview_noise[:1]))
    (slope,) = grad(bce_with_logits(state.D(picture), target=1.0), [picture])
    slope = -slope  # the loss falls where the logit rises
    visit.click("#show-slope")
    visit.until("document.querySelector('#slope').width === 28")
    visit.settle()
    shown = visit.pixels("#slope").astype(int)
    clear = np.abs(slope[0, ..., 0]) > 0.05 * np.abs(slope).max()
    orange = shown[..., 0] > shown[..., 2]
    assert (orange == (slope[0, ..., 0] > 0))[clear].all() and clear.sum() > 100
    assert visit.page.locator("#slope-words").is_visible()
    visit.click("#show-slope")
    assert not visit.page.locator("#slope").is_visible()


# Find a picture; real or fake.


def test_noise_is_found_for_a_real_picture(visit: Visit, state: State) -> None:
    """The match gets closer, and the explorer can show the result."""
    visit.page.locator("#targets button").nth(2).click()
    visit.until("byId('fit-words').textContent.startsWith('Step 300 of 300')")
    visit.settle()
    now, first = map(int, re.findall(r"off by (\d+) of 255, at first by (\d+)", visit.text("#fit-words"))[0])
    assert now < first
    visit.click("#fit-take")
    shown, found = visit.pixels("#picture").astype(int), visit.pixels("#found").astype(int)
    assert np.abs(shown - found).max() <= 2  # the address rounds the noise
    real = visit.pixels("#pad")[..., 0].astype(float)
    assert np.sqrt(((found[..., 0] - real) ** 2).mean()) == pytest.approx(now, abs=1)


def test_noise_is_found_for_a_drawing_and_the_search_can_be_stopped(visit: Visit) -> None:
    slow = """const ask = explorer.networks.ask.bind(explorer.networks);
        explorer.networks.ask = async (task, argument) => {
            if (task === "fit") await new Promise((resolve) => setTimeout(resolve, 50));
            return ask(task, argument);
        }; 0"""
    visit.page.evaluate(slow)
    box = visit.page.locator("#pad").bounding_box()
    assert box
    visit.page.locator("#pad").scroll_into_view_if_needed()
    box = visit.page.locator("#pad").bounding_box()
    assert box
    visit.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    visit.page.mouse.down()
    visit.page.mouse.move(box["x"] + box["width"] * 3 / 4, box["y"] + box["height"] / 2)
    visit.page.mouse.up()
    drawn = visit.pixels("#pad")
    assert drawn[14, 7:21].min() > 200 and drawn[:10].max() == 0 and drawn[18:].max() == 0
    visit.until("byId('fit-words').textContent.startsWith('Step ')")
    visit.page.click("#fit-stop")
    visit.until("byId('fit-stop').disabled")  # after the current step
    step = visit.text("#fit-words").split()[1]
    visit.page.wait_for_timeout(200)
    assert visit.text("#fit-words").split()[1] == step and int(step) < 300
    visit.page.click("#clear")
    assert visit.pixels("#pad").max() == 0


def test_the_page_takes_the_same_steps_as_like() -> None:
    text = (Path(health.__file__).parent / "page" / "find.js").read_text()
    ((steps, lr),) = re.findall(r"STEPS = (\d+), LR = ([\d.]+)", text)
    like = signature(Trained.like).parameters
    assert (int(steps), float(lr)) == (like["steps"].default, like["lr"].default)


@pytest.mark.parametrize("measured", [True, False])
def test_the_quiz_asks_ten_pairs_and_counts_both(
    open_report: Open, made: Made, tmp_path: Path, measured: bool
) -> None:
    """With real pictures that the report does not show elsewhere, if it has any."""
    (run, state), reals, right = made, IMAGES[..., 0], 0
    path = run.report_path if measured else write_report(run, state, path=tmp_path / "it.html")
    if not measured:
        reals = tiles(read_picture(run.reals_path), 16, 28, 28)[..., 0]
    visit = open_report(path)
    visit.until("byId('quiz-next').onclick !== null")
    for number in range(1, 11):
        visit.click("#quiz-next")
        visit.until("byId('quiz-next').hidden")
        assert visit.text("#quiz-words").startswith(f"Pair {number}:")
        pair = [visit.pixels(f"#{place} canvas")[..., 0] for place in ("left", "right")]
        is_real = [bool((reals == one).all(axis=(1, 2)).any()) for one in pair]
        assert sorted(is_real) == [False, True]
        visit.page.click("#left")
        right += is_real[0]
        with no_grad():
            logits = state.D((np.stack(pair)[..., None] / 127.5 - 1).astype(np.float32)).data[:, 0]
        words = visit.text("#quiz-words")
        assert words.startswith("Right" if is_real[0] else "Wrong")
        assert f"You: {right} of {number}, the discriminator: " in words
        sure = logits[is_real.index(True)] > logits[is_real.index(False)]
        assert f"The discriminator is {'right' if sure else 'wrong'}" in words
    assert visit.text("#quiz-words").endswith("Guessing gets about half of them.")
    assert visit.text("#quiz-next") == "Again"


# Files.


def saved(visit: Visit, button: str) -> Image.Image:
    with visit.page.expect_download() as download:
        visit.page.click(button)
    return Image.open(io.BytesIO(download.value.path().read_bytes()))


def test_pictures_are_saved_as_they_are_shown_at_a_size_that_people_post(visit: Visit) -> None:
    picture = np.array(saved(visit, "#save-picture").convert("RGB"))
    assert picture.shape == (1092, 1092, 3)
    assert (picture[19::39, 19::39] == visit.pixels("#picture")).all()
    grid, strip = saved(visit, "#save-grid"), saved(visit, "#save-strip")
    assert 1080 < grid.size[0] == grid.size[1] and strip.size == (6 * 202 - 6, 2 * 202 - 6)
    corner = np.array(grid.convert("RGB"))[5:280:10, 5:280:10]
    assert (corner == visit.pixels("#grid canvas")).all()


def test_the_morph_is_saved_as_a_film(visit: Visit, state: State) -> None:
    film = saved(visit, "#save-film")
    assert film.format == "GIF" and film.size == (560, 560) and film.info["loop"] == 0
    assert getattr(film, "n_frames", 1) == 48
    for frame, noise in ((0, 0), (12, 1), (36, 3)):
        film.seek(frame)
        shown = np.array(film.convert("L"))[10::20, 10::20].astype(int)
        expected = to_uint8(pictures_of(state.G, state.preview_noise[noise : noise + 1]))[0, ..., 0]
        assert np.abs(shown - expected).max() <= 1


def test_a_colour_film_uses_the_nearest_colours_of_its_palette(visit: Visit) -> None:
    """With enough colours to fill the table of codes repeatedly."""
    picture = np.random.default_rng(0).uniform(-1, 1, (64, 64, 3)).astype(np.float32)
    # Run the worker's functions in the page.
    script = """(x) => {
        const gif = new Function(`${byId("worker").textContent}; return gif;`)();
        return gif([Float32Array.from(x)], [64, 64, 3], 4, 0.1).map((part) => Array.from(part)).flat();
    }"""
    data = bytes(visit.page.evaluate(script, picture.reshape(-1).tolist()))
    shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"))[2::4, 2::4].astype(int)
    assert (
        np.abs(shown - to_uint8(picture).astype(int)).max() <= 27
    )  # half a step of six levels, and rounding


# How good.


def test_the_last_distance_is_between_real_pictures_and_noise(open_report: Open, tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, 1, **SMALL)
    run.append_stats(stats_row(2) | {"evaluation": EVALUATION})
    visit = open_report(write_report(run, state))
    marks = visit.page.locator("#scale li").all()
    assert [mark.inner_text().split() for mark in marks] == [
        ["0.3", "real", "pictures"],
        ["100", "this", "run"],
        ["400", "noise"],
    ]
    boxes = [mark.bounding_box() for mark in marks]
    middles = [box["x"] + box["width"] / 2 for box in boxes if box]
    assert (middles[1] - middles[0]) / (middles[2] - middles[0]) == pytest.approx(0.25, abs=0.01)
    assert "10,000 fakes" in visit.text("#scale-words")


def test_good_typical_and_bad_pictures_are_shown_above_the_nearest_images(visit: Visit, state: State) -> None:
    visit.until("document.querySelectorAll('#ranks canvas').length === 48")
    shown, near = (
        np.stack([visit.pixels(f"#ranks :nth-child({row} of .rank) canvas:nth-child({i})")[..., :1]
                  for row in rows for i in range(1, 9)])
        for rows in ((1, 3, 5), (2, 4, 6))
    )  # fmt: skip
    with no_grad():
        logits = state.D((shown / 127.5 - 1).astype(np.float32)).data[:, 0].reshape(3, 8)
    assert logits[0].min() > logits[1].max() and logits[1].min() > logits[2].max()
    index, apart = nearest(shown, IMAGES)
    assert (near == IMAGES[index]).all()
    words = visit.text("#ranks-words")
    assert words.startswith("The discriminator ranked 60 new pictures.")
    assert "the nearest of 50 training images" in words
    assert f"differ by {apart.mean():.0f} of 255" in words and words.endswith("has not just memorised them.")
    titles = visit.page.locator("#ranks h3").all_inner_texts()
    assert [title.split(":")[0] for title in titles] == ["Good", "Typical", "Bad"]
    low, high = (100 / (1 + np.exp(-logit)) for logit in (logits[2].min(), logits[2].max()))
    assert f"{low:.0f}%" in titles[2] and f"{high:.0f}%" in titles[2]
    assert not visit.page.locator("#scale").is_visible()  # nothing was measured


# Layers.


def in_sight(visit: Visit) -> None:
    visit.page.locator("#layers-title").scroll_into_view_if_needed()
    visit.until("document.querySelector('#layers button').ariaLabel.startsWith('generator,')")
    visit.settle()


def test_layers_show_the_channels_that_differ_most_between_this_picture_and_the_next(
    visit: Visit, state: State
) -> None:
    in_sight(visit)
    with no_grad():
        here, there = (
            [y.data[0] for _, y in state.G.outputs(Tensor(z[None]), Mode())] for z in state.preview_noise[:2]
        )
    apart = np.abs(here[7] - there[7]).mean(axis=(0, 1))  # a transposed convolution: 4 channels of 14x14
    expected = [f"generator, 07 conv transpose: channel {one + 1} of 4" for one in np.argsort(-apart)]
    buttons = visit.page.locator("#layers .layer").nth(7).locator("button")
    assert [button.get_attribute("aria-label") for button in buttons.all()] == expected
    canvas = "#layers .layer:nth-child(8) button:first-child canvas"
    shown, values = visit.pixels(canvas).astype(int), here[7][..., np.argmax(apart)]
    clear = np.abs(values) > 1e-2 * np.abs(here[7]).max()
    assert ((shown[..., 0] > shown[..., 2]) == (values > 0))[clear].all() and clear.sum() > 50
    buttons.first.focus()
    assert visit.text("#channel") == expected[0]


def test_a_chosen_channel_is_followed_by_leaving_it_out(visit: Visit, state: State) -> None:
    """Later layers show the channels that change most without it; the picture is drawn without it."""
    in_sight(visit)
    visit.page.locator("#layers .layer").nth(6).locator("button").nth(1).click()
    visit.until("byId('channel').textContent.startsWith('Without channel')")
    visit.settle()
    chosen = int(visit.text("#channel").split()[2]) - 1
    layers_of_G = list(state.G.layers.values())
    with no_grad():
        outputs = [y.data for _, y in state.G.outputs(Tensor(state.preview_noise[:1]), Mode())]
        x = outputs[6].copy()
        x[..., chosen] = 0
        without, y = [], Tensor(x)
        for layer in layers_of_G[7:]:
            y = layer(y, Mode())
            without.append(y.data)
    apart = np.abs(outputs[7] - without[0]).mean(axis=(0, 1, 2))
    labels = [
        b.get_attribute("aria-label")
        for b in visit.page.locator("#layers .layer").nth(7).locator("button").all()
    ]
    assert labels[0] == f"generator, 07 conv transpose: channel {np.argmax(apart) + 1} of 4"
    shown = visit.pixels("#layers .layer:last-child figure:nth-child(2) canvas")[..., 0].astype(int)
    assert np.abs(shown - to_uint8(without[-1])[0, ..., 0]).max() <= 1
    pressed = visit.page.locator("#layers button[aria-pressed=true]")
    assert pressed.count() == 1
    pressed.click()  # stop following it
    visit.until("document.querySelector('#layers button[aria-pressed=true]') === null")


# The layout.


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1000, "light")])
def test_nothing_overflows_and_text_has_enough_contrast(
    open_report: Open, made: Made, width: int, scheme: str
) -> None:
    visit = open_report(made[0].report_path, size=(width, 800), color_scheme=scheme)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = visit.page.evaluate(
        """() => {
            const light = (color) => {
                const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
                    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = (node) => {
                for (; node; node = node.parentElement) {
                    const color = getComputedStyle(node).backgroundColor;
                    if (color !== "rgba(0, 0, 0, 0)") return color;
                }
            };
            const texts = "p, h1, h2, td, th, figcaption, legend, button, a, li, dt, dd";
            return [...document.querySelectorAll(texts)]
                .filter((node) => node.textContent.trim() && node.getClientRects().length)
                .map((node) => {
                    const pair = [light(getComputedStyle(node).color), light(behind(node))].sort();
                    return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), node.textContent];
                });
        }"""
    )
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)  # WCAG 2.1, 1.4.3
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, ground[4:-1].split(","))) < 60) == (scheme == "dark")


@pytest.mark.parametrize("size", [(400, 800), (667, 375), (1200, 800)])
def test_the_first_screen_has_a_picture_and_something_to_press(
    open_report: Open, made: Made, size: tuple[int, int]
) -> None:
    visit = open_report(made[0].report_path, size=size)
    for part in ("#picture", "#new-picture", "#morph"):
        box = visit.page.locator(part).bounding_box()
        assert box and box["y"] + box["height"] <= size[1], part


SCREENS = [(width, scheme) for width in (400, 800, 1400) for scheme in ("dark", "light")]


@pytest.mark.parametrize(
    ("width", "scheme"), [SCREENS[0], *(pytest.param(*one, marks=pytest.mark.slow) for one in SCREENS[1:])]
)
def test_axe_finds_no_violations(open_report: Open, made: Made, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base")
    visit = open_report(made[0].report_path, size=(width, 800), color_scheme=scheme)
    in_sight(visit)
    visit.page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    visit.page.add_script_tag(content=axe.AXE_FILE_PATH.read_text())
    found = visit.page.evaluate("axe.run()")["violations"]
    assert [(one["id"], [node["html"][:80] for node in one["nodes"]]) for one in found] == []


def test_the_report_prints_on_at_most_three_pages(open_report: Open, tmp_path: Path) -> None:
    """With everything that it can show."""
    run, state = made_up_run(tmp_path, EPOCHS, **SMALL)
    run.append_stats(stats_row(EPOCHS + 1) | {"evaluation": EVALUATION})
    pictures = pictures_of(state.G, np.random.default_rng(0).standard_normal((60, 10)).astype(np.float32))
    visit = open_report(write_report(run, state, {"ranked": ranked(state.D, pictures, IMAGES)}))
    wide = {side: "1cm" for side in ("top", "right", "bottom", "left")}
    for options in ({"format": "A4"}, {"format": "A4", "margin": wide}, {"format": "Letter", "margin": wide}):
        assert visit.page.pdf(**options).count(b"/Type /Page\n") <= 3, options


# All kinds of runs.


def kinds(tmp_path: Path) -> Iterator[tuple[str, RunFolder, State]]:
    def some(name: str, epochs: int = 2, **settings: Any) -> tuple[str, RunFolder, State]:
        run, state = made_up_run(tmp_path, epochs, name=name, **{**SMALL, **settings})
        return name, run, state

    yield some("untrained", epochs=0)
    yield some("one epoch", epochs=1)
    yield some("colour", size=64, channels=3)
    yield some("small noise", noise_dim=2)
    name, run, state = some("interrupted", epochs=2)
    config = run.read_config()
    config["settings"]["epochs"] = 3
    run.write_config(config)
    run.append_losses(np.ones((2, 4)))  # two steps of the third epoch
    state.step += 2
    yield name, run, state
    name, run, state = some("losses of epochs only")
    run.losses_path.unlink()
    yield name, run, state
    name, run, state = some("older statistics")
    rows = run.read_stats()
    run.stats_path.unlink()
    for row in rows:
        run.append_stats({key: row[key] for key in row if key not in ("health", "verdict", "advice")})
    yield name, run, state
    name, run, state = some("every second picture", epochs=4)
    run.sample_path(1).unlink()
    run.sample_path(3).unlink()
    yield name, run, state
    name, run, state = some("no pictures")
    for path in (*run.samples_dir.iterdir(), run.reals_path):
        path.unlink()
    yield name, run, state
    name, run, state = some("long")
    run.append_losses(np.random.default_rng(0).random((6000, 4)))
    yield name, run, state
    yield "</script><b>bold</b>", *made_up_run(tmp_path, 1, name="</script><b>bold</b>", **SMALL)


@pytest.mark.slow
def test_all_kinds_of_runs_open_without_an_error(open_report: Open, tmp_path: Path) -> None:
    for name, run, state in kinds(tmp_path):
        visit = open_report(write_report(run, state), size=(400, 800))
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 400, name
        shows(visit, state, state.preview_noise[:1])
        assert "undefined" not in visit.text("body") and "NaN" not in visit.text("body"), name
        assert visit.page.locator("b", has_text="bold").count() == 0, name
        unfinished = visit.page.locator("#unfinished")
        assert unfinished.is_visible() == (name == "interrupted"), name
        if name == "interrupted":
            assert unfinished.locator("code").inner_text() == run.resume_command("strokes")
        assert visit.page.locator("#player").is_visible() == (name not in ("no pictures", "untrained")), name
        assert ("No pictures were found" in visit.text("#epoch-facts")) == (name == "no pictures")
        assert visit.pixels("#grid canvas").max() > 0, name


def test_a_verdict_is_shown_with_its_advice(open_report: Open, tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, 1, **SMALL)
    run.append_stats(stats_row(2, "samples look alike: mode collapse?") | {"advice": "Go on."})
    visit = open_report(write_report(run, state))
    assert visit.text("#verdict") == "Epoch 2. Samples look alike: mode collapse? Go on."
    assert "bad" in (visit.page.locator("#verdict").get_attribute("class") or "")


def test_an_early_verdict_is_neither_good_nor_bad(open_report: Open, tmp_path: Path) -> None:
    run, state = made_up_run(tmp_path, 1, **SMALL)
    for verdict, kind in (("healthy: neither", "good"), ("too early to say: a verdict takes", "early")):
        run.append_stats(stats_row(2, verdict))
        shown = open_report(write_report(run, state)).page.locator("#verdict")
        assert (shown.get_attribute("class") or "").split() == ["verdict", kind]


@pytest.mark.parametrize("kind", ["trained", "averaged", "untrained"])
def test_the_weights_in_the_explorer_are_described(open_report: Open, tmp_path: Path, kind: str) -> None:
    run, state = made_up_run(tmp_path, 1, **SMALL, average=0.9 if kind == "averaged" else 0)
    visit = open_report(write_report(run, made_up_state(0, **SMALL) if kind == "untrained" else state))
    text = visit.text("#explorer-model")
    assert ("averages over the last steps" in text) == (kind == "averaged")
    assert ("untrained" in text) == (kind == "untrained")


def test_the_explorer_is_left_out_if_a_layer_was_changed(
    open_report: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers.Tanh, "__call__", lambda self, x, mode: x)
    visit = open_report(write_report(*made_up_run(tmp_path, 1, **SMALL)))
    assert visit.text("#explorer-model").startswith("layers.Tanh was changed, and this page can run only")
    for part in ("#picture", "#find", "#quiz", "#layers-section"):
        assert not visit.page.locator(part).is_visible()
    assert visit.page.locator("#charts").is_visible()
