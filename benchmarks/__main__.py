"""``python -m benchmarks``: times the seed's training step in tinygan, TensorFlow, PyTorch and JAX.

Each competitor runs in its own process. It first proves in a small run that it computes the same as
tinygan, then takes its first step alone, timed from the start of Python. After that all competitors take
turns, A B C A B C ..., so that other work on the machine slows all of them alike. The table shows medians
and their ratios. On a GPU it also compares tinygan with what the card could do, at rates measured in the
same run. ``--json`` writes its file after every round, so an interrupted comparison keeps its results.

``--seconds`` limits the time of a comparison. Three quarters of it are for getting ready: each competitor in
turn gets an equal share of what is left, and is dropped if it needs more. Then come the rounds, as many as
fit. The last twentieth is for the other facts that a GPU's workers report.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from math import inf
from pathlib import Path
from typing import NamedTuple, NoReturn

from benchmarks import report
from benchmarks.competitors import (
    COMPETITORS,
    COMPILES_LONG,
    DEFAULTS,
    FailedError,
    LateError,
    Rows,
    Worker,
    chosen,
    difference,
    hardware,
    installed_bytes,
    note,
    parity_steps,
    reference,
    share,
    take_turns,
)
from tinygan import cli
from tinygan.errors import DeviceError, TinyganError, UsageError
from tinygan.machine import usable_cores


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks", "Time the seed's training step in tinygan and other frameworks.")
    parser.add_argument("--batch", type=int, default=256, help="batch size (default: 256)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="(default: all usable cores)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(default: cpu)")
    parser.add_argument(
        "--precision", choices=("float32", "tf32"), help="of matrix products on a GPU; default there: tf32"
    )
    parser.add_argument("--only", metavar="NAME,...", help="compare only these: " + ", ".join(COMPETITORS))
    parser.add_argument("--rounds", type=int, default=6, help="turns of each competitor (default: 6)")
    limit = "time limit in seconds; competitors that are not ready in time are dropped"
    parser.add_argument("--seconds", type=float, default=inf, metavar="N", help=limit)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result after every round")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the result as a bar chart")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if min(options.batch, options.threads, options.rounds) < 1:
        raise UsageError("--batch, --threads and --rounds must be at least 1.")
    if not options.seconds > 0:
        raise UsageError("--seconds must be more than 0.")
    limit = TimeLimit(options.seconds)
    if options.json and not (folder := options.json.absolute().parent).is_dir():
        raise UsageError(f"there is no folder {folder}. Make it first.")  # fail now, not after all the work
    on_card = options.device == "gpu"
    if options.precision == "tf32" and not on_card:
        raise UsageError("--precision tf32 needs --device gpu.")
    precision = options.precision or ("tf32" if on_card else "float32")
    present, absent = chosen(options.only, DEFAULTS[options.device])
    machine = Machine(options.threads, options.device, precision)
    result: report.Result = {
        "command": " ".join(["python", "-m", "benchmarks", *arguments]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "device": options.device,
        "precision": precision,
        "threads": options.threads,
        "batch": options.batch,
        "rounds": {"taken": 0, "of": options.rounds},
        "competitors": {},
        "not installed": absent,
    }

    def after_round(rows: Rows, taken: int) -> None:
        result["competitors"], result["rounds"]["taken"] = rows, taken
        if options.json:
            report.write_json(options.json, result | {"finished": False})
        if taken < options.rounds and not sys.stderr.isatty():  # the last round's table is printed below
            print(report.table(result), end="\n\n", file=sys.stderr, flush=True)

    try:
        result["competitors"] = compare(present, options.batch, machine, options.rounds, limit, after_round)
    finally:  # if interrupted, print the rounds so far
        if result["competitors"]:
            print(report.table(result), flush=True)
    if options.json:
        report.write_json(options.json, result | {"finished": True})
    if options.plot:
        report.plot(options.plot, result)
    if not any("median_seconds" in row for row in result["competitors"].values()):
        raise (DeviceError if on_card else TinyganError)("nothing could be measured; the table says why.")
    return 0


class Machine(NamedTuple):
    """The threads, device and precision that all competitors use."""

    threads: int
    device: str
    precision: str = "float32"


class TimeLimit:
    """The deadlines of the parts of a comparison that may take `seconds`, by `time.monotonic`."""

    def __init__(self, seconds: float = inf) -> None:
        now = time.monotonic()
        self.ready, self.rounds, self.end = (now + part * seconds for part in (0.75, 0.95, 1))


def compare(
    names: Sequence[str],
    batch: int,
    machine: Machine,
    rounds: int,
    limit: TimeLimit | None = None,
    after_round: Callable[[Rows, int], object] = lambda rows, taken: None,
) -> Rows:
    """Measure all `names`; a competitor that could not be measured has a "problem" instead of figures.

    `after_round` gets the rows measured so far and the number of rounds taken.
    """
    limit = limit or TimeLimit()
    names = sorted(names, key=COMPILES_LONG.__contains__)  # these come last, so they delay no other
    rows: Rows = {name: {"installed_bytes": installed_bytes(name)} for name in names}

    def with_turns(turns: Rows) -> Rows:
        return {name: row | turns.get(name, {}) for name, row in rows.items()}

    workers: dict[str, Worker] = {}
    try:
        get_ready(rows, workers, batch, machine, limit.ready)
        turns = take_turns(
            workers, rounds, machine.device, limit.rounds,
            lambda turns, taken: after_round(with_turns(turns), taken),
        )  # fmt: skip
        rows = with_turns(turns)
        for name, worker in workers.items():
            if machine.device == "gpu" and "problem" not in rows[name]:
                worker.until = limit.end
                try:
                    rows[name] |= worker.ask({"facts": 1})
                except FailedError as problem:
                    rows[name]["facts"] = f"failed: {problem}"
    finally:
        for worker in workers.values():
            worker.end()
    return rows


def get_ready(rows: Rows, workers: dict[str, Worker], batch: int, machine: Machine, until: float) -> None:
    """Start `workers`, up to their first step, for all competitors that match the readable engine.

    The others get a "problem", and so do those that are not ready in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        start, expected = reference(Path(folder))
        for number, (name, row) in enumerate(rows.items()):
            began, own = time.monotonic(), share(until, len(rows) - number)
            try:
                note(f"{name}: checking that it computes the same")
                found = parity_steps(COMPETITORS[name], start, *machine, until=own)
                if other := difference(start, expected, found, machine.precision):
                    row["problem"] = f"differs from tinygan: {other}"
                    continue
                note(f"{name}: first step")
                worker = Worker(COMPETITORS[name], batch, *machine, until=own)
            except LateError:
                row["problem"] = f"not ready after {max(0, own - began):.0f} s"
            except FailedError as problem:
                row["problem"] = f"failed: {problem}"
            else:
                workers[name] = worker
                row |= {"version": worker.version, "seconds_to_first_step": worker.seconds_to_start}


def stop(number: int, frame: object) -> NoReturn:
    """Exit as on Ctrl-C, leaving no worker behind."""
    signal.signal(number, signal.SIG_IGN)  # `timeout` sends it twice
    raise SystemExit(128 + number)  # the exit code that a shell reports


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(cli.run(main))
