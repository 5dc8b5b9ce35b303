"""Clipping against gradients whose norms are whole numbers."""

import numpy as np
import pytest

from reference.clipping import clip_by_global_norm, clip_by_norm, clip_by_value


def test_values_are_limited_one_by_one():
    np.testing.assert_array_equal(
        clip_by_value(np.array([3.0, -0.25, -4.0]), 0.5), [0.5, -0.25, -0.5]
    )


def test_a_norm_is_reduced_and_the_direction_kept():
    """3² + 4² = 5²: to the norm 1 that is a factor of 1/5, to 10 none."""
    gradient = np.array([3.0, -4.0])
    np.testing.assert_allclose(clip_by_norm(gradient, 1.0), [0.6, -0.8], rtol=2**-52)
    np.testing.assert_array_equal(clip_by_norm(gradient, 10.0), gradient)
    np.testing.assert_array_equal(clip_by_norm(gradient, 5.0), gradient)


def test_all_gradients_share_one_factor():
    """Norms 3 and 4 make 5; a per-gradient clip would give norms 1 and 1 instead of 3/5 and 4/5."""
    clipped, norm = clip_by_global_norm([np.array([[1.0], [2.0], [-2.0]]), np.array([4.0])], 1.0)
    assert norm == 5
    np.testing.assert_allclose(clipped[0], [[0.2], [0.4], [-0.4]], rtol=2**-52)
    np.testing.assert_allclose(clipped[1], [0.8], rtol=2**-52)


def test_epsilon_is_added_to_the_norm():
    np.testing.assert_allclose(clip_by_norm(np.array([3.0, 4.0]), 1.0, epsilon=1.0), [0.5, 4 / 6])
    np.testing.assert_array_equal(clip_by_norm(np.array([3.0, 4.0]), 8.0, epsilon=1.0), [3.0, 4.0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_the_dtype_is_kept(dtype):
    clipped, _ = clip_by_global_norm([np.array([3, 4], dtype), np.array([12], dtype)], 2.0)
    assert [array.dtype for array in clipped] == [dtype, dtype]


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_zero_gradients_stay_zero(epsilon):
    clipped, norm = clip_by_global_norm([np.zeros(2)], 1.0, epsilon=epsilon)
    assert norm == 0
    np.testing.assert_array_equal(clipped[0], [0, 0])


@pytest.mark.parametrize("order, norm", [(1.0, 19.0), (2.0, 13.0), (np.inf, 12.0)])
def test_other_norms_are_of_all_gradients_too(order, norm):
    """3 + 4 + 12 = 19; 9 + 16 + 144 = 169; the largest is 12."""
    gradients = [np.array([3.0, -4.0]), np.array([-12.0])]
    clipped, found = clip_by_global_norm(gradients, 1.0, order=order)
    assert found == norm
    np.testing.assert_allclose(clipped[0], [3 / norm, -4 / norm], rtol=2**-50)
