"""Every fast op against its readable twin, where the tests of the ops themselves do not reach."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.checks import OPS, numbers, relative_error
from tests.fast.checks import (
    CONVOLUTIONS,
    EVERY_SMALL_CASE,
    FAST,
    READABLE,
    contents,
    conv_case,
    op_case,
    run,
    same_bits,
    small_case,
)
from tinygan.fast import conv as fast_conv
from tinygan.fast import threads
from tinygan.fast.direct import Direct
from tinygan.fast.frequencies import Frequencies

TOLERANCE = {"f": 1e-6, "d": 1e-12}  # of the largest difference, relative to the largest number


def exact(value: Any) -> Any:
    """Arrays of floating-point numbers as float64, all else as it is."""
    return value.astype(float) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def compare(name: str, arrays: Any, slack: float = 1, **attributes: Any) -> Any:
    """Forward and all gradients against the twin, which computes in float64; returns what was saved."""
    dtype = arrays[0].dtype
    tolerance = slack * TOLERANCE[dtype.char]
    y, found, saved = run(FAST, name, arrays, **attributes)
    dy = np.asarray(numbers(11, *y.shape)).astype(dtype)
    attributes = {key: exact(value) for key, value in attributes.items()}
    expected_y, expected, _ = run(READABLE, name, [exact(a) for a in arrays], exact(dy), **attributes)
    assert y.dtype == dtype and relative_error(y, expected_y) < tolerance
    for which, (g, e) in enumerate(zip(found, expected, strict=True)):
        assert (g is None) == (e is None)
        if e is not None:
            # A sum over the batch may cancel; then its rounding is measured by its terms.
            scale = np.abs(e).max() if e.ndim > 1 else np.abs(dy).sum(axis=tuple(range(dy.ndim - 1))).max()
            assert g.dtype == dtype and g.shape == e.shape
            error = np.abs(g - e).max() / scale
            assert error < tolerance, f"gradient {which}: {error:.1e}"
    return saved


# Convolutions, with the plan that the cost model picks.

CASES: list[tuple[Any, ...]] = [
    # N, (H, W), C, F, (KH, KW), stride, padding
    (2, (8, 8), 64, 32, (5, 5), 1, "same"),
    (2, (14, 14), 32, 16, (5, 5), 2, "same"),
    (300, (4, 4), 8, 16, (3, 3), 1, "same"),
    (1, (4, 5), 300, 7, (3, 3), 1, "same"),
    (1, (5, 4), 7, 300, (3, 3), 2, "same"),
    (2, (16, 16), 300, 16, (3, 3), 1, ((1, 1), (1, 1))),
    (65, (6, 9), 32, 32, (3, 5), (1, 2), "same"),
    (33, (9, 6), 32, 32, (4, 3), (2, 1), "valid"),
    (16, (11, 13), 32, 48, (7, 7), (3, 2), "same"),
    (16, (13, 11), 48, 32, (6, 7), (1, 3), ((3, 0), (1, 5))),
    (64, (5, 5), 48, 48, (5, 5), 1, "valid"),
    (64, (5, 4), 48, 48, (7, 6), 1, ((4, 5), (4, 4))),  # a kernel larger than the picture
    (64, (2, 3), 48, 48, (7, 7), 2, "same"),
    (64, (9, 9), 48, 48, (2, 2), 3, "valid"),  # a stride larger than the kernel
    (4, (40, 33), 24, 24, (5, 3), 1, "same"),
    (128, (12, 12), 1, 8, (5, 5), 2, "same"),
    (5, (28, 28), 3, 64, (5, 5), 2, "same"),
    (3, (9, 12), 4, 5, (3, 2), (1, 3), ((2, 0), (0, 1))),
    (3, (5, 7), 64, 1, (5, 5), 2, "same"),
    (3, (5, 7), 64, 3, (4, 6), (2, 1), "valid"),
    (300, (1, 1), 3, 20, (1, 1), 1, "same"),
    (1, (1, 1), 1, 1, (1, 1), 1, "same"),
    (1, (10, 1), 40, 40, (3, 1), 1, "same"),
    (7, (1, 10), 40, 40, (1, 4), (1, 3), "same"),
]


def convolution_equals_its_twin(
    name: str, case: tuple[Any, ...], dtype: str, bias: bool = True, slack: float = 1
) -> None:
    arrays, attributes = conv_case(name, case, dtype, bias)
    y, gradients, saved = run(FAST, name, arrays, **attributes)
    if isinstance(saved, fast_conv.Saved):
        compare(name, arrays, slack, **attributes)
    else:  # the readable op itself
        expected_y, expected, _ = run(READABLE, name, arrays, **attributes)
        for f, e in zip([y, *gradients], [expected_y, *expected], strict=True):
            same_bits(f, e)


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_equals_its_twin(name, case, dtype):
    convolution_equals_its_twin(name, case, dtype)


def kind_of(name: str, case: tuple[Any, ...]) -> tuple[Any, bool]:
    """The class of the case's plan, and whether it cuts the picture into tiles."""
    arrays, attributes = conv_case(name, case)
    plan = getattr(FAST.twin(OPS[name]).forward(*arrays, **attributes)[1], "plan", None)
    return type(plan), isinstance(plan, Frequencies) and plan.tiles > 1


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_cases_are_computed_in_every_way(name):
    found = {kind_of(name, case) for case in CASES}
    assert found == {(Frequencies, False), (Frequencies, True), (Direct, False), (type(None), False)}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("seed", range(150))
