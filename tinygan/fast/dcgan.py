"""Recognises the DCGAN of `models.py` and names its layers, for the fast step on any device."""

from typing import NamedTuple, cast

from tinygan import layers
from tinygan.layers import Layer, Network


class UpStage(NamedTuple):
    """A transposed convolution of G, and the layers before it."""

    norm: layers.BatchNorm
    relu: layers.LeakyReLU
    conv: layers.Conv2DTranspose


class DownStage(NamedTuple):
    """A convolution of D, and the layers after it."""

    conv: layers.Conv2D
    relu: layers.LeakyReLU
    dropout: layers.Dropout


class DCGAN(NamedTuple):
    """Both networks: G is `dense_G`, the stages `up` and tanh; D is the stages `down` and `dense_D`."""

    dense_G: layers.Dense
    up: list[UpStage]
    down: list[DownStage]
    dense_D: layers.Dense


def layers_of(G: Network, D: Network) -> DCGAN:
    """The layers of two networks for which `odd_layer` finds nothing."""
    dense_G, *inner, _ = (layer for layer in G.layers.values() if not isinstance(layer, layers.Reshape))
    *outer, _, dense_D = D.layers.values()
    return DCGAN(
        cast(layers.Dense, dense_G),
        [UpStage(*cast(list, inner[at : at + 3])) for at in range(0, len(inner), 3)],
        [DownStage(*cast(list, outer[at : at + 3])) for at in range(0, len(outer), 3)],
        cast(layers.Dense, dense_D),
    )


def odd_layer(G: Network, D: Network) -> str:
    """The name of the first layer, or else network, that does not fit a DCGAN; "" if all fit. G may have any
    number of stages, D one or more. Slopes must be from 0 to 1, so that LeakyReLU is max(x, slope x)."""
    stages_G, stages_D = max(1, (len(G.layers) - 3) // 3), max(1, (len(D.layers) - 2) // 3)
    up = [layers.Conv2DTranspose, layers.BatchNorm, layers.LeakyReLU] * (stages_G - 1)
    down = [layers.Conv2D, layers.LeakyReLU, layers.Dropout] * stages_D
    first = [layers.Dense, layers.BatchNorm, layers.LeakyReLU, layers.Reshape]
    for_G, for_D = [*first, *up, layers.Conv2DTranspose, layers.Tanh], [*down, layers.Reshape, layers.Dense]
    return _odd(G, for_G, ()) or _odd(D, for_D, (layers.Conv2D, layers.Dense))


def _odd(network: Network, kinds: list[type[Layer]], biased: tuple[type[Layer], ...]) -> str:
    """The first layer that has another kind, or whose bias, slope or rate does not fit; "" if all fit."""
    for i, (name, layer) in enumerate(network.layers.items()):
        kind = kinds[i] if i < len(kinds) else None
        bias = getattr(layer, "bias", None) is not None
        in_range = 0 <= getattr(layer, "slope", 0) <= 1 and 0 <= getattr(layer, "rate", 0) < 1
        if type(layer) is not kind or bias != (kind in biased) or not in_range:
            return f"{network.name}/{name}"
    # Each layer must run once, in the way `layers.Network` runs it.
    once = len(set(map(id, network.layers.values()))) == len(network.layers) == len(kinds)
    ordinary = type(network) is Network and "outputs" not in vars(network)
    return "" if once and ordinary else network.name
