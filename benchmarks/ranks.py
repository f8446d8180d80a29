"""``python -m benchmarks.ranks``: compares a training step on several ranks with one rank and its threads.

Configurations such as 1x2 and 2x1, ranks x threads, take turns on the same global batch: A B A B ... Each
trains as `tinygan.runs.loop` does, on random images in memory. Then the ranks' sums are timed in two ways:

    as they are       the time of a rank in `ranks.sum`, including its wait for the others
    after a barrier   the wait at the barrier and the sum after it, separately

Processor seconds leave out the sums, in which MPI waits by polling.

Last, one rank takes smaller batches. The part of its time that does not shrink, and the bytes of the sums,
predict what many machines would do (`benchmarks.cluster`).
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import cluster, report
from benchmarks.cluster import Compute, Work
from benchmarks.competitors import Answering, FailedError, hardware, note, take_turns
from tinygan import backend, cli
from tinygan.data import Dataset
from tinygan.errors import TinyganError, UsageError
from tinygan.fast.threads import POOL
from tinygan.machine import keep_memory, usable_cores
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import MPI, started
from tinygan.runs.settings import Settings, new_settings
from tinygan.runs.state import State
from tinygan.runs.trainer import schedule, trainer

KINDS = ("gradients", "statistics")


def parser() -> cli.Parser:
    cores = usable_cores()
    parser = cli.Parser("benchmarks.ranks", "Time a training step that several ranks share.")
    default = f"1x{cores},{cores}x1"
    parser.add_argument(
        "--ranks", default=default, metavar="RxT,...", help=f"ranks x threads to compare (default: {default})"
    )
    parser.add_argument("--batch", type=int, default=256, help="global batch size (default: 256)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each configuration (default: 6)")
    parser.add_argument("--size", type=int, default=Settings.size, help=f"(default: {Settings.size})")
    parser.add_argument("--channels", type=int, default=Settings.channels, help="(default: 1)")
    parser.add_argument("--width", type=int, default=Settings.width, help=f"(default: {Settings.width})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


class Configuration(NamedTuple):
    ranks: int
    threads: int  # of each rank
    batch: int

    @property
    def name(self) -> str:
        return f"{self.ranks}x{self.threads}, batch {self.batch}"


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if options.worker:
        return serve()
    if options.rounds < 1:
        raise UsageError("--rounds must be at least 1.")
    model = {name: getattr(options, name) for name in ("size", "channels", "width")}
    settings = new_settings({"batch_size": options.batch, **model})
    compared = configurations(options.ranks, options.batch)
    for one in compared:
        schedule(settings, one.batch, one.ranks)  # fails if there are more ranks than images
    alone = Configuration(1, max(one.ranks * one.threads for one in compared), options.batch)
    smaller = [alone._replace(batch=batch) for batch in batches(options.batch)]
    result: dict[str, Any] = {
        "command": " ".join(["python", "-m", "benchmarks.ranks", *arguments]),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "model": model,
        "batch": options.batch,
    }
    result |= measure(settings, compared, smaller, options.rounds)
    result["load"] = os.getloadavg()  # means over 1, 5 and 15 minutes, including this benchmark
    print("\n".join(lines(result)))
    if options.json:
        report.write_json(options.json, result)
    return 0


def configurations(text: str, batch: int) -> list[Configuration]:
    """Parse a list such as 1x2,2x1. Raises: UsageError if `text` is not such a list."""
    found = []
    for part in dict.fromkeys(text.split(",")):
        ranks, cross, threads = part.partition("x")
        if not (cross and ranks.isdecimal() and threads.isdecimal() and int(ranks) and int(threads)):
            raise UsageError(f"--ranks {text!r} is not a list such as 1x2,2x1.")
        found.append(Configuration(int(ranks), int(threads), batch))
    return found


def batches(batch: int) -> list[int]:
    """The batch sizes to time on one node: `batch` and its 4th, 16th and 64th part."""
    return [part for part in (batch, batch // 4, batch // 16, batch // 64) if part]


def launcher(ranks: int) -> list[str]:
    """The command that starts `ranks` processes. Raises: UsageError if mpi4py or mpiexec is missing."""
    if ranks == 1:
        return []
    # pip installs its mpiexec next to Python. Without that one, use the system's.
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None or find_spec("mpi4py") is None:
        missing = "mpi4py" if mpiexec else "mpiexec"
        raise UsageError(f"{ranks} ranks need {missing}. Use pip install -e '.[mpi]', or --ranks 1x{ranks}.")
    return [mpiexec, "-n", str(ranks)]


class Team(Answering):
    """The processes of a configuration. Rank 0 answers the requests that `serve` lists."""

    def __init__(self, one: Configuration, settings: Settings) -> None:
        command = [*launcher(one.ranks), sys.executable, "-m", "benchmarks.ranks", "--worker"]
        settings = replace(settings, batch_size=one.batch, threads=one.threads)
        super().__init__(command, {"ranks": one.ranks, "settings": asdict(settings)})


def measure(
    settings: Settings, compared: Sequence[Configuration], smaller: Sequence[Configuration], rounds: int
) -> dict[str, Any]:
    """The measurements that `main` reports. `smaller` are one node's configurations by batch size."""
    for one in compared:
        launcher(one.ranks)  # fail before starting any process
    teams: dict[str, Team] = {}
    try:
        for one in dict.fromkeys([*compared, *smaller]):
            note(f"{one.name}: first step")
            teams[one.name] = Team(one, settings)
        times = take_turns(teams, rounds)
        counted = count([teams[one.name] for one in compared], rounds)
    except FailedError as problem:
        raise TinyganError(f"a worker ended: {str(problem).removeprefix('error: ')}") from None
    finally:
        for team in teams.values():
            team.close()
    note("")
    rows = {}
    first = times[compared[0].name]["round_seconds"]
    for one, found in zip(compared, counted, strict=True):
        row = times[one.name]
        speeds = [a / b for a, b in zip(first, row["round_seconds"], strict=True)]
        rows[f"{one.ranks}x{one.threads}"] = one._asdict() | row | {
            "steps_a_second": 1 / row["median_seconds"],
            "speed": statistics.median(speeds),  # relative to the first configuration in the same round
            "min_speed": min(speeds), "max_speed": max(speeds),
            "processor_seconds": statistics.median(found.processor),
            **({"sums": found.sums()} if one.ranks > 1 else {}),
        }  # fmt: skip
    for row in rows.values():
        row["speed_by_work"] = undisturbed(rows[f"{compared[0].ranks}x{compared[0].threads}"]) / undisturbed(
            row
        )
    # A node runs nothing else, so its least disturbed times count.
    seconds = {one.batch: times[one.name]["min_seconds"] for one in smaller}
    result: dict[str, Any] = {
        "version": teams[compared[-1].name].version,
        "configurations": rows,
        "node": {"threads": smaller[0].threads, "seconds": seconds},
    }
    most = max(compared, key=lambda one: one.ranks)
    if most.ranks > 1 and len(seconds) > 1:
        sums = rows[f"{most.ranks}x{most.threads}"]["sums"]
        packing = sums["gradients"]["min_moving_seconds"]
        work = Work(Compute.fitted(seconds), tuple(sums["messages"]), packing)
        result["extrapolated"] = cluster.extrapolated(work, seconds, settings.batch_size)
    return result


