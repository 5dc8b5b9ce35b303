"""Activation functions and their derivatives, element by element, on float64 or float32 arrays."""

import numpy as np
from scipy.special import erfc

TANH_COEFFICIENT = 0.044715  # Hendrycks and Gimpel (2016), section 2


def gelu(x):
    """x * Phi(x), where Phi is the distribution function of the standard normal.

    Written with erfc, which does not cancel for negative x as 1 + erf does.
    Source: Hendrycks and Gimpel, Gaussian Error Linear Units (2016), arXiv:1606.08415.
    """
    return x * _normal_distribution(x)


def gelu_derivative(x):
    """Phi(x) + x * phi(x), where phi is the density of the standard normal."""
    return _normal_distribution(x) + x * normal_density(x)


def gelu_tanh(x):
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), the approximation of gelu by tanh.

    Source: Hendrycks and Gimpel (2016), arXiv:1606.08415, section 2.
    """
    return x / 2 * (1 + np.tanh(_tanh_argument(x)))


def gelu_tanh_derivative(x):
    """The derivative of `gelu_tanh`: (1 + t) / 2 + x / 2 * (1 - t^2) * slope of tanh's argument."""
    t = np.tanh(_tanh_argument(x))
    return (1 + t) / 2 + x / 2 * (1 - t * t) * tanh_argument_slope(x)


def leaky_relu(x, slope):
    """x where x > 0, slope * x elsewhere.

    Source: Maas, Hannun and Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models
    (2013).
    """
    return np.where(x > 0, x, x.dtype.type(slope) * x)


def leaky_relu_derivative(x, slope):
    """1 where x > 0, slope where x < 0. There is none at 0: the libraries choose the slope."""
    return np.where(x > 0, x.dtype.type(1), x.dtype.type(slope))


def normal_density(x):
    """phi(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
    return np.exp(-x * x / 2) / x.dtype.type(np.sqrt(2 * np.pi))


def tanh_argument_slope(x):
    """The derivative of sqrt(2 / pi) * (x + 0.044715 x^3)."""
    real = x.dtype.type
    return real(np.sqrt(2 / np.pi)) * (1 + real(3 * TANH_COEFFICIENT) * x * x)


def _tanh_argument(x):
    real = x.dtype.type
    return real(np.sqrt(2 / np.pi)) * (x + real(TANH_COEFFICIENT) * x * x * x)


def _normal_distribution(x):
    real = x.dtype.type
    return erfc(-x * real(np.sqrt(0.5))) * real(0.5)
