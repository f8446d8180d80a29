"""Both convolutions against loops written from their definitions."""

import re

import numpy as np
import pytest

import tinygan
from tests import oracles
from tests.checks import check_jacobian, forward, gradients, numbers, one_line, relative_error
from tinygan.errors import ShapeError, UsageError
from tinygan.ops.geometry import conv2d_pads, conv2d_transpose_size

SWEEP = [(K, S) for K in range(1, 8) for S in range(1, 5)]


def compare(backend, name, x, w, b, stride, padding):
    """Forward and all gradients of one case against the loops."""
    pair = (stride, stride) if isinstance(stride, int) else stride
    expected = getattr(oracles, name)(x, w, b, pair, padding)
    found, _ = forward(backend, name, (x, w, b), stride=stride, padding=padding)
    assert relative_error(found, expected) < 1e-10
    dy = numbers(9, *expected.shape)
    expected_gradients = getattr(oracles, name + "_gradients")(x, w, dy, pair, padding)
    found_gradients = gradients(backend, name, (x, w, b), dy, stride=stride, padding=padding)
    for f, e in zip(found_gradients[: 2 if b is None else 3], expected_gradients, strict=b is not None):
        assert relative_error(f, e) < 1e-10


@pytest.mark.parametrize("padding", ["same", "valid", ((1, 2), (0, 3))], ids=["same", "valid", "explicit"])
@pytest.mark.parametrize(("K", "S"), SWEEP)
def test_conv2d_equals_the_loops(backend, K, S, padding):
    x, w, b = numbers(1, 1 + S % 2, 9, 7, 2), numbers(2, K, K, 2, 3), numbers(3, 3)
    compare(backend, "conv2d", x, w, b, S, padding)


@pytest.mark.parametrize("padding", ["same", "valid", ((1, 0), (0, 2))], ids=["same", "valid", "explicit"])
@pytest.mark.parametrize(("K", "S"), SWEEP)
def test_conv2d_transpose_equals_the_loops(backend, K, S, padding):
    x, w, b = numbers(1, 1 + S % 2, 3, 5, 3), numbers(2, K, K, 2, 3), numbers(3, 2)
    compare(backend, "conv2d_transpose", x, w, b, S, padding)


@pytest.mark.parametrize("padding", ["same", "valid", ((0, 1), (2, 0))], ids=["same", "valid", "explicit"])
@pytest.mark.parametrize(("kernel", "stride"), [((2, 5), (3, 1)), ((5, 2), (1, 3)), ((1, 4), (2, 3))])
@pytest.mark.parametrize("name", ["conv2d", "conv2d_transpose"])
def test_rectangular_kernels_and_strides_equal_the_loops(backend, name, kernel, stride, padding):
    x = numbers(1, 2, 7, 5, 3)
    w = numbers(2, *kernel, 3, 2) if name == "conv2d" else numbers(2, *kernel, 2, 3)
    compare(backend, name, x, w, None, stride, padding)


@pytest.mark.parametrize(
    ("name", "x", "w", "stride", "padding"),
    [
        ("conv2d", (1, 5, 3, 2), (3, 3, 2, 3), 2, "same"),
        ("conv2d", (2, 3, 5, 1), (2, 3, 1, 2), (1, 3), "valid"),
        ("conv2d", (1, 3, 2, 2), (3, 2, 2, 1), 1, ((2, 0), (0, 1))),
        ("conv2d_transpose", (1, 3, 2, 2), (3, 3, 3, 2), 2, "same"),
        ("conv2d_transpose", (2, 1, 3, 1), (2, 3, 2, 1), (3, 1), "valid"),
        ("conv2d_transpose", (1, 2, 3, 2), (3, 2, 1, 2), 1, ((2, 0), (0, 1))),
    ],
)
def test_full_jacobian_is_exact_as_both_are_linear_in_each_argument(backend, name, x, w, stride, padding):
    F = w[3] if name == "conv2d" else w[2]
    arrays = (numbers(1, *x), numbers(2, *w), numbers(3, F))
    attributes = {"stride": stride, "padding": padding}
    check_jacobian(backend, name, arrays, 1.0, 1e-10, lambda arrays: attributes)


