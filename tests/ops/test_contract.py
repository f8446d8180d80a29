"""The contract of ops, checked on every op."""

from importlib import import_module
from itertools import product
from pkgutil import iter_modules

import numpy as np
import pytest

from tests.checks import OPS, arrays_in, moved
from tinygan import autograd, ops
from tinygan.autograd import Op
from tinygan.gradcheck import cases

# Their gradients are most of the work, so they compute only those that are wanted.
SPARING = {"dense", "conv2d", "conv2d_transpose"}
EVERY_CASE = pytest.mark.parametrize(
    ("name", "number"), [(op.__name__, number) for op, some in cases().items() for number in range(len(some))]
)


def test_every_op_has_cases():
    files = [autograd, *(import_module(f"tinygan.ops.{file.name}") for file in iter_modules(ops.__path__))]
    assert OPS == {name: op for file in files for name, op in vars(file).items() if isinstance(op, Op)}


def run(readable, name, number, dtype):
    """(op, inputs, attributes, y, saved, dy) of one of the cases that gradients are checked on."""
    case = cases()[OPS[name]][number]

    def given(value):
        return moved(readable, value.astype(dtype)) if isinstance(value, np.ndarray) else value

    arrays, attributes = [given(a) for a in case.arrays], {k: given(v) for k, v in case.attributes.items()}
    y, saved = OPS[name].forward(*arrays, **attributes)
    return OPS[name], arrays, attributes, y, saved, readable.xp.ones_like(y)


def snapshot(*values):
    return [a.tobytes() for a in arrays_in(values)]


@EVERY_CASE
def test_arguments_stay_unchanged_results_are_float32_and_a_second_pass_is_bit_equal(readable, name, number):
    op, arrays, attributes, y, saved, dy = run(readable, name, number, np.float32)
    again = run(readable, name, number, np.float32)
    assert snapshot(arrays, attributes) == snapshot(again[1], again[2])
    everything = (arrays, attributes, y, saved, dy)
    before, wanted = snapshot(*everything), tuple(a is not None for a in arrays)
    first = op.backward(saved, dy, wanted)
    assert {a.dtype for a in arrays_in([y, saved, list(first)])} == {np.dtype(np.float32)}
    assert snapshot(*everything) == before
    assert snapshot(op.backward(saved, dy, wanted)) == snapshot(first)


def test_float32_stays_float32_in_a_mean_over_many_numbers(backend):
    """NumPy 1 returns float64 if float32 is divided by an int above 65,535."""
    x, one = (backend.xp.ones(shape, dtype="float32") for shape in ((70_000, 1), 1))
    moments = {"mean": one, "variance": one, "of_batch": True}
    for name, arrays, attributes in (
        ("batch_norm", (x, one, one), moments),
        ("bce_with_logits", (x,), {"target": 1.0}),
    ):
        op = backend.twin(OPS[name])
        y, saved = op.forward(*arrays, **attributes)
        found = op.backward(saved, backend.xp.ones_like(y), (True,) * len(arrays))
        assert {array.dtype for array in arrays_in([y, list(found)])} == {np.dtype(np.float32)}, name


@EVERY_CASE
def test_wanted_gradients_do_not_depend_on_which_others_are_wanted(readable, name, number):
    op, arrays, _, _, saved, dy = run(readable, name, number, np.float64)
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
        assert snapshot(*found) == snapshot(*expected)
