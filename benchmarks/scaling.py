"""``python -m benchmarks.scaling``: times a training step over batch sizes and numbers of threads."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.competitors import COMPETITORS, FailedError, Worker, chosen, hardware, note, take_turns
from tinygan import cli
from tinygan.errors import UsageError
from tinygan.machine import usable_cores

BATCHES = tuple(1 << power for power in range(11))


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.scaling", "Time a training step over batch sizes and threads.")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)), metavar="N,...")
    default = dict.fromkeys((1, usable_cores()))
    parser.add_argument("--threads", default=",".join(map(str, default)), metavar="N,...")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(default: cpu)")
    parser.add_argument("--only", metavar="NAME,...", help="competitors (default: tinygan,tinygan-readable)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each competitor (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    names, absent = chosen(options.only, ("tinygan", "tinygan-readable"))
    if absent:
        raise UsageError(f"not installed: {', '.join(absent)}. Use pip install -e '.[bench]'.")
    if options.rounds < 1:
        raise UsageError("--rounds must be at least 1.")
    batches, counts = numbers("--batches", options.batches), numbers("--threads", options.threads)
    print(f"{hardware()['processor']}, {options.device}, float32: milliseconds per step and per image")
    print(f"{'threads':>7}{'batch':>7}" + "".join(f"{name:>26}" for name in names))
    measured: list[dict[str, Any]] = []
    for threads in counts:
        for batch in batches:
            rows = compare(names, batch, threads, options.device, options.rounds)
            measured.append({"threads": threads, "batch": batch, "competitors": rows})
            print(
                f"{threads:>7}{batch:>7}" + "".join(cell(rows.get(name), batch) for name in names), flush=True
            )
    if options.json:
        command = " ".join(["python", "-m", "benchmarks.scaling", *arguments])
        report.write_json(options.json, {"command": command, "hardware": hardware(), "measured": measured})
    return 0


def numbers(option: str, text: str) -> list[int]:
    """Parse a list such as 1,2,4. Raises: UsageError unless it has only whole numbers of at least 1."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise UsageError(f"{option} {text!r} is not a list such as 1,2,4.")
    return values


def compare(
    names: list[str], batch: int, threads: int, device: str, rounds: int
) -> dict[str, dict[str, Any]]:
    """The times of all competitors that start. The others are reported and left out."""
    workers: dict[str, Worker] = {}
    for name in names:
        note(f"batch {batch}, {threads} threads: {name}")
        try:
            workers[name] = Worker(COMPETITORS[name], batch, threads, device)
        except FailedError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
    rows = take_turns(workers, rounds, device)
    for name, worker in workers.items():
        if "problem" in rows[name]:
            print(f"{name}: {rows.pop(name)['problem']}", file=sys.stderr)
        worker.close()
    return rows


def cell(row: dict[str, Any] | None, batch: int) -> str:
    if row is None:
        return f"{'failed':>26}"
    seconds = row["median_seconds"]
    ratio = f"{row['ratio_to_tinygan']:.2f}" if "ratio_to_tinygan" in row else ""
    return f"{seconds * 1e3:>11.1f}{seconds / batch * 1e3:>9.3f}{ratio:>6}"


if __name__ == "__main__":
    sys.exit(cli.run(main))
