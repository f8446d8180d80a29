"""Binary cross-entropy on logits: how wrong a yes/no answer is, and which way to change it."""

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.ops import expect


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow: the probability of "real" for the logit x. Any shape.

    >>> import numpy as np
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]"""
    xp = array_module(x)
    small = xp.exp(-abs(x))  # in [0, 1]: it never overflows
    return xp.where(x >= 0, 1, small) / (1 + small)


def bce_with_logits_forward(x: Array, *, target: float | Array) -> tuple[Array, tuple[Array, float | Array]]:
    """loss = mean of max(x, 0) - x t + log(1 + exp(-|x|)), for logits x and a target t in [0, 1].

    It equals the mean of -t log(p) - (1 - t) log(1 - p) with p = sigmoid(x), but never takes the logarithm of
    a probability that was rounded to 0 (the formula of `tf.nn.sigmoid_cross_entropy_with_logits`).
    Shapes: x any; `target` one number for all logits, or an array like x; loss ()."""
    shape = () if isinstance(target, (int, float)) else getattr(target, "shape", type(target).__name__)
    expect(shape in ((), x.shape), f"bce_with_logits got target {shape}. It needs a number or {x.shape}.")
    xp = array_module(x)
    losses = xp.maximum(x, 0) - x * target + xp.log1p(xp.exp(-abs(x)))
    return losses.mean(), (x, target)


def bce_with_logits_backward(saved: tuple[Array, float | Array], dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy (sigmoid(x) - t) / size of x: the predicted probability minus the target."""
    x, target = saved
    xp = array_module(x)
    small = xp.exp(-abs(x))
    tail = small / (1 + small)  # sigmoid(-|x|); 1 - sigmoid(|x|) would lose its digits
    error = xp.where(x >= 0, (1 - target) - tail, tail - target)
    return (dy * error / x.dtype.type(x.size),)


bce_with_logits = Op(bce_with_logits_forward, bce_with_logits_backward)
