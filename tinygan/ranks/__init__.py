"""Training by several processes, also on several machines.
``mpiexec -n 4 python -m tinygan.train`` starts four processes, the ranks. Each holds both networks and takes
a part of every batch. A gradient is a sum over the batch: the ranks add up theirs and take the same step."""
