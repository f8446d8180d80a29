"""Estimates the time of a training step on many machines, by a formula, from measurements on one.

Each node computes its part of the batch, then all nodes add up their gradients. So a step takes

    fixed + image * batch / nodes + packing + the sums' time between the nodes

A smaller batch does not shorten `fixed`: every node transforms all kernels and updates all weights. As in
tinygan, no node sends while it computes. The formula is optimistic: no node waits for a slower one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log2
from typing import Any, NamedTuple

import numpy as np

NODES = (2, 4, 8, 16, 32, 64)
SHORT = 2048  # bytes of the longest array that MPICH sums by recursive doubling
PAYS = 0.5  # below this efficiency, more than half of the nodes' time is lost


class Link(NamedTuple):
    """The network between the nodes: assumed, not measured."""

    name: str
    bandwidth: float  # bytes per second in each direction, as a program sees them
    latency: float  # seconds from one program to another


ETHERNET = Link("10 Gbit/s", 0.9 * 10e9 / 8, 30e-6)  # TCP through one switch
RDMA = Link("100 Gbit/s", 0.9 * 100e9 / 8, 2e-6)  # InfiniBand or RoCE, bypassing the kernel
# NVLink 4 has 450 GB/s in each direction. The latency of a hop is from NCCL's own model (tuning.cc: NVLink,
# ring, the protocol for long messages).
NVLINK = Link("NVLink", 0.8 * 450e9, 3.4e-6)


class Compute(NamedTuple):
    """Seconds per step on one node: ``fixed + image * batch``."""

    fixed: float
    image: float

    def seconds(self, batch: float) -> float:
        return self.fixed + self.image * batch

    @classmethod
    def fitted(cls, measured: Mapping[int, float]) -> Compute:
        """Fit a line to the seconds measured by batch size, by least squares of the relative errors."""
        batches, seconds = np.array(list(measured), float), np.array(list(measured.values()))
        terms = np.stack([np.ones_like(batches), batches], axis=1) / seconds[:, None]
        fixed, image = np.linalg.lstsq(terms, np.ones_like(seconds), rcond=None)[0]
        return cls(float(fixed), float(image))


class Work(NamedTuple):
    """A step as measured on one machine."""

    compute: Compute
    messages: tuple[int, ...]  # bytes of each sum
    packing: float = 0.0  # seconds the sums take even within one machine: to gather, add and distribute


def allreduce_seconds(size: float, nodes: int, link: Link) -> float:
    """The time MPICH takes to sum arrays of `size` bytes over all nodes.

    Thakur, Rabenseifner & Gropp 2005, "Optimization of Collective Communication Operations in MPICH". Short
    arrays use recursive doubling: log2(nodes) hops, each with the whole array. Long ones use reduce-scatter
    and allgather: 2 log2(nodes) hops, in which 2 (nodes - 1) / nodes of the array pass each link. (A ring
    sends the same amount in 2 (nodes - 1) hops.) The number of hops is rounded up.
    """
    hops = ceil(log2(nodes))
    if size <= SHORT:
        return hops * (link.latency + size / link.bandwidth)
    return 2 * hops * link.latency + 2 * (nodes - 1) / nodes * size / link.bandwidth


def communication_seconds(messages: tuple[int, ...], nodes: int, link: Link) -> float:
    """The time of all sums of a step, one after the other."""
    return sum(allreduce_seconds(size, nodes, link) for size in messages)


def step_seconds(work: Work, batch: float, nodes: int, link: Link) -> float:
    """The time of a step on a global batch of `batch` images."""
    sums = work.packing + communication_seconds(work.messages, nodes, link) if nodes > 1 else 0.0
    return work.compute.seconds(batch / nodes) + sums


def efficiency(work: Work, batch: int, nodes: int, link: Link, *, grows: bool) -> float:
    """Images per second, relative to the same number of nodes that each train alone on a whole `batch`.

    If the batch `grows`, every node has a whole `batch`; otherwise the nodes share one.
    """
    alone = work.compute.seconds(batch)
    if grows:
        return alone / step_seconds(work, batch * nodes, nodes, link)
    return alone / (nodes * step_seconds(work, batch, nodes, link))


def most_that_pay(efficiencies: Mapping[int, float]) -> int:
    """The largest number of nodes up to which every number reaches the efficiency `PAYS`; 1 if none does."""
    most = 1
    for nodes in sorted(efficiencies):
        if efficiencies[nodes] < PAYS:
            break
        most = nodes
    return most


WAYS = ("shared", "grows")  # the nodes share one batch; each node has a whole batch


def extrapolated(work: Work, seconds: Mapping[int, float], batch: int) -> dict[str, Any]:
    """The estimates for `NODES`. `work.compute` was fitted to `seconds`, measured by batch size."""
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
    # No step, and no packing, has been measured on a graphics card. So these are the sums alone, and how long
    # one card's step on the whole batch must take for the sums to take no longer than the computing.
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
    """The result of `extrapolated` as lines of text."""
    nvlink, links = found["nvlink"], found["links"]
    text = [
        f"fitted: {found['fixed_seconds'] * 1e3:.1f} ms + {found['image_seconds'] * 1e3:.3f} ms per image, "
        f"to {found['largest_error']:.0%}; the gradients' sums take {found['packing_seconds'] * 1e3:.1f} ms",
        "",
        "extrapolated to nodes like this machine: s/step and efficiency. S: the nodes share a batch of "
        f"{batch}, G: each has {batch}",
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
        f"NVLink: ms in sums, and ms that a card's step on {batch} must take for an efficiency of {PAYS:.0%}",
        f"{'cards':>5}{'in sums':>19}{'S':>19}{'G':>19}",
    ]
    for n in NODES:
        times = [nvlink["sums_seconds"][n], *(nvlink["pays_from_seconds"][way][n] for way in WAYS)]
        text.append(f"{n:>5}" + "".join(f"{seconds * 1e3:>19.3f}" for seconds in times))
    return text
