"""Convolution as one matrix product, and transposed convolution as its backward pass.

A convolution slides a small window over an image and computes, at every position, a weighted sum of the
numbers under it. `im2col` copies each window into a row of a matrix. Then one matrix product computes all the
sums, and matrix products are what computers do fastest:

    image, one channel       K = 2, S = 1, no padding            rows @ weights = result
      1 2 3                    1 2 4 5                             4 rows of 4 numbers,
      4 5 6         ->         2 3 5 6                 ->          times a column of 4 weights,
      7 8 9                    4 5 7 8                             is 4 numbers: a 2 x 2 image
                               5 6 8 9

`col2im`, its adjoint (the same linear map with its matrix transposed), adds each row back onto the window it
came from. These two and a matrix product make up both convolutions, forward and backward:

                         forward                      backward
    convolution          y = im2col(x) w              dx = col2im(dy w^T),  dw = im2col(x)^T dy
    transposed           y = col2im(x w^T)            dx = im2col(dy) w,    dw = im2col(dy)^T x

The forward pass of a transposed convolution is the dx of a convolution. It spreads each input pixel over a
window of the output, so it enlarges images where a strided convolution shrinks them. (If the stride does not
divide the kernel side, the windows overlap unevenly: hence the checkerboards in early images.)

Sources: Chellapilla et al. 2006 (im2col); Dumoulin & Visin 2016, arXiv 1603.07285 (sizes, transposition)."""

from typing import Any

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.ops import expect
from tinygan.ops.geometry import Padding, Pads, Stride, conv2d_pads, conv2d_transpose_size, stride_pair


