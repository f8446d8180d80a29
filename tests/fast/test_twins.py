"""Every fast op against its readable twin."""

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
    """Floating-point arrays as float64, other values unchanged."""
    return value.astype(float) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value


def compare(name: str, arrays: Any, slack: float = 1, **attributes: Any) -> None:
    """Compare the result and all gradients with those of the readable twin in float64."""
    dtype = arrays[0].dtype
    tolerance = slack * TOLERANCE[dtype.char]
    y, found, _ = run(FAST, name, arrays, **attributes)
    dy = np.asarray(numbers(11, *y.shape)).astype(dtype)
    attributes = {key: exact(value) for key, value in attributes.items()}
    expected_y, expected, _ = run(READABLE, name, [exact(a) for a in arrays], exact(dy), **attributes)
    assert y.dtype == dtype and relative_error(y, expected_y) < tolerance
    for which, (g, e) in enumerate(zip(found, expected, strict=True)):
        assert (g is None) == (e is None)
        if e is not None:
            # A sum over the batch can cancel, so its rounding is relative to its terms.
            scale = np.abs(e).max() if e.ndim > 1 else np.abs(dy).sum(axis=tuple(range(dy.ndim - 1))).max()
            assert g.dtype == dtype and g.shape == e.shape
            error = np.abs(g - e).max() / scale
            assert error < tolerance, f"gradient {which}: {error:.1e}"


# Convolutions, with the plan that the cost model picks.

CASES: list[tuple[Any, ...]] = [
    # N, (H, W), C, F, (KH, KW), stride, padding
    (2, (14, 14), 32, 16, (5, 5), 2, "same"),
    (300, (4, 4), 8, 16, (3, 3), 1, "same"),
    (1, (4, 5), 300, 7, (3, 3), 1, "same"),
    (2, (16, 16), 300, 16, (3, 3), 1, ((1, 1), (1, 1))),
    (33, (9, 6), 32, 32, (4, 3), (2, 1), "valid"),
    (16, (13, 11), 48, 32, (6, 7), (1, 3), ((3, 0), (1, 5))),
    (64, (9, 9), 48, 48, (2, 2), 3, "valid"),  # a stride larger than the kernel
    (4, (40, 33), 24, 24, (5, 3), 1, "same"),
    (128, (12, 12), 1, 8, (5, 5), 2, "same"),
    (3, (5, 7), 64, 3, (4, 6), (2, 1), "valid"),
    (1, (1, 1), 1, 1, (1, 1), 1, "same"),
]


def convolution_equals_its_twin(
    name: str, case: tuple[Any, ...], dtype: str, bias: bool = True, slack: float = 1
) -> None:
    arrays, attributes = conv_case(name, case, dtype, bias)
    y, gradients, saved = run(FAST, name, arrays, **attributes)
    if isinstance(saved, fast_conv.Saved):
        compare(name, arrays, slack, **attributes)
    else:  # by the readable op
        expected_y, expected, _ = run(READABLE, name, arrays, **attributes)
        for f, e in zip([y, *gradients], [expected_y, *expected], strict=True):
            same_bits(f, e)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_equals_its_twin(name, case):
    convolution_equals_its_twin(name, case, "f")


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
    ("batch_norm", [(300, 300), (300,), (300,)], {"of_batch": True}),
    ("batch_norm", [(300, 30, 31, 1), (1,), (1,)], {"of_batch": True}),  # several pieces
    ("batch_norm", [(2, 3, 4, 5), (5,), (5,)], {"of_batch": False, "eps": 0.5}),
    ("leaky_relu", [(300, 1001)], {"slope": 0.3}),  # several pieces
    ("leaky_relu", [(7, 5)], {"slope": 1.5}),
    ("leaky_relu", [()], {"slope": -0.5}),
    ("tanh", [(300, 1001)], {}),
    ("tanh", [()], {}),
    ("dropout", [(300, 1001)], {"rate": 0.3}),
    ("dropout", [(5, 4)], {"rate": 0.0}),
]


