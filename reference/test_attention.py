"""Attention against weights known by hand, its laws and finite differences."""

import numpy as np
import pytest

from reference.attention import attention, attention_gradients, attention_weights

U = 2.0**-53
RNG = np.random.default_rng(0)
QUERY, KEY, VALUE = (RNG.normal(size=(2, n, 4)).round(3) for n in (3, 5, 5))


def test_by_hand():
    """Depth 4, so the scale is 1/2; scores of log 1, log 2 and log 5 have weights 1/8, 2/8, 5/8."""
    query = np.array([[2.0, 0.0, 0.0, 0.0]])
    key = np.zeros((3, 4))
    key[:, 0] = np.log([1.0, 2.0, 5.0])
    value = np.array([[8.0, 0.0], [0.0, 8.0], [16.0, 16.0]])
    np.testing.assert_allclose(attention(query, key, value), [[11.0, 12.0]], rtol=32 * U)
    found = attention_weights(query, key, scale=1.0)  # twice the scores: 1, 4 and 25 of 30
    np.testing.assert_allclose(found, np.array([[1.0, 4.0, 25.0]]) / 30, rtol=32 * U)


def test_equal_keys_average_the_values():
    found = attention(QUERY, np.ones_like(KEY), VALUE)
    expected = np.broadcast_to(VALUE.mean(axis=1, keepdims=True), found.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=16 * U * np.abs(VALUE).max())


def test_a_causal_query_sees_no_later_key():
    weights = attention_weights(KEY, KEY, 1.0, causal=True)
    np.testing.assert_array_equal(weights, np.tril(weights))
    np.testing.assert_array_equal(weights[:, 0, 0], 1)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=8 * U)
    shorter = attention_weights(KEY[:, :2], KEY[:, :2], 1.0)
    np.testing.assert_allclose(weights[:, 1, :2], shorter[:, 1], rtol=16 * U)


@pytest.mark.parametrize("scale", [None, 1.0])
def test_gradients_equal_central_differences(scale):
    """Third derivatives stay below 2000 for numbers below 4; values, below 60, have some 40
    roundings."""
    upstream = np.cos(np.arange(24.0)).reshape(2, 3, 4)
    h = 2.0**-17
    bound = h**2 * 2000 / 6 + 40 * U * 60 / h
    gradients = attention_gradients(QUERY, KEY, VALUE, upstream, scale)
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            totals = []
            for sign in (1, -1):
                arguments = [array.copy() for array in (QUERY, KEY, VALUE)]
                arguments[which][index] += sign * h
                totals.append((upstream * attention(*arguments, scale)).sum())
            assert abs((totals[0] - totals[1]) / (2 * h) - gradient[index]) <= bound


def test_depths_that_differ_are_refused():
    with pytest.raises(ValueError, match="expected one depth"):
        attention(QUERY, KEY[..., :3], VALUE)
