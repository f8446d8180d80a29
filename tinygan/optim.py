"""Adam: gradient descent in which each weight has its own step size."""

from collections.abc import Mapping, Sequence
from math import inf, sqrt

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.errors import UsageError


class Adam:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980, algorithm 1 in the form just before section 2.1):

        m = beta1 m + (1 - beta1) g          the mean of recent gradients: which way to go
        v = beta2 v + (1 - beta2) g^2        the mean of their squares: how large they usually are
        w = w - rate m / (sqrt(v) + eps)     rate = lr sqrt(1 - beta2^t) / (1 - beta1^t), step t = 1, 2, ...

    m and v start at 0, so at first they are too small; `rate` corrects that. eps prevents a division by 0;
    it stands outside the root, as in Keras.

    `parameters`: tensors by name. lr: about how far one moves in a step. (The command passes its own lr.)
    Raises UsageError unless lr and eps are finite and at least 0, and the betas in [0, 1)."""

    def __init__(
        self, parameters: Mapping[str, Tensor], lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-7,
    ) -> None:  # fmt: skip
        self.parameters = dict(parameters)
        # Python's own floats: they leave float32 arrays as they are, which NumPy's float64 would not.
        self.lr, self.beta1, self.beta2, self.eps = map(float, (lr, beta1, beta2, eps))
        if not (0 <= lr < inf and 0 <= eps < inf and 0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise UsageError(f"Adam got {lr=}, {beta1=}, {beta2=}, {eps=}. Use lr, eps >= 0, 0 <= betas < 1.")
        self.t = 0  # steps taken
        self.m = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}
        self.v = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}

    def step(self, gradients: Sequence[Array]) -> None:
        """Change each parameter once. `gradients`: for each, in order, one of its shape and dtype."""
        for (name, p), g in zip(self.parameters.items(), gradients, strict=True):
            if (g.shape, g.dtype) != (p.shape, p.dtype):
                raise UsageError(f"Adam got {g.dtype} {g.shape} for {name}. It needs {p.dtype} {p.shape}.")
        self.t += 1
        rate = self.lr * sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        for (name, parameter), g in zip(self.parameters.items(), gradients, strict=True):
            m = self.m[name] = self.beta1 * self.m[name] + (1 - self.beta1) * g
            v = self.v[name] = self.beta2 * self.v[name] + (1 - self.beta2) * g * g
            # A new array: a graph that saved the old weights stays valid.
            parameter.data = parameter.data - rate * m / (parameter.backend.xp.sqrt(v) + self.eps)
