"""The fully connected layer with its products cut into pieces for the threads.

    version  idea                                                  ms ((256, 100) to 12,544, forward + dw)
    0        BLAS with its own threads, `ops.dense`                7.6
    1        pieces on the pool's threads                          8.3

It is no faster alone. But BLAS' own threads go on spinning for milliseconds after such a product and
take the cores from the pool: a single product of that kind made the whole step 10 % slower.

float32, NumPy 2.4.6 with OpenBLAS 0.3.31, 2 threads of an AMD EPYC (Zen 4).
"""

from typing import Any

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.fast import plain
from tinygan.fast.reduce import channel_sums
from tinygan.fast.threads import POOL, blocks
from tinygan.ops import dense as readable


def dense_forward(x: Array, w: Array, b: Array | None) -> tuple[Array, Any]:
    """`ops.dense.dense_forward`, faster."""
    fit = x.ndim == w.ndim == 2 and x.shape[1] == w.shape[0] and (b is None or b.shape == w.shape[1:])
    if not fit or not plain(x, w, b):
        return readable.dense_forward(x, w, b)
    y = product(x, w)
    if b is not None:
        y += b
    return y, (x, w)


def dense_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    """`ops.dense.dense_backward`, faster."""
    x, w = saved
    if not plain(x, w, dy):
        return readable.dense_backward(saved, dy, wanted)
    want_x, want_w, want_b = wanted
    dx = product(dy, w.T) if want_x else None
    dw = product(x.T, dy) if want_w else None
    db = channel_sums(dy) if want_b else None
    return dx, dw, db


def product(a: Array, b: Array) -> Array:
    """a (N, K) @ b (K, M), cut along the longer side of the result."""
    result, all_of_them = np.empty((len(a), b.shape[1]), a.dtype), slice(None)
    if len(a) >= b.shape[1]:
        pieces = [(rows, all_of_them) for rows in blocks(len(a), sum(b.shape))]
    else:
        pieces = [(all_of_them, columns) for columns in blocks(b.shape[1], sum(a.shape))]
    POOL.each(lambda at: np.matmul(a[at[0]], b[:, at[1]], out=result[at]), pieces)
    return result


TWINS = {readable.dense: Op(dense_forward, dense_backward)}
