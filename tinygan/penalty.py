"""R1, a penalty on D where it is steep at real images, so that the game between G and D comes to rest."""

from typing import cast

from tinygan import layers
from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Node, Op, Tensor, Wanted, grad
from tinygan.layers import Mode, Network

# Steps from one penalty to the next, which is so many times as strong: R1 changes slowly, and its gradients
# take time (Karras et al. 2019, arXiv 1912.04958, section 3.1, who slow Adam down as well).
EVERY = 16
KNOWN = layers.Linear, layers.LeakyReLU, layers.Reshape, layers.Dropout


def unfit(D: Network) -> str:
    """The first layer of D through which `r1_gradients` knows no way, such as a curve; nothing if all fit."""
    return next((name for name, layer in D.layers.items() if not isinstance(layer, KNOWN)), "")


def strength_in(step: int, penalty: float) -> float:
    """The strength of R1 in the step after `step` others, which add up to `penalty` a step: mostly 0."""
    return EVERY * penalty if step % EVERY == 0 else 0.0


def r1(D: Network, images: Array) -> float:
    """The mean of |dD(x)/dx|^2 / 2 over the images x (N, H, W, C): how steep D, without dropout, is there
    (Mescheder et al. 2018, arXiv 1801.04406, equation 9). The loss of D that is reported is without it."""
    gradients, _ = _gradients(D, images)
    return float((gradients[0] ** 2).sum()) / (2 * len(images))


def r1_gradients(D: Network, images: Array, strength: float, count: float) -> list[Array]:
    """The gradients of `strength` R1 by the parameters of a D that is not `unfit`, an array of the shape of
    each. `count`: of all images, of which these (N, H, W, C) may be a part.

    Near x, D is linear: dD/dx is a product of kernels, with LeakyReLU's slopes in between. So R1's gradient
    by a kernel is the one that it has when D's input is dD/dx, times strength / count, with the same slopes
    and without biases."""
    (by_image, *by_results), results = _gradients(D, images)
    # (N, H, W, C), and below of the shape of each layer's result y, as dy, D(x)'s gradient by it.
    x, found = images.dtype.type(strength / count) * by_image, {}
    for layer, y, dy in zip(D.layers.values(), results, by_results, strict=True):
        if isinstance(layer, layers.Linear):
            passed = layer(Tensor(x, D.backend), Mode())
            op, _, saved = cast(Node, passed.node)
            found[layer.kernel] = op.backward(saved, dy, (False, True, False))[1]
            x = passed.data - (layer.bias.data if layer.bias else 0)
        elif isinstance(layer, layers.LeakyReLU):
            op, _, saved = cast(Node, y.node)
            (x,) = op.backward(saved, x, (True,))  # times its slopes at the images
        elif isinstance(layer, layers.Reshape):
            x = x.reshape(y.shape)
    return [found.get(p, D.backend.xp.zeros_like(p.data)) for p in D.parameters.values()]


def _gradients(D: Network, images: Array) -> tuple[list[Array], list[Tensor]]:
    """The gradients of D(x) by each image x and by each layer's result; and those results."""
    x = Tensor(images, D.backend)
    results = [y for _, y in D.outputs(x, Mode())]
    return grad(total(results[-1]), [x, *results]), results


def total_forward(x: Array) -> tuple[Array, Array]:
    """The sum of x, of any shape: ()."""
    return x.sum(), x


def total_backward(x: Array, dy: Array, wanted: Wanted) -> Gradients:
    """dx = dy for each number."""
    return (dy * array_module(x).ones_like(x),)


total = Op(total_forward, total_backward)
