"""Gradients checked against finite differences: for every op, for both losses, through both networks.

A derivative is what a difference quotient tends to, so the backward pass of an op must agree with

    (f(x + h e) - f(x - h e)) / (2 h)

for every direction e. The error of this quotient is of order h^2, and rounding adds about 1e-16 / h; in
float64, h = 1e-5 leaves about ten digits. ``python -m tinygan.gradcheck`` and the tests both use this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Backend
from tinygan.autograd import Op, Tensor, add, grad
from tinygan.gan import discriminator_loss, generator_loss
from tinygan.layers import Network
from tinygan.models import discriminator, generator
from tinygan.ops.activation import leaky_relu, tanh
from tinygan.ops.batchnorm import batch_norm
from tinygan.ops.conv import conv2d, conv2d_transpose
from tinygan.ops.dense import dense, reshape
from tinygan.ops.dropout import dropout
from tinygan.ops.loss import bce_with_logits
from tinygan.rng import stream

STEP = 1e-5
TOLERANCE = 1e-7  # relative to the largest entry; a wrong formula is off by far more than 1e-3

Arrays = Sequence[np.ndarray | None]
Attributes = dict[str, Any]


class Case(NamedTuple):
    """Inputs of an op, float64, and its attributes, which may depend on the inputs."""

    arrays: Arrays
    attributes: Callable[[Arrays], Attributes]


class Result(NamedTuple):
    """How well a backward pass agrees with differences."""

    error: float  # the largest difference relative to the largest entry, over all cases
    points: int  # derivatives compared

    @property
    def passed(self) -> bool:
        """Whether the error is within `TOLERANCE`; NaN is not."""
        return self.error < TOLERANCE


def numbers(seed: int, *shape: int) -> np.ndarray:
    """Standard normal float64 numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected number. The shapes must agree."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    scale = np.abs(expected).max()
    assert scale > 0, "nothing to compare with: all expected numbers are 0"
    return float(np.abs(found - expected).max() / scale)


def forward(backend: Backend, op: Op, arrays: Arrays, **attributes: Any) -> tuple[np.ndarray, Any]:
    """(y as a NumPy array, saved) of `op`, run on `backend`."""
    placed = [on_device(backend, a) for a in arrays]
    attributes = {key: on_device(backend, value) for key, value in attributes.items()}
    y, saved = backend.twin(op).forward(*placed, **attributes)
    return backend.numpy(y), saved


def backward(
    backend: Backend, op: Op, saved: Any, dy: Any, wanted: Sequence[bool]
) -> list[np.ndarray | None]:
    """The op's gradients as NumPy arrays, None where there is none."""
    dy = backend.array(np.asarray(dy))
    gradients = backend.twin(op).backward(saved, dy, tuple(wanted))
    return [None if g is None else backend.numpy(g) for g in gradients]


def jacobian_error(
    backend: Backend,
    op: Op,
    arrays: Arrays,
    attributes: Callable[[Arrays], Attributes] = lambda arrays: {},
    step: float = STEP,
) -> Result:
    """Compare every entry of the Jacobian, dy_i / dx_j for every array x, with central differences.

    `attributes` says which attributes go with given arrays: batch norm's depend on x.
    """
    y, saved = forward(backend, op, arrays, **attributes(arrays))
    wanted = [a is not None for a in arrays]
    rows = []
    for i in range(y.size):
        dy = np.zeros(y.size)
        dy[i] = 1
        rows.append(backward(backend, op, saved, dy.reshape(y.shape), wanted))
    worst, points = 0.0, 0
    for which, array in enumerate(arrays):
        if array is None:
            continue
        found = np.array([row[which].ravel() for row in rows])  # pyright: ignore[reportOptionalMemberAccess]
        expected = np.zeros((y.size, array.size))
        for j in range(array.size):
            sides = []
            for sign in (1, -1):
                copy = array.copy()
                copy.flat[j] += sign * step
                moved = [*arrays[:which], copy, *arrays[which + 1 :]]
                sides.append(forward(backend, op, moved, **attributes(moved))[0])
            expected[:, j] = (sides[0] - sides[1]).ravel() / (2 * step)
        worst, points = np.maximum(worst, relative_error(found, expected)), points + expected.size
    return Result(float(worst), points)


