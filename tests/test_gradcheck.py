"""The gradient check finds wrong gradients, and covers every op."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tests.checks import OPS, forward, one_line
from tinygan import backend, gradcheck
from tinygan.arrays import CPU, Backend
from tinygan.autograd import Op, Tensor, grad
from tinygan.backend import choose
from tinygan.errors import UsageError
from tinygan.gradcheck import TOLERANCE, cases, check_losses, check_op
from tinygan.ops.loss import bce_with_logits


def spoilt(name: str, change: float) -> Backend:
    """A backend whose op `name` returns gradients that are wrong by a factor."""
    op = OPS[name]

    def backward(saved, dy, wanted):
        return tuple(None if g is None else change * g for g in op.backward(saved, dy, wanted))

    return replace(CPU, twins={op: Op(op.forward, backward)})


def test_every_op_agrees_with_differences(backend):
    for name, op in OPS.items():
        assert check_op(backend, op).error < TOLERANCE, name


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_both_losses_agree_with_differences(engine):
    for name, result in check_losses(choose("cpu", engine, lambda line: None)):
        assert result.passed and result.points > 0, name


@pytest.mark.parametrize("name", sorted(OPS))
def test_a_gradient_that_is_wrong_by_a_millionth_is_found(name):
    assert not check_op(spoilt(name, 1 + 1e-6), OPS[name]).passed


@pytest.mark.parametrize("name", ["conv2d", "conv2d_transpose", "batch_norm", "dense", "bce_with_logits"])
def test_wrong_gradients_are_found_in_the_losses_of_the_networks(name):
    results = dict(check_losses(spoilt(name, 1.001)))
    assert not results["both, through G and D"].passed
    assert results["generator_loss"].passed == (name != "bce_with_logits")


def test_a_weight_without_effect_is_compared_on_the_scale_of_the_others():
    x, idle = Tensor(np.array([0.3])), Tensor(np.array([1.0]))
    loss = partial(bce_with_logits, x, target=1.0)
    (slope,) = grad(loss(), [x])
    found = gradcheck.compare(loss, [x, idle], [slope, np.zeros(1)], gradcheck.some_directions)
    assert found.passed and found.points == 16


def test_a_gradient_that_is_nan_fails():
    result = check_op(spoilt("tanh", float("nan")), OPS["tanh"])
    assert np.isnan(result.error) and not result.passed


def test_points_count_all_numbers_of_all_inputs():
    assert check_op(CPU, OPS["dense"]).points == (12 + 8 + 2) + (12 + 8)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_one_wrong_entry_of_any_input_is_found(argument):
    op = OPS["conv2d"]

    def backward(saved, dy, wanted):
        found = list(op.backward(saved, dy, wanted))
        if found[argument] is not None:
            found[argument] = found[argument].copy()
            found[argument].flat[-1] += 1e-6 * np.abs(found[argument]).max()
        return tuple(found)

    assert not check_op(replace(CPU, twins={op: Op(op.forward, backward)}), op).passed


def test_the_fast_engines_methods_are_checked():
    fast = choose("cpu", "fast", lambda line: None)
    for name in ("conv2d", "conv2d_transpose"):
        plans = []
        for case in cases()[OPS[name]]:
            _, saved = forward(fast, name, case.arrays, **case.attributes)
            plans.append(type(getattr(saved, "plan", None)).__name__)
        assert {"Frequencies", "Direct"} & set(plans) and "Frequencies" in plans, plans


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = gradcheck.main(["--device", "cpu", *arguments])
    return code, capsys.readouterr().out


def test_the_command_prints_a_table_and_fails_if_a_gradient_is_wrong(capsys, monkeypatch):
    monkeypatch.setattr(backend, "choose", lambda *args, **kwargs: spoilt("tanh", 1.01))
    code, out = run(capsys)
    lines = out.splitlines()
    assert code == 1 and [line.split()[0] for line in lines[2 : 2 + len(OPS)]] == list(OPS)
    assert [line.split()[0] for line in lines[2:-1] if line.endswith("FAIL")] == ["tanh", "both,"]
    assert sum(line.endswith("pass") for line in lines[2:-1]) == len(OPS) + 2
    assert lines[-1] == "failed: tanh, both, through G and D"


def test_the_command_checks_one_op_and_succeeds(capsys):
    code, out = run(capsys, "--op", "dense", "--engine", "readable")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 4 and lines[0].startswith("device cpu, engine readable")
    assert lines[2].endswith("pass") and lines[-1] == "all gradients agree with finite differences"


def test_an_unknown_op_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="invalid choice: 'cube'") as error:
        gradcheck.main(["--device", "cpu", "--op", "cube"])
    assert all(name in one_line(error) for name in OPS)
