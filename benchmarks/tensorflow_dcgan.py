"""TensorFlow's side of the benchmark: the tutorial's networks and training step as one tf.function."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.worker import NOISE_DIM, SIZE, Step, serve

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


def make_discriminator() -> tf.keras.Model:
    return tf.keras.Sequential([
        layers.Input((SIZE, SIZE, 1)),
        layers.Conv2D(64, 5, strides=2, padding="same"),
        layers.LeakyReLU(),
        layers.Dropout(0.3),
        layers.Conv2D(128, 5, strides=2, padding="same"),
        layers.LeakyReLU(),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(1),
    ])  # fmt: skip


def build(threads: int) -> tuple[str, Step]:
    """A version and a step on fresh networks."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    generator, discriminator = make_generator(), make_discriminator()
    entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    adam_generator, adam_discriminator = tf.keras.optimizers.Adam(1e-4), tf.keras.optimizers.Adam(1e-4)

    @tf.function
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

    def step(images: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
        g_loss, d_loss = train_step(tf.constant(images), tf.constant(noise))
        return float(g_loss), float(d_loss)

    return f"TensorFlow {tf.__version__}", step


if __name__ == "__main__":
    serve(build)
