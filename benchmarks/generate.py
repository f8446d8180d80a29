"""``python -m benchmarks.generate``: times the trained generator of tinygan and of other frameworks."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.competitors import COMPETITORS, Worker, chosen, hardware
from tinygan import cli
from tinygan.errors import UsageError
from tinygan.machine import usable_cores

DEFAULT = ("tinygan", "tinygan-readable", "tensorflow", "pytorch", "jax")


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.generate", "Time the generation of pictures, 256 at a time.")
    parser.add_argument("--count", type=int, default=10_000, help="pictures per turn (default: 10000)")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="(default: all usable cores)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(default: cpu)")
    parser.add_argument("--only", metavar="NAME,...", help=f"competitors (default: {','.join(DEFAULT)})")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each competitor (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if min(options.count, options.threads, options.rounds) < 1:
        raise UsageError("--count, --threads and --rounds must be at least 1.")
    names, absent = chosen(options.only, DEFAULT)
    workers = {name: Worker(COMPETITORS[name], 16, options.threads, options.device) for name in names}
    for worker in workers.values():
        worker.ask({"generate": 512})
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name, worker in workers.items():
            seconds[name].append(worker.ask({"generate": options.count})["seconds"])
    rows = {
        name: {
            "version": worker.version,
            "median_seconds": statistics.median(seconds[name]),
            "pictures_a_second": options.count / statistics.median(seconds[name]),
        }
        for name, worker in workers.items()
    }
    for worker in workers.values():
        worker.close()
    print(
        f"{hardware()['processor']}, {options.device}, {options.threads} threads, {options.count:,} pictures"
    )
    for name, row in report.ranked(rows):
        print(f"{name:<22}{row['pictures_a_second']:>8,.0f} per second  {row['version']}")
    if absent:
        print(f"not installed: {', '.join(absent)}. Use pip install -e '.[bench]'.")
    if options.json:
        command = " ".join(["python", "-m", "benchmarks.generate", *arguments])
        result = {"command": command, "hardware": hardware(), "threads": options.threads, "competitors": rows}
        report.write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
