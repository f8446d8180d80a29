"""``python -m tests.torture``: the long tests. Their figures go to benchmarks/results/reliability.json."""

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from tests.commands import ROOT
from tests.fuzz.formats import formats
from tests.fuzz.mutants import run_apart
from tests.torture.cost import check_costs, save_cost
from tests.torture.disk import failures
from tests.torture.interrupts import interrupts
from tests.torture.kills import exits, kills
from tests.torture.power import power_cuts
from tests.torture.rivals import rivals
from tests.torture.signals import signals
from tests.torture.soak import soak

RESULT = ROOT / "benchmarks" / "results" / "reliability.json"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.torture", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full repetitions (default: 1)")
    parser.add_argument("--only", help="run one test, such as kills or mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULT, help=f"(default: {RESULT.relative_to(ROOT)})")
    options = parser.parse_args()
    tests: dict[str, Callable[[Path, int], Any]] = {
        "kills": lambda place, seed: kills(place, round(1000 * options.share), seed),
        "exits": lambda place, seed: exits(place),
        "power": lambda place, seed: power_cuts(place, round(1000 * options.share), seed),
        "disk": lambda place, seed: failures(place, round(1 / options.share)),
        "rivals": lambda place, seed: rivals(place, round(100 * options.share)),
        "interrupts": lambda place, seed: interrupts(place, round(1 / options.share)),
        "signals": lambda place, seed: signals(place, round(200 * options.share), seed),
        "mutants": lambda place, seed: [
            run_apart(name, round(100_000 * options.share), seed) for name in formats()
        ],
        "cost of the non-finite check": lambda place, seed: check_costs(max(3, round(30 * options.share))),
        "cost of the checkpoint": lambda place, seed: save_cost(place, max(3, round(30 * options.share))),
        "soak": lambda place, seed: soak(place, max(400, round(2000 * options.share)), "--no-report"),
        "soak with reports": lambda place, seed: soak(place, max(400, round(2000 * options.share))),
    }
    before = json.loads(options.json.read_text()) if options.json.exists() else {}
    results = before.get("results", {})
    system = {"platform": platform.platform(), "python": platform.python_version()}
    system |= {"numpy": np.__version__, "pillow": PIL.__version__}
    for name, test in tests.items():
        if options.only in (None, name):
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as place:
                results[name] = test(Path(place), options.seed)
            print(f"{name}: {time.monotonic() - began:.0f} s: {json.dumps(results[name])}", flush=True)
            options.json.write_text(json.dumps({"system": system, "results": results}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
