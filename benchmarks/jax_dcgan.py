"""JAX in the benchmark: the parameters are in dictionaries, the whole step is one jitted function."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
from jax import lax  # pyright: ignore[reportMissingImports]

from benchmarks import worker
from benchmarks.worker import NOISE_DIM, Weights, serve

Parameters = dict[str, jax.Array]
Moments = tuple[jax.Array, jax.Array]
LAYOUT = ("NHWC", "HWIO", "NHWC")
BETA1, BETA2, EPS, LR = 0.9, 0.999, 1e-7, 1e-4


def leaky_relu(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.3 * x)


def batch_norm(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, moments: Moments | None
) -> tuple[jax.Array, Moments]:
    """Normalise with `moments`, or with x's own if None. Returns the result and the moments used."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = moments or (x.mean(axes), x.var(axes))
    return (x - mean) * (gamma * lax.rsqrt(variance + 1e-3)) + beta, (mean, variance)


def conv_transpose(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    return lax.conv_transpose(x, w, (stride, stride), "SAME", dimension_numbers=LAYOUT, transpose_kernel=True)


def generator(
    p: Parameters, noise: jax.Array, running: Sequence[Moments | None] = (None, None, None)
) -> tuple[jax.Array, list[Moments]]:
    """Returns pictures and the moments used: the `running` ones, or the batch's own where these are None."""
    x = noise @ p["00_dense/kernel"]
    x, first = batch_norm(x, p["01_batchnorm/gamma"], p["01_batchnorm/beta"], running[0])
    x = leaky_relu(x).reshape(-1, 7, 7, 256)
    x = conv_transpose(x, p["04_conv_transpose/kernel"], 1)
    x, second = batch_norm(x, p["05_batchnorm/gamma"], p["05_batchnorm/beta"], running[1])
    x = conv_transpose(leaky_relu(x), p["07_conv_transpose/kernel"], 2)
    x, third = batch_norm(x, p["08_batchnorm/gamma"], p["08_batchnorm/beta"], running[2])
    return jnp.tanh(conv_transpose(leaky_relu(x), p["10_conv_transpose/kernel"], 2)), [first, second, third]


def discriminator(p: Parameters, x: jax.Array, dropout: float, key: jax.Array) -> jax.Array:
    for layer, layer_key in zip(("00_conv", "03_conv"), jax.random.split(key), strict=True):
        x = lax.conv_general_dilated(x, p[layer + "/kernel"], (2, 2), "SAME", dimension_numbers=LAYOUT)
        x = leaky_relu(x + p[layer + "/bias"])
        if dropout:
            x = jnp.where(jax.random.bernoulli(layer_key, 1 - dropout, x.shape), x / (1 - dropout), 0)
    return x.reshape(len(x), -1) @ p["07_dense/kernel"] + p["07_dense/bias"]


def entropy(logits: jax.Array, target: float) -> jax.Array:
    return (jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))).mean()


def adam(state: tuple[Parameters, ...], g: Parameters, t: jax.Array) -> tuple[Parameters, ...]:
    p, m, v = state
    rate = LR * jnp.sqrt(1 - BETA2**t) / (1 - BETA1**t)
    m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
    v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPS), p, m, v), m, v


@partial(jax.jit, static_argnums=3, donate_argnums=0)
def train_step(state: dict[str, Any], images: jax.Array, noise: jax.Array, dropout: float) -> tuple[Any, ...]:
    key, real_key, fake_key = jax.random.split(state["key"], 3)

    def both_losses(g: Parameters, d: Parameters) -> tuple[tuple[jax.Array, jax.Array], Any]:
        fakes, moments = generator(g, noise)
        real = discriminator(d, images, dropout, real_key)
        fake = discriminator(d, fakes, dropout, fake_key)
        return (entropy(fake, 1.0), entropy(real, 1.0) + entropy(fake, 0.0)), moments

    (g_loss, d_loss), back, moments = jax.vjp(both_losses, state["g"][0], state["d"][0], has_aux=True)
    g_gradient, d_gradient = back((1.0, 0.0))[0], back((0.0, 1.0))[1]
    t = state["t"] + 1
    running = jax.tree.map(lambda old, new: 0.99 * old + 0.01 * new, state["running"], moments)
    g, d = adam(state["g"], g_gradient, t), adam(state["d"], d_gradient, t)
    return {"g": g, "d": d, "t": t, "running": running, "key": key}, g_loss, d_loss


