"""The processes that train together: all that several machines need.

``mpiexec -n 4 python -m tinygan.train`` starts four processes, the ranks. Each holds the whole of both
networks and takes its part of every batch. A gradient is a sum over the batch: so the ranks add up what
each found, and all take the same step.
"""