def test_any_convolution_equals_its_twin(seed, dtype):
    rng = np.random.default_rng(seed)

    def pair(low: int, high: int) -> tuple[int, int]:
        first, second = rng.integers(low, high + 1, 2).tolist()
        return first, second

    name, way = CONVOLUTIONS[seed % 2], seed // 2 % 3
    N, C, F = (int(2 ** rng.uniform(0, 8.3)) for _ in range(3))
    size, kernel, stride = pair(1, 16), pair(1, 7), pair(1, 3)
    work = C * F * math.prod(size) * math.prod(kernel)
    N = max(1, min(N, int(2e8 / work)))  # half a second
    if way == 2 and name == "conv2d":
        before = pair(0, 4)
        padding: Any = tuple(
            (b, int(rng.integers(5)) + max(0, K - side - b))
            for b, K, side in zip(before, kernel, size, strict=True)
        )
    elif way == 2:  # crop less than there is
        padding = tuple((int(rng.integers(K)), 0) for K in kernel)
    else:
        fits = name != "conv2d" or all(K <= side for K, side in zip(kernel, size, strict=True))
        padding = "valid" if way and fits else "same"
    convolution_equals_its_twin(
        name, (N, size, C, F, kernel, stride, padding), dtype, bool(seed % 5), slack=2
    )


# The other ops.

OTHERS: list[tuple[str, list[tuple[int, ...] | None], dict[str, Any]]] = [
    ("dense", [(300, 100), (100, 600), (600,)], {}),
    ("dense", [(300, 700), (700, 1), (1,)], {}),
    ("dense", [(1, 100), (100, 300), None], {}),
    ("dense", [(2, 700), (700, 1000), (1000,)], {}),
    ("dense", [(1, 1), (1, 1), (1,)], {}),
    ("batch_norm", [(300, 300), (300,), (300,)], {"of_batch": True}),
    ("batch_norm", [(16, 9, 8, 33), (33,), (33,)], {"of_batch": True}),
    ("batch_norm", [(300, 30, 31, 1), (1,), (1,)], {"of_batch": True}),  # several pieces
    ("batch_norm", [(2, 3, 4, 5), (5,), (5,)], {"of_batch": False, "eps": 0.5}),
    ("batch_norm", [(3, 1), (1,), (1,)], {"of_batch": True}),
    ("leaky_relu", [(300, 1001)], {"slope": 0.3}),  # several pieces
    ("leaky_relu", [(7, 5, 3, 2)], {"slope": 0.0}),
    ("leaky_relu", [(7, 5)], {"slope": 1.5}),
    ("leaky_relu", [()], {"slope": -0.5}),
    ("tanh", [(300, 1001)], {}),
    ("tanh", [(3, 4, 5, 6)], {}),
    ("tanh", [()], {}),
    ("dropout", [(300, 1001)], {"rate": 0.3}),
    ("dropout", [(5, 4, 3, 2)], {"rate": 0.9}),
    ("dropout", [(5, 4)], {"rate": 0.0}),
]


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize(("name", "shapes", "attributes"), OTHERS, ids=str)
def test_another_op_equals_its_twin(name, shapes, attributes, dtype):
    arrays, attributes = op_case(name, shapes, attributes, dtype)
    compare(name, arrays, **attributes)


