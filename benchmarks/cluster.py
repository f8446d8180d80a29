"""What a training step would take on many machines: a formula, from what was measured on one.

Each node computes its part of the batch, then all add up their gradients. So a step takes

    fixed + image * batch / nodes + packing + what the sums take between the nodes

`fixed` is what a smaller part does not shorten: every node transforms all kernels and updates all weights.
Nothing is sent while a node computes, as in tinygan. That no node waits for a slower one is optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2
from typing import Any, NamedTuple

import numpy as np

NODES = (2, 4, 8, 16, 32, 64)
SHORT = 2048  # bytes of the longest sum that MPICH takes by recursive doubling
PAYS = 0.5  # efficiency: with less, more than half of the nodes' time is lost


class Link(NamedTuple):
    """What joins the nodes: assumed, not measured."""

    name: str
    bandwidth: float  # bytes a second in each direction, as a program sees them
    latency: float  # seconds from one program to another


ETHERNET = Link("10 Gbit/s", 0.9 * 10e9 / 8, 30e-6)  # TCP through one switch
RDMA = Link("100 Gbit/s", 0.9 * 100e9 / 8, 2e-6)  # InfiniBand or RoCE, past the kernel
# NVLink 4 has 450 GB/s in each direction; the latency is that of a hop in NCCL's own model (tuning.cc:
# NVLink, ring, the protocol of long messages).
NVLINK = Link("NVLink", 0.8 * 450e9, 3.4e-6)


class Compute(NamedTuple):
    """Seconds of a step on one node: ``fixed + image * batch``."""

    fixed: float
    image: float

    def seconds(self, batch: float) -> float:
        return self.fixed + self.image * batch

    @classmethod
    def fitted(cls, measured: Mapping[int, float]) -> Compute:
        """The line through seconds by batch size with the smallest squares of relative distances."""
        batches, seconds = np.array(list(measured), float), np.array(list(measured.values()))
        terms = np.stack([np.ones_like(batches), batches], axis=1) / seconds[:, None]
        fixed, image = np.linalg.lstsq(terms, np.ones_like(seconds), rcond=None)[0]
        return cls(float(fixed), float(image))


class Work(NamedTuple):
    """What is known of a step from one machine."""

    compute: Compute
    messages: tuple[int, ...]  # bytes of each sum
    packing: float = 0.0  # seconds that the sums take even so: to gather, add and hand out the numbers


def allreduce_seconds(size: float, nodes: int, link: Link) -> float:
    """A sum of `size` bytes over all nodes, as MPICH takes it.

    Thakur, Rabenseifner & Gropp 2005, "Optimization of Collective Communication Operations in MPICH": short
    ones by recursive doubling, log2(nodes) hops with the whole array each; long ones by reduce-scatter and
    allgather, 2 log2(nodes) hops in which 2 (nodes - 1) / nodes of the array pass each link. (A ring sends
    as much, in 2 (nodes - 1) hops.) Hops are rounded up.
    """
    hops = ceil(log2(nodes))
    if size <= SHORT:
        return hops * (link.latency + size / link.bandwidth)
    return 2 * hops * link.latency + 2 * (nodes - 1) / nodes * size / link.bandwidth


def communication_seconds(messages: tuple[int, ...], nodes: int, link: Link) -> float:
    """All sums of a step, one after the other."""
    return sum(allreduce_seconds(size, nodes, link) for size in messages)


def step_seconds(work: Work, batch: float, nodes: int, link: Link) -> float:
    """A step on `batch` images in all."""
    sums = work.packing + communication_seconds(work.messages, nodes, link) if nodes > 1 else 0.0
    return work.compute.seconds(batch / nodes) + sums


def efficiency(work: Work, batch: int, nodes: int, link: Link, *, grows: bool) -> float:
    """Images a second, over what as many nodes would do each for itself with the whole `batch`.

    Where the batch `grows`, every node has the whole of it; otherwise they share it.
    """
    alone = work.compute.seconds(batch)
    if grows:
        return alone / step_seconds(work, batch * nodes, nodes, link)
    return alone / (nodes * step_seconds(work, batch, nodes, link))


def most_that_pay(efficiencies: Mapping[int, float]) -> int:
    """The largest number of nodes up to which all have an efficiency of `PAYS`; 1 where none has."""
    most = 1
    for nodes in sorted(efficiencies):
        if efficiencies[nodes] < PAYS:
            break
        most = nodes
    return most


WAYS = ("shared", "grows")  # one batch for all nodes; as large a batch on each of them


def extrapolated(work: Work, seconds: Mapping[int, float], batch: int) -> dict[str, Any]:
    """All of it for `NODES`; `seconds` by batch size are what `work.compute` was fitted to."""
    compute, links = work.compute, []
    for link in (ETHERNET, RDMA):
        table: dict[str, Any] = link._asdict()
        for way in WAYS:
            grows = way == "grows"
            shares = {n: efficiency(work, batch, n, link, grows=grows) for n in NODES}
            table[way] = {
                "step_seconds": {n: step_seconds(work, batch * (n if grows else 1), n, link) for n in NODES},
                "efficiency": shares,
                "pays_up_to": most_that_pay(shares),
            }
        links.append(table)
    # Of a graphics card no step has been measured, nor what packing takes there: so the sums alone, and how
    # long one card's step on the whole batch must be for them to take no more than the computing.
    sums = {n: communication_seconds(work.messages, n, NVLINK) for n in NODES}
    nvlink = NVLINK._asdict() | {
        "sums_seconds": sums,
        "pays_from_seconds": {"shared": {n: n * sums[n] for n in NODES}, "grows": sums},
    }
    return {
        "fixed_seconds": compute.fixed,
        "image_seconds": compute.image,
        "largest_error": max(abs(compute.seconds(size) / found - 1) for size, found in seconds.items()),
        "packing_seconds": work.packing,
        "links": links,
        "nvlink": nvlink,
    }


def lines(found: dict[str, Any], batch: int) -> list[str]:
    """What `extrapolated` found, as text."""
    nvlink, links = found["nvlink"], found["links"]
    text = [
        f"that is {found['fixed_seconds'] * 1e3:.1f} ms and {found['image_seconds'] * 1e3:.3f} ms an image, "
        f"to {found['largest_error']:.0%}; the gradients' sums take {found['packing_seconds'] * 1e3:.1f} ms",
        "",
        f"extrapolated to nodes like this machine: s/step, and efficiency. S: they share a batch of {batch}, "
        f"G: each has {batch}",
        f"{'nodes':>5}"
        + "".join(f"{link['name'] + ' ' + way[0].upper():>19}" for link in links for way in WAYS),
    ]
    for n in NODES:
        cells = [
            f"{link[way]['step_seconds'][n]:>12.3f}{link[way]['efficiency'][n]:>7.0%}"
            for link in links
            for way in WAYS
        ]
        text.append(f"{n:>5}" + "".join(cells))
    text.append(
        " pays" + "".join(f"{'to ' + str(link[way]['pays_up_to']):>19}" for link in links for way in WAYS)
    )
    text += [
        "",
        f"NVLink: ms in sums, and how long a card's step on {batch} must be for an efficiency of {PAYS:.0%}",
        f"{'cards':>5}{'in sums':>19}{'S':>19}{'G':>19}",
    ]
    for n in NODES:
        times = [nvlink["sums_seconds"][n], *(nvlink["pays_from_seconds"][way][n] for way in WAYS)]
        text.append(f"{n:>5}" + "".join(f"{seconds * 1e3:>19.3f}" for seconds in times))
    return text