@jax.jit
def pictures_of(p: Parameters, noise: jax.Array, running: list[Moments]) -> jax.Array:
    return generator(p, noise, running)[0]


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
        self.version = f"JAX {jax.__version__}"
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
            os.sched_setaffinity(
                0, sorted(os.sched_getaffinity(0))[:threads]
            )  # XLA counts the cores available to it
        else:
            # Other workers share the card, so JAX allocates memory when it needs it, not all at once.
            os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            if jax.default_backend() != "gpu":
                raise SystemExit("JAX sees no GPU. Use pip install 'jax[cuda13]' (CUDA 12: 'jax[cuda12]').")
            names = {"tf32": "tensorfloat32", "float32": "highest"}
            jax.config.update("jax_default_matmul_precision", names[precision])
        self.dropout = dropout
        self.images, self.noise = jnp.asarray(images), jnp.asarray(noise)
        rng = np.random.default_rng(1)

        def glorot(*shape: int) -> jax.Array:
            fans = sum(shape[-2:]) * int(np.prod(shape[:-2]))
            limit = np.sqrt(6 / fans)
            return jnp.asarray(rng.uniform(-limit, limit, shape), jnp.float32)

        g = {
            "00_dense/kernel": glorot(NOISE_DIM, 12544),
            "04_conv_transpose/kernel": glorot(5, 5, 128, 256),
            "07_conv_transpose/kernel": glorot(5, 5, 64, 128),
            "10_conv_transpose/kernel": glorot(5, 5, 1, 64),
        }
        norms = (("01", 12544), ("05", 128), ("08", 64))
        for number, channels in norms:
            g |= {
                f"{number}_batchnorm/gamma": jnp.ones(channels),
                f"{number}_batchnorm/beta": jnp.zeros(channels),
            }
        d = {
            "00_conv/kernel": glorot(5, 5, 1, 64), "00_conv/bias": jnp.zeros(64),
            "03_conv/kernel": glorot(5, 5, 64, 128), "03_conv/bias": jnp.zeros(128),
            "07_dense/kernel": glorot(6272, 1), "07_dense/bias": jnp.zeros(1),
        }  # fmt: skip
        self.state: dict[str, Any] = {
            "t": jnp.zeros((), jnp.float32),
            "running": [(jnp.zeros(channels), jnp.ones(channels)) for _, channels in norms],
            "key": jax.random.key(0),
        }
        for name, p in (("g", g), ("d", d)):
            self.state[name] = (p, jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p))

    def step(self) -> tuple[float, float]:
        self.state, g_loss, d_loss = train_step(self.state, self.images, self.noise, self.dropout)
        return float(g_loss), float(d_loss)

    def run(self, count: int) -> None:
        for _ in range(count):
            self.state, _, _ = train_step(self.state, self.images, self.noise, self.dropout)
        jax.block_until_ready(self.state)

    def card_bytes(self) -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def generate(self, noise: np.ndarray) -> np.ndarray:
        return np.asarray(pictures_of(self.state["g"][0], jnp.asarray(noise), self.state["running"]))

    def set_weights(self, weights: Weights) -> None:
        for network, short in (("generator/", "g"), ("discriminator/", "d")):
            p = {
                name[len(network) :]: jnp.asarray(w)
                for name, w in weights.items()
                if name.startswith(network)
            }
            self.state[short] = (p, *self.state[short][1:])

    def get_weights(self) -> Weights:
        networks = (("generator/", "g"), ("discriminator/", "d"))
        return {
            long + name: np.asarray(w) for long, short in networks for name, w in self.state[short][0].items()
        }


if __name__ == "__main__":
    serve(Player)
