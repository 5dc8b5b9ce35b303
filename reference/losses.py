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
