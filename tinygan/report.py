"""``python -m tinygan.report``: a run on one page that needs no other file."""

import sys

from tinygan import backend, cli
from tinygan.errors import say
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import State, restored, saved_settings
from tinygan.views.webpage import write_report


def parser() -> cli.Parser:
    return cli.Parser("tinygan.report", "Put a run on one page, report.html.", *cli.OF_A_RUN, "--out")


def main(arguments: cli.Arguments = ()) -> int:
    """Write the report that `arguments` ask for; returns the exit code."""
    options = parser().parse(arguments)
    run, file = RunFolder.find(options.run, options.runs)
    if files := [file] if file else run.checkpoints():
        state, _ = restored(files, backend.cpu(), cli.warn)
    else:
        state = State(saved_settings(run.read_config(), run.config_path), backend.cpu())
        print("note     the run has no checkpoint yet: the page shows its untrained generator")
    path = write_report(run, state, cli.placed(options.out, run.path, run.report_path.name))
    say(f"report   {path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
