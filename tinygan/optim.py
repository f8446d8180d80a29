"""Adam, gradient descent in which every weight has its own step size; and the average of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

from tinygan.autograd import Tensor
from tinygan.ops import Array


class Adam:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980, algorithm 1 in the form at the end of section 2):

        m = beta1 m + (1 - beta1) g          which way the gradient points, averaged over steps
        v = beta2 v + (1 - beta2) g^2        how large it usually is
        w = w - lr sqrt(1 - beta2^t) / (1 - beta1^t)  m / (sqrt(v) + eps)

    m and v start at 0, so early averages are too small; the fraction makes up for it. eps is
    outside the root, as in Keras.

    `parameters`: tensors by name, changed by `step`. lr, beta1, beta2, eps: without units.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        lr: float = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-7,
    ) -> None:
        self.parameters = dict(parameters)
        # Python's own floats: they leave float32 arrays as they are, which NumPy's float64 would not.
        self.lr, self.beta1, self.beta2, self.eps = map(float, (lr, beta1, beta2, eps))
        self.t = 0  # steps taken
        self.m = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}
        self.v = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}

    def step(self, gradients: Sequence[Array]) -> None:
        """Move every parameter once; `gradients` in the parameters' order, each of its shape."""
        self.t += 1
        rate = self.lr * sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        for (name, parameter), g in zip(self.parameters.items(), gradients, strict=True):
            xp = parameter.backend.xp
            m = self.m[name] = self.beta1 * self.m[name] + (1 - self.beta1) * g
            v = self.v[name] = self.beta2 * self.v[name] + (1 - self.beta2) * g * g
            # A new array: graphs that saved the old weights stay valid.
            parameter.data = parameter.data - rate * m / (xp.sqrt(v) + self.eps)


class Average:
    """Weights averaged over the steps of training, kept in tensors of their own:

        a = d a + (1 - d) w    with d = min(decay, (1 + t) / (10 + t)) at the t-th update

    Two networks that learn from each other circle around a solution rather than arrive at it; the
    average stands nearer to the middle (Yazici et al. 2018, arXiv 1806.04498). Because of the fraction
    it reaches back over about a ninth of the training so far, and does not start from noise.

    `averaged` are changed by `update`, `sources` are what they follow: tensors by name, the same names.
    0 < `decay` < 1, without unit.
    """

    EVERY = 8  # steps to an update: neighbours hardly differ, and 20 MB are read and written for each

    def __init__(self, averaged: Mapping[str, Tensor], sources: Mapping[str, Tensor], decay: float) -> None:
        self.averaged, self.sources, self.decay = dict(averaged), dict(sources), float(decay)

    def update(self, step: int) -> None:
        """After training step number `step` (the first is 1)."""
        t, rest = divmod(step, self.EVERY)
        if rest == 0:
            d = min(self.decay, (1 + t) / (10 + t))
            for name, source in self.sources.items():
                average = self.averaged[name]
                average.data = average.data + (1 - d) * (source.data - average.data)
