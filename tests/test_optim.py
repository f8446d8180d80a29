"""Adam and the weight average, against their formulas in plain Python."""

import math

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import numbers
from tinygan.autograd import Tensor, grad
from tinygan.average import Average
from tinygan.errors import UsageError
from tinygan.optim import Adam


@pytest.mark.parametrize(
    "settings",
    [{}, {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-2}],
    ids=["the defaults", "others"],
)
def test_adam_equals_the_formula_over_several_steps(readable, settings):
    defaults = {"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "eps": 1e-7} | settings
    start, gradients = numbers(1, 2, 3), numbers(2, 7, 2, 3)
    gradients[3] = 0
    parameter, other = (Tensor(readable.array(values)) for values in (start, np.array([1.0])))
    adam = Adam({"w": parameter, "other": other}, **settings)
    histories = {
        at: oracles.adam(float(start[at]), [float(g[at]) for g in gradients], **defaults)
        for at in np.ndindex(2, 3)
    }
    for t in range(7):
        adam.step([readable.array(gradient) for gradient in (gradients[t], np.array([0.0]))])
        assert adam.t == t + 1
        found_w, found_m, found_v = map(readable.numpy, (parameter.data, adam.m["w"], adam.v["w"]))
        for at, history in histories.items():
            w, m, v = history[t]
            moved = found_w[at] - start[at]
            assert abs(moved - (w - start[at])) < 1e-11 * defaults["lr"] + 1e-15
            assert found_m[at] == pytest.approx(m, rel=1e-13, abs=1e-17)
            assert found_v[at] == pytest.approx(v, rel=1e-13)
    assert other.data == 1  # zero gradients from the start move nothing: 0 / eps, not 0 / 0


def test_step_leaves_graphs_gradients_and_earlier_arrays_unchanged(readable):
    start, x, other = (readable.array(numbers(*given)) for given in ((1, 3, 1), (2, 4, 3), (3, 3, 3)))
    w = Tensor(start)
    features = tinygan.dense(x, Tensor(other))
    loss = tinygan.bce_with_logits(tinygan.dense(features, w), target=1.0)
    before, w_before = grad(loss, [w])[0], start.copy()
    adam = Adam({"w": w}, lr=0.5)
    m, v, g = adam.m["w"], adam.v["w"], before.copy()
    adam.step([before])
    assert (start == w_before).all() and (before == g).all() and (m == 0).all() and (v == 0).all()
    assert (w.data != start).all()
    assert (grad(loss, [w])[0] == g).all()


def test_float32_stays_float32_for_any_type_of_learning_rate():
    for lr in (1e-4, np.float64(1e-4)):
        w = Tensor(np.ones(2, np.float32))
        adam = Adam({"w": w}, lr=lr)
        adam.step([np.ones(2, np.float32)])
        assert {w.dtype, adam.m["w"].dtype, adam.v["w"].dtype} == {np.dtype(np.float32)}


@pytest.mark.parametrize("wrong", [np.ones((3, 4), np.float32), np.ones(4)])
def test_a_gradient_of_another_shape_or_dtype_is_refused_and_nothing_moves(wrong):
    parameters = {name: Tensor(np.ones(4, np.float32)) for name in "ab"}
    adam = Adam(parameters, lr=0.1)
    with pytest.raises(UsageError, match=r"Adam got float\d\d .* for b\. It needs float32 \(4,\)\.$"):
        adam.step([np.ones(4, np.float32), wrong])
    assert adam.t == 0 and all((p.data == 1).all() for p in parameters.values())


@pytest.mark.parametrize(
    ("name", "wrong"), [("lr", -1), ("lr", math.inf), ("beta1", 1), ("beta2", -1), ("eps", math.nan)]
)
def test_hyperparameters_out_of_range_are_refused(name, wrong):
    with pytest.raises(UsageError, match=f"Adam got .*{name}={wrong}"):
        Adam({}, **{name: wrong})


def test_too_few_gradients_are_refused():
    adam = Adam({"a": Tensor(np.ones(1)), "b": Tensor(np.ones(1))})
    with pytest.raises(ValueError):
        adam.step([np.ones(1)])
    assert adam.t == 0


def test_average_equals_the_formula_and_reaches_its_decay(readable):
    w, other = (numbers(3 + i, 40, 2).astype(np.float32) for i in range(2))
    names = ("w", "other")
    take = readable.array
    sources = {name: Tensor(take(values[0])) for name, values in zip(names, (w, other), strict=True)}
    averaged = {name: Tensor(take(np.zeros(2, np.float32))) for name in reversed(names)}
    average = Average(averaged, sources, decay=0.3)
    expected = np.zeros((2, 2))
    for step in range(1, 40):
        sources["w"].data, sources["other"].data = take(w[step]), take(other[step])
        average.update(step)
        if step % 8 == 0:
            t = step // 8
            d = {1: 2 / 11, 2: 3 / 12}.get(t, 0.3)
            expected = d * expected + (1 - d) * np.array([w[step], other[step]])
        found = np.array([readable.numpy(averaged[name].data) for name in names])
        assert found.dtype == np.float32 and np.allclose(found, expected, rtol=1e-6, atol=1e-6)
        assert sources["w"].data is not averaged["w"].data
