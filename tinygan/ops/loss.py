"""Binary cross-entropy on logits: how wrong a yes/no answer is, and in which direction to move."""

from types import ModuleType

from tinygan.errors import ShapeError
from tinygan.ops import Array, Wanted


def sigmoid(xp: ModuleType, logits: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow: the probability that the discriminator gives to "real"."""
    small = xp.exp(-abs(logits))  # in (0, 1], whatever the sign
    return xp.where(logits >= 0, 1, small) / (1 + small)


def bce_with_logits_forward(
    xp: ModuleType, logits: Array, *, target: float | Array, count: int | None = None
) -> tuple[Array, tuple[Array, float | Array, float]]:
    """loss = mean of max(x, 0) - x z + log(1 + exp(-|x|)), for logits x and targets z in [0, 1].

    This equals the mean of -z log(p) - (1 - z) log(1 - p) with p = sigmoid(x), but never takes the
    logarithm of a probability that was rounded to 0. The form is TensorFlow's
    (`tf.nn.sigmoid_cross_entropy_with_logits`).

    `count` is how many logits the mean is of, where these are a part of them: the mean of all is the
    sum of what the parts give.

    Shapes: logits any; target a number or an array of the same shape; loss ().

    Raises:
        ShapeError: target is an array of another shape.
    """
    if getattr(target, "shape", ()) not in ((), logits.shape):
        raise ShapeError(f"bce_with_logits got target {target.shape} for logits {logits.shape}.")  # pyright: ignore
    losses = xp.maximum(logits, 0) - logits * target + xp.log1p(xp.exp(-abs(logits)))
    # Of the same dtype, as NumPy 1 makes float64 of one float32 divided by a Python number.
    size = losses.dtype.type(logits.size if count is None else count)
    return losses.sum() / size, (logits, target, size)


def bce_with_logits_backward(
    xp: ModuleType, saved: tuple[Array, float | Array, float], dy: Array, wanted: Wanted
) -> tuple[Array | None, ...]:
    """dlogits = dy (sigmoid(x) - z) / count: the answer given, less the answer wanted."""
    logits, target, count = saved
    if not wanted[0]:
        return (None,)
    small = xp.exp(-abs(logits))
    tail = small / (1 + small)  # sigmoid(-|x|), exact where sigmoid(x) - 1 would cancel
    error = xp.where(logits >= 0, (1 - target) - tail, tail - target)
    return (dy * error / count,)
