"""The walk back from the loss: its gradients, the work it skips, the graphs it refuses."""

import inspect
import sys
import threading
from typing import Any, cast

import numpy as np
import pytest

import tinygan
from tests.checks import OPS, numbers, one_line, relative_error, spied
from tests.game import Game
from tinygan.autograd import Op, Tensor, add, grad, no_grad
from tinygan.errors import ShapeError, UsageError
from tinygan.gan import discriminator_loss, generator_loss


def two_losses(backend):
    """Two losses through one shared layer; their input and both weights."""
    x, w1, w2 = numbers(1, 4, 3), *(Tensor(backend.array(numbers(*g))) for g in ((2, 3, 2), (3, 2, 1)))
    shared = tinygan.tanh(tinygan.dense(backend.array(x), w1))
    logits = tinygan.dense(shared, w2)
    return tinygan.bce_with_logits(logits, target=1.0), tinygan.bce_with_logits(logits, target=0.0), x, w1, w2


def loss_by_hand(x, w1, w2, target):
    p = 1 / (1 + np.exp(-np.tanh(x @ w1) @ w2))
    return -np.mean(np.log(p if target else 1 - p))


def test_two_losses_through_one_graph_each_get_their_own_gradients(readable):
    ones, zeros, x, w1, w2 = two_losses(readable)
    values = [readable.numpy(w.data) for w in (w1, w2)]
    first = [g.tobytes() for g in grad(ones, [w1, w2])]
    for loss, target in ((ones, 1), (zeros, 0), (ones, 1)):
        assert float(loss) == pytest.approx(loss_by_hand(x, values[0], values[1], target), rel=1e-14)
        found = map(readable.numpy, grad(loss, [w1, w2]))
        for g, which in zip(found, (0, 1), strict=True):
            e = numbers(5, *g.shape)
            sides = []
            for step in (6e-6, -6e-6):
                weights = values.copy()
                weights[which] = weights[which] + step * e
                sides.append(loss_by_hand(x, weights[0], weights[1], target))
            assert relative_error((g * e).sum(), (sides[0] - sides[1]) / 12e-6) < 1e-6
    # Bit for bit the same in another order, alone, and twice.
    assert [g.tobytes() for g in grad(ones, [w2, w1, w2])] == [*first[::-1], first[1]]
    assert [g.tobytes() for g in grad(ones, [w1])] == first[:1]


def test_gradient_with_respect_to_an_inner_tensor_and_to_the_loss_itself(readable):
    x = Tensor(readable.array(np.array([1.0, -2.0])))
    inner = tinygan.leaky_relu(x, slope=0.5)
    loss = tinygan.bce_with_logits(inner, target=0.0)
    sigmoids = 1 / (1 + np.exp([-1.0, 1.0]))
    found = grad(loss, {0: inner, 1: x, 2: loss}.values())  # any iterable
    d_inner, d_x, d_loss = map(readable.numpy, found)
    assert relative_error(d_inner, sigmoids / 2) < 1e-15
    assert relative_error(d_x, sigmoids / 2 * [1, 0.5]) < 1e-15
    assert d_loss == 1


def test_a_tensor_used_twice_gets_the_sum_of_both_gradients(readable):
    data = readable.array(np.array([0.3, -0.7]))
    a, b = Tensor(data), Tensor(data)  # one array in two tensors: still two tensors
    # y = 3 a + b, with several paths to a
    y = (a + a) + (a + b)
    expected = 1 / (1 + np.exp(-readable.numpy(y.data))) / 2
    d_a, d_b = map(readable.numpy, grad(tinygan.bce_with_logits(y, target=0.0), [a, b]))
    assert relative_error(d_a, 3 * expected) < 1e-15
    assert relative_error(d_b, expected) < 1e-15


def spied_networks(backend):
    calls = []

    def spy(name, direction, what):
        if direction == "backward":
            calls.append((name, what["wanted"]))

    game = Game(spied(backend, spy))
    images, noise, real_masks, fake_masks = game.batch(0)
    real_logits = game.D(images, training=True, masks=real_masks)
    fake_logits = game.D(game.G(noise, training=True), training=True, masks=fake_masks)
    losses = discriminator_loss(real_logits, fake_logits), generator_loss(fake_logits)
    return game.G, game.D, losses, calls


def test_discriminators_gradient_does_not_walk_through_the_generator(readable):
    _, D, (d_loss, _), calls = spied_networks(readable)
    grad(d_loss, list(D.parameters.values()))
    names = [name for name, _ in calls]
    assert names.count("conv2d") == 4 and names.count("dense") == 2
    assert not {"conv2d_transpose", "batch_norm", "tanh"} & set(names)
    # The first layers get images, whose gradient is not needed; the second layers need that of their inputs.
    assert sorted(wanted for name, wanted in calls if name == "conv2d") == sorted(
        2 * [(False, True, True)] + 2 * [(True, True, True)]
    )


