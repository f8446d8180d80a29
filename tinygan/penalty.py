"""R1, a penalty on D where it is steep at real images, so that the game between G and D comes to rest."""

from typing import cast

from tinygan import layers
from tinygan.arrays import Array
from tinygan.autograd import Node, Op, Tensor, grad
from tinygan.errors import UsageError
from tinygan.layers import Mode, Network

# Steps from one penalty to the next, which is so many times as strong: it changes slowly, and takes a third
# of a step (Karras et al. 2019, arXiv 1912.04958, section 3.1).
EVERY = 16

total = Op(lambda x: (x.sum(), x), lambda x, dy, wanted: (dy + 0 * x,))


def r1(D: Network, images: Array) -> float:
    """The mean of |dD(x)/dx|^2 / 2 over the images x (N, H, W, C): how steep D, without dropout, is there
    (Mescheder et al. 2018, arXiv 1801.04406, equation 9)."""
    slopes, _ = _slopes(D, images)
    return float((slopes[0] ** 2).sum()) / (2 * len(images))


def r1_gradients(D: Network, images: Array, strength: float, count: float) -> list[Array]:
    """The gradients of `strength` R1 by D's parameters, an array of the shape of each. `count`: of all
    images, of which these (N, H, W, C) may be a part.

    Near x, D is linear: dD/dx is a product of kernels, with LeakyReLU's slopes in between. So R1's gradient
    by a kernel is the one that it has when D's input is dD/dx, times strength / count, with the same slopes
    and without biases. Raises UsageError where D has other layers than that."""
    (slope, *slopes), results = _slopes(D, images)
    x, found = images.dtype.type(strength / count) * slope, {}
    for layer, y, dy in zip(D.layers.values(), results, slopes, strict=True):
        if isinstance(layer, layers.Linear):
            passed = layer(Tensor(x, D.backend), Mode())
            op, _, saved = cast(Node, passed.node)
            found[layer.kernel] = op.backward(saved, dy, (False, True, False))[1]
            x = passed.data - (layer.bias.data if layer.bias else 0)
        elif isinstance(layer, layers.LeakyReLU):
            op, _, saved = cast(Node, y.node)
            (x,) = op.backward(saved, x, (True,))  # the slopes at the images
        elif isinstance(layer, layers.Reshape):
            x = x.reshape(y.shape)
        elif not isinstance(layer, layers.Dropout):
            raise UsageError(f"--penalty knows no {layer.name} in the discriminator. Use --penalty 0.")
    return [found.get(p, D.backend.xp.zeros_like(p.data)) for p in D.parameters.values()]


def _slopes(D: Network, images: Array) -> tuple[list[Array], list[Tensor]]:
    """How fast D(x) changes with each image x and with each layer's result; and those results."""
    x = Tensor(images, D.backend)
    results = [y for _, y in D.outputs(x, Mode())]
    return grad(total(results[-1]), [x, *results]), results
