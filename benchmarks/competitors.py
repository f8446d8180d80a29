"""The competitors: their worker processes, and the proof that they compute the same as tinygan.

Before a competitor is timed, it takes two steps from given weights, on a small batch without dropout. Its
losses and weights must then match those of tinygan's readable engine.
"""

import importlib.metadata
import importlib.util
import json
import platform
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import UsageError
from tinygan.machine import processor_name, usable_cores

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Competitor:
    """A variant of an engine: the module of its worker, and the package it needs."""

    module: str
    variant: str
    package: str  # its import name
    distributions: tuple[str, ...]  # its possible names in pip


TENSORFLOW = ("tensorflow", "tensorflow-cpu")
COMPETITORS = {
    "tinygan": Competitor("benchmarks.tinygan_dcgan", "fast", "tinygan", ("tinygan",)),
    "tinygan-readable": Competitor("benchmarks.tinygan_dcgan", "readable", "tinygan", ("tinygan",)),
    "tensorflow": Competitor("benchmarks.tensorflow_dcgan", "graph", "tensorflow", TENSORFLOW),
    "tensorflow-xla": Competitor("benchmarks.tensorflow_dcgan", "xla", "tensorflow", TENSORFLOW),
    "pytorch": Competitor("benchmarks.torch_dcgan", "eager", "torch", ("torch",)),
    "pytorch-channels-last": Competitor("benchmarks.torch_dcgan", "channels-last", "torch", ("torch",)),
    "pytorch-graph": Competitor("benchmarks.torch_dcgan", "graph", "torch", ("torch",)),
    "jax": Competitor("benchmarks.jax_dcgan", "jit", "jax", ("jax",)),
    # On a GPU this compiles for minutes, twice: batch size and dropout rate are compiled in as constants, and
    # the proof uses others than the timed steps.
    "pytorch-compile": Competitor("benchmarks.torch_dcgan", "compile", "torch", ("torch",)),
}
COMPILES_LONG = ("pytorch-compile",)

DEFAULTS = {
    "cpu": [name for name in COMPETITORS if name != "pytorch-graph"],
    "gpu": ["tinygan", "tinygan-readable", "pytorch", "pytorch-graph", "jax", "pytorch-compile"],
}


class FailedError(Exception):
    """A worker ended before it answered. The message is the last line it printed."""


class LateError(FailedError):
    """A worker did not answer in time and was killed."""


class Answering:
    """A process that answers requests. Every request and every answer is one line of JSON.

    A process that has not answered by `until`, on the clock of `time.monotonic`, is killed. Set `until` anew
    between requests to move the deadline.
    """

    def __init__(self, command: Sequence[str], setup: dict[str, Any], until: float = inf) -> None:
        self.until = until
        self.errors = tempfile.TemporaryFile("w+")
        start = time.time()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT
        )
        try:
            answer = self.ask(setup)
        except BaseException:
            self.end()
            raise
        self.version: str = answer["version"]
        self.seconds_to_start: float = answer["started"] - start

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            if self.until < inf:
                left = max(0, self.until - time.monotonic())
                if not select.select([self.process.stdout], [], [], left)[0]:
                    self.process.kill()
                    raise LateError(f"no answer within {left:.0f} s")
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.process.wait()
            self.errors.seek(0)
            lines = [line.strip() for line in self.errors if line.strip()]
            errors = [line for line in lines if line.startswith("error: ")]  # mpiexec's messages follow it
            last = [*lines, *errors][-1] if lines else f"exit code {self.process.returncode}"
            raise FailedError(re.sub(r"^tinygan\.errors\.\w+: ", "", last))
        return json.loads(answer)

    def end(self) -> None:
        """Kill the process now."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        if self.process.stdin and not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()


class Worker(Answering):
    """A competitor's process. `benchmarks.worker` lists the requests and answers."""

    def __init__(
        self,
        competitor: Competitor,
        batch: int,
        threads: int,
        device: str,
        precision: str = "float32",
        dropout: float = 0.3,
        weights: Path | None = None,
        until: float = inf,
    ) -> None:
        super().__init__([sys.executable, "-m", competitor.module], {
            "variant": competitor.variant, "batch": batch, "threads": threads, "device": device,
            "precision": precision, "dropout": dropout, "weights": str(weights) if weights else None,
        }, until)  # fmt: skip