def test_every_fast_op_is_compared():
    assert {op.__name__ for op in FAST.twins} == {*CONVOLUTIONS, *(name for name, _, _ in OTHERS)}


def test_leaky_relu_treats_special_numbers_as_its_twin_does():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45], "f")
    for slope in (0.3, 0.5):
        found, expected = (
            backend.twin(OPS["leaky_relu"]).forward(x, slope=slope) for backend in (FAST, READABLE)
        )
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f, e, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f", "d", "e"])
@pytest.mark.parametrize(
    ("kind", "kept"), [(bool, 1), (np.uint8, 1), (np.int64, 256), (np.float32, 0.25), (np.float64, -1)]
)
def test_dropout_is_its_twin_to_the_last_bit_for_any_kind_of_mask(kind, kept, dtype):
    x = numbers(1, 40, 30).astype(dtype)
    x[:3, :10] = [[np.nan], [np.inf], [-0.0]]  # silenced numbers leave nothing behind
    mask = np.where(numbers(2, 40, 30) > 0, kept, 0).astype(kind)
    with np.errstate(invalid="ignore"):
        found, expected = (run(b, "dropout", [x], x, mask=mask, rate=0.3)[:2] for b in (FAST, READABLE))
    same_bits(found[0], expected[0])
    same_bits(found[1][0], expected[1][0])


# What every op promises, for arrays that a plan takes and that are cut into pieces.


@pytest.fixture(params=[threads.PIECE, 50], ids=["whole", "pieces"])
def piece(request, monkeypatch):
    """All in one piece, or in many."""
    monkeypatch.setattr(threads, "PIECE", request.param)


def strided(array: Any, order: str) -> Any:
    """The same numbers in another order in memory."""
    if not isinstance(array, np.ndarray):
        return array
    if order == "fortran":
        return np.asfortranarray(array)
    if order == "reversed":
        back = (slice(None, None, -1),) * array.ndim
        return array[back].copy()[back]
    wide = np.full([2 * side for side in array.shape], 99, array.dtype)  # every second of a larger array
    part = wide[(slice(1, None, 2),) * array.ndim]
    part[...] = array
    return part


@pytest.mark.parametrize("order", ["fortran", "reversed", "every second"])
@EVERY_SMALL_CASE
def test_the_order_of_numbers_in_memory_makes_no_difference(monkeypatch, piece, name, plan, case, order):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "d")
    dy = numbers(12, *FAST.twin(OPS[name]).forward(*arrays, **attributes)[0].shape)
    y, expected, _ = run(FAST, name, arrays, dy, **attributes)
    moved = {key: strided(value, order) for key, value in attributes.items()}
    found_y, found, _ = run(FAST, name, [strided(a, order) for a in arrays], strided(dy, order), **moved)
    for f, e in zip([found_y, *found], [y, *expected], strict=True):
        assert f.flags.writeable and relative_error(f, e) < 1e-13


@EVERY_SMALL_CASE
def test_a_gradient_that_is_the_same_everywhere_may_be_one_number_in_memory(
    monkeypatch, piece, name, plan, case
):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "d")
    y = FAST.twin(OPS[name]).forward(*arrays, **attributes)[0]
    dy = np.broadcast_to(np.float64(0.5), y.shape)
    found, expected = (run(FAST, name, arrays, given, **attributes)[1] for given in (dy, dy.copy()))
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape and np.abs(f - e).max() < 1e-12


