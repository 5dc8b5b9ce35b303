"""Convolution against windows counted by hand, its laws and finite differences."""

import numpy as np
import pytest

from reference.convolution import (
    convolution,
    convolution_gradients,
    output_size,
    same_padding,
)

U = 2.0**-53
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 6, 5, 2)).round(3)
KERNEL = RNG.normal(size=(3, 2, 2, 3)).round(3)
BIAS = np.array([0.5, -1.0, 2.0])
CASES = [
    {},
    {"strides": (2, 1), "padding": "same"},
    {"dilation": (1, 2)},
    {"strides": (1, 2), "padding": "same"},
]


def test_by_hand():
    """Windows of 2 x 2 in 1 ... 9, times 1, 10, 100, 1000: not flipped."""
    x = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    kernel = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    found = convolution(x, kernel, np.array([7.0]))
    np.testing.assert_array_equal(found[0, :, :, 0], [[5428.0, 6539.0], [8761.0, 9872.0]])


def test_same_padding_puts_the_odd_zero_last():
    """4 wide, kernel 3, stride 2: windows 1 2 3 and 3 4 0."""
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 4, 1)
    kernel = np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    found = convolution(x, kernel, np.zeros(1), strides=(1, 2), padding="same")
    np.testing.assert_array_equal(found.ravel(), [321.0, 43.0])


def test_dilation_leaves_gaps():
    x = np.arange(1.0, 6.0).reshape(1, 1, 5, 1)
    kernel = np.array([1.0, 10.0]).reshape(1, 2, 1, 1)
    found = convolution(x, kernel, np.zeros(1), dilation=(1, 3))
    np.testing.assert_array_equal(found.ravel(), [41.0, 52.0])


def test_channels_in_are_summed_and_channels_out_are_kept_apart():
    x = np.array([2.0, 3.0]).reshape(1, 1, 1, 2)
    kernel = np.array([[1.0, 10.0, 0.0], [0.0, 100.0, 5.0]]).reshape(1, 1, 2, 3)
    found = convolution(x, kernel, np.array([0.5, 0.0, 0.0]))
    np.testing.assert_array_equal(found.ravel(), [2.5, 320.0, 15.0])


@pytest.mark.parametrize(
    "arguments, expected",
    [((28, 3), (1, 1)), ((28, 3, 2), (0, 1)), ((27, 3, 2), (1, 1)), ((5, 2), (0, 1))]
    + [((4, 1, 2), (0, 0)), ((28, 3, 1, 2), (2, 2))],
)
def test_same_padding(arguments, expected):
    assert same_padding(*arguments) == expected


@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_leaves_the_size_over_the_stride(size, kernel, stride):
    padding = same_padding(size, kernel, stride)
    assert output_size(size, kernel, stride, padding=padding) == -(-size // stride)


def test_output_sizes_by_hand():
    assert output_size(28, 5) == 24
    assert output_size(28, 3, 2, padding=(1, 1)) == 14
    assert output_size(10, 3, 2, dilation=2) == 3
    with pytest.raises(ValueError, match="does not fit into 4"):
        output_size(4, 5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_central_differences(case):
    """The output is linear in each argument: the difference has no error but rounding, below 16
    roundings of sums of at most 60 products below 12."""
    upstream = np.cos(np.arange(convolution(X, KERNEL, BIAS, **case).size))
    upstream = upstream.reshape(convolution(X, KERNEL, BIAS, **case).shape)

    def total(*arguments):
        return (upstream * convolution(*arguments, **case)).sum()

    gradients = convolution_gradients(X, KERNEL, upstream, **case)
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            arguments = [[X, KERNEL, BIAS][k].copy() for k in range(3)]
            arguments[which][index] += 0.5
            above = total(*arguments)
            arguments[which][index] -= 1.0
            assert abs(above - total(*arguments) - gradient[index]) <= 16 * U * 60 * 12


@pytest.mark.parametrize(
    "x, kernel, bias, padding, message",
    [
        (X[0], KERNEL, BIAS, "valid", "expected .batch, height, width, channels"),
        (X, KERNEL[:, :, :1], BIAS, "valid", "expected .batch, height, width, channels"),
        (X, KERNEL, BIAS[:2], "valid", "for 3 channels out"),
        (X, KERNEL, BIAS, "full", "expected 'valid' or 'same'"),
    ],
)
def test_what_does_not_fit_is_refused(x, kernel, bias, padding, message):
    with pytest.raises(ValueError, match=message):
        convolution(x, kernel, bias, padding=padding)
