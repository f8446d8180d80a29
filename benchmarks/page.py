"""``python -m benchmarks.page``: measures the cost of a run's report, of the explorer in it and of a verdict.

Times are processor seconds of all threads and processes, which other programs on the machine change little.
"""

import importlib.util
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.competitors import hardware
from tinygan import backend, cli
from tinygan.data import Dataset, normalise
from tinygan.errors import CheckpointError, UsageError
from tinygan.evaluation.directions import for_report
from tinygan.report import training_images
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import working
from tinygan.runs.state import State, pictures_of, restored, sample_noise
from tinygan.runs.trainer import schedule, trainer
from tinygan.views.health import MEASURED_ON, measure
from tinygan.views.pictures import to_uint8
from tinygan.views.webpage import write_report

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
EPOCHS, STEPS = 100, 23_500  # of the tutorial's run: 60,000 images, batch 256
TURNS = 5
PICTURES = 20  # compared with `generate`, and timed

PICTURES_OF = """(noises) => explorer.networks.ask("pictures", noises).then((pictures) => pictures.map(
    (picture) => Array.from(Uint8ClampedArray.from(picture, (value) => value * 127.5 + 127.5))))"""
# Morphs with everything on the screen: the picture, D's answer, and some channels of G's layers.
MORPH = """async (seconds) => {
    let frames = 0;
    const show = explorer.onPicture;
    explorer.onPicture = (...shown) => { show(...shown); frames += 1; };
    document.getElementById("layers-title").scrollIntoView();
    explorer.setMorphing(true);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    explorer.setMorphing(false);
    return frames;
}"""


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.page", "Write a run's report; time it, its explorer and a verdict.")
    parser.add_argument("run", nargs="?", metavar="RUN|FILE", help="(default: the newest run)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--walk", type=float, default=5, help="seconds of morphing (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if not 0 < options.walk <= 60:
        raise UsageError("--walk must be above 0 and at most 60.")
    run, file = RunFolder.find(options.run, options.runs, trained=True)
    files = [file] if file else run.checkpoints()
    if not files:
        raise CheckpointError(f"{run.path} has no checkpoint yet. Name another run.")
    state, _ = restored(files, backend.cpu("fast"), lambda line: print(line, file=sys.stderr))
    with working() as progress:
        images = training_images(run, state, progress)
    verdict, step = verdict_and_step(state)
    steps = schedule(state.settings, run.read_config()["data"]["shape"][0]).steps_per_epoch
    result: dict[str, Any] = {
        "command": " ".join(["python", "-m", "benchmarks.page", *arguments]),
        "hardware": hardware(),
        "epochs": len(run.read_stats()),
        "report_bytes": write_report(run, state, for_report(state, images)).stat().st_size,
        "report_seconds": timed(lambda: write_report(run, state, for_report(state, images)), TURNS),
        "report_bytes_of_100_epochs": bytes_of_100_epochs(run, state),
        "verdict_seconds": verdict,
        "step_seconds": step,
        "verdict_in_steps": verdict / step,
        "steps_per_epoch": steps,
        "verdict_of_an_epoch": verdict / (steps * step),
        **explored(run.report_path, state, options.walk),
    }
    for name, value in result.items():
        if name not in ("command", "hardware"):
            shown = f"{value:,}" if type(value) is int else f"{value:.4g}"
            print(f"{name.replace('_', ' '):<28}{shown:>10}")
    if options.json:
        report.write_json(options.json, result)
    return 0


def timed(function: Callable[[], object], turns: int) -> float:
    """The median processor seconds of `turns` calls, after a first one to warm up."""
    function()
    seconds = []
    for _ in range(turns):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def verdict_and_step(state: State) -> tuple[float, float]:
    """Median seconds of the measurement at the end of an epoch, and of a training step, taken in turns.

    The images are random: they do not affect the time.
    """
    settings = state.settings
    shape = (max(MEASURED_ON, settings.batch_size), settings.size, settings.size, settings.channels)
    made_up = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = normalise(made_up[:MEASURED_ON])
    noise = sample_noise(1, MEASURED_ON, state.G)
    data = Dataset("made up", made_up[: settings.batch_size], "here")
    taking = trainer(State(settings, state.backend), data)
    verdicts, steps = [], []
    for _ in range(TURNS):
        steps.append(timed(lambda: taking.steps(1), 1))
        verdicts.append(timed(lambda: measure(state.G, state.D, images, noise), 1))
    taking.close()
    return statistics.median(verdicts), statistics.median(steps)


def bytes_of_100_epochs(run: RunFolder, state: State) -> int:
    """The size of a report with `EPOCHS` epochs, which repeat the run's largest picture, rows and losses."""
    rows, pictures = run.read_stats(), [sample.path for sample in run.samples()]
    if not rows or not pictures:
        raise CheckpointError(f"{run.path} has no complete epoch, or no pictures. Name another run.")
    with tempfile.TemporaryDirectory() as folder:
        long = RunFolder(Path(folder))
        long.samples_dir.mkdir()
        shutil.copy(run.config_path, long.config_path)
        shutil.copy(run.reals_path, long.reals_path)
        largest = max(pictures, key=lambda path: path.stat().st_size)
        for epoch in range(EPOCHS + 1):
            shutil.copy(largest, long.sample_path(epoch))
            if epoch:
                long.append_stats(rows[epoch % len(rows)] | {"epoch": epoch, "step": epoch * STEPS // EPOCHS})
        long.append_losses(np.resize(run.read_losses(), (STEPS, 4)))
        return write_report(long, state).stat().st_size


def explored(path: Path, state: State, walk: float) -> dict[str, float]:
    """Measure the explorer's speed, and how far its pixels are from those of `generate`."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None or importlib.util.find_spec("playwright") is None:
        raise UsageError("this needs Chromium on the PATH, and Playwright. Use pip install -e '.[test]'.")
    from playwright.sync_api import sync_playwright

    noise = sample_noise(2, PICTURES, state.G)
    expected = to_uint8(pictures_of(state.shown_G, noise)).reshape(PICTURES, -1).astype(int)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        page = browser.new_page(reduced_motion="reduce")
        page.goto(path.absolute().as_uri())
        while not page.evaluate("explorer.drawn"):
            page.wait_for_timeout(20)
        first = page.evaluate("performance.now() / 1000")
        page.wait_for_timeout(2000)  # the small pictures are drawn one after the other
        ask = browser.new_browser_cdp_session()

        def cpu() -> float:
            """Processor seconds of all the browser's processes so far."""
            return sum(part["cpuTime"] for part in ask.send("SystemInfo.getProcessInfo")["processInfo"])

        pictures = page.evaluate(PICTURES_OF, noise.tolist())  # the first call compiles
        times, turns = [cpu()], 0
        while cpu() < times[0] + 0.5:  # cpu() counts hundredths of a second
            page.evaluate(PICTURES_OF, noise.tolist())
            turns += 1
        times.append(cpu())
        frames = page.evaluate(MORPH, walk)
        times.append(cpu())
        browser.close()
    return {
        "seconds_to_the_first_computed_picture": first,
        "pictures_a_second": turns * PICTURES / (times[1] - times[0]),
        "frames_a_second": frames / (times[2] - times[1]),
        "largest_difference_of_255": int(np.abs(np.array(pictures) - expected).max()),
    }


if __name__ == "__main__":
    sys.exit(cli.run(main))