def test_generators_gradient_does_not_compute_the_discriminators_weight_gradients(readable):
    G, _, (_, g_loss), calls = spied_networks(readable)
    grad(g_loss, list(G.parameters.values()))
    assert [wanted for name, wanted in calls if name == "conv2d"] == 2 * [(True, False, False)]
    last_of_D, first_of_G = (wanted for name, wanted in calls if name == "dense")
    assert last_of_D == (True, False, False) and first_of_G == (False, True, False)
    assert [name for name, _ in calls].count("conv2d_transpose") == 3


def test_a_tensor_used_twice_is_walked_once(readable):
    calls = []
    backend = spied(readable, lambda name, direction, what: calls.append((name, direction)))
    x = Tensor(readable.array(np.array([0.5, 1.0])), backend)
    y = tinygan.tanh(x)
    for _ in range(40):  # 2^40 paths lead back to x
        y = y + y
    grad(tinygan.bce_with_logits(y, target=1.0), [x])
    assert calls.count(("tanh", "backward")) == 1 and calls.count(("add", "backward")) == 40


def test_a_chain_of_5000_additions_is_deeper_than_the_recursion_limit(readable):
    assert sys.getrecursionlimit() < 5000
    x = Tensor(readable.array(np.array(0.0)))
    y = x
    for _ in range(4999):
        y = y + x
    (gradient,) = grad(tinygan.bce_with_logits(y, target=0.0), [x])
    assert gradient == 5000 * 0.5


def test_no_grad_records_nothing_until_it_ends_and_computes_the_same(readable):
    x = Tensor(readable.array(numbers(1, 3)))
    with pytest.raises(ZeroDivisionError), no_grad():
        y = tinygan.tanh(x)
        with no_grad():
            pass
        z = tinygan.tanh(y)
        assert y.node is None and z.node is None
        assert (z.data == tinygan.tanh(tinygan.tanh(x)).data).all()
        raise ZeroDivisionError  # also ends it
    assert tinygan.tanh(x).node is not None and tinygan.tanh(x.data).node is None  # of a constant


def test_no_grad_holds_in_its_own_thread_only():
    recorded = {}

    def record(where):
        recorded[where] = tinygan.tanh(Tensor(np.ones(1))).node is not None

    with no_grad():
        thread = threading.Thread(target=record, args=["other"])
        thread.start()
        thread.join()
        record("here")
    assert recorded == {"other": True, "here": False}


@pytest.mark.parametrize("dtypes", ["fd", "ffd", "ll", "??", "DD", "fl"])
def test_mixed_and_non_floating_dtypes_are_refused_in_one_line(dtypes):
    arrays = [np.ones(shape, dtype) for shape, dtype in zip([(2, 2), (2, 2), (2,)], dtypes, strict=False)]
    for given in (arrays, map(Tensor, arrays)):
        with pytest.raises(UsageError, match=str(arrays[0].dtype)) as error:
            tinygan.dense(*given)
        one_line(error)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (0,)])
def test_a_loss_that_is_not_a_scalar_is_refused_in_one_line(shape):
    x = Tensor(np.ones(shape))
    with pytest.raises(UsageError) as error:
        grad(tinygan.tanh(x), [x])
    assert str(shape) in one_line(error)


def test_wrt_that_the_loss_does_not_depend_on_is_refused_in_one_line():
    x, other = Tensor(np.ones(3)), Tensor(np.ones((2, 7)))
    loss = tinygan.bce_with_logits(x, target=1.0)
    with pytest.raises(UsageError) as error:
        grad(loss, [x, other])
    assert "(2, 7)" in one_line(error)
    with no_grad():
        loss = tinygan.bce_with_logits(x, target=1.0)
    with pytest.raises(UsageError) as error:
        grad(loss, [x])
    one_line(error)


def loss_of(x):
    return tinygan.bce_with_logits(x, target=1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, xp: tinygan.bce_with_logits(x, target=np.float64(1)),
        lambda x, xp: tinygan.bce_with_logits(x, target=xp.ones((4, 1))),
        lambda x, xp: tinygan.bce_with_logits(x, target=xp.ones((4, 1), int)),
        lambda x, xp: loss_of(tinygan.leaky_relu(x, slope=np.float64(0.3))),
        lambda x, xp: loss_of(tinygan.dropout(x, mask=xp.ones((4, 1)), rate=np.float64(0.5))),
        lambda x, xp: loss_of(
            tinygan.batch_norm(x, *xp.ones((2, 1), "f"), mean=xp.zeros(1), variance=xp.ones(1))
        ),
    ],
    ids=["number as target", "float64 targets", "whole targets", "slope", "rate", "statistics"],
)  # fmt: skip
def test_an_attribute_does_not_silently_turn_float32_into_float64(readable, call):
    x = Tensor(readable.xp.ones((4, 1), np.float32))
    try:
        loss = call(x, readable.xp)
    except UsageError as error:  # also fine
        assert "\n" not in str(error)
    else:
        assert loss.dtype == np.float32 and grad(loss, [x])[0].dtype == np.float32


