"""Prepares the networks for ``page/network.js``: their layers as JSON, their weights as text."""

from typing import Any

import numpy as np

from tinygan.layers import Conv2DTranspose, Network
from tinygan.runs.formats import layer_by_layer

BLOCK = 64  # numbers that share a scale
# Digits that are safe inside HTML: printable ASCII without the space, and without "<", which could end it.
_DIGITS = np.array([code for code in range(ord("!"), ord("~") + 1) if chr(code) != "<"], np.uint8)
_BASE = len(_DIGITS)  # 93
_LARGEST = _BASE**2 // 2  # two digits encode whole numbers from -4324 to 4324


def for_page(network: Network) -> tuple[list[dict[str, Any]], str]:
    """The layers of `network` for network.js, one JSON object each, and their arrays as `encode` writes them.
    In network.js all kernels are (KH, KW, inputs, outputs) or (inputs, outputs)."""
    found, weights = [], []
    for name, layer, shape, arrays, pads in layer_by_layer(network):
        if isinstance(layer, Conv2DTranspose):
            arrays["kernel"] = arrays["kernel"].swapaxes(2, 3)
        facts = {key: getattr(layer, key, None) for key in ("stride", "slope")}
        facts["weights"] = {key: array.shape for key, array in arrays.items()}
        facts["pads"] = pads and [before for before, _ in pads]
        found.append({"kind": layer.name, "name": name, "shape": shape, **facts})
        weights += [encode(array) for array in arrays.values()]
    return found, "".join(weights)


def encode(array: np.ndarray) -> str:
    """Encode the numbers of `array` as text: two base-93 digits each, in blocks of 64 with a common scale.
    A block is 65 whole numbers from -4324 to 4324: e, then the numbers divided by 2^(e/64) and rounded. Zeros
    pad the last block. Numbers in a block are of similar size, so this is more exact than float16 here (no
    pixel moves by more than 1 of 255), and a quarter smaller than float16 in base 64."""
    blocks = np.zeros((-(-array.size // BLOCK), BLOCK))
    blocks.flat[: array.size] = array.reshape(-1)
    largest = np.maximum(np.abs(blocks).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    exponent = np.clip(np.ceil(64 * np.log2(largest / _LARGEST)), -_LARGEST, _LARGEST)
    numbers = np.clip(np.rint(blocks / 2 ** (exponent / 64)), -_LARGEST, _LARGEST)
    codes = np.concatenate([exponent, numbers], axis=1).astype(np.int64) + _LARGEST
    return _DIGITS[np.stack([codes // _BASE, codes % _BASE], axis=-1)].tobytes().decode()
