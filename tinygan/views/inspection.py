"""Shows the layers of a network as a table, each measured on a batch: size, work, time, values, code."""

import inspect
import timeit
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygan.autograd import Node, Op, Tensor, grad
from tinygan.gan import discriminator_loss, generator_loss
from tinygan.layers import Conv2DTranspose, Layer, LeakyReLU, Linear, Mode, Network
from tinygan.rng import Stream, stream
from tinygan.runs.state import State
from tinygan.runs.trainer import Batch

PACKAGE = Path(__file__).parent.parent.parent


def count(tensors: Mapping[str, Tensor]) -> int:
    """The total number of elements of the tensors."""
    return sum(prod(tensor.shape) for tensor in tensors.values())


def summary(network: Network) -> list[str]:
    """One line of text for each layer, and one for the total."""
    lines = [f"{network.name:<24}{'output shape':<18}{'parameters':>12}"]
    for name, layer in network.layers.items():
        size = count(layer.parameters | layer.statistics)
        lines.append(f"{name:<24}{'x'.join(map(str, network.shapes[name])):<18}{size:>12,}")
    total, gathered = count(network.parameters | network.statistics), count(network.statistics)
    fixed = f" ({gathered:,} of them not trained: running means and variances)" if gathered else ""
    return [*lines, f"{'total':<42}{total:>12,}{fixed}"]


class LayerFacts(NamedTuple):
    """Measurements of one layer on a whole batch."""

    name: str
    shape: tuple[int, ...]  # of the output, without N
    numbers: int  # parameters and running statistics
    products: int  # multiply-adds for one example, by the layer's definition
    forward_ms: float
    backward_ms: float
    mean: float  # of the output
    spread: float
    slope_mean: float  # of the gradient of the loss with respect to the output
    slope_spread: float
    dead: float | None  # LeakyReLU only: share of the channels that are never positive in the batch
    how: str  # the fast engine's plan, and the reason for it; or the layer's formula
    where: str  # file and line of the code that computes it


def layer_facts(state: State, batch: Batch) -> tuple[list[LayerFacts], list[LayerFacts]]:
    """G's layers on the batch's noise, with G's loss; D's on real images, with D's. G's statistics change."""
    G, D, masks = state.G, state.D, stream(0, "dropout")
    noise, images = Tensor(batch.noise, G.backend), Tensor(batch.images, D.backend)
    in_G = outputs(G, noise, masks.at(0))
    on_fakes, on_reals = outputs(D, in_G[-1], masks.at(1)), outputs(D, images, masks.at(2))
    for_G = grad(generator_loss(on_fakes[-1]), in_G)
    for_D = grad(discriminator_loss(on_reals[-1], on_fakes[-1]), on_reals)
    return _facts(G, [noise, *in_G], for_G, masks.at(0)), _facts(D, [images, *on_reals], for_D, masks.at(2))


def outputs(network: Network, x: Tensor, masks: Stream) -> list[Tensor]:
    """The output of each layer, in training mode."""
    return [y for _, y in network.outputs(x, Mode(training=True, masks=masks.split()))]


def _facts(
    network: Network, tensors: Sequence[Tensor], gradients: Sequence[np.ndarray], masks: Stream
) -> list[LayerFacts]:
    """Facts from `tensors` (the network's input and all outputs) and the `gradients` of the outputs."""
    found = []
    for (name, layer), (x, y), dy in zip(network.layers.items(), pairwise(tensors), gradients, strict=True):
        assert y.node is not None
        op, inputs, saved = y.node
        forward = milliseconds(lambda layer=layer, x=x: layer(x, Mode(True, masks.split())))
        backward = milliseconds(partial(op.backward, saved, dy, tuple(one is not None for one in inputs)))
        of_y, of_dy = ((float(a.mean(dtype=float)), float(a.std(dtype=float))) for a in (y.data, dy))
        alive = (y.data > 0).any(axis=tuple(range(len(y.shape) - 1)))
        dead = float(1 - alive.mean()) if isinstance(layer, LeakyReLU) else None
        shape, how = network.shapes[name], method(network, y.node)
        size = count(layer.parameters | layer.statistics), products(layer, x.shape[1:], shape)
        found.append(LayerFacts(name, shape, *size, forward, backward, *of_y, *of_dy, dead, *how))
    return found


def products(layer: Layer, x: Sequence[int], y: Sequence[int]) -> int:
    """Multiply-adds for one example x -> y by the layer's definition; 0 without a kernel. A convolution sums
    KH KW C products for each output, a transposed one KH KW F for each input. Dense has a single position."""
    if not isinstance(layer, Linear):
        return 0
    places = x if isinstance(layer, Conv2DTranspose) else y
    return prod(places[:-1]) * prod(layer.kernel.shape)


def milliseconds(call: Callable[[], object]) -> float:
    """The time of `call` on a CPU, the fastest of three."""
    return 1000 * min(timeit.repeat(call, number=1, repeat=3))


def method(network: Network, node: Node) -> tuple[str, str]:
    """How a layer was computed (the plan that its op saved, or its formula), and where in the code."""
    plan, op = getattr(node.saved, "plan", None), original(network, node)
    if plan is not None:
        return str(plan), f"{line_of(node.op.forward)}, {line_of(type(plan))}"
    if node.op is not op and op.__name__.startswith("conv2d"):  # a convolution without a plan
        return "its definition, since frequencies would cost more for this layer alone", line_of(op.forward)
    return (inspect.getdoc(op) or "").partition("\n")[0], line_of(node.op.forward)


def original(network: Network, node: Node) -> Op:
    """The op in `tinygan.ops`, even if the network's engine used its twin."""
    return next((op for op, twin in network.backend.twins.items() if twin is node.op), node.op)


def line_of(code: Callable[..., object]) -> str:
    """The file and first line of a function or a class: ``tinygan/ops/conv.py:61``."""
    path = Path(inspect.getsourcefile(code) or "")
    return f"{path.relative_to(PACKAGE).as_posix()}:{inspect.getsourcelines(code)[1]}"


def table(network: Network, facts: Sequence[LayerFacts]) -> list[str]:
    """The facts as text, two lines a layer: its numbers, then how and where it is computed."""
    sizes = f"{network.name:<18}{'output':>10}{'numbers':>10}{'multiply-adds':>14}{'forward ms':>11}"
    values = f"{'backward ms':>12}{'mean':>7}{'spread':>7}{'gradient mean':>14}{'spread':>8}{'dead':>5}"
    lines = [sizes + values]
    for at in facts:
        dead = "" if at.dead is None else f"{at.dead:.0%}"
        lines.append(
            f"{at.name:<18}{'x'.join(map(str, at.shape)):>10}{at.numbers:>10,}{at.products:>14,}"
            f"{at.forward_ms:>11.2f}{at.backward_ms:>12.2f}{at.mean:>+7.2f}{at.spread:>7.2f}"
            f"{at.slope_mean:>+14.0e}{at.slope_spread:>8.1e}{dead:>5}".rstrip()
        )
        lines.append(f"    {at.how} [{at.where}]")
    columns = ((at.numbers, at.products, at.forward_ms, at.backward_ms) for at in facts)
    numbers, work, forward, backward = map(sum, zip(*columns, strict=True))
    return [*lines, f"{'total':<28}{numbers:>10,}{work:>14,}{forward:>11.2f}{backward:>12.2f}"]
