"""Compute with TensorFlow the values that tests compare tinygan with: ``layers.npz``, ``dcgan_steps.npz``.

Run it by hand. It needs TensorFlow with Keras 3 (``pip install -e '.[bench]'``):

    python tests/golden/make_golden.py

Everything is float64, and the files contain every input, so the tests need neither TensorFlow nor the
random numbers drawn here. Both files hold ``tensorflow_version``, ``keras_version`` and
``numpy_version``. They are read without pickle.

``layers.npz``: one layer at a time, ``<case>/<array>``
    `op` (text) is the op of the case: dense, conv2d, conv2d_transpose, batch_norm, leaky_relu,
    tanh or bce_with_logits. `dy` is a random cotangent; gradients are those of sum(dy y).

    dense               x w [b] y dy dx dw [db]
    conv2d              x w [b] y dy dx dw [db] stride (2 integers) padding (text); w is (kh, kw, in, out)
    conv2d_transpose    the same; w is (kh, kw, out, in)
    batch_norm          x gamma beta running_mean running_variance eps momentum training (0 or 1)
                        y dy dx dgamma dbeta new_running_mean new_running_variance
    leaky_relu          x slope y dy dx
    tanh                x y dy dx
    bce_with_logits     x (the logits) target y (the mean loss) dx, for dy = 1

``dcgan_steps.npz``: three training steps of the tutorial's networks with width 2 and noise of 10 numbers
    initial/<tensor>                all tensors before the first step
    step<T>/images, noise           what goes in; step 3 has 3 images and 4 noise vectors
    step<T>/mask/real/<I>, fake     uint8, 1 = keep: dropout layer I (0 or 1), D's two passes; rate 0.3
    step<T>/generated, real_logits, fake_logits, generator_loss, discriminator_loss
    step<T>/gradient/<parameter>    of the network's own loss
    step<T>/after/<tensor>          all tensors after the step

    Tensors are named as in `tinygan.models`, and come in the order of `networks` below.

Two things differ from usual Keras code, because float64 must be float64 throughout:
    - TensorFlow's LeakyReLU keeps its slope in float32 for any dtype of its input, so 0.3 becomes
      0.30000001192... The case ``leaky_relu_layer`` records that slope; the networks and the case
      ``leaky_relu_where`` use 0.3.
    - Keras' Adam rounds betas that are Python floats to float32 before it takes their powers, which
      changes a step by 6e-6 of its length. It gets them as float64 tensors.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

keras: Any = tf.keras

HERE = Path(__file__).parent
VERSIONS = {
    "tensorflow_version": np.array(tf.__version__),
    "keras_version": np.array(keras.__version__),
    "numpy_version": np.array(np.__version__),
}
SLOPE = 0.3
RATE = 0.3
Arrays = dict[str, np.ndarray]

# One layer at a time.

CONV2D = [  # N, H, W, C, filters, kernel, stride, padding, bias
    (1, 5, 4, 2, 3, (1, 1), (1, 1), "same", True),
    (2, 6, 5, 1, 2, (1, 1), (2, 2), "same", False),
    (1, 7, 5, 2, 1, (1, 1), (3, 3), "valid", True),
    (2, 5, 6, 2, 3, (2, 2), (1, 1), "same", True),
    (1, 6, 5, 3, 2, (2, 2), (2, 2), "same", False),
    (2, 7, 5, 1, 2, (2, 2), (2, 2), "valid", True),
    (1, 7, 8, 2, 3, (2, 2), (3, 3), "same", True),
    (1, 8, 6, 3, 1, (2, 2), (3, 3), "valid", True),
    (2, 4, 6, 3, 2, (3, 3), (1, 1), "same", True),
    (1, 6, 5, 2, 3, (3, 3), (1, 1), "valid", False),
    (2, 8, 7, 2, 3, (3, 3), (2, 2), "same", True),
    (3, 7, 6, 1, 2, (3, 3), (2, 2), "valid", True),
    (1, 8, 10, 2, 1, (3, 3), (3, 3), "same", False),
    (2, 5, 8, 1, 3, (3, 3), (1, 2), "same", True),
    (1, 7, 6, 3, 2, (3, 3), (2, 1), "valid", True),
    (2, 6, 5, 2, 1, (5, 5), (1, 1), "same", True),
    (1, 7, 8, 2, 3, (5, 5), (1, 1), "valid", True),
    (1, 28, 28, 1, 1, (5, 5), (2, 2), "same", True),
    (2, 9, 6, 3, 2, (5, 5), (2, 2), "same", False),
    (1, 10, 7, 2, 3, (5, 5), (2, 2), "valid", True),
    (1, 11, 7, 1, 2, (5, 5), (3, 3), "same", True),
    (1, 8, 9, 2, 2, (5, 5), (2, 3), "same", True),
    (1, 5, 4, 2, 1, (7, 7), (1, 1), "same", True),
    (2, 9, 6, 1, 2, (7, 7), (2, 2), "same", True),
    (1, 8, 9, 1, 2, (7, 7), (1, 1), "valid", True),
    (1, 10, 11, 2, 1, (7, 7), (3, 3), "valid", False),
    (2, 5, 7, 2, 3, (3, 5), (1, 1), "same", True),
    (1, 8, 7, 3, 2, (3, 5), (2, 2), "same", True),
    (2, 6, 9, 1, 2, (3, 5), (1, 2), "valid", True),
    (1, 7, 6, 2, 3, (5, 2), (3, 2), "same", False),
]
CONV2D_TRANSPOSE = [
    (1, 4, 3, 2, 3, (1, 1), (1, 1), "same", True),
    (2, 3, 4, 1, 2, (1, 1), (2, 2), "same", False),
    (1, 3, 4, 3, 2, (1, 1), (3, 3), "valid", True),
    (1, 4, 5, 2, 1, (2, 2), (1, 1), "same", True),
    (2, 3, 2, 3, 2, (2, 2), (2, 2), "valid", True),
    (1, 3, 4, 2, 3, (2, 2), (3, 3), "same", True),
    (2, 3, 2, 1, 2, (2, 2), (3, 3), "valid", False),
    (2, 4, 3, 2, 3, (3, 3), (1, 1), "same", True),
    (1, 4, 5, 3, 1, (3, 3), (1, 1), "valid", True),
    (3, 3, 4, 1, 2, (3, 3), (2, 2), "same", True),
    (1, 4, 3, 2, 3, (3, 3), (2, 2), "valid", False),
    (2, 3, 4, 3, 2, (4, 4), (2, 2), "same", True),
    (1, 4, 3, 1, 2, (4, 4), (2, 2), "valid", True),
    (2, 4, 5, 2, 1, (5, 5), (1, 1), "same", True),
    (1, 3, 4, 2, 2, (5, 5), (1, 1), "valid", True),
    (2, 3, 5, 3, 2, (5, 5), (2, 2), "same", False),
    (1, 4, 3, 2, 3, (5, 5), (2, 2), "valid", True),
    (1, 14, 14, 1, 1, (5, 5), (2, 2), "same", False),
    (1, 3, 4, 1, 2, (5, 5), (3, 3), "same", True),
    (1, 2, 3, 2, 1, (7, 7), (1, 1), "same", True),
    (1, 4, 3, 1, 2, (7, 7), (2, 2), "same", True),
    (2, 4, 3, 2, 1, (3, 5), (1, 1), "same", True),
    (1, 3, 4, 2, 3, (3, 5), (2, 2), "same", True),
    (1, 4, 3, 3, 2, (3, 5), (1, 2), "valid", True),
    (2, 3, 4, 1, 2, (5, 2), (2, 3), "same", True),
]
NAMES = {"kernel": "w", "bias": "b", "gamma": "gamma", "beta": "beta"}  # Keras' and this file's


def backpropagated(layer: Any, x: np.ndarray, rng: np.random.Generator, **options: Any) -> Arrays:
    """x, the layer's parameters, y, a random dy, and the gradients of sum(dy y)."""
    place = tf.constant(x)
    parameters = getattr(layer, "trainable_variables", [])
    with tf.GradientTape() as tape:
        tape.watch(place)
        y = layer(place, **options)
    dy = rng.standard_normal(y.shape)
    gradients: Any = tape.gradient(y, [place, *parameters], output_gradients=[tf.constant(dy)])
    names = ["x"] + [NAMES[p.name] for p in parameters]
    values = dict(zip(names, [x, *(p.numpy() for p in parameters)], strict=True))
    slopes = {f"d{name}": g.numpy() for name, g in zip(names, gradients, strict=True)}
    return values | {"y": y.numpy(), "dy": dy} | slopes