def test_an_op_has_the_name_docstring_and_arguments_of_its_forward_pass():
    for name, op in OPS.items():
        forward = op.forward
        assert forward.__name__ == f"{name}_forward" and op.__name__ == name
        assert op.__doc__ and op.__doc__ == forward.__doc__ and inspect.getdoc(op) == inspect.getdoc(forward)
        assert inspect.signature(op) == inspect.signature(forward).replace(return_annotation="Tensor")
        # Tensors by position, attributes by name.
        kinds = {parameter.kind for parameter in inspect.signature(op).parameters.values()}
        assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


X = np.ones((4, 4))


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: tinygan.dense(X), "'w'"),
        (lambda: tinygan.dense(X, X, X, X), "too many"),
        (lambda: tinygan.dense(X, X, bias=X), "'bias'"),
        (lambda: tinygan.tanh(), "'x'"),
        (lambda: tinygan.leaky_relu(X, 0.3), "too many"),  # attributes have names
        (lambda: tinygan.leaky_relu(X, rate=0.3), "'rate'"),
        (lambda: tinygan.dropout(X, rate=0.3), "'mask'"),
        (lambda: tinygan.bce_with_logits(X), "'target'"),
        (lambda: tinygan.reshape(X, (2, 8)), "too many"),
        (lambda: add(X), "'b'"),
    ],
)
def test_a_missing_or_an_extra_argument_is_a_type_error_that_names_it(call, names):
    with pytest.raises(TypeError, match=names) as error:
        call()
    one_line(error)


def test_inputs_can_be_given_by_name():
    x, w, b = Tensor(numbers(1, 4, 3)), Tensor(numbers(2, 3, 1)), Tensor(numbers(3, 1))
    one, other = tinygan.dense(x, w, b), tinygan.dense(b=b, w=w, x=x)
    assert (one.data == other.data).all() and other.node is not None
    assert other.node.inputs == (x, w, b)
    for g, e in zip(grad(loss_of(other), [x, w, b]), grad(loss_of(one), [x, w, b]), strict=True):
        assert (g == e).all()


def test_a_custom_op_is_two_functions_and_can_return_unwanted_gradients(readable):
    product = Op(lambda x, y: (x * y, (x, y)), lambda saved, dy, wanted: (dy * saved[1], dy * saved[0]))
    x, y, constant = (numbers(seed, 3) for seed in (1, 2, 3))
    expected = -1 / (1 + np.exp(x * y * constant)) / 3 * y * constant
    x, y = Tensor(readable.array(x)), Tensor(readable.array(y))
    (d_x,) = grad(loss_of(product(product(x, y), readable.array(constant))), [x])
    assert relative_error(readable.numpy(d_x), expected) < 1e-14


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tinygan.dense(None, X), "dense got None, float64"),
        (lambda: tinygan.dense(X, None), "dense got None, float64"),
        (lambda: tinygan.dropout(X, mask=Tensor(X), rate=0.5), "dropout got a Tensor as attribute"),
        (lambda: tinygan.bce_with_logits(X, target=[1, 2]), "got target list"),
        (lambda: grad(cast(Any, 1.0), []), "scalar Tensor, got float"),
        (lambda: grad(cast(Any, np.array(1.0)), []), "scalar Tensor, got ndarray"),
    ],
)
def test_an_unusable_argument_is_named_in_one_line(call, words):
    with pytest.raises(UsageError, match=words) as error:
        call()
    one_line(error)


@pytest.mark.parametrize("other", [1.0, 2, [1.0, 2.0], np.float64(1)])
def test_what_is_not_an_array_of_the_same_kind_is_refused_in_one_line(other):
    with pytest.raises((UsageError, ShapeError)) as error:
        add(Tensor(np.ones(2)), other)
    one_line(error)


def test_numpy_converts_a_tensor_but_does_not_compute_with_it(readable):
    x = Tensor(readable.array(np.array([1.5, 2.0], np.float32)), readable)
    found = np.asarray(x)
    assert found.dtype == np.float32 and found.tolist() == [1.5, 2.0]
    assert np.asarray(x, np.float64).dtype == np.float64
    copy = np.array(x)
    copy *= 0
    assert np.asarray(x).tolist() == [1.5, 2.0]
    for wrong in (lambda: np.exp(x), lambda: np.ones(2, np.float32) * x):  # without a gradient
        with pytest.raises(TypeError):
            wrong()