@pytest.mark.parametrize(("name", "shapes", "attributes"), OTHERS, ids=str)
def test_another_op_equals_its_twin(name, shapes, attributes):
    arrays, attributes = op_case(name, shapes, attributes, "f")
    compare(name, arrays, **attributes)


def test_batch_norm_without_moments_computes_them():
    compare("batch_norm", [numbers(at, *shape) for at, shape in enumerate([(6, 5, 4, 3), (3,), (3,)])])


def test_every_fast_op_is_compared():
    assert {op.__name__ for op in FAST.twins} == {*CONVOLUTIONS, *(name for name, _, _ in OTHERS)}


def test_leaky_relu_treats_special_numbers_as_its_twin_does():
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45], "f")
    found, expected = (b.twin(OPS["leaky_relu"]).forward(x, slope=0.3) for b in (FAST, READABLE))
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "kept"), [(bool, 1), (np.uint8, 1), (np.int64, 256), (np.float32, 0.25), (np.float64, -1)]
)
def test_dropout_equals_its_twin_to_the_last_bit_for_any_kind_of_mask(kind, kept):
    x = numbers(1, 40, 30).astype("f")
    x[:3, :10] = [[np.nan], [np.inf], [-0.0]]  # dropped, even these become 0
    mask = np.where(numbers(2, 40, 30) > 0, kept, 0).astype(kind)
    with np.errstate(invalid="ignore"):
        found, expected = (run(b, "dropout", [x], x, mask=mask, rate=0.3)[:2] for b in (FAST, READABLE))
    same_bits(found[0], expected[0])
    same_bits(found[1][0], expected[1][0])


# Properties of every op, for arrays that are cut into many pieces.


@pytest.fixture
def pieces(monkeypatch):
    monkeypatch.setattr(threads, "PIECE", 50)


def strided(array: Any, order: str) -> Any:
    """The same numbers in another order in memory."""
    if not isinstance(array, np.ndarray):
        return array
    if order == "fortran":
        return np.asfortranarray(array)
    wide = np.full([2 * side for side in array.shape], 99, array.dtype)  # use every second number, backwards
    part = wide[(slice(None, None, -2),) * array.ndim]
    part[...] = array
    return part


@pytest.mark.parametrize("order", ["fortran", "every second, backwards"])
@EVERY_SMALL_CASE
def test_the_order_of_numbers_in_memory_makes_no_difference(monkeypatch, pieces, name, plan, case, order):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "d")
    dy = numbers(12, *FAST.twin(OPS[name]).forward(*arrays, **attributes)[0].shape)
    y, expected, _ = run(FAST, name, arrays, dy, **attributes)
    moved = {key: strided(value, order) for key, value in attributes.items()}
    found_y, found, _ = run(FAST, name, [strided(a, order) for a in arrays], strided(dy, order), **moved)
    for f, e in zip([found_y, *found], [y, *expected], strict=True):
        assert f.flags.writeable and relative_error(f, e) < 1e-13


@EVERY_SMALL_CASE
def test_nothing_is_changed_and_gradients_do_not_depend_on_which_others_are_wanted(
    monkeypatch, pieces, name, plan, case
):
    arrays, attributes = small_case(monkeypatch, name, plan, case, "f")
    op, inputs = FAST.twin(OPS[name]), contents(arrays, attributes)
    y, saved = op.forward(*arrays, **attributes)
    assert contents(arrays, attributes) == inputs
    dy = numbers(11, *y.shape).astype("f")
    before = contents(arrays, attributes, y, saved, dy)
    everything = op.backward(saved, dy, (True,) * len(arrays))
    for wanted in product((False, True), repeat=len(arrays)):
        if not any(wanted):  # the backward pass never calls such an op
            continue
        found = op.backward(saved, dy, wanted)
        for f, e, want in zip(found, everything, wanted, strict=True):
            same_bits(f, e if want else None)
    assert contents(arrays, attributes, y, saved, dy) == before


# Inputs without a faster way get the readable op, silently.