@EVERY_SMALL_CASE
def test_nothing_is_changed_and_a_second_backward_pass_is_bit_equal(monkeypatch, piece, name, plan, case):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "f")
    op, inputs = FAST.twin(OPS[name]), contents(arrays, attributes)
    y, saved = op.forward(*arrays, **attributes)
    assert contents(arrays, attributes) == inputs
    dy = numbers(11, *y.shape).astype("f")
    before = contents(arrays, attributes, y, saved, dy)
    wanted = (True,) * len(arrays)
    first = contents(op.backward(saved, dy, wanted))
    assert contents(op.backward(saved, dy, wanted)) == first
    assert contents(arrays, attributes, y, saved, dy) == before


@EVERY_SMALL_CASE
def test_gradients_do_not_depend_on_which_others_are_wanted(monkeypatch, piece, name, plan, case):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "f")
    op = FAST.twin(OPS[name])
    y, saved = op.forward(*arrays, **attributes)
    dy = numbers(11, *y.shape).astype("f")
    everything = op.backward(saved, dy, (True,) * len(arrays))
    for wanted in product((False, True), repeat=len(arrays)):
        found = op.backward(saved, dy, wanted)
        for f, e, want in zip(found, everything, wanted, strict=True):
            same_bits(f, e if want else None)


# What has no faster way is as it is there, without a word.


def outcome(backend: Any, name: str, arrays: Any, attributes: dict[str, Any]) -> Any:
    """What comes out, all in one comparable value: the arrays, or the error and its text."""
    try:
        y, gradients, _ = run(backend, name, arrays, **attributes)
    except Exception as error:
        return type(error), str(error)
    return [None if a is None else (a.dtype, np.shape(a), a.tolist()) for a in (y, *gradients)]


X, W, B = (2, 5, 6, 3), (3, 3, 3, 3), (3,)
UNUSUAL_SHAPES = [
    [(0, 5, 6, 3), W, B],  # an empty batch
    [(2, 5, 6, 0), (3, 3, 0, 3), B],  # no channels
    [X, (3, 3, 3, 0), (0,)],
    [X, (3, 3, 0, 3), (0,)],
    [(2, 0, 6, 3), W, B],
    [X, (0, 3, 3, 3), B],
    [X, W, (4,)],
    [X, W, (3, 1)],
    [X, W, ()],
    [X, (3, 3, 2, 2), None],
    [(5, 6, 3), W, None],
    [X, (3, 3, 3), None],
]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shapes", UNUSUAL_SHAPES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_of_unusual_shapes_is_its_twin(name, shapes, padding):
    arrays = [None if s is None else np.asarray(numbers(1, *s), "f") for s in shapes]
    found, expected = (outcome(b, name, arrays, {"padding": padding}) for b in (FAST, READABLE))
    assert found == expected


@pytest.mark.parametrize(
    "dtypes", ["eee", "ggg", "iii", "lll", "FFF", "ffd", "fdd", "dff", "ddi"], ids=lambda text: text
)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_of_unusual_dtypes_is_its_twin(name, dtypes):
    arrays = [(9 * numbers(1, *s)).astype(t) for s, t in zip((X, W, B), dtypes, strict=True)]
    found, expected = (outcome(b, name, arrays, {"stride": 2}) for b in (FAST, READABLE))
    if dtypes == "ddi":  # only the bias differs: both compute, and round, in x's dtype
        assert [part[:2] for part in found] == [part[:2] for part in expected]
    else:
        assert found == expected


