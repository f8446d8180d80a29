"""The order of ranks in `first_alone`: ``mpiexec -n 5 python -m tests.ranks.turns FILE``.

Ranks 0, 1 and 2 count as one host, 3 and 4 as another. Each writes a line to FILE when it begins and ends.
"""

import sys
import time

from tinygan.ranks.mpi import MPI, started

if __name__ == "__main__":
    ranks = started()
    assert isinstance(ranks, MPI)
    ranks.neighbours = ranks.comm.Split(ranks.rank // 3)
    with open(sys.argv[1], "a") as file, ranks.together(), ranks.first_alone():
        print("begins", ranks.rank, file=file, flush=True)
        time.sleep(0.3)
        print("ends", ranks.rank, file=file, flush=True)