def undisturbed(row: dict[str, Any]) -> float:
    """The seconds of a step if every thread always had a core and work to do.

    On a busy machine wall times depend on the scheduler; this estimate does not. It leaves out the time that
    threads and ranks wait for each other.
    """
    moving = sum(row["sums"][kind]["min_moving_seconds"] for kind in KINDS) if "sums" in row else 0.0
    return row["processor_seconds"] / (row["ranks"] * row["threads"]) + moving


class Counted:
    """The measurements of a configuration: a number for every step. Times are means over the ranks."""

    def __init__(self) -> None:
        self.processor: list[float] = []  # seconds of all ranks, outside sums
        self.seconds: list[float] = []  # in sums
        self.share: list[float] = []  # of the step's time
        self.waiting: list[float] = []
        self.moving: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.calls: list[dict[str, Any]] = []  # of the last step

    def sums(self) -> dict[str, Any]:
        kinds = {}
        for kind, moving in self.moving.items():
            sizes = [call["bytes"] for call in self.calls if call["kind"] == kind]
            kinds[kind] = {
                "calls": len(sizes),
                "bytes": sum(sizes),
                "moving_seconds": statistics.median(moving),
                "min_moving_seconds": min(moving),
            }
        return {
            "seconds": statistics.median(self.seconds),
            "share": statistics.median(self.share),
            "waiting_seconds": statistics.median(self.waiting),
            "moving_seconds": statistics.median(map(sum, zip(*self.moving.values(), strict=True))),
            "bytes": sum(kind["bytes"] for kind in kinds.values()),
            **kinds,
            "messages": [call["bytes"] for call in self.calls],
        }