def conv2d_forward(
    x: Array, w: Array, b: Array | None = None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """y[n,p,q,f] = b[f] + sum over i,j,c of x[n, p S + i - top, q S + j - left, c] w[i,j,c,f].

    Pixels outside x count as 0. Shapes: x (N, H, W, C), w (KH, KW, C, F), b (F,) or None, y (N, OH, OW, F),
    OH = (H + top + bottom - KH) // S + 1, ceil(H / S) for ``'same'``; OW likewise."""
    fits = x.ndim == w.ndim == 4 and x.shape[3] == w.shape[2]
    expect(fits, f"conv2d got x {x.shape} and w {w.shape}. It needs x (N, H, W, C), w (KH, KW, C, F).")
    KH, KW, C, F = w.shape
    expect(b is None or b.shape == (F,), f"conv2d got b {getattr(b, 'shape', 0)}, not ({F},).")
    stride = stride_pair(stride)
    pads = conv2d_pads(x.shape[1:3], (KH, KW), stride, padding)
    cols = im2col(x, (KH, KW), stride, pads)  # (N, OH, OW, KH, KW, C)
    N, OH, OW = cols.shape[:3]
    rows = cols.reshape(N * OH * OW, KH * KW * C)
    y = (rows @ w.reshape(KH * KW * C, F)).reshape(N, OH, OW, F)
    return (y if b is None else y + b), (rows, w, x.shape, stride, pads)


def conv2d_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    """dx = col2im(dy w^T),  dw = im2col(x)^T dy,  db = sum of dy over batch and space."""
    rows, w, x_shape, stride, pads = saved
    want_x, want_w, want_b = wanted
    KH, KW, C, F = w.shape
    N, OH, OW, _ = dy.shape
    dy_rows = dy.reshape(N * OH * OW, F)
    dx = dw = None
    if want_x:
        dcols = (dy_rows @ w.reshape(KH * KW * C, F).T).reshape(N, OH, OW, KH, KW, C)
        dx = col2im(dcols, x_shape, stride, pads)  # (N, H, W, C)
    if want_w:
        dw = (rows.T @ dy_rows).reshape(w.shape)  # (KH, KW, C, F)
    db = dy_rows.sum(axis=0) if want_b else None  # (F,)
    return dx, dw, db


def conv2d_transpose_forward(
    x: Array, w: Array, b: Array | None = None, *, stride: Stride = 1, padding: Padding = "same"
) -> tuple[Array, Any]:
    """y[n, p S + i - top, q S + j - left, f] += sum over c of x[n,p,q,c] w[i,j,f,c], starting at y = b[f].

    Every (p, q, i, j) adds to one pixel of y; what lands outside is cropped. This is the adjoint of `conv2d`
    with the same w, stride and padding. That `conv2d` maps F channels to C, so w is (KH, KW, F, C).

    Shapes: x (N, H, W, C), w (KH, KW, F, C), b (F,) or None, y (N, OH, OW, F) with OH = H S for ``'same'``,
    H S + max(KH - S, 0) for ``'valid'`` (as in Keras), (H - 1) S + KH - top - bottom else (as in ONNX)."""
    fits = x.ndim == w.ndim == 4 and x.shape[3] == w.shape[3]
    expect(fits, f"conv2d_transpose got x {x.shape}, w {w.shape}. It needs x (N, H, W, C), w (KH, KW, F, C).")
    KH, KW, F, C = w.shape
    expect(b is None or b.shape == (F,), f"conv2d_transpose got b {getattr(b, 'shape', 0)}, not ({F},).")
    stride = stride_pair(stride)
    N, H, W, _ = x.shape
    (OH, OW), pads = conv2d_transpose_size((H, W), (KH, KW), stride, padding)
    x_rows = x.reshape(N * H * W, C)
    cols = (x_rows @ w.reshape(KH * KW * F, C).T).reshape(N, H, W, KH, KW, F)
    y = col2im(cols, (N, OH, OW, F), stride, pads)
    return (y if b is None else y + b), (x_rows, w, x.shape, stride, pads)


def conv2d_transpose_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
    """dx = im2col(dy) w,  dw = im2col(dy)^T x,  db = sum of dy over batch and space."""
    x_rows, w, x_shape, stride, pads = saved
    want_x, want_w, want_b = wanted
    KH, KW, F, C = w.shape
    dy_cols = im2col(dy, (KH, KW), stride, pads)  # (N, H, W, KH, KW, F)
    rows = dy_cols.reshape(len(x_rows), KH * KW * F)
    dx = (rows @ w.reshape(KH * KW * F, C)).reshape(x_shape) if want_x else None  # (N, H, W, C)
    dw = (rows.T @ x_rows).reshape(w.shape) if want_w else None  # (KH, KW, F, C)
    db = dy.sum(axis=(0, 1, 2)) if want_b else None  # (F,)
    return dx, dw, db


def im2col(x: Array, kernel: tuple[int, int], stride: tuple[int, int], pads: Pads) -> Array:
    """Every window of x: cols[n,p,q,i,j,c] = padded x[n, p S + i, q S + j, c].

    Shapes: x (N, H, W, C), the result (N, OH, OW, KH, KW, C). The loop runs over the few positions (i, j) in
    the kernel, and copies the pixel at this position of all windows at once."""
    xp, (KH, KW), (SH, SW) = array_module(x), kernel, stride
    x = xp.pad(x, ((0, 0), *pads, (0, 0)))  # pads: ((top, bottom), (left, right))
    N, H, W, C = x.shape
    OH, OW = (H - KH) // SH + 1, (W - KW) // SW + 1
    cols = xp.empty((N, OH, OW, KH, KW, C), dtype=x.dtype)
    for i in range(KH):
        for j in range(KW):
            cols[:, :, :, i, j] = x[:, i : i + OH * SH : SH, j : j + OW * SW : SW]
    return cols


def col2im(cols: Array, shape: tuple[int, int, int, int], stride: tuple[int, int], pads: Pads) -> Array:
    """The adjoint of `im2col`: images of `shape` (N, H, W, C), each window added back where it came from.

    The loop of `im2col` with its two sides exchanged, and ``+=`` instead of ``=``, since windows overlap."""
    N, OH, OW, KH, KW, C = cols.shape
    (SH, SW), ((top, bottom), (left, right)) = stride, pads
    _, H, W, _ = shape
    x = array_module(cols).zeros((N, H + top + bottom, W + left + right, C), dtype=cols.dtype)
    for i in range(KH):
        for j in range(KW):
            x[:, i : i + OH * SH : SH, j : j + OW * SW : SW] += cols[:, :, :, i, j]
    return x[:, top : top + H, left : left + W]


conv2d = Op(conv2d_forward, conv2d_backward)
conv2d_transpose = Op(conv2d_transpose_forward, conv2d_transpose_backward)