def on_device(backend: Backend, value: Any) -> Any:
    return backend.array(value) if isinstance(value, np.ndarray) else value


def _fixed(**attributes: Any) -> Callable[[Arrays], Attributes]:
    return lambda arrays: attributes


def _own_moments(arrays: Arrays) -> Attributes:
    """Batch norm in training: mean and biased variance of the batch itself, which depend on x."""
    x = arrays[0]
    assert x is not None
    axes = tuple(range(x.ndim - 1))
    return {"mean": x.mean(axis=axes), "variance": x.var(axis=axes), "of_batch": True}


def _away_from_0(x: np.ndarray) -> np.ndarray:
    """LeakyReLU has a corner at 0: differences across it would be of two slopes."""
    return x + 0.1 * np.sign(x)


def cases() -> dict[Op, list[Case]]:
    """What every op is checked on: small, with all kinds of strides, kernels and pads."""
    x, mask = numbers(1, 2, 5, 4, 2), (numbers(2, 3, 4) > 0).astype(np.float64)
    convolutions = [
        (kernel, stride, padding)
        for kernel, stride in (((3, 3), 1), ((5, 5), 2), ((2, 3), (1, 2)), ((1, 2), (2, 3)))
        for padding in ("same", "valid", ((1, 0), (0, 2)))
        if padding != "valid" or kernel[0] <= x.shape[1] and kernel[1] <= x.shape[2]
    ]
    # Enough pictures under a large kernel that the fast engine takes the way of frequencies.
    wide = Case((numbers(1, 4, 4, 4, 2), numbers(2, 5, 5, 2, 2), numbers(3, 2)), _fixed(stride=1))
    return {
        add: [Case((numbers(1, 2, 3), numbers(2, 2, 3)), _fixed())],
        reshape: [Case((numbers(1, 2, 6),), _fixed(shape=(3, 4)))],
        dense: [
            Case((numbers(1, 3, 4), numbers(2, 4, 2), numbers(3, 2)), _fixed()),
            Case((numbers(1, 3, 4), numbers(2, 4, 2), None), _fixed()),
        ],
        conv2d: [
            Case((x, numbers(4, *kernel, 2, 3), numbers(5, 3)), _fixed(stride=stride, padding=padding))
            for kernel, stride, padding in convolutions
        ]
        + [wide],
        conv2d_transpose: [
            Case((x[:, :3, :3], numbers(4, *kernel, 3, 2), None), _fixed(stride=stride, padding=padding))
            for kernel, stride, padding in convolutions
        ]
        + [wide],
        batch_norm: [
            Case((numbers(1, 6, 3), numbers(2, 3), numbers(3, 3)), _own_moments),
            Case((numbers(1, 2, 2, 3, 2), numbers(2, 2), numbers(3, 2)), _own_moments),
            Case(
                (numbers(1, 4, 3), numbers(2, 3), numbers(3, 3)),
                _fixed(mean=numbers(4, 3), variance=numbers(5, 3) ** 2, of_batch=False),
            ),
        ],
        leaky_relu: [Case((_away_from_0(numbers(1, 4, 5)),), _fixed(slope=0.3))],
        tanh: [Case((numbers(1, 4, 5),), _fixed())],
        dropout: [Case((numbers(1, 3, 4),), _fixed(mask=mask, rate=0.3))],
        bce_with_logits: [
            *(Case((3 * numbers(1, 7, 1),), _fixed(target=target)) for target in (0.0, 1.0, 0.9)),
            Case((3 * numbers(1, 7, 1),), _fixed(target=mask.reshape(-1)[:7, None])),
        ],
    }