@pytest.mark.parametrize(
    "attributes",
    [
        {"stride": 0}, {"stride": 1.0}, {"stride": np.int64(2)}, {"stride": (1, np.int32(1))},
        {"stride": [1, 1]}, {"stride": True}, {"padding": "full"}, {"padding": None},
        {"padding": ((1, 1), (1,))},
        {"padding": [[1, 0], [0, 1]]}, {"padding": ((-1, 0), (0, 0))}, {"padding": ((9, 0), (0, 9))},
        {"padding": np.ones((2, 2), int)}, {"padding": ((True, False), (0, 0))},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("channels", [3, 40])  # not worth a plan, and worth it
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_with_unusual_attributes_is_its_twin(name, channels, attributes):
    arrays = [numbers(1, 64, 5, 6, channels), numbers(2, 3, 3, channels, channels), numbers(3, channels)]
    found, expected = (outcome(b, name, arrays, attributes) for b in (FAST, READABLE))
    if isinstance(expected, tuple):
        assert found == expected
    else:
        compare(name, arrays, **attributes)


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        ("dense", [(3, 4), (5, 2), None], {}),
        ("dense", [(4,), (4, 2), None], {}),
        ("dense", [(3, 4), (4, 2, 1), None], {}),
        ("dense", [(3, 4), (4, 2), (3,)], {}),
        ("dense", [(3, 4), (4, 2), (1, 2)], {}),
        ("dense", [(0, 4), (4, 2), (2,)], {}),
        ("dense", [(3, 0), (0, 2), (2,)], {}),
        ("batch_norm", [(4, 3), (2,), (3,)], {"mean": (3,), "variance": (3,)}),
        ("batch_norm", [(4, 3), (3,), (3, 1)], {"mean": (3,), "variance": (3,)}),
        ("batch_norm", [(4, 3), (3,), (3,)], {"mean": (1,), "variance": (3,)}),
        ("batch_norm", [(4, 3), (3,), (3,)], {"mean": (3,), "variance": ()}),
        ("batch_norm", [(0, 3), (3,), (3,)], {"mean": (3,), "variance": (3,)}),
        ("leaky_relu", [(0, 3)], {}),
        ("tanh", [(0, 3)], {}),
        ("dropout", [(0, 3)], {"mask": (0, 3)}),
        ("dropout", [(4, 3)], {"mask": (3, 4)}),
        ("dropout", [(4, 3)], {"mask": (4, 1)}),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["e", "f", "d", "g"])
def test_another_op_on_unusual_shapes_is_its_twin(name, shapes, attributes, dtype):
    arrays = [None if s is None else np.asarray(numbers(1, *s), dtype) for s in shapes]
    given: dict[str, Any] = {k: np.asarray(np.abs(numbers(2, *s)), dtype) for k, s in attributes.items()}
    given |= {"dropout": {"rate": 0.5}, "batch_norm": {"of_batch": True}}.get(name, {})
    found, expected = (outcome(b, name, arrays, given) for b in (FAST, READABLE))
    assert found == expected


@pytest.mark.parametrize("dtype", ["e", "g"])
@pytest.mark.parametrize(
    ("name", "shapes", "attributes"), [OTHERS[number] for number in (2, 6, 8, 10, 15, 18)], ids=str
)
def test_half_and_extended_precision_stay_what_they_are(name, shapes, attributes, dtype):
    arrays, attributes = op_case(name, shapes, attributes, dtype)
    (y, found, _), (other, expected, _) = (run(b, name, arrays, **attributes) for b in (FAST, READABLE))
    for f, e in zip([y, *found], [other, *expected], strict=True):
        assert (f is None) == (e is None)
        if e is not None:
            assert f.dtype == e.dtype == np.dtype(dtype)
            assert relative_error(f.astype("g"), e.astype("g")) < (0.02 if dtype == "e" else 1e-15)


@pytest.mark.parametrize("dtypes", ["fdd", "dff", "ffd", "fdf"])
def test_a_dense_layer_of_mixed_dtypes_is_its_twin(dtypes):
    shapes = (3, 4), (4, 2), (2,)
    arrays = [numbers(at, *s).astype(t) for at, (s, t) in enumerate(zip(shapes, dtypes, strict=True))]
    assert outcome(FAST, "dense", arrays, {}) == outcome(READABLE, "dense", arrays, {})


@pytest.mark.parametrize("dtypes", ["fdddd", "dffff", "fffdd", "fdfff"])
def test_a_batch_norm_of_mixed_dtypes_is_its_twin(dtypes):
    x, gamma, beta, mean, variance = (
        np.abs(numbers(at, *shape)).astype(dtype)
        for at, (shape, dtype) in enumerate(zip([(5, 3), *[(3,)] * 4], dtypes, strict=True))
    )
    attributes = {"mean": mean, "variance": variance, "of_batch": True}
    (y, found, _), (other, expected, _) = (
        run(b, "batch_norm", [x, gamma, beta], **attributes) for b in (FAST, READABLE)
    )
    for f, e in zip([y, *found], [other, *expected], strict=True):
        assert f.dtype == e.dtype and relative_error(f, e) < TOLERANCE[e.dtype.char]
