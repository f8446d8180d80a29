"""Loops written from definitions, in float64: slow, plain, independent of tinygan (nothing here imports it).

They check what neither TensorFlow's numbers (`golden`) nor finite differences (`tinygan.gradcheck`) can.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from math import ceil, sqrt
from typing import Any

import numpy as np

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def same_pads(side: int, K: int, S: int) -> Pair:
    """out = ceil(in / S); total = max((out - 1) S + K - in, 0); before = total // 2."""
    total = max((ceil(side / S) - 1) * S + K - side, 0)
    return total // 2, total - total // 2


def conv2d_geometry(size: Pair, kernel: Pair, stride: Pair, padding: Any) -> tuple[Pair, Pads]:
    """Size of a convolution's result, and its pads."""
    out, pads = [], []
    for axis in (0, 1):
        side, K, S = size[axis], kernel[axis], stride[axis]
        if padding == "same":
            pad = same_pads(side, K, S)
            out.append(ceil(side / S))
        else:
            pad = (0, 0) if padding == "valid" else padding[axis]
            out.append((side + sum(pad) - K) // S + 1)
        pads.append(pad)
    return (out[0], out[1]), (pads[0], pads[1])


def conv2d_transpose_geometry(size: Pair, kernel: Pair, stride: Pair, padding: Any) -> tuple[Pair, Pads]:
    """Size of a transposed convolution's result, and the pixels cropped around it."""
    out, pads = [], []
    for axis in (0, 1):
        side, K, S = size[axis], kernel[axis], stride[axis]
        if padding == "same":
            out.append(side * S)
            pads.append(same_pads(side * S, K, S))
        elif padding == "valid":
            out.append(side * S + max(K - S, 0))
            pads.append((0, 0))
        else:
            out.append((side - 1) * S + K - sum(padding[axis]))
            pads.append(padding[axis])
    return (out[0], out[1]), (pads[0], pads[1])


def taps(small: Pair, large: Pair, kernel: Pair, stride: Pair, pads: Pads) -> Iterator[tuple[int, ...]]:
    """Every (p, q, i, j, h, w): position (i, j) of the window at (p, q) is over pixel (h, w) of `large`."""
    for p in range(small[0]):
        for q in range(small[1]):
            for i in range(kernel[0]):
                for j in range(kernel[1]):
                    h = p * stride[0] + i - pads[0][0]
                    w = q * stride[1] + j - pads[1][0]
                    if 0 <= h < large[0] and 0 <= w < large[1]:
                        yield p, q, i, j, h, w


def conv2d(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Any
) -> np.ndarray:
    """y[n,p,q,f] = b[f] + sum of x[n, p S + i - top, q S + j - left, c] w[i,j,c,f]."""
    large, K = x.shape[1:3], kernel.shape[:2]
    small, pads = conv2d_geometry(large, K, stride, padding)
    y = np.zeros((len(x), *small, kernel.shape[3]))
    for p, q, i, j, h, w in taps(small, large, K, stride, pads):
        y[:, p, q] += x[:, h, w] @ kernel[i, j]
    return y if bias is None else y + bias


def conv2d_gradients(
    x: np.ndarray, kernel: np.ndarray, dy: np.ndarray, stride: Pair, padding: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of sum(dy y): each product x w of the definition adds w dy to dx and x dy to dw."""
    large, K = x.shape[1:3], kernel.shape[:2]
    small, pads = conv2d_geometry(large, K, stride, padding)
    dx, dw = np.zeros_like(x), np.zeros_like(kernel)
    for p, q, i, j, h, w in taps(small, large, K, stride, pads):
        dx[:, h, w] += dy[:, p, q] @ kernel[i, j].T
        dw[i, j] += x[:, h, w].T @ dy[:, p, q]
    return dx, dw, dy.sum(axis=(0, 1, 2))


def conv2d_transpose(
    x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: Pair, padding: Any
) -> np.ndarray:
    """Each x[n,p,q,c] w[i,j,f,c] is added to y[n, p S + i - top, q S + j - left, f], if that is inside y."""
    small, K = x.shape[1:3], kernel.shape[:2]
    large, pads = conv2d_transpose_geometry(small, K, stride, padding)
    y = np.zeros((len(x), *large, kernel.shape[2]))
    for p, q, i, j, h, w in taps(small, large, K, stride, pads):
        y[:, h, w] += x[:, p, q] @ kernel[i, j].T
    return y if bias is None else y + bias


def conv2d_transpose_gradients(
    x: np.ndarray, kernel: np.ndarray, dy: np.ndarray, stride: Pair, padding: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of sum(dy y), likewise."""
    small, K = x.shape[1:3], kernel.shape[:2]
    large, pads = conv2d_transpose_geometry(small, K, stride, padding)
    dx, dw = np.zeros_like(x), np.zeros_like(kernel)
    for p, q, i, j, h, w in taps(small, large, K, stride, pads):
        dx[:, p, q] += dy[:, h, w] @ kernel[i, j]
        dw[i, j] += dy[:, h, w].T @ x[:, p, q]
    return dx, dw, dy.sum(axis=(0, 1, 2))


def bce(logit: float, target: float) -> tuple[float, float, float]:
    """(loss, its derivative, sigmoid(logit)) of one logit, computed with 1,000 digits."""
    with localcontext() as context:
        context.prec = 1000
        x, z = Decimal(logit), Decimal(target)
        p = 1 / (1 + (-x).exp())
        loss = -z * p.ln() - (1 - z) * (1 - p).ln()
        return float(loss), float(p - z), float(p)


def adam(
    w: float, gradients: list[float], lr: float, beta1: float, beta2: float, eps: float
) -> list[tuple[float, float, float]]:
    """(w, m, v) of one weight after each step."""
    m = v = 0.0
    history = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        w = w - lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)
        history.append((w, m, v))
    return history


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox 4x64-10 of four counter words and two key words, from the definition (Salmon et al. 2011)."""
    (a, b, c, d), (k, m), word = counter, key, 2**64
    for _ in range(10):
        left, right = a * 0xD2E7470EE14C6C93, c * 0xCA5A826395121157
        a, b, c, d = (right // word) ^ b ^ k, right % word, (left // word) ^ d ^ m, left % word
        k, m = (k + 0x9E3779B97F4A7C15) % word, (m + 0xBB67AE8584CAA73B) % word
    return [a, b, c, d]
