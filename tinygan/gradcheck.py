"""``python -m tinygan.gradcheck``: does every backward pass agree with finite differences?

A derivative is the limit of a difference quotient, so what a backward pass computes must agree with

    (f(x + h e) - f(x - h e)) / (2 h)

for every direction e. In float64 this is off by about h^2 + 1e-16 / h: h = 1e-5 leaves about ten digits."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from tinygan import cli, gan, models
from tinygan.arrays import Array, Backend
from tinygan.autograd import Op, Tensor, add, grad
from tinygan.errors import put
from tinygan.ops import activation, batchnorm, conv, dense, dropout, loss
from tinygan.penalty import r1, r1_gradients
from tinygan.rng import stream

STEP = 1e-5
TOLERANCE = 1e-7  # relative to the largest entry; a wrong formula is off by far more than 1e-3


class Case(NamedTuple):
    """An op's inputs, float64, and its attributes."""

    arrays: Sequence[np.ndarray | None]
    attributes: dict[str, Any] = {}


class Result(NamedTuple):
    """How well a backward pass agrees with finite differences."""

    error: float  # the largest deviation relative to the largest entry, over all cases
    points: int  # number of derivatives compared

    @property
    def passed(self) -> bool:
        """Whether the error is below `TOLERANCE`; NaN is not."""
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


def cases() -> dict[Op, list[Case]]:
    """Small inputs for every op, with all kinds of strides, kernels and padding."""
    x, mask = numbers(1, 2, 5, 4, 2), (numbers(2, 3, 4) > 0).astype(np.float64)
    windows = [
        (size, {"stride": stride, "padding": padding})
        for size, stride in (((3, 3), 1), ((5, 5), 2), ((2, 3), (1, 2)), ((1, 2), (2, 3)))
        for padding in ("same", "valid", ((1, 0), (0, 2)))
        if padding != "valid" or size[0] <= x.shape[1] and size[1] <= x.shape[2]
    ]
    down = [Case((x, numbers(4, *size, 2, 3), numbers(5, 3)), how) for size, how in windows]
    up = [Case((x[:, :3, :3], numbers(4, *size, 3, 2), None), how) for size, how in windows]
    # LeakyReLU has a corner at 0: a difference across it would mix two slopes.
    off_the_corner = numbers(1, 4, 5) + 0.1 * np.sign(numbers(1, 4, 5))
    running = {"mean": numbers(4, 3), "variance": numbers(5, 3) ** 2}
    targets = (0.0, 1.0, 0.9, mask.reshape(-1)[:7, None])
    # A large kernel and enough images that the fast engine chooses the frequency method.
    wide = Case((numbers(1, 4, 4, 4, 2), numbers(2, 5, 5, 2, 2), numbers(3, 2)), {"stride": 1})
    return {
        add: [Case((numbers(1, 2, 3), numbers(2, 2, 3)))],
        dense.reshape: [Case((numbers(1, 2, 6),), {"shape": (3, 4)})],
        dense.dense: [Case((numbers(1, 3, 4), numbers(2, 4, 2), bias)) for bias in (numbers(3, 2), None)],
        conv.conv2d: [*down, wide],
        conv.conv2d_transpose: [*up, wide],
        batchnorm.batch_norm: [
            Case((numbers(1, 6, 3), numbers(2, 3), numbers(3, 3))),
            Case((numbers(1, 2, 2, 3, 2), numbers(2, 2), numbers(3, 2))),
            Case((numbers(1, 4, 3), numbers(2, 3), numbers(3, 3)), running),
        ],
        activation.leaky_relu: [Case((off_the_corner,), {"slope": 0.3})],
        activation.tanh: [Case((numbers(1, 4, 5),))],
        dropout.dropout: [Case((numbers(1, 3, 4),), {"mask": mask, "rate": 0.3})],
        loss.bce_with_logits: [Case((3 * numbers(1, 7, 1),), {"target": target}) for target in targets],
    }  # fmt: skip


# sum(r y): a scalar whose gradient with respect to y is r.
projected = Op(lambda y, *, r: ((y * r).sum(), r), lambda r, dy, wanted: (dy * r,))


def check_op(backend: Backend, op: Op) -> Result:
    """Check all `cases` of `op`: the gradient of sum(r y) with respect to every input, for random r."""
    return _together([_check_case(backend, op, case) for case in cases()[op]])


def _check_case(backend: Backend, op: Op, case: Case) -> Result:
    given = {k: backend.array(v) if isinstance(v, np.ndarray) else v for k, v in case.attributes.items()}
    inputs = [None if array is None else Tensor(backend.array(array), backend) for array in case.arrays]

    def scalar() -> Tensor:
        y = op(*inputs, **given)
        return projected(y, r=backend.array(np.asarray(numbers(9, *y.shape))))

    return check_all_of(scalar, [tensor for tensor in inputs if tensor])


def check_all_of(loss: Callable[[], Tensor], tensors: Sequence[Tensor]) -> Result:
    """Check the gradient of `loss` with respect to every number; each tensor's error has a separate scale."""
    return _together([
        compare(loss, [tensor], [gradient], lambda x: np.eye(x.data.size).reshape(-1, *x.shape))
        for tensor, gradient in zip(tensors, grad(loss(), tensors), strict=True)
    ])  # fmt: skip


