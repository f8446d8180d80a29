"""R1, a penalty on the slope of D at real images, which lets the game between G and D converge."""

from typing import cast

from tinygan import layers
from tinygan.arrays import Array, array_module
from tinygan.autograd import Gradients, Node, Op, Tensor, Wanted, grad
from tinygan.layers import Mode, Network

# Steps from one penalty to the next, which is EVERY times as strong. R1 changes slowly, and its gradients are
# expensive (lazy regularisation: Karras et al. 2019, arXiv 1912.04958, section 3.1, who also slow Adam down).
EVERY = 16
KNOWN = layers.Linear, layers.LeakyReLU, layers.Reshape, layers.Dropout


def unfit(D: Network) -> str:
    """The first layer of D that `r1_gradients` does not support, such as tanh; empty if it supports all."""
    return next((name for name, layer in D.layers.items() if not isinstance(layer, KNOWN)), "")


def strength_in(step: int, penalty: float) -> float:
    """The strength of R1 in the step that follows `step` others: mostly 0, on average `penalty`."""
    return EVERY * penalty if step % EVERY == 0 else 0.0


def r1(D: Network, images: Array) -> float:
    """R1 = mean of |dD(x)/dx|^2 / 2 over the images x (N, H, W, C), for the logit D(x) without dropout
    (Mescheder et al. 2018, arXiv 1801.04406, equation 9). The reported loss of D does not include it."""
    gradients, _ = _gradients(D, images)
    return float((gradients[0] ** 2).sum()) / (2 * len(images))


def r1_gradients(D: Network, images: Array, strength: float, count: float) -> list[Array]:
    """d (strength R1) / d w for each parameter w of a D that is not `unfit`: a list of arrays.
    `count`: the number of images in the whole batch, of which `images` (N, H, W, C) can be a part.

    Near x, D is linear: dD/dx is a product of kernels, with LeakyReLU's slopes in between. So the gradient of
    R1 by a kernel is that of D's output for the input dD/dx, with the same slopes and without biases, times
    strength / count."""
    (by_image, *by_results), results = _gradients(D, images)
    # x starts as (N, H, W, C) and takes the shape of each layer's output y. dy = dD(x)/dy has that shape.
    x, found = images.dtype.type(strength / count) * by_image, {}
    for layer, y, dy in zip(D.layers.values(), results, by_results, strict=True):
        if isinstance(layer, layers.Linear):
            passed = layer(Tensor(x, D.backend), Mode())
            op, _, saved = cast(Node, passed.node)
            found[layer.kernel] = op.backward(saved, dy, (False, True, False))[1]
            x = passed.data - (layer.bias.data if layer.bias else 0)
        elif isinstance(layer, layers.LeakyReLU):
            op, _, saved = cast(Node, y.node)
            (x,) = op.backward(saved, x, (True,))  # times the slopes at the images
        elif isinstance(layer, layers.Reshape):
            x = x.reshape(y.shape)
    return [found.get(p, D.backend.xp.zeros_like(p.data)) for p in D.parameters.values()]


def _gradients(D: Network, images: Array) -> tuple[list[Array], list[Tensor]]:
    """The gradients of D(x) with respect to the images x and each layer's output; and these outputs."""
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
