"""Sizes and paddings of both convolutions: why 28 pixels become 14 with padding (1, 2)."""

from __future__ import annotations

from tinygan.errors import ShapeError, UsageError

Stride = int | tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
Padding = str | Pads


def stride_pair(stride: Stride) -> tuple[int, int]:
    """The (vertical, horizontal) stride, from one number or two.

    Raises:
        UsageError: not one or two whole numbers of at least 1."""
    pair = stride if isinstance(stride, tuple) else (stride, stride)
    if len(pair) != 2 or not all(isinstance(S, int) and S >= 1 for S in pair):
        raise UsageError(f"stride {stride!r} is not a whole number >= 1, nor a pair of them.")
    return int(pair[0]), int(pair[1])  # True counts as 1


def conv2d_pads(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: Padding
) -> Pads:
    """The zeros around an image of `size`: ((top, bottom), (left, right)).

    ``'same'`` makes OH = ceil(H / S). How many zeros that needs depends on the stride; of an odd number the
    larger half goes after: 28 -> 14 with K = 5, S = 2 pads (1, 2), not (2, 2).

    >>> conv2d_pads((28, 28), (5, 5), (2, 2), "same")
    ((1, 2), (1, 2))

    Raises:
        ShapeError: the window is larger than the padded image.
        UsageError: padding is not of a known form."""
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
    """Size (OH, OW) of a transposed convolution's result, and what is cropped around it.

    >>> conv2d_transpose_size((7, 7), (5, 5), (2, 2), "same")
    ((14, 14), ((1, 2), (1, 2)))

    Raises:
        ShapeError: the crop leaves nothing.
        UsageError: padding is not of a known form."""
    axes = list(zip(size, kernel, stride, strict=True))
    if padding == "same":  # the convolution from H S back to H pads by the same rule
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
            f"{padding!r} has no pixel left: {tuple(out)}. Crop less."
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