def outcome(backend: Any, name: str, arrays: Any, attributes: dict[str, Any]) -> Any:
    """The outcome as a comparable value: the arrays, or the error and its text."""
    try:
        y, gradients, _ = run(backend, name, arrays, **attributes)
    except Exception as error:
        return type(error), str(error)
    return [None if a is None else (a.dtype, np.shape(a), a.tolist()) for a in (y, *gradients)]


X, W, B = (2, 5, 6, 3), (3, 3, 3, 3), (3,)
CHANNELS = {"mean": (3,), "variance": (3,)}


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        *((name, [(0, 5, 6, 3), W, B], {}) for name in CONVOLUTIONS),  # an empty batch
        *((name, [X, (3, 3, 2, 2), None], {}) for name in CONVOLUTIONS),
        *((name, [X, W, (3, 1)], {}) for name in CONVOLUTIONS),
        *((name, [(5, 6, 3), W, None], {}) for name in CONVOLUTIONS),
        ("dense", [(3, 4), (5, 2), None], {}),
        ("dense", [(4,), (4, 2), None], {}),
        ("dense", [(3, 4), (4, 2), (1, 2)], {}),
        ("dense", [(0, 4), (4, 2), (2,)], {}),
        ("batch_norm", [(4, 3), (3,), (3, 1)], CHANNELS),
        ("batch_norm", [(4, 3), (3,), (3,)], CHANNELS | {"variance": ()}),
        ("batch_norm", [(0, 3), (3,), (3,)], CHANNELS),
        ("leaky_relu", [(0, 3)], {}),
        ("tanh", [(0, 3)], {}),
        ("dropout", [(0, 3)], {"mask": (0, 3)}),
        ("dropout", [(4, 3)], {"mask": (4, 1)}),
        ("dropout", [(4, 3)], {"mask": (4, 3), "rate": 1.5}),
    ],
    ids=str,
)
def test_an_op_on_unusual_shapes_or_rates_equals_its_twin(name, shapes, attributes):
    arrays = [None if s is None else np.asarray(numbers(1, *s), "f") for s in shapes]
    given: dict[str, Any] = {"dropout": {"rate": 0.5}, "batch_norm": {"of_batch": True}}.get(name, {}) | {
        key: np.asarray(np.abs(numbers(2, *value)), "f") if isinstance(value, tuple) else value
        for key, value in attributes.items()
    }
    found, expected = (outcome(b, name, arrays, given) for b in (FAST, READABLE))
    assert found == expected


@pytest.mark.parametrize(("dtype", "tolerance"), [("e", 0.02), ("g", 1e-15)])
@EVERY_SMALL_CASE
def test_half_and_extended_precision_keep_their_dtype(monkeypatch, name, plan, case, dtype, tolerance):
    arrays, attributes = small_case(monkeypatch, name, plan, case, dtype)
    (y, found, _), (other, expected, _) = (run(b, name, arrays, **attributes) for b in (FAST, READABLE))
    for f, e in zip([y, *found], [other, *expected], strict=True):
        assert f.dtype == e.dtype == np.dtype(dtype)
        same = name not in ("leaky_relu", "tanh")  # the others call the readable op
        assert (f == e).all() if same else relative_error(f.astype("g"), e.astype("g")) < tolerance


@pytest.mark.parametrize(
    ("name", "dtypes"),
    [*(("batch_norm", dtypes) for dtypes in ("fdddd", "dffff", "fffdd")), ("dense", "fdd"), ("dense", "dff")],
)
def test_an_op_of_mixed_dtypes_equals_its_twin(name, dtypes):
    shapes = ((5, 3), (3, 2), (2,)) if name == "dense" else ((5, 3), *[(3,)] * 4)
    arrays = [np.abs(numbers(at, *shape)).astype(dtypes[at]) for at, shape in enumerate(shapes)]
    attributes = {} if name == "dense" else {"mean": arrays[3], "variance": arrays[4], "of_batch": True}
    (y, found, _), (other, expected, _) = (run(b, name, arrays[:3], **attributes) for b in (FAST, READABLE))
    for f, e in zip([y, *found], [other, *expected], strict=True):
        assert f.dtype == e.dtype and relative_error(f, e) < TOLERANCE[e.dtype.char]
