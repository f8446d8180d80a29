"""The pool of threads: each piece once, errors, BLAS, shutdown, and the same bits with any number."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.fast.checks import (
    EVERY_SMALL_CASE,
    FAST,
    PLANS,
    contents,
    conv_case,
    force_plan,
    play,
    run,
    small_case,
)
from tests.test_backend import openblas_threads
from tests.test_commands import TINY, tinygan
from tinygan import machine
from tinygan.fast import threads
from tinygan.fast.threads import POOL, Line, Pool, blocks
from tinygan.runs.checkpoint import read

COUNTS = (1, 2, 4)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Restores the threads of the process's pool and BLAS after a test."""
    before = POOL.threads
    yield
    POOL.resize(before)


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A separate pool of two threads for the test."""
    pool = Pool()
    pool.resize(2)
    if pool.threads == 1:
        pytest.skip("this NumPy's BLAS has no switch for its number of threads")
    yield pool
    pool.resize(1)


def workers() -> list[str]:
    """Names of the live threads that a pool started."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tinygan")]


def in_caller() -> bool:
    return threading.current_thread() is threading.main_thread()


def test_blocks_of_one_size_cover_every_image_once_and_are_at_least_as_many_as_requested(monkeypatch):
    monkeypatch.setattr(threads, "PIECE", 100)
    cases = [(0, 5, 2), (1, 5, 2), (2, 5, 2), (20, 5, 1), (21, 5, 2), (64, 7, 3), (9, 999, 1)]
    for count, numbers, at_least in cases:
        found = blocks(count, numbers, at_least)
        assert [i for block in found for i in range(count)[block]] == [*range(count)]
        sizes = {block.stop - block.start for block in found}
        assert len(found) >= min(at_least, count) and max(sizes, default=0) <= max(1, 100 // numbers)
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


def line_that_notes(done: list[Any], blocks: int = 3) -> Line:
    line = Line([slice(i, i + 1) for i in range(blocks)])
    line.then(lambda block, given: done.append(("a", block.start, given)) or block.start * 10)
    line.then(lambda block, given: done.append(("b", block.start, given)) or given + 1)
    return line


@pytest.mark.parametrize("count", COUNTS)
def test_each_block_passes_results_along_its_line_and_waits_only_at_run(count):
    POOL.resize(count)
    done: list[Any] = []
    line = line_that_notes(done)
    assert line.run() == [1, 11, 21]
    for i in range(3):
        assert [note for note in done if note[1] == i] == [("a", i, None), ("b", i, 10 * i)]
    line.then(lambda block, given: len(done) + given)  # all blocks have passed
    assert line.run() == [7, 17, 27]


def test_pending_tasks_that_lines_share_are_done_run_by_run():
    done: list[Any] = []
    line = line_that_notes(done)
    other = Line([], line.pending)
    other.later([lambda: done.append("second")], [lambda: done.append("third")])
    line.later([lambda: done.append("first")], after=0)
    line.run()
    assert "first" in done and len(done) == 7
    other.finish()
    assert done[7:] == ["second", "third"] and line.pending == []


@pytest.mark.parametrize("count", COUNTS)
def test_a_product_waits_for_all_blocks_and_runs_inside_the_tasks_of_the_gradient(count):
    POOL.resize(count)
    done: list[Any] = []
    line = line_that_notes(done)

    def around(i: int, between: Callable[[], object]) -> None:
        done.append(("read", i))
        between()
        done.append(("written", i))

    tasks = [lambda i=i: done.append(("product", i)) for i in range(9)]
    product = tasks, lambda block: done.append("lowered") or block.start
    line.multiply(product, ([partial(around, i) for i in range(9)], [lambda: done.append("last")]), first=1)
    assert {note[0] for note in done[:6]} == {"a", "b"} and "lowered" not in done
    for i in range(9):
        read, of_product, written = (done.index((what, i)) for what in ("read", "product", "written"))
        assert 6 <= read < of_product < written
    assert line.run() == [None, 1, 2]
    assert done.count("lowered") == 2 and done.count("last") == 1


def test_a_product_without_tasks_lets_blocks_continue_and_the_gradient_waits_for_all():
    done: list[Any] = []
    line = line_that_notes(done)
    gradient = [lambda: done.append("gradient")], [lambda: done.append("last")]
    line.multiply(([], lambda block: done.append("lowered")), gradient)
    assert done == []
    line.run()
    assert "gradient" not in done and done.count("lowered") == 3
    line.finish()
    assert done[9:] == ["gradient", "last"]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("pieces", [0, 1, 3, 1000])
def test_each_piece_is_done_once_and_results_come_in_their_order(pool, pieces, count):
    pool.resize(count)
    done: list[str] = []
    expected = [f"piece {n}" for n in range(pieces)]
    assert pool.each(lambda piece: done.append(piece) or piece, expected) == expected
    assert sorted(done) == sorted(expected)


def test_two_threads_work_at_once_in_the_callers_context_and_one_is_the_caller(pool):
    names: set[str] = set()
    meeting = threading.Barrier(2, timeout=10)

    def piece(number: int) -> None:
        meeting.wait()  # a single thread would time out here
        with pytest.raises(FloatingPointError):
            np.divide(np.ones(1), np.zeros(1))
        names.add(threading.current_thread().name)

    with np.errstate(divide="raise"):
        pool.each(piece, range(2))
    assert threading.main_thread().name in names and len(names) == 2 and len(workers()) == 1


@pytest.mark.parametrize(("count", "pieces"), [(1, 100), (2, 1)])
def test_one_thread_or_a_single_piece_starts_no_other(pool, count, pieces):
    pool.resize(count)
    pool.each(lambda piece: None, range(pieces))
    assert workers() == []


@pytest.mark.parametrize("where", ["worker", "caller", "both"])
def test_an_exception_reaches_the_caller_when_the_others_have_stopped(pool, where):
    meeting = threading.Barrier(2, timeout=10)
    begun, ended = [], []

    def piece(number: int) -> None:
        begun.append(number)
        if number < 2:
            meeting.wait()
            if where == "both" or in_caller() == (where == "caller"):
                raise KeyError("spoilt")
            time.sleep(0.1)
        ended.append(number)

    with pytest.raises(KeyError, match="spoilt"):
        pool.each(piece, range(1000))
    assert len(begun) < 1000  # no thread continued to the end
    assert len(ended) == len(begun) - (2 if where == "both" else 1)
    count = len(begun)
    time.sleep(0.05)
    assert len(begun) == count  # nothing keeps running in the background
    pool.each(ended.append, range(7, 17))
    assert sorted(ended[-10:]) == list(range(7, 17))  # and the pool works as before


def test_resizing_ends_the_threads_and_they_start_again(pool):
    for _ in range(2):
        meeting = threading.Barrier(2, timeout=10)
        pool.each(lambda piece: meeting.wait(), range(2))  # noqa: B023
        assert len(workers()) == 1
        pool.resize(2)
        assert workers() == []
    pool.resize(2)  # twice is once
    pool.each(lambda piece: None, range(9))
    pool.resize(4)
    assert workers() == [] and pool.threads == 4


def test_the_default_is_all_usable_cores_or_one_thread_without_a_switch_for_blas(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setattr(threads, "blas_threads", lambda: 8)
    assert Pool().threads == 3
    monkeypatch.setattr(threads, "blas_threads", lambda: 2)  # set by the program that uses the engine
    assert Pool().threads == 2
    monkeypatch.setattr(threads, "blas_threads", lambda: 0)
    monkeypatch.setattr(threads, "limit_blas_threads", lambda count: False)
    pool = Pool()
    assert pool.threads == 1
    pool.resize(4)
    assert pool.threads == 1


# BLAS.


@pytest.mark.parametrize("count", COUNTS)
def test_the_choice_of_threads_sets_the_pool_and_blas(count):
    get = openblas_threads()
    assert POOL.resize(count) is True
    assert POOL.threads == count and get() == count


def test_blas_has_one_thread_inside_until_the_outer_block_ends_then_its_old_number_again():
    get = openblas_threads()
    POOL.resize(2)
    inside: list[int] = []
    POOL.each(lambda piece: inside.append(get()), range(20))
    assert inside == [1] * 20 and get() == 2
    with pytest.raises(ValueError), POOL.blas_alone():
        assert get() == 1
        POOL.each(lambda piece: None, range(3))
        assert get() == 1
        with pytest.raises(ZeroDivisionError):
            POOL.each(lambda piece: 1 / 0, range(3))
        assert get() == 1
        raise ValueError
    assert get() == 2


def test_a_choice_made_while_pieces_are_computed_reaches_blas_when_they_are_done():
    get = openblas_threads()
    POOL.resize(2)
    with POOL.blas_alone():
        assert POOL.resize(4) and get() == 1
    assert get() == POOL.threads == 4


def test_the_default_uses_the_limit_of_blas_outside_the_pool():
    get = openblas_threads()
    POOL.resize(2)
    with ExitStack() as inside:
        inside.enter_context(POOL.blas_alone())
        with POOL.sized(4):
            assert POOL.default()[0] == min(2, machine.usable_cores())
            inside.close()
            assert get() == 4
            with POOL.sized(1):
                assert POOL.default()[0] == min(2, machine.usable_cores())
    assert get() == POOL.threads == 2


def test_the_number_can_change_while_another_thread_uses_the_pool(pool):
    ends = threading.Event()

    def change() -> None:
        while not ends.wait(0.0005):
            pool.resize(2)

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(300):
            assert pool.each(lambda piece: piece + 1, range(3)) == [1, 2, 3]
    finally:
        ends.set()
        other.join(30)


# The same bits with any number of threads, and with any order of the pieces.


def bits_in_every_way(result: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> set[bytes]:
    """The bytes of `result()`'s arrays with 1, 2 and 4 threads, and with the pieces in three orders."""
    found, most = set(), 0
    for count in COUNTS:
        POOL.resize(count)
        found.add(b"".join(contents(result())))
    rng = np.random.default_rng(1)
    for order in (lambda n: range(n)[::-1], rng.permutation, rng.permutation):

        def each(function: Any, pieces: Sequence[Any], order: Any = order) -> list[Any]:
            nonlocal most
            most = max(most, len(pieces))
            results = {place: function(pieces[place]) for place in order(len(pieces))}
            return [results[place] for place in range(len(pieces))]

        monkeypatch.setattr(POOL, "each", each)
        found.add(b"".join(contents(result())))
    assert most > 2, "nothing was cut into pieces"
    return found


@EVERY_SMALL_CASE
def test_an_ops_bits_depend_neither_on_the_threads_nor_on_the_order_of_pieces(monkeypatch, name, plan, case):
    monkeypatch.setattr(threads, "PIECE", 50)
    arrays, attributes = small_case(monkeypatch, name, plan, case, "f")
    assert len(bits_in_every_way(lambda: run(FAST, name, arrays, **attributes)[:2], monkeypatch)) == 1


@pytest.mark.parametrize("plan", PLANS)
def test_the_steps_bits_depend_neither_on_the_threads_nor_on_the_order_of_pieces(monkeypatch, plan):
    def steps() -> Any:
        game, measured = play("fast", size=12, channels=2, width=3, dtype="f")
        return game.state(), measured

    force_plan(monkeypatch, plan)
    monkeypatch.setattr(threads, "PIECE", 500)
    assert len(bits_in_every_way(steps, monkeypatch)) == 1


def test_the_command_leaves_the_same_bits_with_one_thread_or_two(tmp_path):
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        options = ("--device", "cpu", "--engine", "fast", "--epochs", 1, "--threads", count)
        done = tinygan("train", *TINY, *options, "--no-gif", "--no-report", cwd=folder)
        assert done.returncode == 0 and f"engine fast, {count} thread" in done.stdout, done.stderr
        found.append(contents(read(folder / "runs/0001-strokes/checkpoints/epoch_0001.npz")[0]))
    assert found[0] == found[1]


# Pieces.


@pytest.mark.parametrize(("count", "each"), [(0, 5), (1, 1), (10, 0), (10, 1), (1000, 3000), (7, 1 << 20)])
def test_blocks_cover_everything_once_in_order(count, each):
    found = blocks(count, each)
    assert [n for block in found for n in range(block.start, block.stop)] == list(range(count))
    for block in found:
        size = block.stop - block.start
        assert 1 <= size and (size == 1 or size * each <= threads.PIECE)


# A process.

USE = """
import numpy as np
from tinygan.backend import cpu
from tinygan.fast.threads import POOL
from tinygan.ops.conv import conv2d
POOL.resize(2)
x, w = np.ones((64, 14, 14, 32), "f"), np.ones((5, 5, 32, 32), "f")
cpu("fast").twin(conv2d).forward(x, w, None)
import threading
assert threading.active_count() == 2, threading.enumerate()
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise SystemExit(7)", 7)])
def test_a_process_ends_with_its_threads(pool, end, code):
    done = subprocess.run([sys.executable, "-c", USE + end], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (code, "")


FORK = """
import os, time, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork with threads
child = os.fork()
if not child:
    cpu("fast").twin(conv2d).forward(x, w, None)
    os._exit(7)
for _ in range(100):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        raise SystemExit(os.waitstatus_to_exitcode(status))
    time.sleep(0.05)
os.kill(child, 9)
raise SystemExit("the child waits for threads that it does not have")
"""


INSIDE = """
import os
from tinygan.fast.threads import POOL
from tinygan.machine import blas_threads
before = POOL.threads, blas_threads()
with POOL.sized(1), POOL.blas_alone():
    child = os.fork()
    if not child:
        assert (POOL.threads, blas_threads()) == before, (POOL.threads, blas_threads())
with POOL.sized(3):
    assert blas_threads() == 3
assert (POOL.threads, blas_threads()) == before, (POOL.threads, blas_threads())
if child:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_process_forked_inside_the_pool_has_an_unused_one(pool):
    done = subprocess.run([sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_starts_new_threads(pool):
    done = subprocess.run([sys.executable, "-c", USE + FORK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7, done.stderr


def test_several_threads_can_use_the_pool_at_once():
    arrays, attributes = conv_case("conv2d", (65, (6, 9), 32, 32, (3, 5), (1, 2), "same"), "f")
    POOL.resize(2)
    expected = contents(run(FAST, "conv2d", arrays, **attributes)[:2])
    found: list[bool] = []

    def use() -> None:
        for _ in range(5):
            found.append(contents(run(FAST, "conv2d", arrays, **attributes)[:2]) == expected)

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join(30)
    assert found == [True] * 15
