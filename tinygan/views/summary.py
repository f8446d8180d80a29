"""The layers of a network as a table: name, output shape, numbers."""

from math import prod
from typing import NamedTuple

from tinygan.layers import Network


class Row(NamedTuple):
    """A layer, or the total of a network."""

    name: str
    shape: tuple[int, ...]  # of the output, without N
    trained: int  # numbers that training changes
    gathered: int  # running means and variances


def rows(network: Network) -> list[Row]:
    """A row for each layer, and one for the whole network at the end."""
    found = []
    for name, layer in network.layers.items():
        trained, gathered = (
            sum(prod(tensor.shape) for tensor in tensors.values())
            for tensors in (layer.parameters, layer.statistics)
        )
        found.append(Row(name, network.shapes[name], trained, gathered))
    totals = (sum(row.trained for row in found), sum(row.gathered for row in found))
    return [*found, Row("in all", found[-1].shape, *totals)]


def summary(network: Network) -> list[str]:
    """The table as lines of text."""
    *layers, total = rows(network)
    lines = [f"{network.name:<24}{'output shape':<18}{'parameters':>12}"]
    for row in layers:
        lines.append(f"{row.name:<24}{'x'.join(map(str, row.shape)):<18}{row.trained + row.gathered:>12,}")
    note = (
        f" ({total.gathered:,} of them do not train: running means and variances)" if total.gathered else ""
    )
    return [*lines, f"{'in all':<42}{total.trained + total.gathered:>12,}{note}"]
