"""Cross-entropy against its definition, its closed-form gradient and finite differences."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.losses import softmax_cross_entropy, softmax_cross_entropy_gradient

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