def filled(layer: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """`layer`, built for inputs of `shape`, with random parameters."""
    layer.build(shape)
    layer.set_weights([rng.standard_normal(w.shape) for w in layer.weights])
    return layer


def dense_cases(rng: np.random.Generator) -> dict[str, Arrays]:
    cases = {}
    for N, C, F, bias in ((1, 3, 2, True), (4, 7, 3, True), (3, 5, 1, True), (5, 2, 6, False)):
        layer = filled(keras.layers.Dense(F, use_bias=bias), (N, C), rng)
        name = f"dense_{N}x{C}_to_{F}" + ("" if bias else "_no_bias")
        cases[name] = {"op": np.array("dense")} | backpropagated(layer, rng.standard_normal((N, C)), rng)
    return cases


def convolution_cases(op: str, rng: np.random.Generator) -> dict[str, Arrays]:
    make, table = {
        "conv2d": (keras.layers.Conv2D, CONV2D),
        "conv2d_transpose": (keras.layers.Conv2DTranspose, CONV2D_TRANSPOSE),
    }[op]
    cases = {}
    for N, H, W, C, F, K, S, padding, bias in table:
        layer = filled(make(F, K, S, padding, use_bias=bias), (N, H, W, C), rng)
        name = f"{op}_{N}x{H}x{W}x{C}_to_{F}_k{K[0]}x{K[1]}_s{S[0]}x{S[1]}_{padding}"
        attributes = {"op": np.array(op), "stride": np.array(S), "padding": np.array(padding)}
        x = rng.standard_normal((N, H, W, C))
        cases[name + ("" if bias else "_no_bias")] = attributes | backpropagated(layer, x, rng)
    return cases


def batch_norm_cases(rng: np.random.Generator) -> dict[str, Arrays]:
    cases = {}
    for shape in ((6, 5), (2, 3), (3, 4, 5, 2), (1, 3, 2, 4)):
        for training in (True, False):
            layer = keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-3)
            layer.build(shape)
            C = shape[-1]
            running = {"running_mean": rng.standard_normal(C), "running_variance": rng.uniform(0.5, 2, C)}
            layer.set_weights([rng.standard_normal(C), rng.standard_normal(C), *running.values()])
            x = 2 * rng.standard_normal(shape) + 0.5
            values = backpropagated(layer, x, rng, training=training)
            statistics = zip(running, layer.non_trainable_variables, strict=True)
            updated = {f"new_{key}": variable.numpy() for key, variable in statistics}
            name = f"batch_norm_{'x'.join(map(str, shape))}_{'training' if training else 'inference'}"
            cases[name] = {
                "op": np.array("batch_norm"),
                "training": np.array(int(training)),
                "eps": np.array(1e-3),
                "momentum": np.array(0.99),
            }
            cases[name] |= values | running | updated
    return cases


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """Slope 0.3 in float64, also at 0; `keras.layers.LeakyReLU` rounds it to float32."""
    return tf.where(x > 0, x, SLOPE * x)


