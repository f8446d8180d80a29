"""The ops of `tinygan.ops` written for speed: the same names, arguments and results.

Read their twins first: they say what is computed, and this folder only how it is made fast. Each file
opens with its ladder: the versions it went through, and what each idea was worth, measured in float32 with
NumPy 2.4.6 and OpenBLAS 0.3.31 on 2 threads of an AMD EPYC (Zen 4). An op that has no faster way for the
arrays it is given calls its twin. `backend.py` chooses among the ops, `step.py` among the steps.

    threads.py     pieces of work for several threads, the same result with any number of them
    reduce.py      sums and moments of channels, piece by piece
    frequencies.py convolution as matrix products of frequencies
    direct.py      convolution by windows, of pictures with few channels
    conv.py        derives the first, and picks one of them or the twin
    ops.py         twins of the other ops
    dcgan.py       the layers of a DCGAN by name, or the first that is another
    gan.py         losses and gradients of a step as a whole
    optim.py       Adam in pieces
    originals.py   which functions all this stands in for, and whether they were changed
"""

from tinygan.arrays import Array


def plain(*arrays: Array | None) -> bool:
    """Whether these are float32 or float64, all the same, and none is empty; else their op's twin serves."""
    given = [array for array in arrays if array is not None]
    dtype = given[0].dtype
    return dtype.char in "fd" and all(array.dtype == dtype and array.size > 0 for array in given)
