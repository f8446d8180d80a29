"""Models in formats that other programs read: ONNX to run a generator, safetensors to keep the weights.

Both need a package of their own, which is imported only when it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinygan import layers
from tinygan.errors import CheckpointError, UsageError, one_line
from tinygan.ops.geometry import conv2d_transpose_size

OPSET = 17  # the operators of ONNX 1.12 (2022): none of those used here has changed its meaning since
META = "tinygan"  # the key of our own words in a safetensors file


def onnx_model(G: layers.Network, about: Mapping[str, str]) -> bytes:
    """G as an ONNX file: ``noise`` (N, noise_dim) float32 -> ``pictures`` (N, H, W, C) float32 in [-1, 1].

    As `gan.generate`, with the running statistics; any N. Batch normalisations are a multiplication and
    an addition. ONNX has channels first, so the maps are turned once and the pictures turned back.
    `about` becomes the model's metadata.

    Raises:
        UsageError: the package onnx is missing, or a layer computes what none of its operators does.
    """
    from tinygan.fast.originals import unlike  # an engine, which those who read weights need not load

    if edits := unlike(G):
        raise UsageError(f"{edits}, and ONNX has operators only for the original layers. Use --safetensors.")
    onnx = _package("onnx")
    helper, numpy = onnx.helper, G.backend.numpy
    nodes, weights = [], []
    at, shape = "noise", G.input_shape

    def constant(name: str, array: np.ndarray) -> str:
        weights.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def then(operator: str, name: str, *constants: str, **attributes: Any) -> None:
        nonlocal at
        nodes.append(helper.make_node(operator, [at, *constants], [name], name=name, **attributes))
        at = name

    for name, layer in G.layers.items():
        if isinstance(layer, layers.Dense):
            then("MatMul", name, constant(f"{name}/kernel", numpy(layer.kernel.data)))
        elif isinstance(layer, layers.BatchNorm):
            gamma, beta, mean, variance = (
                numpy(tensor.data)
                for tensor in (layer.gamma, layer.beta, layer.running_mean, layer.running_variance)
            )
            scale = gamma / np.sqrt(variance + layer.eps)
            across = (-1, 1, 1) if len(shape) == 3 else (-1,)
            then("Mul", f"{name}/scaled", constant(f"{name}/scale", scale.reshape(across)))
            then("Add", name, constant(f"{name}/shift", (beta - mean * scale).reshape(across)))
        elif isinstance(layer, layers.LeakyReLU):
            then("LeakyRelu", name, alpha=layer.slope)
        elif isinstance(layer, layers.Reshape):
            rows = np.array([0, *layer.shape], np.int64)  # 0: as many as there are
            then("Reshape", f"{name}/channels_last", constant(f"{name}/shape", rows))
            then("Transpose", name, perm=[0, 3, 1, 2])
        elif isinstance(layer, layers.Conv2DTranspose):
            (H, W, _), (KH, KW, _, _), S = shape, layer.kernel.shape, layer.stride
            _, ((top, bottom), (left, right)) = conv2d_transpose_size((H, W), (KH, KW), (S, S), "same")
            kernel = numpy(layer.kernel.data).transpose(3, 2, 0, 1)  # (KH, KW, F, C) -> (C, F, KH, KW)
            named = constant(f"{name}/kernel", kernel)
            then("ConvTranspose", name, named, strides=[S, S], pads=[top, left, bottom, right])
        elif isinstance(layer, layers.Tanh):
            then("Tanh", name)
        elif not isinstance(layer, layers.Dropout):
            raise UsageError(f"{name} has no operator of ONNX here. Use --safetensors.")
        shape = G.shapes[name]
        if isinstance(layer, layers.Linear) and layer.bias:
            bias = numpy(layer.bias.data).reshape((-1, 1, 1) if len(shape) == 3 else (-1,))
            then("Add", f"{name}/biased", constant(f"{name}/bias", bias))
    then("Transpose", "pictures", perm=[0, 2, 3, 1])

    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("noise", kind, ["N", *G.input_shape])],
        [helper.make_tensor_value_info("pictures", kind, ["N", *shape])],
        weights,
        doc_string="Standard normal noise to pictures in [-1, 1], rows, columns and channels.",
    )
    model = helper.make_model(
        graph, producer_name="tinygan", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8
    )
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def write_safetensors(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """`arrays` and `meta` (JSON) as a safetensors file. Raises UsageError without the package."""
    save = _package("safetensors.numpy").save
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, {META: json.dumps(meta, sort_keys=True)})


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write_safetensors` wrote.

    Raises:
        UsageError: the package safetensors is missing.
        CheckpointError: the file is damaged, or tinygan did not write it.
    """
    package = _package("safetensors")
    try:
        with package.safe_open(path, framework="np") as file:
            meta = json.loads((file.metadata() or {})[META])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except KeyError as error:
        raise CheckpointError(f"{path} holds no model of tinygan's. Name another file.") from error
    except (package.SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {one_line(error)}. Name another file.") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} holds no model of tinygan's. Name another file.")
    return arrays, meta


def _package(name: str) -> ModuleType:
    extra = name.partition(".")[0]
    try:
        return import_module(name)
    except ImportError as problem:
        raise UsageError(
            f"the package {extra} is missing. Install it with: pip install 'tinygan[{extra}]'"
        ) from problem
