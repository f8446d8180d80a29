"""The formula for many machines: cases that can be worked out by hand, and the sums' algorithms played."""

from math import inf, log2

import numpy as np
import pytest

from benchmarks import cluster
from benchmarks.cluster import (
    Compute,
    Link,
    Work,
    allreduce_seconds,
    communication_seconds,
    efficiency,
    extrapolated,
    most_that_pay,
    step_seconds,
)

FREE = Link("free", inf, 0.0)
WORK = Work(Compute(0.0, 0.001), (50_000, 600, 9_000_000))
SIZES = (2, 4, 8, 16, 32, 64)


def test_one_node_only_computes():
    assert step_seconds(WORK._replace(packing=1.0), 256, 1, Link("slow", 1.0, 1.0)) == 0.256


@pytest.mark.parametrize("nodes", [*SIZES, 3, 100])
def test_a_link_that_costs_nothing_leaves_the_computing_divided_by_the_nodes(nodes):
    assert step_seconds(WORK, 256, nodes, FREE) == pytest.approx(0.256 / nodes)
    assert efficiency(WORK, 256, nodes, FREE, grows=False) == pytest.approx(1)
    assert step_seconds(WORK, 256 * nodes, nodes, FREE) == pytest.approx(0.256)
    assert efficiency(WORK, 256, nodes, FREE, grows=True) == pytest.approx(1)


@pytest.mark.parametrize("nodes", SIZES)
def test_what_does_not_shrink_is_not_divided(nodes):
    work = WORK._replace(compute=Compute(0.1, 0.001))
    assert step_seconds(work, 256, nodes, FREE) == pytest.approx(0.1 + 0.256 / nodes)
    assert efficiency(work, 256, nodes, FREE, grows=False) == pytest.approx(0.356 / (0.1 * nodes + 0.256))
    assert efficiency(work, 256, nodes, FREE, grows=True) == pytest.approx(1)


def test_packing_is_paid_once_there_are_two():
    work = WORK._replace(packing=0.5)
    assert step_seconds(work, 256, 2, FREE) == pytest.approx(0.128 + 0.5)
    assert step_seconds(work, 256, 64, FREE) == pytest.approx(0.004 + 0.5)


def test_the_sums_of_a_step_follow_each_other():
    link = Link("l", 1e9, 1e-5)
    parts = [allreduce_seconds(size, 8, link) for size in WORK.messages]
    assert communication_seconds(WORK.messages, 8, link) == pytest.approx(sum(parts))
    assert step_seconds(WORK, 256, 8, link) == pytest.approx(0.032 + sum(parts))


def test_two_nodes_send_half_of_a_long_array_and_then_the_other_half():
    assert allreduce_seconds(10_000, 2, Link("l", 1e4, 0.0)) == pytest.approx(1.0)
    assert allreduce_seconds(10_000, 2, Link("l", inf, 3.0)) == pytest.approx(6.0)


def exchange(arrays, partners, parts, taken, hops, sent):
    """Every node sends a part of its array to its partner, who adds it or keeps it."""
    before = [array.copy() for array in arrays]
    for node, partner in enumerate(partners):
        part = parts[partner]
        arrays[node][part] = before[partner][part] + (before[node][part] if taken == "added" else 0)
    return hops + 1, sent + max((part.stop - part.start) for part in parts)


@pytest.mark.parametrize("nodes", SIZES)
@pytest.mark.parametrize("numbers", [128, 1024])
def test_hops_and_bytes_are_those_of_the_algorithms(nodes, numbers):
    start = np.random.default_rng(0).integers(0, 9, (nodes, numbers))
    arrays, hops, sent = [row.copy() for row in start], 0, 0
    whole, distances = slice(0, numbers), [2**power for power in range(int(log2(nodes)))]
    if 4 * numbers <= cluster.SHORT:  # recursive doubling: the whole array at every hop
        for distance in distances:
            partners = [node ^ distance for node in range(nodes)]
            hops, sent = exchange(arrays, partners, [whole] * nodes, "added", hops, sent)
    else:
        kept = [whole] * nodes
        for distance in reversed(distances):  # reduce-scatter: each keeps a half, and sends the other
            partners, halves = [node ^ distance for node in range(nodes)], []
            for node, part in enumerate(kept):
                middle = (part.start + part.stop) // 2
                two = slice(part.start, middle), slice(middle, part.stop)
                halves.append(two[::-1] if node & distance else two)
            hops, sent = exchange(arrays, partners, [half[1] for half in halves], "added", hops, sent)
            kept = [half[0] for half in halves]
        for distance in distances:  # allgather: what is complete goes back
            partners = [node ^ distance for node in range(nodes)]
            hops, sent = exchange(arrays, partners, kept, "kept", hops, sent)
            kept = [
                slice(min(kept[n].start, kept[p].start), max(kept[n].stop, kept[p].stop))
                for n, p in enumerate(partners)
            ]
    assert all((array == start.sum(axis=0)).all() for array in arrays)
    assert allreduce_seconds(4 * numbers, nodes, Link("l", inf, 1.0)) == hops
    assert allreduce_seconds(4 * numbers, nodes, Link("l", 4.0, 0.0)) == pytest.approx(sent)


def test_nodes_between_two_powers_take_the_hops_of_the_next_one():
    assert allreduce_seconds(100, 5, Link("l", inf, 1.0)) == 3
    assert allreduce_seconds(10_000, 5, Link("l", inf, 1.0)) == 6


def test_a_line_is_found_again():
    assert Compute.fitted({n: 0.03 + 0.002 * n for n in (256, 64, 4)}) == pytest.approx((0.03, 0.002))


def test_the_line_is_as_near_to_small_batches_as_to_large_ones():
    found = Compute.fitted({1: 1.0, 1000: 1000.0, 1001: 1100.0})
    assert found.seconds(1) == pytest.approx(1, rel=0.1)


def test_nodes_pay_as_long_as_all_fewer_do():
    assert most_that_pay({2: 0.9, 4: 0.5, 8: 0.49, 16: 0.6}) == 4
    assert most_that_pay({2: 0.4, 4: 0.6}) == 1
    assert most_that_pay({4: 0.6, 2: 0.9}) == 4


def test_a_card_pays_from_the_step_on_whose_efficiency_is_a_half():
    pays = extrapolated(WORK, {256: 0.256, 64: 0.064}, 256)["nvlink"]["pays_from_seconds"]
    for n in SIZES:
        for way, grows in (("shared", False), ("grows", True)):
            card = WORK._replace(compute=Compute(0.0, pays[way][n] / 256))
            assert efficiency(card, 256, n, cluster.NVLINK, grows=grows) == pytest.approx(0.5)


def test_the_tables_say_what_the_formula_says():
    seconds = {256: 0.3, 64: 0.1, 16: 0.05}
    work = Work(Compute.fitted(seconds), WORK.messages, 0.01)
    found = extrapolated(work, seconds, 256)
    slow, fast = found["links"]
    assert slow["shared"]["step_seconds"][4] == step_seconds(work, 256, 4, cluster.ETHERNET)
    assert fast["grows"]["step_seconds"][4] == step_seconds(work, 1024, 4, cluster.RDMA)
    assert found["largest_error"] == max(abs(work.compute.seconds(n) / s - 1) for n, s in seconds.items())
    rows = [line.split() for line in cluster.lines(found, 256)]
    cells = next(row for row in rows if row[:1] == ["64"])
    assert cells[1] == f"{slow['shared']['step_seconds'][64]:.3f}" and len(cells) == 9
    assert cells[8] == f"{fast['grows']['efficiency'][64]:.0%}"
