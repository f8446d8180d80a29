"""``python -m benchmarks``: the seed's training step, tinygan beside TensorFlow, PyTorch and JAX.

Each competitor runs in a process of its own. First each takes its first step alone, which is timed
from the start of Python; then one small run proves that it computes what tinygan computes; then all
take turns, A B C A B C ..., because other work on the machine would otherwise hit one more than
another. Medians are reported, and ratios of medians; on a GPU also how far tinygan is from what the
card could do, by rates that are measured in the same run.
"""

import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import report
from benchmarks.competitors import (
    COMPETITORS,
    DEFAULTS,
    FailedError,
    Worker,
    chosen,
    difference,
    hardware,
    installed_bytes,
    note,
    parity_steps,
    reference,
    take_turns,
)
from tinygan import cli
from tinygan.errors import DeviceError, TinyganError, UsageError
from tinygan.machine import usable_cores


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks", "Time the seed's training step, side by side.")
    parser.add_argument("--batch", type=int, default=256, help="default: 256")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="default: all usable cores")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument(
        "--precision", choices=("float32", "tf32"), help="of products on a GPU, for all; default there: tf32"
    )
    parser.add_argument("--only", metavar="NAME,...", help="of " + ", ".join(COMPETITORS))
    parser.add_argument("--rounds", type=int, default=6, help="turns for each; default: 6")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it as bars")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if min(options.batch, options.threads, options.rounds) < 1:
        raise UsageError("--batch, --threads and --rounds must be at least 1.")
    on_card = options.device == "gpu"
    if options.precision == "tf32" and not on_card:
        raise UsageError("--precision tf32 needs --device gpu.")
    precision = options.precision or ("tf32" if on_card else "float32")
    present, absent = chosen(options.only, DEFAULTS[options.device])
    machine = Machine(options.threads, options.device, precision)
    result: dict[str, Any] = {
        "command": " ".join(["python", "-m", "benchmarks", *arguments]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "device": options.device,
        "precision": precision,
        "threads": options.threads,
        "batch": options.batch,
        "competitors": compare(present, options.batch, machine, options.rounds),
        "not installed": absent,
    }
    print(report.table(result))
    if options.json:
        report.write_json(options.json, result)
    if options.plot:
        report.plot(options.plot, result)
    if not any("median_seconds" in row for row in result["competitors"].values()):
        raise (DeviceError if on_card else TinyganError)("nothing could be measured; the table says why.")
    return 0


class Machine(NamedTuple):
    """What all competitors compute on and with."""

    threads: int
    device: str
    precision: str = "float32"


def compare(names: list[str], batch: int, machine: Machine, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure all `names`; what could not be measured has a "problem" instead of figures."""
    rows: dict[str, dict[str, Any]] = {name: {"installed_bytes": installed_bytes(name)} for name in names}
    check(rows, machine)
    workers: dict[str, Worker] = {}
    for name in names:
        if "problem" not in rows[name]:
            note(f"{name}: first step")
            try:
                workers[name] = Worker(COMPETITORS[name], batch, *machine)
            except FailedError as problem:
                rows[name]["problem"] = f"failed: {problem}"
    for name, row in take_turns(workers, rounds, machine.device).items():
        rows[name] |= row
    for name, worker in workers.items():
        rows[name] |= {"version": worker.version, "seconds_to_first_step": worker.seconds_to_start}
        if machine.device == "gpu" and "problem" not in rows[name]:
            try:
                rows[name] |= worker.ask({"facts": 1})
            except FailedError as problem:
                rows[name]["facts"] = f"failed: {problem}"
        worker.close()
    return rows


def check(rows: dict[str, dict[str, Any]], machine: Machine) -> None:
    """Give a "problem" to every competitor that does not compute what the readable engine computes."""
    with tempfile.TemporaryDirectory() as folder:
        start, expected = reference(Path(folder))
        for name, row in rows.items():
            note(f"{name}: does it compute the same?")
            try:
                found = parity_steps(COMPETITORS[name], start, *machine)
            except FailedError as problem:
                row["problem"] = f"failed: {problem}"
                continue
            other = difference(start, expected, found, machine.precision)
            if other:
                row["problem"] = f"computes something else: {other}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