def check_op(backend: Backend, op: Op) -> Result:
    """All `cases` of `op`."""
    found = [jacobian_error(backend, op, case.arrays, case.attributes) for case in cases()[op]]
    return _together(found)


def loss_error(
    function: Callable[[list[Tensor]], Tensor], inputs: Sequence[np.ndarray], backend: Backend
) -> Result:
    """Compare `grad` of a scalar function of tensors with central differences in every entry of `inputs`."""

    def value(arrays: Sequence[np.ndarray]) -> Tensor:
        return function([Tensor(backend.array(array), backend) for array in arrays])

    tensors = [Tensor(backend.array(array), backend) for array in inputs]
    gradients = [backend.numpy(g) for g in grad(function(tensors), tensors)]
    found = []
    for which, array in enumerate(inputs):
        expected = np.zeros(array.size)
        for j in range(array.size):
            sides = []
            for sign in (1, -1):
                copy = array.copy()
                copy.flat[j] += sign * STEP
                sides.append(float(value([*inputs[:which], copy, *inputs[which + 1 :]])))
            expected[j] = (sides[0] - sides[1]) / (2 * STEP)
        found.append(Result(relative_error(gradients[which].ravel(), expected), array.size))
    return _together(found)


DIRECTIONS = 8  # random ones, for each parameter of both networks


def network_error(backend: Backend) -> Result:
    """Both losses through a narrow pair of networks, in random directions of every parameter.

    LeakyReLU's corner is met by chance only: the step is small against the numbers.
    """
    sizes = {"size": 8, "width": 2, "dtype": np.float64, "backend": backend}
    G, D = (
        generator(stream(1, "init").at(0), noise_dim=3, **sizes),
        discriminator(stream(1, "init").at(1), **sizes),
    )
    noise, images = backend.array(numbers(1, 4, 3)), backend.array(np.tanh(numbers(2, 4, 8, 8, 1)))
    masks = [
        [backend.array((numbers(s, 4, n, n, c) > -0.5) * 1.0) for n, c in ((4, 2), (2, 4))] for s in (3, 4)
    ]

    def losses() -> tuple[Tensor, Tensor]:
        fakes = D(G(noise, training=True), training=True, masks=masks[0])
        return discriminator_loss(D(images, training=True, masks=masks[1]), fakes), generator_loss(fakes)

    found = []
    for number, network in enumerate((D, G)):
        found.append(_along_directions(network, lambda number=number: losses()[number], backend))
    return _together(found)


def _along_directions(network: Network, loss: Callable[[], Tensor], backend: Backend) -> Result:
    """The slope of `loss` along random directions of each parameter of `network`, against the gradient's."""
    parameters = list(network.parameters.values())
    gradients = [backend.numpy(g) for g in grad(loss(), parameters)]
    slopes, expected = [], []
    for which, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        start = parameter.data
        for number in range(DIRECTIONS):
            direction = numbers(100 * which + number, *gradient.shape)
            direction /= np.linalg.norm(direction)
            sides = []
            for sign in (1, -1):
                parameter.data = start + sign * STEP * backend.array(direction)
                sides.append(float(loss()))
            slopes.append(float((gradient * direction).sum()))
            expected.append((sides[0] - sides[1]) / (2 * STEP))
        parameter.data = start
    return Result(relative_error(np.array(slopes), np.array(expected)), len(slopes))


def check_losses(backend: Backend) -> dict[str, Result]:
    """Both losses with respect to logits, and with respect to the parameters of both networks."""
    logits = [3 * numbers(1, 5, 1), 3 * numbers(2, 4, 1)]
    return {
        "discriminator_loss": loss_error(lambda x: discriminator_loss(x[0], x[1]), logits, backend),
        "generator_loss": loss_error(lambda x: generator_loss(x[0]), logits[1:], backend),
        "both, through G and D": network_error(backend),
    }


def _together(results: Sequence[Result]) -> Result:
    worst = np.max([result.error for result in results])  # NaN stays NaN
    return Result(float(worst), sum(result.points for result in results))
