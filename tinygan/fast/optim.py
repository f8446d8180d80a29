"""Adam in cache-sized blocks."""

from collections.abc import Sequence
from math import sqrt

import numpy as np

from tinygan.arrays import Array
from tinygan.fast.threads import POOL, blocks
from tinygan.optim import Adam


def adam_steps(*updates: tuple[Adam, Sequence[Array]]) -> None:
    """`Adam.step` of each optimiser with its gradients, but faster. As there, the weights become new arrays.
    The averages change in place, so no other code may hold their arrays."""
    tensors = [id(tensor) for adam, _ in updates for tensor in adam.parameters.values()]
    if len(set(tensors)) < len(tensors):  # a tensor has two names: its updates must come one after the other
        for adam, gradients in updates:
            adam.step(gradients)
        return
    # A wrong number of gradients is refused before any weight moves.
    paired = [(adam, [*zip(adam.parameters.items(), found, strict=True)]) for adam, found in updates]
    pieces = []
    for adam, both in paired:
        adam.t += 1
        rate = adam.lr * sqrt(1 - adam.beta2**adam.t) / (1 - adam.beta1**adam.t)
        for (name, parameter), g in both:
            new = np.empty(parameter.shape, parameter.dtype)
            for averages in (adam.m, adam.v):
                averages[name] = np.asarray(averages[name], order="C")  # otherwise `reshape` would copy
            arrays = [a.reshape(-1) for a in (parameter.data, g, adam.m[name], adam.v[name], new)]
            pieces += [(adam, rate, [a[block] for a in arrays]) for block in blocks(new.size, 1)]
            parameter.data = new

    def piece(part: tuple[Adam, float, list[Array]]) -> None:
        adam, rate, (w, g, m, v, new) = part
        np.multiply(m, adam.beta1, out=m)
        np.multiply(g, 1 - adam.beta1, out=new)
        np.add(m, new, out=m)
        np.multiply(v, adam.beta2, out=v)
        np.multiply(g, 1 - adam.beta2, out=new)
        np.multiply(new, g, out=new)
        np.add(v, new, out=v)
        np.sqrt(v, out=new)
        np.add(new, adam.eps, out=new)
        np.divide(m, new, out=new)
        np.multiply(new, rate, out=new)
        np.subtract(w, new, out=new)

    POOL.each(piece, pieces)
