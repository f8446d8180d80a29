"""Both convolutions against loops written from their definitions."""

import re

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import forward, gradients, numbers, one_line, relative_error
from tinygan.errors import ShapeError, UsageError
from tinygan.ops.geometry import conv2d_pads, conv2d_transpose_size, stride_pair

CASES = [  # (KH, KW), (SH, SW), padding: also explicit pads, which TensorFlow's numbers lack
    ((5, 5), (2, 2), "same"),
    ((2, 2), (4, 4), "valid"),  # pixels that no window sees
    ((4, 4), (2, 2), ((1, 2), (0, 3))),
    ((7, 6), (1, 1), ((3, 0), (0, 2))),
    ((1, 4), (2, 3), ((0, 1), (2, 0))),
]


@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
@pytest.mark.parametrize("name", ["conv2d", "conv2d_transpose"])
def test_a_convolution_and_its_gradients_equal_the_loops(backend, name, kernel, stride, padding):
    x, b = numbers(1, 2, 9, 7, 2), numbers(3, 3)
    w = numbers(2, *kernel, *((2, 3) if name == "conv2d" else (3, 2)))
    expected = getattr(oracles, name)(x, w, b, stride, padding)
    dy = numbers(9, *expected.shape)
    slopes = getattr(oracles, name + "_gradients")(x, w, dy, stride, padding)
    for bias in (b, None):
        y, _ = forward(backend, name, (x, w, bias), stride=stride, padding=padding)
        assert relative_error(y, expected if bias is b else expected - b) < 1e-10
        found = gradients(backend, name, (x, w, bias), dy, stride=stride, padding=padding)
        for f, e in zip(found, slopes if bias is b else slopes[:2], strict=bias is b):
            assert relative_error(f, e) < 1e-10


def test_the_transposed_convolution_of_one_pixel_is_the_kernel():
    x, w = np.zeros((1, 3, 3, 1)), np.arange(1.0, 10).reshape(3, 3, 1, 1)
    x[0, 1, 1, 0] = 1
    transposed = tinygan.conv2d_transpose(x, w).data[0, :, :, 0]
    convolved = tinygan.conv2d(x, w).data[0, :, :, 0]
    assert (transposed == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]).all()
    assert (convolved == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]).all()  # a cross-correlation: no flip


@pytest.mark.parametrize("stride", [0, -1, 1.5, 2.0, "a", None, (1,), (1, 2, 3), (2, 0), (1, 2.0)])
def test_bad_stride_is_refused_in_one_line(stride):
    with pytest.raises(UsageError, match=rf"stride.*{re.escape(repr(stride))}") as error:
        stride_pair(stride)
    one_line(error)


@pytest.mark.parametrize(
    "padding",
    ["SAME", "", 1, None, (1, 1), ((1, 1),), ((1, 1), (1,)), ((-1, 0), (0, 0)), ((0, 0), (0, -2)),
     ((0.5, 1), (0, 0))],
)  # fmt: skip
def test_bad_padding_is_refused_in_one_line(padding):
    for sized in (conv2d_pads, conv2d_transpose_size):
        with pytest.raises(UsageError, match=rf"padding.*{re.escape(repr(padding))}") as error:
            sized((5, 5), (3, 3), (1, 1), padding)
        one_line(error)


IMPOSSIBLE = [
    ("conv2d", (5, 5, 1), (3, 3, 1, 1), None, "same"),  # no batch
    ("conv2d", (1, 5, 5, 1), (3, 3, 1), None, "same"),
    ("conv2d", (1, 5, 5, 2), (3, 3, 3, 2), None, "same"),  # kernel for 3 channels
    ("conv2d", (1, 5, 5, 2), (3, 3, 2, 3), (2,), "same"),  # bias for the input channels
    ("conv2d", (1, 5, 5, 2), (3, 3, 2, 3), (1, 3), "same"),
    ("conv2d", (1, 2, 5, 1), (3, 3, 1, 1), None, "valid"),  # window larger than the map
    ("conv2d", (1, 5, 2, 1), (3, 4, 1, 1), None, ((0, 0), (1, 0))),
    ("conv2d", (1, 0, 5, 1), (3, 3, 1, 1), None, "same"),  # no pixels
    ("conv2d", (1, 5, 5, 1), (0, 3, 1, 1), None, "same"),  # no kernel
    ("conv2d_transpose", (5, 5, 1), (3, 3, 1, 1), None, "same"),
    ("conv2d_transpose", (1, 5, 5, 1), (3, 3, 1), None, "same"),
    ("conv2d_transpose", (1, 5, 5, 2), (3, 3, 2, 3), None, "same"),  # (..., in, out), not (..., out, in)
    ("conv2d_transpose", (1, 5, 5, 2), (3, 3, 3, 2), (2,), "same"),
    ("conv2d_transpose", (1, 2, 2, 1), (2, 2, 1, 1), None, ((2, 1), (0, 0))),  # nothing left
    ("conv2d_transpose", (1, 0, 5, 1), (3, 3, 1, 1), None, "same"),
    ("conv2d_transpose", (1, 5, 5, 1), (3, 0, 1, 1), None, "same"),
]


@pytest.mark.parametrize(("name", "x", "w", "b", "padding"), IMPOSSIBLE)
def test_impossible_shapes_are_refused_in_one_line(name, x, w, b, padding):
    with pytest.raises(ShapeError) as error:
        getattr(tinygan, name)(np.ones(x), np.ones(w), None if b is None else np.ones(b), padding=padding)
    one_line(error)
