"""``python -m tinygan.gradcheck``: does every backward pass agree with finite differences?"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tinygan import backend, commands
from tinygan.differences import STEP, TOLERANCE, Result, cases, check_losses, check_op
from tinygan.errors import UsageError


def parser() -> commands.Parser:
    parser = commands.Parser(
        "tinygan.gradcheck", "Check all gradients against finite differences, in float64."
    )
    parser.add_argument("--device", choices=backend.DEVICES, default="auto", help="default: auto")
    parser.add_argument("--engine", choices=backend.ENGINES, default="auto", help="default: auto")
    parser.add_argument("--op", metavar="NAME", help="one op only; default: all of them, and both losses")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Check what `arguments` ask for; returns 0 if all agree, else 1."""
    options = parser().parse_args(arguments)
    ops = {op.__name__: op for op in cases()}
    if options.op is not None and options.op not in ops:
        raise UsageError(f"--op {options.op} is no op. Use one of {', '.join(ops)}.")
    device = backend.choose(options.device, options.engine, report=lambda line: None)
    print(f"device {device.device}, engine {device.engine}, float64, step {STEP:g}, tolerance {TOLERANCE:g}")
    print(f"{'op':<24}{'points':>8}{'worst relative error':>22}")
    failed = []
    with device.failures():
        for name in [options.op] if options.op else ops:
            failed += told(name, check_op(device, ops[name]))
        for name, result in ({} if options.op else check_losses(device)).items():
            failed += told(name, result)
    print(f"failed: {', '.join(failed)}" if failed else "all gradients agree with differences")
    return 1 if failed else 0


def told(name: str, result: Result) -> list[str]:
    """Print a line of the table; returns the name if the check failed."""
    verdict = "pass" if result.passed else "FAIL"
    print(f"{name:<24}{result.points:>8,}{result.error:>22.1e}  {verdict}", flush=True)
    return [] if result.passed else [name]


if __name__ == "__main__":
    sys.exit(commands.run(main))
