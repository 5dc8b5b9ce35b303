"""Losses, averaged over the batch."""

import numpy as np

from reference.autodiff import Tensor


def softmax_cross_entropy(logits, labels):
    """Mean over the batch of -log softmax(logits)[label], in nats.

    logits: (batch, classes), array or Tensor, any finite size; labels: (batch,) integers in
    [0, classes). Returns a scalar: a Tensor for a Tensor, a NumPy number for an array.
    Raises ValueError when shapes or labels do not fit.
    Source: Goodfellow, Bengio and Courville, Deep Learning (2016), section 6.2.2.3;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html.
    """
    labels = _checked_labels(logits, labels)
    tensor = logits if isinstance(logits, Tensor) else Tensor(logits)
    loss = -tensor.log_softmax(axis=1)[np.arange(len(labels)), labels].mean()
    return loss if isinstance(logits, Tensor) else loss.data[()]


def softmax_cross_entropy_gradient(logits, labels):
    """d(softmax_cross_entropy) / d(logits) in closed form: (softmax - one_hot) / batch.

    logits: (batch, classes) array; labels and errors as in `softmax_cross_entropy`.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.109.
    """
    labels = _checked_labels(logits, labels)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    gradient = exponentials / exponentials.sum(axis=1, keepdims=True)
    gradient[np.arange(len(labels)), labels] -= 1
    return gradient / len(labels)


def weighted_softmax_cross_entropy(logits, labels, weights, divisor):
    """sum_i weights[i] * cross_entropy_i / divisor, and its gradient with respect to the logits.

    logits: (batch, classes) array; labels: (batch,) integers; weights: (batch,), one per sample;
    divisor: what the sum is divided by. Libraries disagree on it: torch.nn.CrossEntropyLoss with
    `weight` divides by the sum of the weights of the batch, Keras by the number of samples.
    Returns (a NumPy number, an array of the shape of logits). Raises ValueError when shapes,
    labels or the divisor (which must be positive) do not fit.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html.
    """
    labels = _checked_labels(logits, labels)
    weights = np.asarray(weights)
    if weights.shape != labels.shape or not divisor > 0:
        raise ValueError(
            f"weights {weights.shape} and divisor {divisor}; expected one weight for each of "
            f"{len(labels)} samples and a positive divisor"
        )
    pairs = [(logits[i : i + 1], labels[i : i + 1]) for i in range(len(labels))]
    losses = np.array([softmax_cross_entropy(*pair) for pair in pairs])
    gradients = np.concatenate([softmax_cross_entropy_gradient(*pair) for pair in pairs])
    return (weights * losses).sum() / divisor, weights[:, None] * gradients / divisor


def sigmoid_cross_entropy(logits, targets):
    """Mean over all elements of -[t log s + (1 - t) log(1 - s)], s = sigmoid(logits), in nats.

    Computed as max(z, 0) - z t + log(1 + exp(-|z|)), which no finite logit z overflows.
    logits, targets: arrays of one shape, targets in [0, 1]. Raises ValueError when they do not fit.
    Source: https://www.tensorflow.org/api_docs/python/tf/nn/sigmoid_cross_entropy_with_logits.
    """
    targets = _checked_targets(logits, targets)
    zero = logits.dtype.type(0)
    return (np.maximum(logits, zero) - logits * targets + np.log1p(np.exp(-np.abs(logits)))).mean()


def sigmoid_cross_entropy_gradient(logits, targets):
    """d(sigmoid_cross_entropy) / d(logits) in closed form: (sigmoid - targets) / elements.

    Arguments and errors as in `sigmoid_cross_entropy`.
    Source: Bishop, Pattern Recognition and Machine Learning (2006), equation 4.91.
    """
    targets = _checked_targets(logits, targets)
    small = np.exp(-np.abs(logits))  # at most 1: nothing overflows
    one = logits.dtype.type(1)
    sigmoid = np.where(logits >= 0, one, small) / (one + small)
    return (sigmoid - targets) / logits.dtype.type(logits.size)


def _checked_targets(logits, targets):
    targets = np.asarray(targets).astype(logits.dtype)
    if targets.shape != logits.shape or targets.size == 0:
        raise ValueError(f"logits {logits.shape} and targets {targets.shape}; expected one shape")
    if targets.min() < 0 or targets.max() > 1:
        raise ValueError("targets must lie in [0, 1]")
    return targets


def _checked_labels(logits, labels):
    labels = np.asarray(labels)
    if len(logits.shape) != 2 or labels.shape != logits.shape[:1] or labels.size == 0:
        raise ValueError(
            f"logits {logits.shape} and labels {labels.shape}; expected (batch, classes), (batch,)"
        )
    # A negative label would count from the last class, silently.
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(f"labels must be integers from 0 to {logits.shape[1] - 1}")
    return labels
