"""Layers against arithmetic a reader can redo and the closed-form gradients of the paper."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.layers import (
    FLAX,
    KERAS,
    TORCH,
    batch_normalization_inference,
    batch_normalization_training,
    dense,
    update_running_statistics,
)

U = 2.0**-53


def test_dense_is_a_matrix_product_plus_bias():
    x, weight, bias = np.array([[1.0, 2.0]]), np.array([[1.0, 2, 3], [4, 5, 6]]), np.arange(3.0)
    np.testing.assert_array_equal(dense(x, weight, bias), [[9, 13, 17]])
    tensor = Tensor(weight, requires_grad=True)
    dense(x, tensor, bias).sum().backward()
    np.testing.assert_array_equal(tensor.grad, [[1, 1, 1], [2, 2, 2]])


@pytest.mark.parametrize(
    "x, weight, bias",
    [((2, 4), (3, 5), 5), ((2, 3), (3, 5), 1), ((3,), (3, 5), 5), ((2, 3), (3,), 3)],
)
def test_dense_refuses_shapes_that_do_not_fit(x, weight, bias):
    """A bias of one element would broadcast silently."""
    with pytest.raises(ValueError, match=r"expected \(\.\.\., inputs\)"):
        dense(np.ones(x), np.ones(weight), np.ones(bias))


def test_batch_normalization_training():
    """[1, 3, 5, 7]: mean 4, variance (9 + 1 + 1 + 9) / 4 = 5; with epsilon 4 divide by 3."""
    x = np.array([[1.0], [3.0], [5.0], [7.0]])
    output, mean, variance = batch_normalization_training(x, np.array([6.0]), np.array([1.0]), 4.0)
    np.testing.assert_array_equal(output, [[-5], [-1], [3], [7]])
    assert (mean, variance) == (4, 5)


def test_batch_normalization_inference_uses_the_given_statistics():
    x = np.array([[1.0, 10.0], [3.0, 20.0]])
    output = batch_normalization_inference(x, 2.0, 1.0, np.array([1, 2]), np.array([3, 15]), 1.0)
    np.testing.assert_array_equal(output, [[1, 5], [3, 10]])


def test_batch_normalization_gradient_is_the_papers():
    """Ioffe and Szegedy (2015), the chain rule at the end of section 3, written as
    gamma / (n s) * (n dy - sum dy - y_hat sum(dy y_hat)), s = sqrt(variance + epsilon)."""
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(2, 6, 3))
    gamma, beta, epsilon = np.array([1.0, 2.0, 3.0]), np.zeros(3), 1e-3
    leaves = [Tensor(array, requires_grad=True) for array in (x, gamma, beta)]
    batch_normalization_training(*leaves, epsilon)[0].backward(weights)
    scale = np.sqrt(x.var(axis=0) + epsilon)
    normal = (x - x.mean(axis=0)) / scale
    sums = weights.sum(axis=0), (weights * normal).sum(axis=0)
    expected = gamma / (6 * scale) * (6 * weights - sums[0] - normal * sums[1])
    # About 30 roundings, of numbers up to |gamma / s * weights| times |normal|**2 <= 6.
    bound = 30 * U * 6 * np.max(gamma / scale * np.abs(weights))
    np.testing.assert_allclose(leaves[0].grad, expected, rtol=0, atol=bound)
    np.testing.assert_allclose(leaves[1].grad, sums[1], rtol=0, atol=bound)
    np.testing.assert_allclose(leaves[2].grad, sums[0], rtol=0, atol=bound)


@pytest.mark.parametrize("shape", [(4,), (0, 3), (2, 3, 4)])
def test_batch_normalization_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, features\)"):
        batch_normalization_training(np.ones(shape), 1.0, 0.0, 1e-3)


@pytest.mark.parametrize(
    "convention, mean, variance",
    [
        (TORCH, 0.9 * 10 + 0.1 * 4, 0.9 * 1 + 0.1 * 20 / 3),
        (KERAS, 0.99 * 10 + 0.01 * 4, 0.99 * 1 + 0.01 * 5),
        (FLAX, 0.99 * 10 + 0.01 * 4, 0.99 * 1 + 0.01 * 5),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_running_statistics_in_each_convention(convention, mean, variance):
    """[1, 3, 5, 7]: mean 4, squared deviations 20, so variance 20 / 4 or 20 / 3."""
    batch = np.array([[1.0], [3.0], [5.0], [7.0]])
    updated = update_running_statistics(
        np.array([10.0]), np.array([1.0]), batch, convention.weight_of_batch, convention.unbiased
    )
    np.testing.assert_allclose(updated, [[mean], [variance]], rtol=8 * U, atol=0)


def test_epsilon_of_each_convention():
    assert (TORCH.epsilon, KERAS.epsilon, FLAX.epsilon) == (1e-5, 1e-3, 1e-5)


def test_running_statistics_refuse_what_is_undefined():
    old, row = np.zeros(1), np.ones((1, 1))
    with pytest.raises(ValueError, match="1 rows in the batch; expected at least 2"):
        update_running_statistics(old, old, row, 0.1, unbiased=True)
    assert update_running_statistics(old, old, row, 0.5, unbiased=False) == (0.5, 0)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\]"):
        update_running_statistics(old, old, row, 10, unbiased=False)
