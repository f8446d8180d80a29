"""tinygan against values computed by TensorFlow; `golden/make_golden.py` describes the files."""

from pathlib import Path

import numpy as np
import pytest

from tests.checks import forward, gradients, relative_error
from tinygan import gan, models
from tinygan.arrays import CPU
from tinygan.autograd import Tensor
from tinygan.layers import BatchNorm, Init, Mode
from tinygan.optim import Adam
from tinygan.rng import stream

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-10
GRADIENTS = {
    "dense": ("dx", "dw", "db"),
    "conv2d": ("dx", "dw", "db"),
    "conv2d_transpose": ("dx", "dw", "db"),
    "batch_norm": ("dx", "dgamma", "dbeta"),
    "leaky_relu": ("dx",),
    "tanh": ("dx",),
    "bce_with_logits": ("dx",),
}


def read(name: str) -> dict[str, np.ndarray]:
    """The arrays in a file, by name."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


LAYERS, STEPS = read("layers"), read("dcgan_steps")
CASES = sorted({key.rpartition("/")[0] for key in LAYERS if "/" in key})


def part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}


def test_the_files_hold_cases_for_every_op_and_three_steps():
    ops = [str(LAYERS[f"{case}/op"]) for case in CASES]
    assert set(ops) == set(GRADIENTS)
    assert ops.count("conv2d") >= 12 and ops.count("conv2d_transpose") >= 12
    assert {f"step{t}/generated" for t in (1, 2, 3)} <= set(STEPS)


@pytest.mark.parametrize("case", CASES)
def test_each_layer_agrees_with_tensorflow(backend, case):
    golden = part(LAYERS, f"{case}/")
    op = str(golden["op"])
    inputs = [golden["x"]]
    attributes = {}
    if op in ("dense", "conv2d", "conv2d_transpose"):
        inputs += [golden["w"], golden.get("b")]
    if op in ("conv2d", "conv2d_transpose"):
        attributes = {"stride": tuple(golden["stride"].tolist()), "padding": str(golden["padding"])}
    elif op == "batch_norm":
        inputs += [golden["gamma"], golden["beta"]]
        assert golden["eps"] == 1e-3  # the default
        if not golden["training"]:
            attributes |= {"mean": golden["running_mean"], "variance": golden["running_variance"]}
    elif op == "leaky_relu":
        attributes = {"slope": float(golden["slope"])}
    elif op == "bce_with_logits":
        attributes = {"target": golden["target"]}
    y, _ = forward(backend, op, inputs, **attributes)
    assert relative_error(y, golden["y"]) < TOLERANCE
    names = GRADIENTS[op]
    assert {f"d{name}" for name in ("x", "w", "b", "gamma", "beta") if name in golden} <= set(names)
    found = gradients(backend, op, inputs, golden.get("dy", np.ones(())), **attributes)
    for name, gradient in zip(names, found, strict=True):
        assert (gradient is None) == (name not in golden)
        assert gradient is None or relative_error(gradient, golden[name]) < TOLERANCE, name


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("batch_norm")])
def test_running_values_agree_with_tensorflow(case):
    golden = part(LAYERS, f"{case}/")
    init = Init(stream(0, "init"), CPU, np.float64)
    layer = BatchNorm(init, golden["x"].shape[-1], float(golden["momentum"]), float(golden["eps"]))
    for name in ("gamma", "beta", "running_mean", "running_variance"):
        getattr(layer, name).data = golden[name]
    y = layer(Tensor(golden["x"]), Mode(bool(golden["training"])))
    assert relative_error(y.data, golden["y"]) < TOLERANCE
    for name in ("running_mean", "running_variance"):
        assert relative_error(getattr(layer, name).data, golden[f"new_{name}"]) < TOLERANCE


def test_three_training_steps_agree_with_tensorflow(backend):
    sizes = {"width": 2, "dtype": np.float64, "backend": backend}
    G, D = models.generator(noise_dim=10, **sizes), models.discriminator(**sizes)
    networks = {"generator": G, "discriminator": D}
    tensors = {
        f"{n}/{key}": t for n, net in networks.items() for key, t in (net.parameters | net.statistics).items()
    }
    parameters = [f"{n}/{key}" for n, net in networks.items() for key in net.parameters]
    initial = part(STEPS, "initial/")
    assert set(initial) == set(tensors)
    for name, tensor in tensors.items():
        assert tensor.shape == initial[name].shape
        tensor.data = backend.array(initial[name])
    adams = {"generator": Adam(G.parameters), "discriminator": Adam(D.parameters)}  # the tutorial's settings

    def check(name, found, expected):
        error = relative_error(backend.numpy(found), expected)
        assert error < TOLERANCE, f"{name}: relative error {error:.1e}"

    before = initial
    for t in (1, 2, 3):
        golden = part(STEPS, f"step{t}/")
        real, fake = (
            [backend.array(golden[f"mask/{which}/{i}"] == 1) for i in (0, 1)] for which in ("real", "fake")
        )
        images, noise = backend.array(golden["images"]), backend.array(golden["noise"])
        found = gan.train_step(G, D, adams["generator"], adams["discriminator"], images, noise, real, fake)
        names = ("generated", "real_logits", "fake_logits", "discriminator_loss", "generator_loss")
        for name, tensor in zip(names, found[:5], strict=True):
            check(f"step {t}, {name}", tensor.data, golden[name])
        for name, gradient in zip(parameters, [*found.g_gradients, *found.d_gradients], strict=True):
            check(f"step {t}, gradient of {name}", gradient, golden[f"gradient/{name}"])
        after = part(golden, "after/")
        assert set(after) == set(tensors)
        for name, tensor in tensors.items():
            check(f"step {t}, {name}", tensor.data, after[name])
            # The change is small compared with the weight, so it is compared separately.
            moved, expected = backend.numpy(tensor.data) - before[name], after[name] - before[name]
            assert relative_error(moved, expected) < 1e-7, f"step {t}, change of {name}"
        before = after
    assert [adam.t for adam in adams.values()] == [3, 3]
