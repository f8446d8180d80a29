"""Adam: gradient descent with a separate step size for each weight."""

from collections.abc import Mapping, Sequence
from math import inf, sqrt

from tinygan.arrays import Array
from tinygan.autograd import Tensor
from tinygan.errors import UsageError


class Adam:
    """Adam (Kingma & Ba 2014, arXiv 1412.6980, algorithm 1 in the form just before section 2.1):

        m = beta1 m + (1 - beta1) g          running mean of the gradient g: which way to go
        v = beta2 v + (1 - beta2) g^2        running mean of its square: how large it usually is
        w = w - rate m / (sqrt(v) + eps)     rate = lr sqrt(1 - beta2^t) / (1 - beta1^t), step t = 1, 2, ...

    m and v start at 0, so at first they are too small; `rate` corrects that (section 3). eps prevents a
    division by 0; it is outside the root, as in Keras. A weight moves by about lr a step, at any scale of g:

    >>> import numpy as np
    >>> w = Tensor(np.array([1.0, 1.0]))
    >>> Adam({"w": w}, lr=0.1).step([np.array([500.0, -0.001])])  # a huge gradient and a tiny one
    >>> w.data.round(3).tolist()
    [0.9, 1.1]

    `parameters`: tensors by name. Raises: UsageError unless 0 <= lr, eps < inf and 0 <= beta1, beta2 < 1."""

    def __init__(
        self, parameters: Mapping[str, Tensor], lr: float = 1e-4, beta1: float = 0.9, beta2: float = 0.999,
        eps: float = 1e-7,
    ) -> None:  # fmt: skip
        self.parameters = dict(parameters)
        # Python floats leave float32 arrays float32; NumPy's float64 numbers would not.
        self.lr, self.beta1, self.beta2, self.eps = map(float, (lr, beta1, beta2, eps))
        if not (0 <= lr < inf and 0 <= eps < inf and 0 <= beta1 < 1 and 0 <= beta2 < 1):
            raise UsageError(f"Adam got {lr=}, {beta1=}, {beta2=}, {eps=}. Use lr, eps >= 0, 0 <= betas < 1.")
        self.t = 0  # steps taken
        self.m = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}
        self.v = {name: p.backend.xp.zeros_like(p.data) for name, p in self.parameters.items()}

    def step(self, gradients: Sequence[Array]) -> None:
        """Update every parameter once. `gradients`: one for each, in order, of the same shape and dtype."""
        for (name, p), g in zip(self.parameters.items(), gradients, strict=True):
            if (g.shape, g.dtype) != (p.shape, p.dtype):
                raise UsageError(f"Adam got {g.dtype} {g.shape} for {name}. It needs {p.dtype} {p.shape}.")
        self.t += 1
        rate = self.lr * sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t)
        for (name, parameter), g in zip(self.parameters.items(), gradients, strict=True):
            m = self.m[name] = self.beta1 * self.m[name] + (1 - self.beta1) * g
            v = self.v[name] = self.beta2 * self.v[name] + (1 - self.beta2) * g * g
            # A new array: a graph that saved the old one stays valid.
            parameter.data = parameter.data - rate * m / (parameter.backend.xp.sqrt(v) + self.eps)