@pytest.mark.parametrize("side", [1, 2, 5, 7, 8, 28])
@pytest.mark.parametrize("S", [1, 2, 3, 4])
@pytest.mark.parametrize("K", [1, 2, 5, 6])
def test_same_makes_the_side_divided_by_the_stride_rounded_up(side, S, K):
    (pads, _) = conv2d_pads((side, side), (K, K), (S, S), "same")
    rounded_up = side // S + (side % S > 0)
    assert (side + sum(pads) - K) // S + 1 == rounded_up
    x, w = np.ones((1, side, 1, 1)), np.ones((K, 1, 1, 1))
    assert tinygan.conv2d(x, w, stride=(S, 1), padding="same").shape == (1, rounded_up, 1, 1)


@pytest.mark.parametrize(
    ("side", "K", "S", "pads"),
    [
        (28, 5, 2, (1, 2)),  # not (2, 2): the total depends on the stride
        (14, 5, 2, (1, 2)),
        (7, 5, 1, (2, 2)),
        (7, 5, 2, (2, 2)),
        (28, 4, 1, (1, 2)),
        (5, 1, 3, (0, 0)),
    ],
)
def test_same_pads_are_tensorflows(side, K, S, pads):
    assert conv2d_pads((side, side), (K, K), (S, S), "same") == (pads, pads)


@pytest.mark.parametrize(
    ("side", "K", "S", "padding", "out"),
    [
        (7, 5, 1, "same", 7),
        (7, 5, 2, "same", 14),
        (3, 2, 3, "same", 9),  # K < S
        (3, 1, 4, "same", 12),
        (7, 5, 2, "valid", 17),
        (3, 2, 3, "valid", 9),  # K < S: the last S - K pixels get no window
        (3, 1, 4, "valid", 12),
        (3, 3, 1, "valid", 5),
        (7, 5, 2, (1, 2), 14),  # explicit, as in ONNX: (in - 1) S + K - before - after
        (7, 4, 2, (1, 1), 14),
        (3, 2, 3, (0, 0), 8),
        (3, 1, 4, (2, 1), 6),
    ],
)
def test_transposed_sizes_are_those_of_keras_and_onnx(side, K, S, padding, out):
    explicit = padding if isinstance(padding, str) else (padding, (0, 0))
    x, w = np.ones((1, side, 2, 1)), np.ones((K, 1, 1, 1))
    y = tinygan.conv2d_transpose(x, w, stride=(S, 1), padding=explicit)
    assert y.shape == (1, out, 2, 1)
    assert conv2d_transpose_size((side, 2), (K, 1), (S, 1), explicit)[0] == (out, 2)


@pytest.mark.parametrize(("K", "S"), SWEEP)
@pytest.mark.parametrize("padding", ["same", "valid", ((1, 0), (0, 2))], ids=["same", "valid", "explicit"])
def test_convolution_and_its_transpose_are_adjoint(backend, K, S, padding):
    small = numbers(2, 2, 3, 4, 3)
    w = numbers(3, K, K, 2, 3)
    transposed, _ = forward(backend, "conv2d_transpose", (small, w, None), stride=S, padding=padding)
    large = numbers(1, *transposed.shape)
    convolved, _ = forward(backend, "conv2d", (large, w, None), stride=S, padding=padding)
    terms, others = convolved * small, large * transposed
    assert abs(terms.sum() - others.sum()) < 1e-12 * np.abs(terms).sum()


