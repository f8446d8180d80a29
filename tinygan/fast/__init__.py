"""The ops of `tinygan.ops` written for speed: the same names, arguments and results.

Read their twins first: they say what is computed, and this folder only how it is made fast. Each file
opens with its ladder: the versions it went through, and what each idea was worth. An op that has no
faster way for the arrays it is given calls its twin. `backend.py` chooses among the ops, `step.py` among
the steps.

    threads.py     pieces of work for several threads, the same result with any number of them
    reduce.py      sums and moments of channels, piece by piece
    frequencies.py convolution as matrix products of frequencies
    direct.py      convolution by windows, of pictures with few channels
    conv.py        derives the first, and picks one of them or the twin
    dcgan.py       the layers of a DCGAN by name, or the first that is another
    gan.py         losses and gradients of a step as a whole
    activation.py, batchnorm.py, dense.py, dropout.py     twins of the other ops
    optim.py       Adam in pieces
    originals.py   which functions all this stands in for, and whether they were changed
"""

from tinygan.arrays import Array


def plain(*arrays: Array | None) -> bool:
    """Whether these are float32 or float64, all the same, and none is empty; else their op's twin serves."""
    given = [array for array in arrays if array is not None]
    return (
        given[0].dtype.char in "fd"
        and all(array.dtype == given[0].dtype for array in given)
        and all(array.size > 0 for array in given)
    )
