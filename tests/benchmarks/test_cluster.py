"""The formula for many machines: cases worked out by hand, and the algorithms of the sums simulated."""

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


@pytest.mark.parametrize("nodes", [1, *SIZES, 3, 100])
@pytest.mark.parametrize("link", [FREE, Link("slow", 1e9, 1e-5)])
def test_a_step_takes_its_part_of_the_computing_and_then_its_sums(nodes, link):
    work, sums = WORK._replace(compute=Compute(0.1, 0.001), packing=0.5), 0
    if nodes > 1:
        sums = communication_seconds(WORK.messages, nodes, link)
        assert sums == pytest.approx(sum(allreduce_seconds(size, nodes, link) for size in WORK.messages))
        sums += work.packing
    assert step_seconds(work, 256, nodes, link) == pytest.approx(0.1 + 0.256 / nodes + sums)
    shared, grows = (efficiency(work, 256, nodes, link, grows=way) for way in (False, True))
    assert shared == pytest.approx(0.356 / (0.1 * nodes + 0.256 + nodes * sums))
    assert grows == pytest.approx(0.356 / (0.356 + sums))


def exchange(arrays, partners, parts, taken, hops, sent):
    """Every node sends a part of its array to its partner, which adds it or stores it."""
    before = [array.copy() for array in arrays]
    for node, partner in enumerate(partners):
        part = parts[partner]
        arrays[node][part] = before[partner][part] + (before[node][part] if taken == "added" else 0)
    return hops + 1, sent + max((part.stop - part.start) for part in parts)


@pytest.mark.parametrize("nodes", SIZES)
@pytest.mark.parametrize("numbers", [128, 1024])
def test_hops_and_bytes_match_the_simulated_algorithms(nodes, numbers):
    start = np.random.default_rng(0).integers(0, 9, (nodes, numbers))
    arrays, hops, sent = [row.copy() for row in start], 0, 0
    whole, distances = slice(0, numbers), [2**power for power in range(int(log2(nodes)))]
    if 4 * numbers <= cluster.SHORT:  # recursive doubling: the whole array in every hop
        for distance in distances:
            partners = [node ^ distance for node in range(nodes)]
            hops, sent = exchange(arrays, partners, [whole] * nodes, "added", hops, sent)
    else:
        kept = [whole] * nodes
        for distance in reversed(distances):  # reduce-scatter: each keeps one half and sends the other
            partners, halves = [node ^ distance for node in range(nodes)], []
            for node, part in enumerate(kept):
                middle = (part.start + part.stop) // 2
                two = slice(part.start, middle), slice(middle, part.stop)
                halves.append(two[::-1] if node & distance else two)
            hops, sent = exchange(arrays, partners, [half[1] for half in halves], "added", hops, sent)
            kept = [half[0] for half in halves]
        for distance in distances:  # allgather: the complete parts go back
            partners = [node ^ distance for node in range(nodes)]
            hops, sent = exchange(arrays, partners, kept, "kept", hops, sent)
            kept = [
                slice(min(kept[n].start, kept[p].start), max(kept[n].stop, kept[p].stop))
                for n, p in enumerate(partners)
            ]
    assert all((array == start.sum(axis=0)).all() for array in arrays)
    assert allreduce_seconds(4 * numbers, nodes, Link("l", inf, 1.0)) == hops
    assert allreduce_seconds(4 * numbers, nodes, Link("l", 4.0, 0.0)) == pytest.approx(sent)


def test_nodes_between_two_powers_of_two_take_the_hops_of_the_next_one():
    assert allreduce_seconds(100, 5, Link("l", inf, 1.0)) == 3
    assert allreduce_seconds(10_000, 5, Link("l", inf, 1.0)) == 6


def test_a_fit_recovers_the_line():
    assert Compute.fitted({n: 0.03 + 0.002 * n for n in (256, 64, 4)}) == pytest.approx((0.03, 0.002))


def test_the_fit_weighs_small_batches_like_large_ones():
    found = Compute.fitted({1: 1.0, 1000: 1000.0, 1001: 1100.0})
    assert found.seconds(1) == pytest.approx(1, rel=0.1)


def test_a_number_of_nodes_pays_only_if_all_smaller_numbers_do():
    assert most_that_pay({2: 0.9, 4: 0.5, 8: 0.49, 16: 0.6}) == 4
    assert most_that_pay({2: 0.4, 4: 0.6}) == 1
    assert most_that_pay({4: 0.6, 2: 0.9}) == 4


def test_a_card_pays_from_the_step_whose_efficiency_is_one_half():
    pays = extrapolated(WORK, {256: 0.256, 64: 0.064}, 256)["nvlink"]["pays_from_seconds"]
    for n in SIZES:
        for way, grows in (("shared", False), ("grows", True)):
            card = WORK._replace(compute=Compute(0.0, pays[way][n] / 256))
            assert efficiency(card, 256, n, cluster.NVLINK, grows=grows) == pytest.approx(0.5)


def test_the_tables_show_the_results_of_the_formula():
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
