"""The ops of `tinygan.ops`, written for speed: the same names, arguments and results.
Read the readable twins first: they define the results. An op with no faster way for its arrays calls its
twin. `backend.py` chooses ops, `step.py` steps. benchmarks/results/README.md has the gain of each idea."""

from tinygan.arrays import Array


def plain(*arrays: Array | None) -> bool:
    """Whether all arrays are float32, or all float64, and none is empty. Otherwise the op calls its twin."""
    given = [array for array in arrays if array is not None]
    dtype = given[0].dtype
    return dtype.char in "fd" and all(array.dtype == dtype and array.size > 0 for array in given)