def count(teams: Sequence[Team], rounds: int) -> list[Counted]:
    """Take steps of all teams in turn, and time their sums."""
    counted = [Counted() for _ in teams]
    for number in range(rounds):
        note(f"sums, round {number + 1} of {rounds}")
        for team, found in zip(teams, counted, strict=True):
            answer = team.ask({"steps": 1, "sums": "as they are"})
            for whole, found.calls in zip(answer["seconds"], answer["calls"], strict=True):
                found.seconds.append(sum(call["seconds"] for call in found.calls))
                found.share.append(found.seconds[-1] / whole)
            found.processor += answer["processor"]
            for calls in team.ask({"steps": 1, "sums": "after a barrier"})["calls"]:
                found.waiting.append(sum(call["waiting"] for call in calls))
                for kind, moving in found.moving.items():
                    moving.append(sum(call["seconds"] for call in calls if call["kind"] == kind))
    return counted


def lines(result: dict[str, Any]) -> list[str]:
    """The result as lines of text."""
    hard, model, rows = result["hardware"], result["model"], result["configurations"]
    found = [
        f"{hard['processor']}, {hard['cores']} cores, float32, Python {hard['python']}, {result['version']}",
        f"pictures {model['size']}x{model['size']}x{model['channels']}, width {model['width']}, "
        f"global batch {result['batch']}; load {result['load'][0]:.1f}",
        "",
        f"{'ranks x threads':<16}{'s/step':>8}{'min':>8}{'max':>8}{'steps/s':>9}{'speed':>7}{'in rounds':>13}"
        f"{'by work':>9}{'in sums':>9}{'waiting':>10}{'moving':>10}{'processor':>11}{'peak':>9}",
    ]
    for name, row in rows.items():
        sums = row.get("sums")
        spent = f"{'-':>9}{'-':>10}{'-':>10}"
        if sums:
            spent = f"{sums['share']:>9.0%}{milliseconds(sums['waiting_seconds'], 10)}"
            spent += milliseconds(sums["moving_seconds"], 10)
        spread = f"{row['min_speed']:.2f} - {row['max_speed']:.2f}"
        found.append(
            f"{name:<16}{row['median_seconds']:>8.3f}{row['min_seconds']:>8.3f}{row['max_seconds']:>8.3f}"
            f"{row['steps_a_second']:>9.2f}{row['speed']:>7.2f}{spread:>13}"
            f"{row['speed_by_work']:>9.2f}{spent}"
            f"{row['processor_seconds']:>9.3f} s{row['peak_bytes'] / 1e6:>6.0f} MB"
        )
    for name, row in rows.items():
        if "sums" in row:
            parts = [
                f"{part['bytes']:,} bytes of {kind} in {part['calls']} sums ("
                f"{milliseconds(part['moving_seconds'])})"
                for kind, part in ((kind, row["sums"][kind]) for kind in KINDS)
            ]
            found += ["", f"{name}: each rank contributes {' and '.join(parts)} per step"]
    node = result["node"]
    sizes = ", ".join(f"{batch}: {milliseconds(seconds)}" for batch, seconds in node["seconds"].items())
    found += ["", f"one rank with {node['threads']} threads, fastest step by batch size: {sizes}"]
    if "extrapolated" in result:
        found += cluster.lines(result["extrapolated"], result["batch"])
    return found


def milliseconds(seconds: float, width: int = 0) -> str:
    return f"{seconds * 1e3:>{max(0, width - 3)}.1f} ms"


# The processes of a configuration.


