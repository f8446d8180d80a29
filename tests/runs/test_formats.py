"""Exported models: run by onnxruntime, read back from safetensors; and files that are refused."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.checks import one_line
from tests.views.reports import made_up_state
from tinygan import layers
from tinygan.errors import CheckpointError, UsageError
from tinygan.rng import stream
from tinygan.runs.formats import onnx_model, write_safetensors
from tinygan.runs.settings import Settings
from tinygan.runs.state import State, pictures_of, sample_noise
from tinygan.trained import Trained, load

onnx = pytest.importorskip("onnx", reason="pip install -e '.[onnx]'")
safetensors = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[safetensors]'")
SMALL: dict[str, Any] = {"width": 2, "noise_dim": 5}


def run_onnx(model: bytes, noise: np.ndarray) -> np.ndarray:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"noise": noise})[0]


@pytest.mark.parametrize("settings", [{}, {"size": 64, "channels": 3, "width": 3, "noise_dim": 7}, SMALL])
def test_onnxruntime_makes_the_same_pictures_as_generate(settings: dict[str, Any]) -> None:
    state = made_up_state(**settings)
    model = onnx_model(state.G, {})
    for count in (1, 7, 300) if not settings else (1, 7):
        noise = sample_noise(3, count, state.G)
        expected = pictures_of(state.G, noise)
        assert expected.std() > 0.2, "pictures without contrast would prove little"
        found = run_onnx(model, noise)
        assert found.shape == expected.shape and found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-5


def test_biases_and_dropout_that_a_reader_adds_are_exported() -> None:
    G = made_up_state(**SMALL).G
    init, kinds = layers.Init(stream(1, "init"), G.backend), list(G.layers.values())
    kinds[0] = layers.Dense(init, 5, 7 * 7 * 8)
    kinds[4] = layers.Conv2DTranspose(init, 8, 4, kernel=5, stride=1)
    for number in (0, 4):
        cast(Any, kinds[number]).bias.data[:] = 0.3 * np.arange(len(cast(Any, kinds[number]).bias.data)) % 1
    G = layers.Network(G.name, G.input_shape, [*kinds[:3], layers.Dropout(0.5), *kinds[3:]])
    noise = sample_noise(3, 3, G)
    assert np.abs(run_onnx(onnx_model(G, {}), noise) - pictures_of(G, noise)).max() < 1e-5


def test_a_changed_layer_is_not_exported_as_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.Tanh, "__call__", lambda self, x, mode: x)
    words = "layers.Tanh was changed, and ONNX has operators only for the original layers. Use --safetensors."
    with pytest.raises(UsageError, match=f"^{words}$"):
        onnx_model(made_up_state(**SMALL).G, {})


def test_a_layer_without_an_operator_is_named() -> None:
    G = made_up_state(**SMALL).G
    G.layers["12_conv"] = layers.Conv2D(layers.Init(stream(1, "init"), G.backend), 1, 1, kernel=5, stride=1)
    with pytest.raises(UsageError, match="tinygan has no ONNX operator for 12_conv. Use --safetensors."):
        onnx_model(G, {})


def test_the_onnx_file_says_what_it_is() -> None:
    model = onnx.load_from_string(onnx_model(made_up_state(**SMALL).G, {"step": "7"}))
    assert model.producer_name == "tinygan" and model.graph.name == "generator"
    assert {entry.key: entry.value for entry in model.metadata_props} == {"step": "7"}
    (given,), (made,) = model.graph.input, model.graph.output
    sizes = [
        [side.dim_param or side.dim_value for side in x.type.tensor_type.shape.dim] for x in (given, made)
    ]
    assert (given.name, made.name) == ("noise", "pictures") and sizes == [["N", 5], ["N", 28, 28, 1]]


def saved(tmp_path: Path, state: State, **changes: Any) -> Path:
    path = tmp_path / "model.safetensors"
    meta = {"settings": asdict(Settings(**SMALL)), "step": 3} | changes
    path.write_bytes(write_safetensors(state.weights(), meta))
    return path


def test_safetensors_restore_both_networks(tmp_path: Path) -> None:
    state = made_up_state(**SMALL)
    path = saved(tmp_path, state)
    found = load(path, device="cpu", engine="readable")
    before = Trained(state, path)
    pictures = before.generate(5)
    assert (found.generate(5) == pictures).all()
    assert (found.logits(pictures) == before.logits(pictures)).all()
    assert found.settings == Settings(**SMALL)


def refused(path: Path, words: str) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    one_line(caught)


def test_every_truncation_of_a_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, made_up_state(**SMALL))
    data = path.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:length])
        refused(path, "damaged|no tinygan model")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    weights, path = made_up_state(**SMALL).weights(), tmp_path / "model.safetensors"
    meta = {"settings": asdict(Settings(**SMALL))}
    name = "generator/00_dense/kernel"
    for changed in (
        weights | {name: np.zeros((5, 3), np.float32)},
        weights | {name: weights[name].astype(np.float64)},
        weights | {"generator/odd": np.zeros(1, np.float32)},
        {other: array for other, array in weights.items() if other != name},
    ):
        path.write_bytes(write_safetensors(changed, meta))
        refused(path, "does not fit the model")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "no tinygan model"), ({}, "no tinygan model"),
        ({"tinygan": "3"}, "no tinygan model"), ({"tinygan": "{"}, "is damaged"),
        ({"tinygan": "{}"}, "damaged settings"), ({"tinygan": '{"settings": 5}'}, "damaged settings"),
    ],
)  # fmt: skip
def test_foreign_files_are_refused(tmp_path: Path, metadata: dict[str, str] | None, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.save({"x": np.zeros(3, np.float32)}, metadata))
    refused(path, words)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, (2**62).to_bytes(8, "little") + b"{}", b"\2" + 7 * b"\0" + b"[]"]
)
def test_a_file_that_is_missing_or_not_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    refused(path, "damaged: No such file")
    path.write_bytes(content)
    refused(path, "damaged")


@pytest.mark.parametrize("package", ["onnx", "safetensors"])
def test_a_missing_package_is_named_with_its_remedy(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = made_up_state(**SMALL)
    path = saved(tmp_path, state)
    for name in [name for name in sys.modules if name.split(".")[0] == package] + [
        package,
        f"{package}.numpy",
    ]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=rf"-m pip install 'tinygan\[{package}\]'") as caught:
        onnx_model(state.G, {}) if package == "onnx" else load(path)
    one_line(caught)
