"""Data parallelism: gradients by finite differences, averages by hand, errors that bound."""

import numpy as np
import pytest

from reference.sharding import (
    average_gradient,
    average_magnitude,
    gradient,
    train,
    train_error,
)

X = np.array([[1.0, 2.0], [-0.5, 1.5], [2.0, -1.0], [0.25, 0.75], [-1.5, 0.5]])
Y = np.array([1.0, -2.0, 0.5, 3.0, -1.0])
W = np.array([0.5, -0.25])


def test_gradient_equals_finite_differences():
    def loss(w):
        return np.mean((X @ w - Y) ** 2)

    step = 1e-6
    for axis in range(2):
        e = step * np.eye(2)[axis]
        central = (loss(W + e) - loss(W - e)) / (2 * step)
        assert gradient(X, Y, W)[axis] == pytest.approx(central, rel=1e-8)


def test_equal_parts_average_to_the_gradient_of_the_whole():
    parts = [(X[:2], Y[:2]), (X[2:4], Y[2:4])]
    whole = gradient(X[:4], Y[:4], W)
    np.testing.assert_allclose(average_gradient(parts, W), whole, rtol=1e-15)
    assert np.abs(gradient(*parts[0], W) - whole).max() > 0.1


def test_unequal_parts_do_not():
    """One sample with gradient 2·1·(1 - 0) = 2 and three with 0: average 1, mean of all 1/2."""
    x, y, w = np.ones((4, 1)), np.array([0.0, 1.0, 1.0, 1.0]), np.ones(1)
    assert gradient(x, y, w) == [0.5]
    assert average_gradient([(x[:1], y[:1]), (x[1:], y[1:])], w) == [1.0]


def test_magnitude_has_no_sign_to_cancel():
    """x = 1, w = 1 and y = ±1: terms 2·(1 + 1) each, although one gradient of two is 0."""
    parts = [(np.ones((1, 1)), np.ones(1)), (np.ones((1, 1)), -np.ones(1))]
    assert average_magnitude(parts, np.ones(1)) == [4.0]
    assert average_magnitude(parts, -np.ones(1)) == [4.0]


def test_train_takes_one_step_after_the_other():
    """y = 0 and x = 1 shrink w by 1 - 2·rate in every step: 1, 1/2, 1/4, 1/8."""
    parts = [(np.ones((2, 1)), np.zeros(2)), (np.ones((2, 1)), np.zeros(2))]
    assert train([parts] * 3, np.ones(1), 0.25).ravel().tolist() == [0.5, 0.25, 0.125]


def test_train_error_bounds_what_float32_does():
    """float32 keeps the bound with gamma of its roundings; a gradient off by 1e-3 breaks it."""
    steps = [[(X[:2], Y[:2]), (X[2:4], Y[2:4])], [(X[1:3], Y[1:3]), (X[3:], Y[3:])]] * 2
    truth = train(steps, W, 0.1)
    narrow = [[(x.astype("f4"), y.astype("f4")) for x, y in parts] for parts in steps]
    gamma = 12 * 2.0**-24
    bound = train_error(steps, W, 0.1, gamma)
    assert np.all(np.diff(bound, axis=0) > 0)
    assert np.all(np.abs(train(narrow, W.astype("f4"), np.float32(0.1)) - truth) <= bound)
    assert np.any(np.abs(train(steps, W, 0.1 * 1.001) - truth) > bound)


def test_train_error_hands_on_what_it_was_given():
    """x = 1, y = 0, w = 1, rate 1/4: terms 1 + 1/2, then 3/2·(1 + 1/2) + 1/2 + 1/4, in gammas."""
    parts = [(np.ones((1, 1)), np.zeros(1))]
    assert train_error([parts] * 2, np.ones(1), 0.25, 1.0).ravel().tolist() == [1.5, 3.0]