def serve() -> int:
    """Answer requests as `benchmarks.worker` does. Rank 0 reads and writes; all ranks take the steps.

    {"ranks": 2, "settings": {...}}         ->  {"version": ..., "started": ...}, after one step
    {"steps": 3}                            ->  {"seconds": [0.31, ...], "peak_bytes": of all ranks}
    {"steps": 3, "sums": "as they are"}     ->  the same and {"calls": of each step a list with a
                        "after a barrier"       {"kind", "bytes", "waiting", "seconds"} for every sum,
                                                "processor": seconds of all ranks in each step, outside sums}
    """
    ranks = started()
    with ranks.together():
        setup = next_request(ranks)
        if setup is None or ranks.size != setup["ranks"]:
            raise UsageError("python -m benchmarks.ranks starts the workers itself.")
        settings = Settings(**setup["settings"])
        keep_memory()
        POOL.resize(setup["settings"]["threads"])
        device = backend.shared_by(backend.choose("cpu", "fast"), ranks)
        shape = (4 * settings.batch_size, settings.size, settings.size, settings.channels)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        state = State(settings, device)
        taking = trainer(state, Dataset("random", images, "memory"))
        taking.steps(1)
        reply(ranks, {"version": version(ranks), "started": time.time()})
        while (request := next_request(ranks)) is not None:
            counter = Counter(ranks, state, request["sums"]) if "sums" in request else None
            answer: dict[str, list[Any]] = {"seconds": []}
            for _ in range(request["steps"]):
                if isinstance(ranks, MPI):
                    ranks.comm.Barrier()
                start, busy = time.perf_counter(), time.process_time()
                taking.steps(1)
                answer["seconds"].append(time.perf_counter() - start)
                if counter:
                    calls, processor = counter.take(time.process_time() - busy)
                    answer.setdefault("calls", []).append(calls)
                    answer.setdefault("processor", []).append(processor)
            if counter:
                counter.close()
            resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
            (peak,) = ranks.sum(np.array(float(resident)))
            reply(ranks, answer | {"peak_bytes": int(peak)})
    return 0


def next_request(ranks: Ranks) -> Any:
    """The next request, on all ranks; None at the end of the input."""
    line = sys.stdin.readline() if ranks.writes else ""
    if isinstance(ranks, MPI):
        # MPI waits by polling, which would take a core from the configuration that is measured.
        come = ranks.comm.Ibarrier()
        while not come.Test():
            time.sleep(0.005)
    line = ranks.by_first(lambda: line)
    return json.loads(line) if line else None


def reply(ranks: Ranks, value: dict[str, Any]) -> None:
    if ranks.writes:
        print(json.dumps(value), flush=True)


def version(ranks: Ranks) -> str:
    mpi = f", {ranks.mpi.Get_library_version().splitlines()[0].strip()}" if isinstance(ranks, MPI) else ""
    return f"NumPy {np.__version__}{' '.join(mpi.split())}"


class Counter:
    """Replaces the ranks' `sum` by one that records the size and time of every call."""

    def __init__(self, ranks: Ranks, state: State, way: str) -> None:
        self.ranks, self.sum = ranks, ranks.sum
        self.barrier = ranks.comm.Barrier if isinstance(ranks, MPI) and way == "after a barrier" else None
        self.networks = [[p.shape for p in network.parameters.values()] for network in (state.G, state.D)]
        self.calls: list[tuple[str, int]] = []
        self.times: list[tuple[float, float]] = []
        self.busy = 0.0
        ranks.sum = self.counted

    def counted(self, *arrays: Any) -> tuple[Any, ...]:
        shapes = [array.shape for array in arrays]
        whole = any(shapes[: len(network)] == network for network in self.networks)
        start, busy = time.perf_counter(), time.process_time()
        if self.barrier:
            self.barrier()
        met = time.perf_counter()
        result = self.sum(*arrays)
        self.times.append((met - start, time.perf_counter() - met))
        self.busy += time.process_time() - busy
        self.calls.append((KINDS[0] if whole else KINDS[1], sum(array.nbytes for array in arrays)))
        return result

    def take(self, busy: float) -> tuple[list[dict[str, Any]], float]:
        """The sums since the last call, and the part of the processor's `busy` seconds outside them."""
        times, busy_ranks = self.sum(np.array(self.times), np.array(busy - self.busy))
        found = [
            {"kind": kind, "bytes": size, "waiting": float(waiting), "seconds": float(seconds)}
            for (kind, size), (waiting, seconds) in zip(self.calls, times / self.ranks.size, strict=True)
        ]
        self.calls, self.times, self.busy = [], [], 0.0
        return found, float(busy_ranks)

    def close(self) -> None:
        del self.ranks.sum  # restores the method of the class


if __name__ == "__main__":
    sys.exit(cli.run(main))
