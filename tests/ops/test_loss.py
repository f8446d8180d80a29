"""Binary cross-entropy on logits, against the textbook formula with 1,000 digits."""

import math

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import check_jacobian, forward, gradients, numbers, one_line, relative_error
from tinygan.errors import ShapeError
from tinygan.ops.loss import sigmoid

LOGITS = [0.0, -0.0, 0.5, -0.5, 3.0, -3.0, 40.0, -40.0, 100.0, -100.0, 1000.0, -1000.0]
TARGETS = [0.0, 1.0, 0.9, 0.5]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("logit", LOGITS)
def test_loss_and_gradient_of_one_logit_are_exact_and_finite(backend, logit, target):
    loss, slope, _ = oracles.bce(logit, target)
    x = np.array([[logit]])
    found, _ = forward(backend, "bce_with_logits", (x,), target=target)
    (dx,) = gradients(backend, "bce_with_logits", (x,), np.array(1.0), target=target)
    assert float(found) == pytest.approx(loss, rel=1e-14, abs=0)
    assert float(dx[0, 0]) == pytest.approx(slope, rel=1e-14, abs=1e-300)
    assert math.isfinite(found) and math.isfinite(dx[0, 0])


@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("logit", LOGITS)
def test_float32_keeps_float32s_accuracy(backend, logit, target):
    loss, slope, _ = oracles.bce(float(np.float32(logit)), target)
    x = np.array([[logit]], dtype=np.float32)
    found, _ = forward(backend, "bce_with_logits", (x,), target=target)
    (dx,) = gradients(backend, "bce_with_logits", (x,), np.array(1, np.float32), target=target)
    assert float(found) == pytest.approx(loss, rel=1e-6, abs=1e-38)
    assert float(dx[0, 0]) == pytest.approx(slope, rel=1e-6, abs=1e-38)


@pytest.mark.parametrize("logit", LOGITS)
def test_sigmoid_is_exact_and_silent(backend, logit):
    found = backend.numpy(sigmoid(backend.array(np.array([logit]))))
    assert float(found[0]) == pytest.approx(oracles.bce(logit, 0.0)[2], rel=1e-15, abs=1e-300)


def test_loss_is_the_mean_over_all_logits(backend):
    x, z = 3 * numbers(1, 3, 2), np.array([[0.0, 1.0], [1.0, 0.25], [0.0, 0.0]])
    found, _ = forward(backend, "bce_with_logits", (x,), target=z)
    expected = sum(oracles.bce(*pair)[0] for pair in zip(x.ravel(), z.ravel(), strict=True)) / 6
    assert float(found) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("target", [1.0, np.array([[0.0, 1.0], [1.0, 0.25], [0.0, 0.0]])], ids=["1", "array"])
def test_full_jacobian(backend, target):
    attributes = {"target": target}
    check_jacobian(backend, "bce_with_logits", (3 * numbers(1, 3, 2),), 6e-6, 1e-6, lambda arrays: attributes)


def test_gradient_is_scaled_by_dy(backend):
    x = numbers(1, 4, 1)
    (once,) = gradients(backend, "bce_with_logits", (x,), np.array(1.0), target=0.0)
    (thrice,) = gradients(backend, "bce_with_logits", (x,), np.array(3.0), target=0.0)
    assert relative_error(thrice, 3 * once) < 1e-15


@pytest.mark.parametrize("shape", [(2,), (2, 2), (3, 1, 1)])
def test_targets_of_another_shape_are_refused_in_one_line(shape):
    with pytest.raises(ShapeError) as error:
        tinygan.bce_with_logits(np.ones((3, 1)), target=np.ones(shape))
    one_line(error)