def test_one_pixel_becomes_the_kernel_as_it_is():
    x, w = np.zeros((1, 3, 3, 1)), np.arange(1.0, 10).reshape(3, 3, 1, 1)
    x[0, 1, 1, 0] = 1
    transposed = tinygan.conv2d_transpose(x, w).data[0, :, :, 0]
    convolved = tinygan.conv2d(x, w).data[0, :, :, 0]
    assert (transposed == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]).all()
    assert (convolved == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]).all()  # cross-correlation: nothing is flipped


BOTH = pytest.mark.parametrize("convolution", [tinygan.conv2d, tinygan.conv2d_transpose])


@BOTH
@pytest.mark.parametrize("stride", [0, -1, 1.5, 2.0, "a", None, (1,), (1, 2, 3), (2, 0), (1, 2.0)])
def test_bad_stride_is_refused_in_one_line(convolution, stride):
    with pytest.raises(UsageError) as error:
        convolution(np.ones((1, 5, 5, 1)), np.ones((3, 3, 1, 1)), stride=stride)
    assert re.search(rf"stride.*{re.escape(repr(stride))}", one_line(error))


@BOTH
@pytest.mark.parametrize(
    "padding",
    [
        "SAME", "full", "", 1, None, (1, 1), ((1, 1),), ((1, 1), (1,)),
        ((-1, 0), (0, 0)), ((0, 0), (0, -2)), ((0.5, 1), (0, 0)),
    ],
)  # fmt: skip
def test_bad_padding_is_refused_in_one_line(convolution, padding):
    with pytest.raises(UsageError) as error:
        convolution(np.ones((1, 5, 5, 1)), np.ones((3, 3, 1, 1)), padding=padding)
    assert re.search(rf"padding.*{re.escape(repr(padding))}", one_line(error))


@pytest.mark.parametrize(
    ("x", "w", "b", "padding"),
    [
        ((5, 5, 1), (3, 3, 1, 1), None, "same"),  # no batch
        ((1, 5, 5, 1), (3, 3, 1), None, "same"),
        ((1, 5, 5, 2), (3, 3, 3, 2), None, "same"),  # kernel for 3 channels
        ((1, 5, 5, 2), (3, 3, 2, 3), (2,), "same"),  # bias for the wrong side
        ((1, 5, 5, 2), (3, 3, 2, 3), (1, 3), "same"),
        ((1, 2, 5, 1), (3, 3, 1, 1), None, "valid"),  # window larger than the map
        ((1, 5, 2, 1), (3, 4, 1, 1), None, ((0, 0), (1, 0))),
        ((1, 0, 5, 1), (3, 3, 1, 1), None, "same"),  # no pixels
        ((1, 5, 5, 1), (0, 3, 1, 1), None, "same"),  # no kernel
    ],
)
def test_impossible_shapes_for_conv2d_are_refused_in_one_line(x, w, b, padding):
    with pytest.raises(ShapeError) as error:
        tinygan.conv2d(np.ones(x), np.ones(w), None if b is None else np.ones(b), padding=padding)
    one_line(error)


@pytest.mark.parametrize(
    ("x", "w", "b", "padding"),
    [
        ((5, 5, 1), (3, 3, 1, 1), None, "same"),
        ((1, 5, 5, 1), (3, 3, 1), None, "same"),
        ((1, 5, 5, 2), (3, 3, 2, 3), None, "same"),  # (KH, KW, in, out) given, (KH, KW, out, in) needed
        ((1, 5, 5, 2), (3, 3, 3, 2), (2,), "same"),
        ((1, 2, 2, 1), (2, 2, 1, 1), None, ((2, 1), (0, 0))),  # nothing left
        ((1, 0, 5, 1), (3, 3, 1, 1), None, "same"),
        ((1, 5, 5, 1), (3, 0, 1, 1), None, "same"),
    ],
)
def test_impossible_shapes_for_conv2d_transpose_are_refused_in_one_line(x, w, b, padding):
    with pytest.raises(ShapeError) as error:
        tinygan.conv2d_transpose(np.ones(x), np.ones(w), None if b is None else np.ones(b), padding=padding)
    one_line(error)
