"""Output sizes and padding of both convolutions: why 28 pixels become 14 with padding (1, 2)."""

from __future__ import annotations

from tinygan.errors import ShapeError, UsageError

Stride = int | tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = str | Pads


def stride_pair(stride: Stride) -> tuple[int, int]:
    """The (vertical, horizontal) stride, from one number or two.

    Raises: UsageError unless these are one or two whole numbers of at least 1."""
    pair = stride if isinstance(stride, tuple) else (stride, stride)
    if len(pair) != 2 or not all(isinstance(S, int) and S >= 1 for S in pair):
        raise UsageError(f"stride {stride!r} is not a whole number >= 1, nor a pair of them.")
    return int(pair[0]), int(pair[1])  # True counts as 1


def conv2d_pads(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> Pads:
    """The rows and columns of zeros around an image of `size` (H, W): ((top, bottom), (left, right)).

    ``'same'`` makes OH = ceil(H / S). Its last window starts at pixel (OH - 1) S and so needs (OH - 1) S + K
    pixels. What H lacks is padding: half of it before the image and half after, where an odd row goes.

    >>> conv2d_pads((28, 28), (5, 5), (2, 2), "same")  # 13 * 2 + 5 - 28 = 3 rows, 3 columns
    ((1, 2), (1, 2))

    Raises: ShapeError if the window is larger than the padded image; UsageError if the padding is unknown."""
    if padding == "same":
        pads = tuple(_same_pads(*axis) for axis in zip(size, kernel, stride, strict=True))
    else:
        pads = ((0, 0), (0, 0)) if padding == "valid" else _explicit_pads(padding)
    for side, K, (before, after) in zip(size, kernel, pads, strict=True):
        if side < 1 or not 1 <= K <= side + before + after:
            raise ShapeError(f"a {kernel} window does not fit into {size} with padding {padding!r}.")
    return pads  # pyright: ignore[reportReturnType]


def conv2d_transpose_size(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> tuple[tuple[int, int], Pads]:
    """The size (OH, OW) of a transposed convolution's result, and the rows and columns cropped around it.

    >>> conv2d_transpose_size((7, 7), (5, 5), (2, 2), "same")
    ((14, 14), ((1, 2), (1, 2)))

    Raises: ShapeError if the crop leaves no pixel; UsageError if the padding is unknown."""
    axes = list(zip(size, kernel, stride, strict=True))
    if padding == "same":  # as the convolution from H S back to H pads
        out = [side * S for side, _, S in axes]
        pads = tuple(_same_pads(side * S, K, S) for side, K, S in axes)
    elif padding == "valid":
        out = [side * S + max(K - S, 0) for side, K, S in axes]
        pads = ((0, 0), (0, 0))
    else:
        pads = _explicit_pads(padding)
        out = [(side - 1) * S + K - sum(pad) for (side, K, S), pad in zip(axes, pads, strict=True)]
    if min(*size, *kernel, *out) < 1:
        raise ShapeError(
            f"a transposed convolution of {size} with kernel {kernel}, stride {stride} and padding "
            f"{padding!r} leaves no pixel: {tuple(out)}. Crop less."
        )
    return (out[0], out[1]), pads  # pyright: ignore[reportReturnType]


def _same_pads(side: int, K: int, S: int) -> tuple[int, int]:
    out = -(-side // S)  # ceil
    total = max((out - 1) * S + K - side, 0)
    return total // 2, total - total // 2


def _explicit_pads(padding: Padding) -> Pads:
    try:
        (top, bottom), (left, right) = padding
        if all(isinstance(p, int) and p >= 0 for p in (top, bottom, left, right)):
            return (top, bottom), (left, right)  # pyright: ignore[reportReturnType]
    except (TypeError, ValueError):
        pass
    raise UsageError(f"padding {padding!r} is not 'same', 'valid' or ((top, bottom), (left, right)) >= 0.")
