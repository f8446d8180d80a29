"""What layers compute: the forward pass of each op, with its backward pass right below it.

    forward(x, ..., *, attribute, ...)  ->  (y, saved)      saved: what the backward pass needs
    backward(saved, dy, wanted)         ->  (dx, ...)       dy, dx: d loss / d y and d loss / d x

Both are plain functions of arrays and never change their arguments. `dy` has the shape of y, `dx` that of x.
`wanted` holds a bool for each input; where it is False, the backward pass may save the work and return None.
An `Op` at the end of each file joins the two.

Letters, used throughout: N images in the batch (M fakes), H height, W width, C input channels, F output
channels (filters), K kernel side (KH, KW if they can differ), S stride, OH and OW height and width of a
result; w weights (the kernel), b bias. Images are (N, H, W, C). `xp` is the array library, NumPy or CuPy."""

from tinygan.errors import ShapeError


def expect(fits: bool, text: str) -> None:
    """Raises: ShapeError with this `text` unless the shapes fit."""
    if not fits:
        raise ShapeError(text)