def activation_cases(rng: np.random.Generator) -> dict[str, Arrays]:
    x = rng.standard_normal((3, 4, 2))
    x.flat[::5] = 0
    layer = keras.layers.LeakyReLU(negative_slope=SLOPE)
    rounded = np.array(float(np.float32(SLOPE)))
    leaky = {"op": np.array("leaky_relu")}
    spread = np.concatenate([4 * rng.standard_normal(12), [0, 1e-9, -1e-9, 25, -25]])
    return {
        "leaky_relu_layer": leaky | {"slope": rounded} | backpropagated(layer, x, rng),
        "leaky_relu_where": leaky | {"slope": np.array(SLOPE)} | backpropagated(leaky_relu, x, rng),
        "tanh": {"op": np.array("tanh")} | backpropagated(tf.math.tanh, spread, rng),
    }


def bce_cases(rng: np.random.Generator) -> dict[str, Arrays]:
    large = np.array([40.0, 40, -40, -40, 0, 0])[:, None]
    extreme = np.array([750.0, 750, -750, -750])[:, None]  # exp(750) overflows
    examples = {
        "ones": (3 * rng.standard_normal((7, 1)), np.ones((7, 1))),
        "zeros": (3 * rng.standard_normal((5, 1)), np.zeros((5, 1))),
        "mixed": (3 * rng.standard_normal((6, 1)), rng.integers(0, 2, (6, 1)).astype(float)),
        "large": (large, np.array([0.0, 1] * 3)[:, None]),
        "extreme": (extreme, np.array([0.0, 1] * 2)[:, None]),
    }
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    cases = {}
    for name, (x, target) in examples.items():
        logits = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = entropy(target, logits)
        gradient: Any = tape.gradient(loss, logits)
        cases[f"bce_with_logits_{name}"] = {
            "op": np.array("bce_with_logits"),
            "x": x,
            "target": target,
            "y": loss.numpy(),
            "dx": gradient.numpy(),
        }
    return cases


