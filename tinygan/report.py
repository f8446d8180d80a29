"""``python -m tinygan.report``: a run on one page that needs no other file, and its animation."""

import sys
from functools import partial

import numpy as np

from tinygan import backend, cli
from tinygan.errors import by_product, say
from tinygan.evaluation.directions import directions_of
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import working
from tinygan.runs.state import State, restored, saved_settings
from tinygan.views.animation import film_frames, write_film
from tinygan.views.webpage import MEASURED, write_report


def parser() -> cli.Parser:
    purpose = "Put a run on one page, report.html, and its pictures into one film, training.gif."
    parser = cli.Parser("tinygan.report", purpose, *cli.OF_A_RUN, "--out")
    losses = "write losses.csv as well: losses and scores, a row for each step"
    parser.add_argument("--csv", action="store_true", help=losses)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Write what `arguments` ask for; returns the exit code."""
    options = parser().parse(arguments)
    run, file = RunFolder.find(options.run, options.runs)
    page = cli.placed(options.out, run.path, run.report_path.name)
    losses_path, film = page.with_name("losses.csv"), page.with_name(run.gif_path.name)
    if page.name != run.report_path.name:  # of several runs, in one folder
        losses_path, film = page.with_suffix(".csv"), page.with_suffix(".gif")
    with working() as progress:
        progress.show("reading the run")
        if files := [file] if file else run.checkpoints():
            state, _ = restored(files, backend.cpu("fast"), cli.warn)
        else:
            state = State(saved_settings(run.read_config(), run.config_path), backend.cpu("fast"))
            note = "note     the run has no checkpoint yet: the page shows its untrained generator"
            progress.around(say, note)
        progress.show("writing the report")
        write_report(run, state, directions_of(state), page)
        progress.around(say, f"report   {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser")
        if options.csv:
            losses = run.read_losses()
            table = np.column_stack([np.arange(1, len(losses) + 1), losses])
            how = {"delimiter": ",", "header": ",".join(["step", *MEASURED]), "comments": ""}
            write_atomically(losses_path, partial(np.savetxt, X=table, fmt=["%d", *["%.6g"] * 4], **how))
            progress.around(say, f"losses   {losses_path}: a row for each step")
        progress.show("making the animation")
        with by_product("animation", cli.warn):
            write_film(film, film_frames(run), cli.warn)
            progress.around(say, f"film     {film}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
