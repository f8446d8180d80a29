"""TensorFlow in the benchmark: the tutorial's networks, and its training step as one tf.function."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks import worker
from benchmarks.worker import NOISE_DIM, SIZE, Weights, serve

layers = tf.keras.layers


def make_generator() -> tf.keras.Model:
    return tf.keras.Sequential([
        layers.Input((NOISE_DIM,)),
        layers.Dense(7 * 7 * 256, use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Reshape((7, 7, 256)),
        layers.Conv2DTranspose(128, 5, strides=1, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Conv2DTranspose(64, 5, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.LeakyReLU(),
        layers.Conv2DTranspose(1, 5, strides=2, padding="same", use_bias=False, activation="tanh"),
    ])  # fmt: skip


def make_discriminator(dropout: float) -> tf.keras.Model:
    return tf.keras.Sequential([
        layers.Input((SIZE, SIZE, 1)),
        layers.Conv2D(64, 5, strides=2, padding="same"),
        layers.LeakyReLU(),
        layers.Dropout(dropout),
        layers.Conv2D(128, 5, strides=2, padding="same"),
        layers.LeakyReLU(),
        layers.Dropout(dropout),
        layers.Flatten(),
        layers.Dense(1),
    ])  # fmt: skip


class Player(worker.Player):
    def __init__(
        self,
        variant: str,
        threads: int,
        device: str,
        precision: str,
        dropout: float,
        images: np.ndarray,
        noise: np.ndarray,
    ) -> None:
        self.version = f"TensorFlow {tf.__version__}"
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        elif not tf.config.list_physical_devices("GPU"):
            raise SystemExit("TensorFlow sees no GPU.")
        tf.config.experimental.enable_tensor_float_32_execution(precision == "tf32")
        self.networks = {"generator": make_generator(), "discriminator": make_discriminator(dropout)}
        self.images, self.noise = tf.constant(images), tf.constant(noise)
        self.pictures_of = tf.function(lambda noise: self.networks["generator"](noise, training=False))
        self.train_step = make_step(*self.networks.values(), jit_compile=variant == "xla")

    def step(self) -> tuple[float, float]:
        g_loss, d_loss = self.train_step(self.images, self.noise)
        return float(g_loss), float(d_loss)

    def run(self, count: int) -> None:
        losses = [self.train_step(self.images, self.noise) for _ in range(count)]
        losses[-1][0].numpy()  # waits for the last step

    def generate(self, noise: np.ndarray) -> np.ndarray:
        return self.pictures_of(tf.constant(noise)).numpy()

    def set_weights(self, weights: Weights) -> None:
        for name, variable in self.table():
            variable.assign(weights[name])

    def get_weights(self) -> Weights:
        return {name: variable.numpy() for name, variable in self.table()}

    def table(self) -> list[tuple[str, tf.Variable]]:
        """Every variable with its name in tinygan, made from Keras's names and the layer's number."""
        kinds = {"conv2d": "conv", "conv2d_transpose": "conv_transpose", "batch_normalization": "batchnorm"}
        rows = []
        for network, model in self.networks.items():
            for number, layer in enumerate(model.layers):
                kind = layer.name.rstrip("0123456789").rstrip("_")
                for variable in layer.trainable_variables:
                    rows.append((f"{network}/{number:02}_{kinds.get(kind, kind)}/{variable.name}", variable))
        return rows


def make_step(generator: tf.keras.Model, discriminator: tf.keras.Model, jit_compile: bool):
    entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    adam_generator, adam_discriminator = tf.keras.optimizers.Adam(1e-4), tf.keras.optimizers.Adam(1e-4)
    adam_generator.build(generator.trainable_variables)
    adam_discriminator.build(discriminator.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def train_step(images, noise):
        with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
            fakes = generator(noise, training=True)
            real = discriminator(images, training=True)
            fake = discriminator(fakes, training=True)
            g_loss = entropy(tf.ones_like(fake), fake)
            d_loss = entropy(tf.ones_like(real), real) + entropy(tf.zeros_like(fake), fake)
        g_gradients = generator_tape.gradient(g_loss, generator.trainable_variables)
        d_gradients = discriminator_tape.gradient(d_loss, discriminator.trainable_variables)
        adam_generator.apply_gradients(zip(g_gradients, generator.trainable_variables, strict=True))
        adam_discriminator.apply_gradients(zip(d_gradients, discriminator.trainable_variables, strict=True))
        return g_loss, d_loss

    return train_step


if __name__ == "__main__":
    serve(Player)
