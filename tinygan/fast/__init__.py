"""The ops of `tinygan.ops` written for speed: the same names, arguments and results.
Read their twins first: they say what is computed. An op with no faster way for its arrays calls its twin.
`backend.py` chooses ops, `step.py` steps; benchmarks/results/README.md has what each idea was worth."""

from tinygan.arrays import Array


def plain(*arrays: Array | None) -> bool:
    """Whether these are float32 or float64, all the same, and none is empty; else their op's twin serves."""
    given = [array for array in arrays if array is not None]
    dtype = given[0].dtype
    return dtype.char in "fd" and all(array.dtype == dtype and array.size > 0 for array in given)
