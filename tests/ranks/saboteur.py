"""A training in which one rank fails: ``python -m tests.ranks.saboteur HOW RANK STEP ...``.

HOW can also be "card" (nothing fails, on the stand-ins for CuPy, cuBLAS and NCCL) or "idle" (the rank must
not open a file below ``runs`` for writing).
"""

import os
import signal
import sys
from typing import Any

from tests.standin.processes import stand_in
from tinygan import cli, train
from tinygan.ranks.mpi import started
from tinygan.runs.trainer import StepByStep


def sabotaged(how: str, rank: int, step: int) -> Any:
    """`StepByStep.batch`, which goes wrong on one rank before one step."""
    honest = StepByStep.batch

    def failing(self: StepByStep) -> Any:
        if self.step == step and self.state.backend.ranks.rank == rank:
            if how == "raise":
                raise RuntimeError("on purpose")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "nan":
                self.state.G.parameters["00_dense/kernel"].data[0, 0] = float("nan")
            if how == "drift":
                self.state.G.parameters["00_dense/kernel"].data[0, 0] += 1e-6
            if how == "signal":
                os.kill(os.getpid(), signal.SIGINT)
        return honest(self)

    return failing


def idle(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook that forbids writing into a run."""
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and "runs" in str(arguments[0]):
        raise RuntimeError(f"writes {arguments[0]}")


if __name__ == "__main__":
    how, rank, step, *arguments = sys.argv[1:]
    if how == "card":
        stand_in()
    elif how == "idle":
        if started().rank == int(rank):
            sys.addaudithook(idle)
    else:
        StepByStep.batch = sabotaged(how, int(rank), int(step))
    sys.exit(cli.run(train.main, arguments))
