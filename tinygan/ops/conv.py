"""Convolution as one matrix product, and transposed convolution as the same thing backwards.

A convolution slides a small window over a picture and takes, at every place, a weighted sum of
what is under it. `im2col` copies each window into a row of a matrix; then all the sums are one
matrix product, the form in which computers do so much arithmetic fastest:

    picture, one channel     K = 2, S = 1: four windows          rows @ kernel = result
      1 2 3                    1 2 4 5                             4 rows of 4 numbers,
      4 5 6         ->         2 3 5 6                 ->          times a column of 4 weights,
      7 8 9                    4 5 7 8                             is 4 numbers: a 2 x 2 picture
                               5 6 8 9

Its adjoint `col2im` adds each row back onto the window it came from. These two and a matrix
product are all that either convolution needs, in either direction:

                         forward                      backward
    convolution          y = im2col(x) w              dx = col2im(dy w^T),  dw = im2col(x)^T dy
    transposed           y = col2im(x w^T)            dx = im2col(dy) w,    dw = im2col(dy)^T x

A transposed convolution's forward pass is a convolution's backward pass. It spreads every input
pixel over a window of the output, so it enlarges pictures where a strided convolution shrinks
them. (Where the kernel side is no multiple of the stride, windows overlap unevenly: the
checkerboard pattern that young generators show.)

Sources: Chellapilla, Puri & Simard 2006 (the matrix form); Dumoulin & Visin 2016,
arXiv 1603.07285 (the arithmetic of sizes, transposed convolution).
"""

from types import ModuleType
from typing import Any

from tinygan.errors import ShapeError, UsageError
from tinygan.ops import Array, Wanted

Stride = int | tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = str | Pads


