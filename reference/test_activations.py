"""Activations against known values and laws; derivatives against central differences."""

import numpy as np
import pytest

from reference import activations

U = 2.0**-53
X = np.array([-5.0, -3.0, -1.25, -0.5, 0.0, 0.75, 1.0, 2.5, 4.0])


def test_gelu_of_one_is_the_probability_of_a_normal_below_one():
    """Phi(1) = 0.841344746068542949 and Phi(-3) = 0.001349898031630094527 (NIST, tables)."""
    observed = activations.gelu(np.array([1.0, -3.0, 0.0]))
    expected = [0.841344746068542949, -3 * 0.001349898031630094527, 0.0]
    np.testing.assert_allclose(observed, expected, rtol=32 * U)


@pytest.mark.parametrize("function", [activations.gelu, activations.gelu_tanh])
def test_gelu_of_x_less_that_of_minus_x_is_x(function):
    """Phi(x) + Phi(-x) = 1, and tanh is odd."""
    np.testing.assert_allclose(function(X) - function(-X), X, rtol=0, atol=32 * U)


def test_gelu_tanh_by_hand():
    """At x = 1 the argument of tanh is sqrt(2 / pi) * 1.044715, and (1 + tanh a) / 2 = 1 / (1 +
    e^-2a)."""
    expected = 1 / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * 1.044715))
    np.testing.assert_allclose(activations.gelu_tanh(np.array([1.0])), [expected], rtol=16 * U)


def test_the_two_forms_differ_by_less_than_a_thousandth():
    """The largest difference, 4.73e-4, lies at |x| = 2.70."""
    grid = np.linspace(-10, 10, 200_001)
    difference = np.abs(activations.gelu(grid) - activations.gelu_tanh(grid))
    assert abs(difference.max() - 4.732e-4) < 5e-8
    assert abs(abs(grid[difference.argmax()]) - 2.70) < 5e-3


def test_leaky_relu_by_hand():
    x = np.array([-4.0, -0.5, 0.0, 2.0])
    np.testing.assert_array_equal(activations.leaky_relu(x, 0.25), [-1.0, -0.125, 0.0, 2.0])


@pytest.mark.parametrize(
    "function, derivative, third_derivative",
    [
        (activations.gelu, activations.gelu_derivative, 2.0),
        (activations.gelu_tanh, activations.gelu_tanh_derivative, 2.0),
        (
            lambda x: activations.leaky_relu(x, 0.25),
            lambda x: activations.leaky_relu_derivative(x, 0.25),
            0.0,
        ),
    ],
    ids=["gelu", "gelu_tanh", "leaky_relu"],
)
def test_derivative_equals_the_central_difference(function, derivative, third_derivative):
    """The third derivative of gelu is phi(x) (x^3 - 4x), below 1.1 in size; values, at most 5,
    have about 8 roundings. At 0 leaky_relu has no derivative."""
    h = 2.0**-17
    x = X[X != 0]
    bound = h**2 * third_derivative / 6 + 8 * U * 5 / h
    difference = (function(x + h) - function(x - h)) / (2 * h)
    assert np.abs(derivative(x) - difference).max() <= bound


@pytest.mark.parametrize(
    "function", [activations.gelu, activations.gelu_tanh, activations.gelu_tanh_derivative]
)
def test_single_precision_stays_single(function):
    assert function(X.astype(np.float32)).dtype == np.float32
