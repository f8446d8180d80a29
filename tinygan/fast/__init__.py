"""The ops of `tinygan.ops` written for speed: the same names, arguments and results.

Read their twins first: they say what is computed, and this folder only how it is made fast. What each idea
was worth stands in benchmarks/results/README.md. An op that has no faster way for the arrays it is given
calls its twin. `backend.py` chooses among the ops, `step.py` among the steps.
"""

from tinygan.arrays import Array


def plain(*arrays: Array | None) -> bool:
    """Whether these are float32 or float64, all the same, and none is empty; else their op's twin serves."""
    given = [array for array in arrays if array is not None]
    dtype = given[0].dtype
    return dtype.char in "fd" and all(array.dtype == dtype and array.size > 0 for array in given)
