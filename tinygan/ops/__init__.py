"""What layers compute, written to be read: each op's forward with its backward right below it.

An op is two plain functions of arrays:

    name_forward(xp, x, ..., **attributes) -> (y, saved)
    name_backward(xp, saved, dy, wanted)   -> (dx, ...)

`xp` is the array module, NumPy or CuPy. `saved` is what the backward pass needs of the forward
pass. `dy` is the gradient of the loss with respect to y, `dx` with respect to x: same shape as
its array. `wanted` holds one bool per input array; an unwanted gradient is returned as None and
costs nothing. No function changes its arguments, and the dtype of the result is that of x.

Letters used for shapes, here and everywhere: N images in the batch, H height, W width,
C channels in, F channels out (filters), K kernel side (KH, KW where the sides may differ),
S stride, and OH, OW for the height and width of a result. Images are (N, H, W, C).
"""

from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray
Wanted = tuple[bool, ...]