def conv2d_forward(
    xp: ModuleType, x: Array, w: Array, b: Array | None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """y[n,p,q,f] = b[f] + sum over i,j,c of x[n, p S + i - top, q S + j - left, c] w[i,j,c,f].

    Pixels outside x count as 0. Shapes: x (N, H, W, C), w (KH, KW, C, F), b (F,) or None,
    y (N, OH, OW, F) with OH = ceil(H / S) for ``'same'``, else (H + top + bottom - KH) // S + 1.

    Raises:
        ShapeError: the shapes do not fit each other, or the window is larger than the padded x.
        UsageError: stride or padding is not of a known form.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2]:
        raise ShapeError(
            f"conv2d got x {x.shape} and w {w.shape}. It needs x (N, H, W, C), w (KH, KW, C, F)."
        )
    KH, KW, C, F = w.shape
    _check_bias("conv2d", b, F)
    stride = stride_pair(stride)
    pads = conv2d_pads(x.shape[1:3], (KH, KW), stride, padding)
    cols = im2col(xp, x, (KH, KW), stride, pads)  # (N, OH, OW, KH, KW, C)
    N, OH, OW = cols.shape[:3]
    rows = cols.reshape(N * OH * OW, KH * KW * C)
    y = (rows @ w.reshape(KH * KW * C, F)).reshape(N, OH, OW, F)
    if b is not None:
        y += b
    return y, (rows, w, x.shape, stride, pads)


def conv2d_backward(xp: ModuleType, saved: Any, dy: Array, wanted: Wanted) -> tuple[Array | None, ...]:
    """dx = col2im(dy w^T),  dw = im2col(x)^T dy,  db = sum of dy over batch and space."""
    rows, w, x_shape, stride, pads = saved
    want_x, want_w, want_b = wanted
    KH, KW, C, F = w.shape
    N, OH, OW, _ = dy.shape
    dy_rows = dy.reshape(N * OH * OW, F)
    dx = dw = None
    if want_x:
        dcols = (dy_rows @ w.reshape(KH * KW * C, F).T).reshape(N, OH, OW, KH, KW, C)
        dx = col2im(xp, dcols, x_shape, stride, pads)  # (N, H, W, C)
    if want_w:
        dw = (rows.T @ dy_rows).reshape(w.shape)  # (KH, KW, C, F)
    db = dy_rows.sum(axis=0) if want_b else None  # (F,)
    return dx, dw, db


def conv2d_transpose_forward(
    xp: ModuleType, x: Array, w: Array, b: Array | None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """y[n, p S + i - top, q S + j - left, f] = b[f] + sum over c of x[n,p,q,c] w[i,j,f,c].

    Every (p, q, i, j) that lands on the same pixel of y is added; what lands outside is cropped.
    It is the adjoint of `conv2d` with the same kernel, stride and padding.

    Shapes: x (N, H, W, C), w (KH, KW, F, C), b (F,) or None, y (N, OH, OW, F) with OH = H S for
    ``'same'``, H S + max(KH - S, 0) for ``'valid'`` (as in Keras), and (H - 1) S + KH - top - bottom
    for explicit padding (as in ONNX).

    Raises:
        ShapeError: the shapes do not fit each other, or the crop leaves nothing.
        UsageError: stride or padding is not of a known form.
    """
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[3]:
        raise ShapeError(
            f"conv2d_transpose got x {x.shape} and w {w.shape}. It needs x (N, H, W, C), w (KH, KW, F, C)."
        )
    KH, KW, F, C = w.shape
    _check_bias("conv2d_transpose", b, F)
    stride = stride_pair(stride)
    N, H, W, _ = x.shape
    (OH, OW), pads = conv2d_transpose_size((H, W), (KH, KW), stride, padding)
    x_rows = x.reshape(N * H * W, C)
    cols = (x_rows @ w.reshape(KH * KW * F, C).T).reshape(N, H, W, KH, KW, F)
    y = col2im(xp, cols, (N, OH, OW, F), stride, pads)
    if b is not None:
        y += b
    return y, (x_rows, w, x.shape, stride, pads)


def conv2d_transpose_backward(
    xp: ModuleType, saved: Any, dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """dx = im2col(dy) w,  dw = im2col(dy)^T x,  db = sum of dy over batch and space."""
    x_rows, w, x_shape, stride, pads = saved
    want_x, want_w, want_b = wanted
    KH, KW, F, C = w.shape
    dx = dw = None
    if want_x or want_w:
        dcols = im2col(xp, dy, (KH, KW), stride, pads)  # (N, H, W, KH, KW, F)
        rows = dcols.reshape(len(x_rows), KH * KW * F)
        dx = (rows @ w.reshape(KH * KW * F, C)).reshape(x_shape) if want_x else None
        dw = (rows.T @ x_rows).reshape(w.shape) if want_w else None
    db = dy.sum(axis=(0, 1, 2)) if want_b else None  # (F,)
    return dx, dw, db


def im2col(xp: ModuleType, x: Array, kernel: tuple[int, int], stride: tuple[int, int], pads: Pads) -> Array:
    """Every window of x: cols[n,p,q,i,j,c] = padded x[n, p S + i, q S + j, c].

    Shapes: x (N, H, W, C), the result (N, OH, OW, KH, KW, C). The loop runs over the few places
    of the kernel; each turn copies that place's pixel of all windows at once.
    """
    (KH, KW), (SH, SW) = kernel, stride
    x = xp.pad(x, ((0, 0), *pads, (0, 0)))
    N, H, W, C = x.shape
    OH, OW = (H - KH) // SH + 1, (W - KW) // SW + 1
    cols = xp.empty((N, OH, OW, KH, KW, C), dtype=x.dtype)
    for i in range(KH):
        for j in range(KW):
            cols[:, :, :, i, j] = x[:, i : i + OH * SH : SH, j : j + OW * SW : SW]
    return cols


def col2im(
    xp: ModuleType, cols: Array, shape: tuple[int, int, int, int], stride: tuple[int, int], pads: Pads
) -> Array:
    """The adjoint of `im2col`: a picture of `shape` with every window added back where it came from.

    Shapes: cols (N, OH, OW, KH, KW, C), the result `shape` = (N, H, W, C). Line by line it is
    `im2col` with source and target exchanged and ``=`` made ``+=``.
    """
    N, OH, OW, KH, KW, C = cols.shape
    (SH, SW), ((top, bottom), (left, right)) = stride, pads
    _, H, W, _ = shape
    x = xp.zeros((N, H + top + bottom, W + left + right, C), dtype=cols.dtype)
    for i in range(KH):
        for j in range(KW):
            x[:, i : i + OH * SH : SH, j : j + OW * SW : SW] += cols[:, :, :, i, j]
    return x[:, top : top + H, left : left + W]


def stride_pair(stride: Stride) -> tuple[int, int]:
    """(vertical, horizontal) stride from one number or two.

    Raises:
        UsageError: not one or two whole numbers of at least 1.
    """
    pair = stride if isinstance(stride, tuple) else (stride, stride)
    if len(pair) != 2 or not all(isinstance(S, int) and S >= 1 for S in pair):
        raise UsageError(f"stride {stride!r} is not a whole number >= 1, nor a pair of such.")
    return pair


def conv2d_pads(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> Pads:
    """The zeros around a picture of `size`: ((top, bottom), (left, right)).

    ``'same'`` makes OH = ceil(H / S). The total it needs depends on the stride, and an odd total
    puts the larger half after: 28 -> 14 with K = 5, S = 2 pads (1, 2), not (2, 2).

    >>> conv2d_pads((28, 28), (5, 5), (2, 2), "same")
    ((1, 2), (1, 2))

    Raises:
        ShapeError: the window is larger than the padded picture.
        UsageError: padding is not of a known form.
    """
    if padding == "same":
        pads = tuple(_same_pads(*axis) for axis in zip(size, kernel, stride, strict=True))
    else:
        pads = ((0, 0), (0, 0)) if padding == "valid" else _explicit_pads(padding)
    for side, K, (before, after) in zip(size, kernel, pads, strict=True):
        if side < 1 or not 1 <= K <= side + before + after:
            raise ShapeError(f"a {kernel} window does not fit into {size} with padding {padding!r}.")
    return pads  # pyright: ignore[reportReturnType]


def conv2d_transpose_size(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[tuple[int, int], Pads]:
    """Size (OH, OW) of a transposed convolution's result, and what is cropped around it.

    >>> conv2d_transpose_size((7, 7), (5, 5), (2, 2), "same")
    ((14, 14), ((1, 2), (1, 2)))

    Raises:
        ShapeError: the crop leaves nothing.
        UsageError: padding is not of a known form.
    """
    axes = list(zip(size, kernel, stride, strict=True))
    if padding == "same":  # the convolution from H S back to H pads by the same rule
        out = [side * S for side, _, S in axes]
        pads = tuple(_same_pads(side * S, K, S) for side, K, S in axes)
    elif padding == "valid":
        out = [side * S + max(K - S, 0) for side, K, S in axes]
        pads = ((0, 0), (0, 0))
    else:
        pads = _explicit_pads(padding)
        out = [(side - 1) * S + K - sum(pad) for (side, K, S), pad in zip(axes, pads, strict=True)]
    if min(*size, *kernel, *out) < 1:
        raise ShapeError(
            f"a transposed convolution of {size} with kernel {kernel}, stride {stride} and padding "
            f"{padding!r} has no pixel left: {tuple(out)}. Crop less."
        )
    return (out[0], out[1]), pads  # pyright: ignore[reportReturnType]


def _same_pads(side: int, K: int, S: int) -> tuple[int, int]:
    out = -(-side // S)  # ceil
    total = max((out - 1) * S + K - side, 0)
    return total // 2, total - total // 2


def _explicit_pads(padding: Padding) -> Pads:
    try:
        (top, bottom), (left, right) = padding
        if all(isinstance(p, int) and p >= 0 for p in (top, bottom, left, right)):
            return (top, bottom), (left, right)  # pyright: ignore[reportReturnType]
    except (TypeError, ValueError):
        pass
    raise UsageError(f"padding {padding!r} is not 'same', 'valid' or ((top, bottom), (left, right)) >= 0.")


def _check_bias(name: str, b: Array | None, F: int) -> None:
    if b is not None and b.shape != (F,):
        raise ShapeError(f"{name} got b {b.shape}. It needs ({F},), one number to a filter.")
