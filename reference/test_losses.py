"""Cross-entropy against its definition, its closed-form gradient and finite differences."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.losses import (
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_gradient,
    softmax_cross_entropy,
    softmax_cross_entropy_gradient,
    weighted_softmax_cross_entropy,
)

U = 2.0**-53
LABELS = np.array([0, 2, 2, 1])
LOGITS = np.random.default_rng(0).normal(size=(4, 3)).round(3)


def test_value_by_hand():
    """Uniform over 3 classes: log 3. Odds of 3 to 1 for the label: log(4 / 3). Their mean."""
    logits = np.array([[5.0, 5.0, 5.0], [0.0, np.log(3), -np.inf]])
    expected = (np.log(3) + np.log(4 / 3)) / 2
    assert abs(softmax_cross_entropy(logits[:, :2], [0, 1]) - np.log(8 / 3) / 2) <= 8 * U
    np.testing.assert_allclose(softmax_cross_entropy(logits, [0, 1]), expected, rtol=8 * U)


def test_huge_logits_neither_overflow_nor_lose_the_loss():
    assert softmax_cross_entropy(np.array([[1e4, 0.0]]), [1]) == 1e4
    assert softmax_cross_entropy(np.array([[1e4, 0.0]]), [0]) == 0
    gradient = softmax_cross_entropy_gradient(np.array([[1e4, 0.0]]), [1])
    np.testing.assert_array_equal(gradient, [[1, -1]])


def test_autodiff_gives_the_closed_form_gradient():
    """Both err by a dozen roundings of probabilities, at most 1, divided by the batch."""
    tensor = Tensor(LOGITS, requires_grad=True)
    softmax_cross_entropy(tensor, LABELS).backward()
    expected = softmax_cross_entropy_gradient(LOGITS, LABELS)
    np.testing.assert_allclose(tensor.grad, expected, rtol=0, atol=24 * U / len(LABELS))


def test_closed_form_gradient_equals_the_central_difference():
    """The third derivative of log-sum-exp along one axis is a third cumulant of a Bernoulli
    variable, |p (1 - p) (1 - 2p)| < 0.1; the loss, below 4, has about 16 roundings."""
    h = 2.0**-17
    bound = h**2 * 0.1 / 6 + 16 * U * 4 / h
    gradient = softmax_cross_entropy_gradient(LOGITS, LABELS)
    for index in np.ndindex(LOGITS.shape):
        step = np.zeros_like(LOGITS)
        step[index] = h
        values = [softmax_cross_entropy(LOGITS + sign * step, LABELS) for sign in (1, -1)]
        assert abs(gradient[index] - (values[0] - values[1]) / (2 * h)) <= bound


@pytest.mark.parametrize("loss", [softmax_cross_entropy, softmax_cross_entropy_gradient])
@pytest.mark.parametrize(
    "labels, message",
    [
        ([0, 1], r"expected \(batch, classes\), \(batch,\)"),
        ([0, 1, 2, 3], "integers from 0 to 2"),
        ([0, 1, 2, -1], "integers from 0 to 2"),
        ([0.0, 1.0, 2.0, 0.0], "integers from 0 to 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(loss, labels, message):
    with pytest.raises(ValueError, match=message):
        loss(LOGITS, labels)
    with pytest.raises(ValueError, match=r"expected \(batch, classes\)"):
        loss(np.ones((0, 3)), np.ones(0, int))


def test_equal_weights_change_nothing():
    """Twelve roundings each of numbers below 4, as in the unweighted loss."""
    value, gradient = weighted_softmax_cross_entropy(LOGITS, LABELS, np.full(4, 3.0), 12.0)
    expected = softmax_cross_entropy(LOGITS, LABELS)
    np.testing.assert_allclose(value, expected, rtol=0, atol=48 * U)
    expected = softmax_cross_entropy_gradient(LOGITS, LABELS)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=24 * U)


def test_a_weight_counts_like_so_many_copies_of_a_sample():
    repeated = [0, 1, 1, 3, 3, 3]
    value, gradient = weighted_softmax_cross_entropy(LOGITS, LABELS, [1.0, 2.0, 0.0, 3.0], 6.0)
    expected = softmax_cross_entropy(LOGITS[repeated], LABELS[repeated])
    np.testing.assert_allclose(value, expected, rtol=0, atol=48 * U)
    copies = softmax_cross_entropy_gradient(LOGITS[repeated], LABELS[repeated])
    expected = [copies[0], copies[1:3].sum(0), np.zeros(3), copies[3:].sum(0)]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=24 * U)


@pytest.mark.parametrize("weights, divisor", [(np.ones(3), 3.0), (np.ones(4), 0.0)])
def test_weights_that_do_not_fit_are_refused(weights, divisor):
    with pytest.raises(ValueError, match="one weight for each of 4 samples and a positive divisor"):
        weighted_softmax_cross_entropy(LOGITS, LABELS, weights, divisor)


def test_sigmoid_cross_entropy_by_hand():
    """Odds of 3 to 1 for 1: log(4 / 3) if the target is 1, log 4 if it is 0, half of each else."""
    z = np.log([3.0, 3.0, 3.0])
    for targets, expected in (
        ([1.0, 1.0, 1.0], np.log(4 / 3)),
        ([0.0, 0.0, 0.0], np.log(4)),
        ([1.0, 0.0, 0.5], (np.log(4 / 3) + np.log(4)) / 2),
    ):
        assert abs(sigmoid_cross_entropy(z, targets) - expected) <= 16 * U


def test_two_classes_of_softmax_are_one_sigmoid():
    z = LOGITS[:, 0]
    two_classes = np.stack([np.zeros(4), z], axis=1)
    labels = np.array([1, 0, 0, 1])
    np.testing.assert_allclose(
        sigmoid_cross_entropy(z, labels), softmax_cross_entropy(two_classes, labels), atol=24 * U
    )
    np.testing.assert_allclose(
        sigmoid_cross_entropy_gradient(z, labels),
        softmax_cross_entropy_gradient(two_classes, labels)[:, 1],
        atol=24 * U,
    )


def test_huge_logits_of_a_sigmoid_neither_overflow_nor_lose_the_loss():
    z, targets = np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0.0, 0.0, 1.0])
    assert sigmoid_cross_entropy(z, targets) == 5e3
    np.testing.assert_array_equal(sigmoid_cross_entropy_gradient(z, targets), [0, 0, 0.25, -0.25])


@pytest.mark.parametrize("targets, message", [([0.0], "one shape"), ([0.0, 2.0], "in .0, 1.")])
def test_targets_that_do_not_fit_are_refused(targets, message):
    for loss in (sigmoid_cross_entropy, sigmoid_cross_entropy_gradient):
        with pytest.raises(ValueError, match=message):
            loss(np.zeros(2), targets)
