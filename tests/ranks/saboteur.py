"""What ``python -m tests.ranks.saboteur HOW RANK STEP ...`` runs: a training, in which one rank fails."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from tinygan import commands, train
from tinygan.runs.training import StepByStep

HOW, RANK, STEP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
honest = StepByStep._step


def failing(self: StepByStep) -> Any:
    if self.step == STEP and self.backend.ranks.rank == RANK:
        if HOW == "raise":
            raise RuntimeError("on purpose")
        if HOW == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if HOW == "nan":
            self.state.G.parameters["00_dense/kernel"].data[0, 0] = float("nan")
        if HOW == "signal":
            os.kill(os.getpid(), signal.SIGINT)
    return honest(self)


if __name__ == "__main__":
    StepByStep._step = failing
    sys.exit(commands.run(train.main, sys.argv[4:]))
