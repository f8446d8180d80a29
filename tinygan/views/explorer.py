"""What a page needs to run the networks by itself: their layers, their weights, where to look.

The page's half is ``page/network.js``, which computes what `layers.Network` computes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygan.errors import UsageError
from tinygan.layers import BatchNorm, Conv2D, Conv2DTranspose, Dense, LeakyReLU, Network
from tinygan.ops.geometry import conv2d_pads, conv2d_transpose_size

DIRECTIONS = 8
BLOCK = 64  # numbers that share a scale
# Digits of text inside HTML: all that can be seen of ASCII, without the sign that could end an element.
_DIGITS = np.array([code for code in range(ord("!"), ord("~") + 1) if chr(code) != "<"], np.uint8)
_BASE = len(_DIGITS)  # 93
_LARGEST = _BASE**2 // 2  # of two digits with a sign: 4324


class Exported(NamedTuple):
    """A network as a page takes it."""

    layers: list[dict[str, Any]]  # a JSON object each: see network.js
    weights: str  # the arrays one after the other, each as `encode` writes it


def export(network: Network) -> Exported:
    """`network` for a page; a batch normalisation is a scale and a shift for each channel."""
    layers, weights, shape = [], [], network.input_shape
    for name, layer in network.layers.items():
        arrays = {key: network.backend.numpy(tensor.data) for key, tensor in layer.parameters.items()}
        described: dict[str, Any] = {"kind": layer.name, "name": name, "shape": network.shapes[name]}
        if isinstance(layer, BatchNorm):
            scale, mean = _scale(layer, network), network.backend.numpy(layer.running_mean.data)
            arrays = {"scale": scale, "shift": arrays["beta"] - mean * scale}
        elif isinstance(layer, Conv2D | Conv2DTranspose):
            (H, W, _), (KH, KW, _, _), S = shape, layer.kernel.shape, layer.stride
            if isinstance(layer, Conv2D):
                (top, _), (left, _) = conv2d_pads((H, W), (KH, KW), (S, S), "same")
            else:
                _, ((top, _), (left, _)) = conv2d_transpose_size((H, W), (KH, KW), (S, S), "same")
            described |= {"stride": S, "pads": [top, left]}
        elif isinstance(layer, LeakyReLU):
            described["slope"] = layer.slope
        described["weights"] = {key: array.shape for key, array in arrays.items()}
        layers.append(described)
        weights += [encode(array) for array in arrays.values()]
        shape = network.shapes[name]
    return Exported(layers, "".join(weights))


def encode(array: np.ndarray) -> str:
    """The numbers of `array` as text: two digits of base 93 each, in blocks of 64 with a common scale.

    A block is 65 whole numbers from -4324 to 4324: e, then the numbers divided by 2^(e/64), rounded; the
    last block is filled up with zeros. Numbers of one block are alike, so this is more exact than float16
    here (no pixel moves by more than 1 of 255) and takes a quarter less than that in base 64.
    """
    blocks = np.zeros((-(-array.size // BLOCK), BLOCK))
    blocks.flat[: array.size] = array.reshape(-1)
    largest = np.maximum(np.abs(blocks).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    exponent = np.clip(np.ceil(64 * np.log2(largest / _LARGEST)), -_LARGEST, _LARGEST)
    numbers = np.clip(np.rint(blocks / 2 ** (exponent / 64)), -_LARGEST, _LARGEST)
    codes = np.concatenate([exponent, numbers], axis=1).astype(np.int64) + _LARGEST
    return _DIGITS[np.stack([codes // _BASE, codes % _BASE], axis=-1)].tobytes().decode()


def directions(G: Network, count: int = DIRECTIONS) -> np.ndarray:
    """Unit vectors (count, noise_dim) float32 of noise, along which the first layer's output changes most.

    Its principal directions, the strongest first, as the batch normalisation behind it scales it:
    with A = W gamma / sqrt(variance + eps), noise z becomes z A, whose covariance for standard normal z
    is A^T A; seen from z these directions are the eigenvectors of A A^T (Shen & Zhou 2021, arXiv
    2007.06600, equation 7). A generator of fewer than `count` noise numbers has fewer.
    """
    dense, norm = list(G.layers.values())[:2]
    if not isinstance(dense, Dense):
        raise UsageError("the explorer needs a generator that begins with a dense layer.")
    scale = _scale(norm, G) if isinstance(norm, BatchNorm) else 1
    A = G.backend.numpy(dense.kernel.data).astype(np.float64) * scale  # (noise_dim, features)
    _, vectors = np.linalg.eigh(A @ A.T)  # columns, by growing eigenvalue
    found = vectors.T[::-1][:count]
    # A direction and its opposite are one; the sign is fixed, so that two computers agree.
    largest = np.abs(found).argmax(axis=1)
    return (found * np.sign(found[np.arange(len(found)), largest])[:, None]).astype(np.float32)


def _scale(norm: BatchNorm, G: Network) -> np.ndarray:
    gamma, variance = (G.backend.numpy(p.data) for p in (norm.gamma, norm.running_variance))
    return gamma / np.sqrt(variance + norm.eps)
