"""Export of models, layer by layer, to ONNX and safetensors, whose packages are imported when needed."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygan import layers
from tinygan.errors import CheckpointError, UsageError, one_line, pip
from tinygan.ops.geometry import Pads, conv2d_pads, conv2d_transpose_size

OPSET = 17  # the operators of ONNX 1.12 (2022); those used here have not changed their meaning since
META = "tinygan"  # the key of tinygan's metadata in a safetensors file


# One layer: its name, the layer, the shape of its output (without N), its arrays, and its pads or None.
LayerParts: TypeAlias = tuple[str, layers.Layer, tuple[int, ...], dict[str, np.ndarray], Pads | None]


def layer_by_layer(network: layers.Network) -> Iterator[LayerParts]:
    """Each layer as it works outside training, with its NumPy arrays: kernel and bias; scale and shift (C,)
    of a batch normalisation. Pads: zeros around a convolution's input, or what a transposed one crops."""
    shape = network.input_shape
    for name, layer in network.layers.items():
        tensors, pads = layer.parameters | layer.statistics, None
        arrays = {key: network.backend.numpy(tensor.data) for key, tensor in tensors.items()}
        if isinstance(layer, layers.BatchNorm):  # gamma (x - mean) / sqrt(variance + eps) + beta
            scale = arrays["gamma"] / np.sqrt(arrays["running_variance"] + layer.eps)
            arrays = {"scale": scale, "shift": arrays["beta"] - arrays["running_mean"] * scale}
        elif isinstance(layer, layers.Conv2D | layers.Conv2DTranspose):
            (H, W, _), (KH, KW, _, _), S = shape, layer.kernel.shape, layer.stride
            how = (H, W), (KH, KW), (S, S), "same"
            pads = conv2d_pads(*how) if isinstance(layer, layers.Conv2D) else conv2d_transpose_size(*how)[1]
        shape = network.shapes[name]
        yield name, layer, shape, arrays, pads


def onnx_model(G: layers.Network, about: Mapping[str, str]) -> bytes:
    """G as an ONNX file: ``noise`` (N, noise_dim) float32 -> ``pictures`` (N, H, W, C) float32 in [-1, 1],
    any N. `about`: its metadata. Raises: UsageError if onnx is missing or a layer has no ONNX operator."""
    from tinygan.fast.originals import unlike  # loads an engine, which reading weights does not need

    if edits := unlike(G):
        raise UsageError(f"{edits}, and ONNX has operators only for the original layers. Use --safetensors.")
    with _needed("onnx"):
        import onnx
    nodes, weights = _onnx_nodes(G, onnx)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    *_, shape = G.shapes.values()
    noise = helper.make_tensor_value_info("noise", kind, ["N", *G.input_shape])
    pictures = helper.make_tensor_value_info("pictures", kind, ["N", *shape])
    about_graph = "Turns standard normal noise into pictures in [-1, 1]: rows, columns and channels."
    graph = helper.make_graph(nodes, "generator", [noise], [pictures], weights, doc_string=about_graph)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, producer_name="tinygan", opset_imports=[opset], ir_version=8)
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _onnx_nodes(G: layers.Network, onnx: Any) -> tuple[list[Any], list[Any]]:
    """Operators and their weights. ONNX puts channels first: one transpose leads there, another one back."""
    nodes, weights, at = [], [], "noise"

    def then(operator: str, made: str, constant: str = "", array: Any = None, **attributes: Any) -> None:
        """Append the operator that computes `made` from the result so far and, if it is named, a constant."""
        nonlocal at
        if constant:
            weights.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"{name}/{constant}"))
        inputs = [at, f"{name}/{constant}"] if constant else [at]
        nodes.append(onnx.helper.make_node(operator, inputs, [made], name=made, **attributes))
        at = made

    for name, layer, shape, arrays, pads in layer_by_layer(G):
        across = (-1, 1, 1) if len(shape) == 3 else (-1,)  # for one number per channel
        if isinstance(layer, layers.Dense):
            then("MatMul", name, "kernel", arrays["kernel"])
        elif isinstance(layer, layers.BatchNorm):
            then("Mul", f"{name}/scaled", "scale", arrays["scale"].reshape(across))
            then("Add", name, "shift", arrays["shift"].reshape(across))
        elif isinstance(layer, layers.LeakyReLU):
            then("LeakyRelu", name, alpha=layer.slope)
        elif isinstance(layer, layers.Reshape):
            rows = np.array([0, *layer.shape], np.int64)  # 0 keeps the number of rows
            then("Reshape", f"{name}/channels_last", "shape", rows)
            then("Transpose", name, perm=[0, 3, 1, 2])
        elif isinstance(layer, layers.Conv2DTranspose) and pads:
            kernel = arrays["kernel"].transpose(3, 2, 0, 1)  # (KH, KW, F, C) -> (C, F, KH, KW)
            (top, bottom), (left, right) = pads
            how = {"strides": [layer.stride] * 2, "pads": [top, left, bottom, right]}
            then("ConvTranspose", name, "kernel", kernel, **how)
        elif isinstance(layer, layers.Tanh):
            then("Tanh", name)
        elif not isinstance(layer, layers.Dropout):
            raise UsageError(f"tinygan has no ONNX operator for {name}. Use --safetensors.")
        if "bias" in arrays:
            then("Add", f"{name}/biased", "bias", arrays["bias"].reshape(across))
    then("Transpose", "pictures", perm=[0, 2, 3, 1])
    return nodes, weights


def write_safetensors(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> bytes:
    """`arrays` and `meta` (JSON) as a safetensors file. Raises: UsageError if safetensors is missing."""
    with _needed("safetensors"):
        from safetensors.numpy import save
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, {META: json.dumps(meta, sort_keys=True)})


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `write_safetensors` wrote. Raises: UsageError without safetensors; CheckpointError if damaged."""
    with _needed("safetensors"):
        import safetensors
    try:
        with safetensors.safe_open(path, framework="np") as file:
            meta = json.loads((file.metadata() or {})[META])
            if not isinstance(meta, dict):
                raise KeyError(META)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except KeyError as error:
        raise CheckpointError(f"{path} holds no tinygan model. Name another file.") from error
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {one_line(error)}. Name another file.") from error
    return arrays, meta


@contextmanager
def _needed(package: str) -> Iterator[None]:
    """Raise UsageError if `package`, which is also the name of its extra, cannot be imported."""
    try:
        yield
    except ImportError as problem:
        remedy = pip("install", f"tinygan[{package}]")
        raise UsageError(f"the package {package} is missing. Install it with: {remedy}") from problem