SECONDS_A_TURN = 1.0  # slow competitors take one step per turn, fast ones as many as fit


WARM_UP = {"cpu": 2, "gpu": 40}  # steps; the second can still compile or capture a graph


Rows = dict[str, dict[str, Any]]  # by name


def take_turns(
    workers: Mapping[str, Answering],
    rounds: int,
    device: str = "cpu",
    until: float = inf,
    after_round: Callable[[Rows, int], object] = lambda rows, taken: None,
) -> Rows:
    """Time the steps of all workers in turn, A B C A B C ...: medians, extremes and peak memory of each.

    "round_seconds" are the medians of the turns, for ratios within a round. A worker that fails has a
    "problem" instead, and the others continue. A round starts only if one as long as the longest so far would
    end by `until`, and counts only if it does. `after_round` gets the rows so far and the number of rounds.
    """
    rows: Rows = {name: {} for name in workers}
    times: dict[str, list[float]] = {name: [] for name in workers}

    def turn(name: str, count: int) -> list[float]:
        try:
            answer = workers[name].ask({"steps": count})
        except FailedError as problem:
            if workers[name].until == until and isinstance(problem, LateError):
                raise  # the time for all rounds is over
            rows[name] = {"problem": f"failed: {problem}"}
            return []
        rows[name]["peak_bytes"] = answer["peak_bytes"]
        return answer["seconds"]

    steps: dict[str, int] = {}
    for number, (name, worker) in enumerate(workers.items()):
        worker.until = share(until, len(workers) - number + 1)  # the last part is for the rounds
        for seconds in turn(name, WARM_UP[device])[-1:]:
            steps[name] = max(1, round(SECONDS_A_TURN / seconds))
        worker.until = until
    longest = 0.0
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        start = time.monotonic()
        if start + longest > until:
            break
        try:
            taken = {name: turn(name, count) for name, count in steps.items() if "problem" not in rows[name]}
        except LateError:
            break
        if not any(taken.values()):
            break
        for name, seconds in taken.items():
            if seconds:
                times[name] += seconds
                rows[name].setdefault("round_seconds", []).append(statistics.median(seconds))
        longest = max(longest, time.monotonic() - start)
        after_round(figures(rows, times), number + 1)
    note("")
    return figures(rows, times)


def figures(rows: Rows, times: Mapping[str, list[float]]) -> Rows:
    """`rows` with statistics of all steps' `times`; a row without times gets a "problem"."""
    rows = {name: dict(row) for name, row in rows.items()}
    for name, row in rows.items():
        if "problem" not in row and not times[name]:
            rows[name] = {"problem": "there was no time left to measure it"}
    measured = {name: row for name, row in rows.items() if "problem" not in row}
    for name, row in measured.items():
        row |= {
            "median_seconds": statistics.median(times[name]),
            "min_seconds": min(times[name]),
            "max_seconds": max(times[name]),
            "steps": len(times[name]),
        }
    for row in measured.values():
        if "tinygan" in measured:
            row["ratio_to_tinygan"] = row["median_seconds"] / measured["tinygan"]["median_seconds"]
    return rows


def share(until: float, parts: int) -> float:
    """When the first of `parts` equal parts of the time from now `until` then is over."""
    now = time.monotonic()
    return now + (until - now) / parts


def chosen(only: str | None, default: Iterable[str] = COMPETITORS) -> tuple[list[str], list[str]]:
    """The names that ``--only`` lists, or the default ones, as two lists: those installed, and the others.
    Raises: UsageError if a name is unknown."""
    names = only.split(",") if only else list(default)
    for name in names:
        if name not in COMPETITORS:
            raise UsageError(f"unknown competitor {name!r}. Use one of: {', '.join(COMPETITORS)}.")
    return [name for name in names if installed(name)], [name for name in names if not installed(name)]


