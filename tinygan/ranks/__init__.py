"""The processes that train together: all that several machines need.

``mpiexec -n 4 python -m tinygan.train`` starts four processes, the ranks. Each holds the whole of both
networks and takes its part of every batch. A gradient is a sum over the batch: so the ranks add up what
each found, and all take the same step.

    alone.py   one process: nothing is added up; which part of a batch each rank takes
    mpi.py     many of them (https://www.mpi-forum.org), with graphics cards or without; what detects them
    twins.py   the ops that look across a batch: its moments, and the mean of the losses
"""
