"""The ops that several ranks compute differently, because they combine the examples of a batch.

A loss and the moments of batch normalisation are means over a batch. Other ops see an example at a time."""

from collections.abc import Mapping
from typing import Any

from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Op, Wanted
from tinygan.ops import batchnorm, loss
from tinygan.ranks.alone import Ranks


def number(value: float, like: Array) -> Array:
    """`value` as an array of shape (), with the dtype and device of `like`."""
    return array_module(like).asarray(value, dtype=like.dtype)


def twins(ranks: Ranks) -> Mapping[Any, Any]:
    """The twins of these ops for one of several `ranks`. A single process needs none."""
    if ranks.size == 1:
        return {}

    def moments(x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        total, count = ranks.sum(x.sum(axis=axes), number(x.size / x.shape[-1], x))
        mean = total / count
        (squares,) = ranks.sum(((x - mean) ** 2).sum(axis=axes))
        return mean, squares / count

    def batch_norm_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
        xhat, gamma, inverse_std, of_batch = saved
        _, dgamma, dbeta = batchnorm.batch_norm_backward((xhat, gamma, inverse_std, False), dy, wanted)
        if of_batch:
            shift, stretch, M = ranks.sum(dbeta, dgamma, number(dy.size / dy.shape[-1], dy))
            dy = dy - (shift + xhat * stretch) / M
        return gamma * inverse_std * dy, dgamma, dbeta

    def bce_with_logits_forward(x: Array, *, target: float) -> tuple[Array, Any]:
        own = loss.bce_with_logits_forward(x, target=target)[0] * x.dtype.type(x.size) if x.size else 0
        total, count = ranks.sum(number(own, x), number(x.size, x))
        return total / count, (x, target, count)

    def bce_with_logits_backward(saved: Any, dy: Array, wanted: Wanted) -> Gradients:
        x, target, count = saved
        (dx,) = loss.bce_with_logits_backward((x, target), dy, wanted)
        return (dx * (x.dtype.type(x.size) / count),)

    return {
        batchnorm.moments: moments,
        batchnorm.batch_norm: Op(batchnorm.batch_norm_forward, batch_norm_backward),
        loss.bce_with_logits: Op(bce_with_logits_forward, bce_with_logits_backward),
    }
