"""What every op promises, tried on every op there is."""

from importlib import import_module
from itertools import product
from pkgutil import iter_modules

import numpy as np
import pytest

from tests.checks import OPS, arrays_in, numbers, on_device
from tinygan import autograd, ops
from tinygan.autograd import Op
from tinygan.backend import cpu

# name -> cases: (shapes of the inputs or None, attributes)
CASES = {
    "add": [([(2, 3), (2, 3)], {})],
    "reshape": [([(2, 3)], {"shape": (3, 2)})],
    "dense": [([(3, 4), (4, 2), (2,)], {}), ([(3, 4), (4, 2), None], {})],
    "conv2d": [
        ([(2, 5, 4, 2), (3, 3, 2, 3), (3,)], {"stride": 2, "padding": "same"}),
        ([(1, 5, 4, 2), (2, 3, 2, 1), None], {"stride": 1, "padding": "valid"}),
        ([(1, 5, 4, 1), (1, 1, 1, 2), None], {"stride": 1, "padding": ((0, 0), (0, 0))}),
    ],
    "conv2d_transpose": [
        ([(2, 3, 4, 2), (3, 3, 3, 2), (3,)], {"stride": 2, "padding": "same"}),
        ([(1, 3, 4, 2), (2, 3, 1, 2), None], {"stride": 1, "padding": "valid"}),
        ([(1, 3, 4, 1), (1, 1, 2, 1), None], {"stride": 1, "padding": ((0, 0), (0, 0))}),
    ],
    "batch_norm": [
        ([(4, 3), (3,), (3,)], {"mean": (3,), "variance": (3,), "of_batch": True}),
        ([(2, 3, 2, 3), (3,), (3,)], {"mean": (3,), "variance": (3,), "of_batch": True}),
        ([(2, 3, 2, 3), (3,), (3,)], {"mean": (3,), "variance": (3,), "of_batch": False}),
        ([(4, 3), (3,), (3,)], {}),
        ([(2, 3, 2, 3), (3,), (3,)], {}),
    ],
    "leaky_relu": [([(3, 4)], {"slope": 0.3})],
    "tanh": [([(3, 4)], {})],
    "dropout": [([(3, 4)], {"mask": (3, 4), "rate": 0.3})],
    "bce_with_logits": [([(4, 1)], {"target": 1.0}), ([(4, 1)], {"target": (4, 1)})],
}
# Their gradients are most of the work, so they compute none that is not wanted.
SPARING = {"dense", "conv2d", "conv2d_transpose"}
ARRAY_ATTRIBUTES = {"mean", "variance", "mask", "target"}


def test_every_op_has_a_case():
    files = [autograd, *(import_module(f"tinygan.ops.{file.name}") for file in iter_modules(ops.__path__))]
    found = {name: op for file in files for name, op in vars(file).items() if isinstance(op, Op)}
    assert set(CASES) == set(OPS) and OPS == found


def case(name, number, dtype):
    shapes, given = CASES[name][number]
    arrays = [None if s is None else numbers(i, *s).astype(dtype) for i, s in enumerate(shapes)]
    attributes = dict(given)
    for key in ARRAY_ATTRIBUTES & set(given):
        if isinstance(given[key], tuple):
            values = np.abs(numbers(7, *given[key]))
            attributes[key] = values > 0.5 if key == "mask" else values.astype(dtype)
    return arrays, attributes


EVERY_CASE = pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name in CASES for number in range(len(CASES[name]))]
)


def run(backend, name, number, dtype):
    """(op, placed inputs, attributes, y, saved, dy) on the backend."""
    arrays, attributes = case(name, number, dtype)
    arrays = [on_device(backend, a) for a in arrays]
    attributes = {key: on_device(backend, value) for key, value in attributes.items()}
    op = backend.twin(OPS[name])
    y, saved = op.forward(*arrays, **attributes)
    dy = backend.array(np.asarray(numbers(11, *y.shape)).astype(dtype))
    return op, arrays, attributes, y, saved, dy


def snapshot(backend, *values):
    return [backend.numpy(a).tobytes() for a in arrays_in(values)]


@EVERY_CASE
def test_arguments_are_left_as_they_were(backend, name, number):
    arrays, attributes = case(name, number, np.float64)
    before = snapshot(backend, *[on_device(backend, a) for a in (*arrays, *attributes.values())])
    op, arrays, attributes, y, saved, dy = run(backend, name, number, np.float64)
    assert snapshot(backend, *arrays, *attributes.values()) == before
    everything = (arrays, attributes, y, saved, dy)
    before = snapshot(backend, *everything)
    op.backward(saved, dy, tuple(a is not None for a in arrays))
    assert snapshot(backend, *everything) == before


@EVERY_CASE
def test_float32_stays_float32(backend, name, number):
    op, arrays, _, y, saved, dy = run(backend, name, number, np.float32)
    found = op.backward(saved, dy, tuple(a is not None for a in arrays))
    for array in arrays_in([y, saved, list(found)]):
        assert array.dtype.kind == "b" or array.dtype == np.float32


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_float32_stays_float32_where_a_mean_is_over_very_many_numbers(engine):
    """NumPy 1 makes float64 of float32 divided by an int above 65,535."""
    backend, x, one = cpu(engine), np.ones((70_000, 1), np.float32), np.ones(1, np.float32)
    moments = {"mean": one, "variance": one, "of_batch": True}
    for name, arrays, attributes in (
        ("batch_norm", (x, one, one), moments),
        ("bce_with_logits", (x,), {"target": 1.0}),
    ):
        op = backend.twin(OPS[name])
        y, saved = op.forward(*arrays, **attributes)
        found = op.backward(saved, np.ones_like(y), (True,) * len(arrays))
        assert {array.dtype for array in arrays_in([y, list(found)])} == {np.dtype(np.float32)}, name


@EVERY_CASE
def test_two_backward_passes_are_bit_equal(backend, name, number):
    op, arrays, _, _, saved, dy = run(backend, name, number, np.float32)
    wanted = tuple(a is not None for a in arrays)
    first = snapshot(backend, *op.backward(saved, dy, wanted))
    assert snapshot(backend, *op.backward(saved, dy, wanted)) == first


@EVERY_CASE
def test_gradients_come_as_wanted_and_do_not_depend_on_which_others_are(backend, name, number):
    op, arrays, _, _, saved, dy = run(backend, name, number, np.float64)
    possible = [a is not None for a in arrays]
    everything = op.backward(saved, dy, tuple(possible))
    assert [g is not None for g in everything] == possible
    assert [g.shape for g in everything if g is not None] == [a.shape for a in arrays if a is not None]
    for wanted in product(*[(False, True) if p else (False,) for p in possible]):
        found = op.backward(saved, dy, wanted)
        if name in SPARING:
            assert [g is not None for g in found] == list(wanted)
        expected = [g for g, want in zip(everything, wanted, strict=True) if want]
        found = [g for g, want in zip(found, wanted, strict=True) if want]
        assert snapshot(backend, *found) == snapshot(backend, *expected)
