"""tinygan: a DCGAN and the small engine that trains it, written by hand on NumPy and CuPy.

To learn how it works, read the files in this order; each can be read on its own:

    gan.py         noise becomes images, images become two losses, losses become new weights
    models.py      the two networks, a shape on every line
    layers.py      a layer: an op and its parameters
    ops/           the ops, forward and backward: dense, conv, batchnorm, activation, dropout
    ops/loss.py    the loss: binary cross-entropy on logits
    autograd.py    how gradients flow back through the ops
    optim.py       Adam: how gradients update the weights

The READMEs cover the rest. ``python -m tinygan`` lists commands; programs use `train`, `training`, `load`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinygan import models, optim
from tinygan.autograd import Tensor, grad, no_grad
from tinygan.ops.activation import leaky_relu, tanh
from tinygan.ops.batchnorm import batch_norm
from tinygan.ops.conv import conv2d, conv2d_transpose
from tinygan.ops.dense import dense, reshape
from tinygan.ops.dropout import dropout
from tinygan.ops.loss import bce_with_logits

if TYPE_CHECKING:
    from tinygan.train import Command, Epoch, training
    from tinygan.trained import Pictures, Run, Trained, load

    train: Command

__version__ = "0.1.0"
__all__ = [
    "Epoch", "Pictures", "Run", "Tensor", "Trained", "batch_norm", "bce_with_logits", "conv2d",
    "conv2d_transpose", "dense", "dropout", "grad", "leaky_relu", "load", "models", "no_grad", "optim",
    "reshape", "tanh", "train", "training",
]  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import the modules that read or write runs on first use."""
    if name in ("Epoch", "train", "training"):
        module = import_module("tinygan.train")
        return module if name == "train" else getattr(module, name)
    if name in ("Pictures", "Run", "Trained", "load"):
        return getattr(import_module("tinygan.trained"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