def compare(
    loss: Callable[[], Tensor | float], tensors: Iterable[Tensor], gradients: Iterable[Array],
    directions: Callable[[Tensor], Iterable[np.ndarray]],
) -> Result:  # fmt: skip
    """Compare gradients with differences: how fast `loss` changes as each tensor moves along `directions`."""
    found = []
    for tensor, gradient in zip(tensors, gradients, strict=True):
        backend, start = tensor.backend, tensor.data
        for direction in directions(tensor):
            by_gradient, rise = float((backend.numpy(gradient) * direction).sum()), 0.0
            for sign in (1, -1):
                tensor.data = start + sign * STEP * backend.array(direction)
                rise += sign * float(loss())
            found.append((by_gradient, rise / (2 * STEP)))
        tensor.data = start
    return Result(relative_error(*np.array(found).T), len(found))


def some_directions(tensor: Tensor) -> Iterator[np.ndarray]:
    """A few random directions of length 1."""
    for number in range(8):
        direction = numbers(number, *tensor.shape)
        yield direction / np.linalg.norm(direction)


def check_networks(backend: Backend) -> Result:
    """Check both losses of narrow networks, in random directions of every parameter. A step rarely crosses a
    LeakyReLU's corner: it is small compared with the numbers."""
    sizes = {"size": 8, "width": 2, "dtype": np.float64, "backend": backend}
    G = models.generator(stream(1, "init").at(0), noise_dim=3, **sizes)
    D = models.discriminator(stream(1, "init").at(1), **sizes)
    noise, images = backend.array(numbers(1, 4, 3)), backend.array(np.tanh(numbers(2, 4, 8, 8, 1)))
    sides = (4, 2), (2, 4)  # and channels
    masks = [[backend.array((numbers(s, 4, n, n, c) > -0.5) * 1.0) for n, c in sides] for s in (3, 4)]
    step = partial(gan.losses_and_gradients, G, D, images, noise, *masks)
    found, of_D, of_G = step(), D.parameters.values(), G.parameters.values()
    return _together([
        compare(lambda: step().d_loss, of_D, found.d_gradients, some_directions),
        compare(lambda: step().g_loss, of_G, found.g_gradients, some_directions),
    ])  # fmt: skip


def check_penalty(backend: Backend) -> Result:
    """Check R1 of a narrow discriminator, in random directions of every kernel. Biases do not change it."""
    D = models.discriminator(stream(1, "init").at(1), size=8, width=2, dtype=np.float64, backend=backend)
    images = backend.array(np.tanh(numbers(2, 4, 8, 8, 1)))
    kernels = [p for p in D.parameters.values() if p.data.ndim > 1]
    found = [g for g in r1_gradients(D, images, 1.0, len(images)) if g.ndim > 1]
    return compare(lambda: r1(D, images), kernels, found, some_directions)


def check_losses(backend: Backend) -> Iterator[tuple[str, Result]]:
    """Check both losses, for logits and for both networks' parameters, and R1. Yields (name, result)."""
    real, fake = (Tensor(backend.array(3 * numbers(count, count, 1)), backend) for count in (5, 4))
    yield "discriminator_loss", check_all_of(lambda: gan.discriminator_loss(real, fake), [real, fake])
    yield "generator_loss", check_all_of(lambda: gan.generator_loss(fake), [fake])
    yield "both, through G and D", check_networks(backend)
    yield "r1, through D", check_penalty(backend)


def _together(results: Sequence[Result]) -> Result:
    worst = np.max([result.error for result in results])  # NaN stays NaN
    return Result(float(worst), sum(result.points for result in results))


def parser() -> cli.Parser:
    purpose = "Check all gradients against finite differences, in float64."
    examples = {"": "everything", "--op conv2d --engine readable": "ops/conv.py"}
    parser = cli.Parser("tinygan.gradcheck", purpose, "--device", "--engine", **examples)
    names = [op.__name__ for op in cases()]
    one = f"one of {', '.join(names)} (default: all ops and both losses)"
    parser.add_argument("--op", choices=names, metavar="OP", help=one)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Run the checks that `arguments` ask for. Returns 0 if all agree, else 1."""
    options = parser().parse(arguments)
    with cli.computing(options.device, options.engine) as device:
        about = f"device {device.device}, engine {device.engine}"
        print(f"{about}, float64, step {STEP:g}, tolerance {TOLERANCE:g}")
        print(f"{'op':<24}{'points':>8}{'worst relative error':>22}")
        ops = [op for op in cases() if options.op in (None, op.__name__)]
        checked = ((op.__name__, check_op(device, op)) for op in ops)
        failed = []
        for name, result in chain(checked, () if options.op else check_losses(device)):
            verdict = "pass" if result.passed else "FAIL"
            put(f"{name:<24}{result.points:>8,}{result.error:>22.1e}  {verdict}\n", sys.stdout)
            failed += [] if result.passed else [name]
    print(f"failed: {', '.join(failed)}" if failed else "all gradients agree with finite differences")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