def all_layers() -> Arrays:
    rng = np.random.default_rng(2014)
    cases = dense_cases(rng) | convolution_cases("conv2d", rng) | convolution_cases("conv2d_transpose", rng)
    cases |= batch_norm_cases(rng) | activation_cases(rng) | bce_cases(rng)
    return {f"{case}/{name}": array for case, arrays in cases.items() for name, array in arrays.items()}


# Three training steps.


def convolution(make: type, filters: int, stride: int, bias: bool) -> Any:
    return make(filters, 5, strides=stride, padding="same", use_bias=bias)


def networks(rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """The layers with weights, by name. Kernels are Glorot uniform, other weights near their usual values."""
    K = keras.layers
    generator = {
        "00_dense": K.Dense(7 * 7 * 8, use_bias=False),
        "01_batchnorm": K.BatchNormalization(),
        "04_conv_transpose": convolution(K.Conv2DTranspose, 4, 1, bias=False),
        "05_batchnorm": K.BatchNormalization(),
        "07_conv_transpose": convolution(K.Conv2DTranspose, 2, 2, bias=False),
        "08_batchnorm": K.BatchNormalization(),
        "10_conv_transpose": convolution(K.Conv2DTranspose, 1, 2, bias=False),
    }
    discriminator = {
        "00_conv": convolution(K.Conv2D, 2, 2, bias=True),
        "03_conv": convolution(K.Conv2D, 4, 2, bias=True),
        "07_dense": K.Dense(1),
    }
    pictures_of(generator, tf.zeros((4, 10), "float64"))  # builds every layer
    logits_of(discriminator, tf.zeros((4, 28, 28, 1), "float64"), [np.ones(1), np.ones(1)])
    for layer in [*generator.values(), *discriminator.values()]:
        for weight in layer.weights:
            weight.assign(initial(weight.name, tuple(weight.shape), rng))
    return generator, discriminator


def initial(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if name == "kernel":
        area = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (area * (shape[-2] + shape[-1])))
        return rng.uniform(-limit, limit, shape)
    usual = {"bias": 0, "gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}[name]
    return usual + rng.uniform(-0.2, 0.2, shape)


def pictures_of(generator: dict[str, Any], noise: tf.Tensor) -> tf.Tensor:
    """Noise (N, 10) -> pictures (N, 28, 28, 1)."""
    x = generator["00_dense"](noise)
    x = leaky_relu(generator["01_batchnorm"](x, training=True))
    x = tf.reshape(x, (-1, 7, 7, 8))
    x = generator["04_conv_transpose"](x)
    x = leaky_relu(generator["05_batchnorm"](x, training=True))
    x = generator["07_conv_transpose"](x)
    x = leaky_relu(generator["08_batchnorm"](x, training=True))
    return tf.math.tanh(generator["10_conv_transpose"](x))


def logits_of(discriminator: dict[str, Any], x: tf.Tensor, masks: list[np.ndarray]) -> tf.Tensor:
    """Pictures (N, 28, 28, 1) -> logits (N, 1); `masks` replace dropout's random numbers."""
    for name, mask in zip(("00_conv", "03_conv"), masks, strict=True):
        x = leaky_relu(discriminator[name](x)) * mask.astype(float) / (1 - RATE)
    return discriminator["07_dense"](keras.layers.Flatten()(x))


def named(network: str, layers: dict[str, Any], kind: str) -> dict[str, Any]:
    """The network's variables of a kind, `trainable_variables` or `weights`, by this file's names."""
    return {
        f"{network}/{at}/{v.name.replace('moving', 'running')}": v
        for at, layer in layers.items()
        for v in getattr(layer, kind)
    }


def adam() -> Any:
    """Keras' Adam with the tutorial's numbers; it would round betas that are Python floats to float32."""
    beta_1, beta_2 = tf.constant(0.9, tf.float64), tf.constant(0.999, tf.float64)
    return keras.optimizers.Adam(1e-4, beta_1, beta_2)


def three_steps() -> Arrays:
    rng = np.random.default_rng(2015)
    generator, discriminator = networks(rng)
    parameters_g = named("generator", generator, "trainable_variables")
    parameters_d = named("discriminator", discriminator, "trainable_variables")
    tensors = named("generator", generator, "weights") | named("discriminator", discriminator, "weights")
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    adam_g, adam_d = adam(), adam()

    result = {f"initial/{name}": v.numpy() for name, v in tensors.items()}
    for step, reals in ((1, 4), (2, 4), (3, 3)):
        images = (rng.integers(0, 256, (reals, 28, 28, 1)) - 127.5) / 127.5
        noise = rng.standard_normal((4, 10))
        masks = {
            which: [(rng.random((count, *s)) >= RATE).astype(np.uint8) for s in ((14, 14, 2), (7, 7, 4))]
            for which, count in (("real", reals), ("fake", 4))
        }
        with tf.GradientTape() as tape_g, tf.GradientTape() as tape_d:
            generated = pictures_of(generator, tf.constant(noise))
            real_logits = logits_of(discriminator, tf.constant(images), masks["real"])
            fake_logits = logits_of(discriminator, generated, masks["fake"])
            loss_g = entropy(tf.ones_like(fake_logits), fake_logits)
            loss_d = entropy(tf.ones_like(real_logits), real_logits)
            loss_d += entropy(tf.zeros_like(fake_logits), fake_logits)
        gradients_g: Any = tape_g.gradient(loss_g, list(parameters_g.values()))
        gradients_d: Any = tape_d.gradient(loss_d, list(parameters_d.values()))
        adam_g.apply_gradients(zip(gradients_g, parameters_g.values(), strict=True))
        adam_d.apply_gradients(zip(gradients_d, parameters_d.values(), strict=True))

        names = [*parameters_g, *parameters_d]
        gradients = zip(names, [*gradients_g, *gradients_d], strict=True)
        found = {"images": images, "noise": noise}
        found |= {f"mask/{which}/{i}": m for which, pair in masks.items() for i, m in enumerate(pair)}
        found |= {
            "generated": generated.numpy(),
            "real_logits": real_logits.numpy(),
            "fake_logits": fake_logits.numpy(),
            "generator_loss": loss_g.numpy(),
            "discriminator_loss": loss_d.numpy(),
        }
        found |= {f"gradient/{name}": g.numpy() for name, g in gradients}
        found |= {f"after/{name}": v.numpy() for name, v in tensors.items()}
        result |= {f"step{step}/{name}": array for name, array in found.items()}
    return result


def main() -> None:
    keras.backend.set_floatx("float64")
    tf.config.threading.set_intra_op_parallelism_threads(1)  # the order of every sum stays the same
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name, arrays in (("layers", all_layers()), ("dcgan_steps", three_steps())):
        for array_name, array in arrays.items():
            attribute = array_name.rpartition("/")[2] in ("op", "stride", "padding", "training")
            assert attribute or "/mask/" in array_name or array.dtype == np.float64, (array_name, array.dtype)
        file = HERE / f"{name}.npz"
        np.savez_compressed(file, **VERSIONS, **arrays)  # pyright: ignore[reportArgumentType]
        print(f"{file.name}: {len(arrays)} arrays, {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