def hardware() -> dict[str, Any]:
    return {"processor": processor_name(), "cores": usable_cores(), "python": platform.python_version()}


def note(text: str) -> None:
    """Show progress on one line of a terminal. The next note overwrites it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def installed(name: str) -> bool:
    return importlib.util.find_spec(COMPETITORS[name].package) is not None


def installed_bytes(name: str) -> int | None:
    """The size on disk of a competitor and everything it requires; None if pip does not know it."""
    for distribution in COMPETITORS[name].distributions:
        try:
            importlib.metadata.distribution(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        total = sum(
            path.stat().st_size
            for part in _requirements(distribution)
            for file in importlib.metadata.files(part) or ()
            if (path := Path(str(file.locate()))).is_file()
        )
        if distribution == "tinygan":  # pip does not list the files of an editable install
            total += sum(path.stat().st_size for path in (ROOT / "tinygan").rglob("*.py"))
        return total
    return None


def _requirements(distribution: str) -> Iterator[str]:
    """The distribution and its installed requirements, direct or not, each once. Extras do not count."""
    seen, waiting = set(), [distribution]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        yield name
        for requirement in requirements:
            if "extra ==" not in requirement:
                waiting.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


# Parity.

PARITY_BATCH, PARITY_STEPS = 8, 2
LOSS_TOLERANCE = {"float32": 1e-4, "tf32": 5e-3}  # relative
# Relative to the norm of a tensor's whole change. Adam's first steps follow the signs of the gradients, and
# TF32 can flip the sign of a gradient near zero.
WEIGHT_TOLERANCE = {"float32": 0.01, "tf32": 0.5}


Outcome = tuple[list[Any], dict[str, np.ndarray]]  # losses of each step, weights afterwards


def reference(folder: Path) -> tuple[Path, Outcome]:
    """Initial weights, and the losses and final weights that the readable engine gets from them."""
    start = folder / "start.npz"
    worker = Worker(COMPETITORS["tinygan-readable"], PARITY_BATCH, 1, "cpu", dropout=0)
    try:
        worker.ask({"save": str(start)})
    finally:
        worker.end()
    return start, parity_steps(COMPETITORS["tinygan-readable"], start, 1, "cpu")


def parity_steps(
    competitor: Competitor,
    start: Path,
    threads: int,
    device: str,
    precision: str = "float32",
    until: float = inf,
) -> Outcome:
    """The losses of a competitor's steps from given weights, and its final weights."""
    worker = Worker(competitor, PARITY_BATCH, threads, device, precision, 0, start, until)
    try:
        losses = worker.ask({"steps": PARITY_STEPS, "losses": 1})["losses"]
        after = start.with_name("after.npz")
        worker.ask({"save": str(after)})
    finally:
        worker.end()
    with np.load(after) as file:
        return losses, dict(file)


def difference(start: Path, expected: Outcome, found: Outcome, precision: str = "float32") -> str | None:
    """How a competitor's steps differ from the expected ones; None if they do not."""
    for step, (ours, theirs) in enumerate(zip(expected[0], found[0], strict=True), start=1):
        for name, ours_loss, theirs_loss in zip(("G", "D"), ours, theirs, strict=True):
            if not abs(theirs_loss - ours_loss) <= LOSS_TOLERANCE[precision] * abs(ours_loss):
                return f"loss of {name} in step {step} is {theirs_loss:.6f}, not {ours_loss:.6f}"
    with np.load(start) as before:
        for name, weights in expected[1].items():
            change = weights - before[name]
            distance = np.linalg.norm(found[1][name] - weights) / np.linalg.norm(change)
            if not distance <= WEIGHT_TOLERANCE[precision]:
                return f"the change of {name} is off by {distance:.1%}"
    return None
