"""The processes that train together: all that several machines need.
``mpiexec -n 4 python -m tinygan.train`` starts four processes, the ranks. Each holds both networks and takes
its part of every batch. A gradient is a sum over it: the ranks add up theirs, and all take the same step."""
