"""``python -m tinygan.report``: writes a self-contained page about a run, or several, and its animation."""

import sys
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import backend, cli
from tinygan.errors import TinyganError, UsageError, by_product, first_sentence, say
from tinygan.evaluation.directions import for_report
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import Progress, working
from tinygan.runs.state import State, restored, saved_settings
from tinygan.runs.trainer import check_images, images_of
from tinygan.views.animation import film_frames, write_film
from tinygan.views.comparison import write_comparison
from tinygan.views.webpage import MEASURED, write_report


def parser() -> cli.Parser:
    purpose = "Write report.html and training.gif of a run, or comparison.html of several."
    examples = {"": "the newest run", "1 2": "runs 1 and 2 side by side", "3 --csv": "run 3, with its losses"}
    parser = cli.Parser("tinygan.report", purpose, "--runs", "--out", **examples)
    runs = "run folders or checkpoint files (default: the newest run)"
    parser.add_argument("run", nargs="*", metavar="RUN|FILE", help=runs)
    losses = "also write losses.csv: losses and scores, one row per step"
    parser.add_argument("--csv", action="store_true", help=losses)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Write the files that `arguments` ask for, and return the exit code."""
    options = parser().parse(arguments)
    if len(options.run) > 1 and options.csv:
        raise UsageError("--csv writes the losses of one run. Name one, or leave --csv out.")
    with working() as progress:
        progress.show("reading the run")
        models = [model(where, options.runs, progress) for where in options.run or [None]]
        if len(models) == 1:
            write_one(options, *models[0], progress)
        else:
            path = cli.placed(options.out, models[0][0].path.parent, "comparison.html")
            write_comparison(models, path)
            progress.around(say, f"runs     {path}: {len(models)} side by side; open it in a browser")
    return 0


def model(where: str | None, runs: Path, progress: Progress) -> tuple[RunFolder, State]:
    """A run, and the networks of its newest checkpoint or of the checkpoint file `where`."""
    run, file = RunFolder.find(where, runs)
    if files := [file] if file else run.checkpoints():
        return run, restored(files, backend.cpu("fast"), cli.warn)[0]
    note = f"note     the run {run.path.name} has no checkpoint yet: the page shows its untrained generator"
    progress.around(say, note)
    return run, State(saved_settings(run.read_config(), run.config_path), backend.cpu("fast"))


def write_one(options: Namespace, run: RunFolder, state: State, progress: Progress) -> None:
    """Write the page and the film of one run, and its losses with --csv."""
    page = cli.placed(options.out, run.path, run.report_path.name)
    losses_path, film = page.with_name("losses.csv"), page.with_name(run.gif_path.name)
    if page.name != run.report_path.name:  # pages of several runs may share a folder
        losses_path, film = page.with_suffix(".csv"), page.with_suffix(".gif")
    progress.show("writing the report")
    write_report(run, state, for_report(state, training_images(run, state, progress)), page)
    progress.around(say, f"report   {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser")
    if options.csv:
        losses = run.read_losses()
        table = np.column_stack([np.arange(1, len(losses) + 1), losses])
        how = {"delimiter": ",", "header": ",".join(["step", *MEASURED]), "comments": ""}
        write_atomically(losses_path, partial(np.savetxt, X=table, fmt=["%d", *["%.6g"] * 4], **how))
        progress.around(say, f"losses   {losses_path}: one row per step")
    progress.show("making the animation")
    with by_product("animation", cli.warn):
        write_film(film, film_frames(run), cli.warn)
        progress.around(say, f"film     {film}")


def training_images(run: RunFolder, state: State, progress: Progress) -> Any:
    """The images that the run was trained on, from their original place; None if they are unavailable."""
    data = run.read_config()["data"]
    try:  # with a folder, nothing is downloaded
        images = images_of(state.settings, str, Path(str(data.get("source"))).parent)
        check_images(images, images.sha256, data.get("sha256"), run.path, run)
        return images.images
    except TinyganError as problem:
        why = f"the report lacks the training images nearest to the samples: {first_sentence(str(problem))}"
        progress.around(cli.warn, f"note     {why}")
        return None


if __name__ == "__main__":
    sys.exit(cli.run(main))
