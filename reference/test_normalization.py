"""Layer normalization against arithmetic a reader can redo and the closed form of its gradient."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.normalization import layer_normalization

U = 2.0**-53


def test_layer_normalization():
    """[1, 3, 5, 7]: mean 4, variance 5; with epsilon 4 divide by 3. [2, 2, 2, 2] becomes beta."""
    x = np.array([[1.0, 3, 5, 7], [2, 2, 2, 2]])
    gamma, beta = np.array([6.0, 3, 3, 1]), np.array([1.0, 0, 2, 0])
    output = layer_normalization(x, gamma, beta, 4.0)
    np.testing.assert_array_equal(output, [[-5, -1, 3, 1], [1, 0, 2, 0]])


def test_layer_normalization_of_a_row_does_not_depend_on_the_others():
    x = np.random.default_rng(0).normal(size=(4, 3))
    gamma, beta = np.array([1.0, 2, 3]), np.array([0.0, 1, 2])
    together = layer_normalization(x, gamma, beta, 1e-3)
    for i in range(4):
        alone = layer_normalization(x[i : i + 1], gamma, beta, 1e-3)
        np.testing.assert_array_equal(alone[0], together[i])


def test_layer_normalization_gradient_is_the_closed_form():
    """With g = weights * gamma, s = sqrt(variance + epsilon) and n features, dx is
    (n g - sum g - y sum(g y)) / (n s), y being the normal row."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 4, 5))
    gamma, beta, epsilon = np.array([1.0, 2, 3, -1, 0.5]), np.arange(5.0), 1e-3
    leaves = [Tensor(array, requires_grad=True) for array in (x, gamma, beta)]
    layer_normalization(*leaves, epsilon).backward(weights)
    scale = np.sqrt(x.var(axis=1, keepdims=True) + epsilon)
    normal = (x - x.mean(axis=1, keepdims=True)) / scale
    g = weights * gamma
    sums = g.sum(axis=1, keepdims=True) + normal * (g * normal).sum(axis=1, keepdims=True)
    # About 30 roundings, of numbers up to |g| / s times |normal|**2 <= 5.
    bound = 30 * U * 5 * np.max(np.abs(g) / scale)
    np.testing.assert_allclose(leaves[0].grad, (5 * g - sums) / (5 * scale), rtol=0, atol=bound)
    np.testing.assert_allclose(leaves[1].grad, (weights * normal).sum(axis=0), rtol=0, atol=bound)
    np.testing.assert_allclose(leaves[2].grad, weights.sum(axis=0), rtol=0, atol=bound)


def test_layer_normalization_of_an_array_with_tensor_weights_is_differentiable():
    gamma = Tensor(np.ones(2), requires_grad=True)
    layer_normalization(np.array([[1.0, 3.0]]), gamma, np.zeros(2), 3.0).sum().backward()
    np.testing.assert_array_equal(gamma.grad, [-0.5, 0.5])


@pytest.mark.parametrize("shape", [(4,), (2, 0), (2, 3, 4)])
def test_layer_normalization_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, features\)"):
        layer_normalization(np.ones(shape), 1.0, 0.0, 1e-3)
