"""The average of a network's weights over the steps of training."""

from collections.abc import Mapping

from tinygan.autograd import Tensor


class Average:
    """An exponential moving average of weights, kept in separate tensors:

        a = d a + (1 - d) w    with d = min(decay, (1 + t) / (10 + t)) at the t-th update

    Two networks that learn from each other circle around a solution; the average is nearer to its centre
    (Yazici et al. 2018, arXiv 1806.04498). The fraction limits it, early on, to about the last ninth of the
    steps so far: the untrained weights fade out. `update` changes the tensors `averaged` to follow the
    `sources` of the same names. 0 < `decay` < 1."""

    EVERY = 8  # steps between updates: weights change little, and an update moves 20 MB

    def __init__(self, averaged: Mapping[str, Tensor], sources: Mapping[str, Tensor], decay: float) -> None:
        self.averaged, self.sources, self.decay = dict(averaged), dict(sources), float(decay)

    def update(self, step: int) -> None:
        """Call it after training step number `step` (the first is 1)."""
        t, rest = divmod(step, self.EVERY)
        if rest == 0:
            d = min(self.decay, (1 + t) / (10 + t))
            for name, source in self.sources.items():
                average = self.averaged[name]
                average.data = average.data + (1 - d) * (source.data - average.data)
