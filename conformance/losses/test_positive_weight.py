"""Weight of positives in binary cross-entropy, for classes that are rare.

    loss = -[w t log(p) + (1 - t) log(1 - p)]          p = 1 / (1 + exp(-z))

The weight w multiplies what a positive target costs, and nothing else: with w = 3 a class that is
three times as rare as its opposite counts as much. Two classes with the weights 3 and 1/2:

    target t    logit z      loss for w = 3    for w = 1/2    slope by z
    1           -8192        3 * 8192          8192 / 2       -w
    0            8192        8192              8192           1
    1            8192        0                 0              0

At the logit 0, where a model begins whose last layer begins with zeros, p is 1/2, the loss
(w t + 1 - t) log(2) and its slope (1 - t - w t) / 2: neither side's gradient is lost there.

Sources: class 101, definitions (BCE);
https://docs.pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html (pos_weight),
https://www.tensorflow.org/api_docs/python/tf/nn/weighted_cross_entropy_with_logits
"""

import numpy as np

from fixtures.matrix import behaviour

WEIGHTS = np.array([3.0, 0.5])
# (samples, classes)
TARGETS = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
LOGITS = np.array([[-8192.0, -8192.0], [8192.0, 8192.0], [8192.0, 8192.0]])
LOSSES = np.array([[3 * 8192, 8192 / 2], [8192, 8192], [0, 0]])
SLOPES = np.array([[-3, -1 / 2], [1, 1], [0, 0]])

ZERO_LOGITS = np.zeros_like(LOGITS)
ZERO_TARGETS = np.array([[1.0, 1.0], [0.0, 0.0], [0.25, 0.25]])
ZERO_SLOPES = np.array([[-3 / 2, -1 / 4], [1 / 2, 1 / 2], [0, 5 / 16]])


# Each program returns the losses, element by element, and their slopes.


def losses_in_numpy(cell, targets, logits):
    weights, t, z = (array.astype(cell.dtype) for array in (WEIGHTS, targets, logits))
    small = np.exp(-np.abs(z))
    log_p = np.minimum(z, 0) - np.log1p(small)
    log_q = log_p - z
    p = np.where(z >= 0, cell.dtype.type(1), small) / (1 + small)
    return -(weights * t * log_p + (1 - t) * log_q), (1 - t) * p - weights * t * (1 - p)


def losses_in_torch(cell, targets, logits):
    import torch

    weights, targets, logits = (
        torch.tensor(array, dtype=cell.dtype, device=cell.device)
        for array in (WEIGHTS, targets, logits)
    )
    logits.requires_grad_()
    losses = torch.nn.BCEWithLogitsLoss(pos_weight=weights, reduction="none")(logits, targets)
    losses.sum().backward()
    return losses, logits.grad


def losses_in_tensorflow(cell, targets, logits):
    import tensorflow as tf

    weights, targets, logits = (
        tf.constant(array, cell.dtype) for array in (WEIGHTS, targets, logits)
    )

    @cell.compile
    def losses_and_slopes(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = tf.nn.weighted_cross_entropy_with_logits(targets, logits, weights)
        return losses, tape.gradient(losses, logits)

    return losses_and_slopes(logits)


@behaviour(
    "losses.bce-positive-weight",
    frameworks="numpy torch tensorflow",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"tensorflow": "eager compiled", "others": "eager"},
    catches="torch.bce-ignores-pos-weight torch.bce-weighs-all-targets-alike "
    "tensorflow.weighted-cross-entropy-weighs-all-targets-alike",
)
def test_bce_positive_weight(losses, cell, expect):
    """pos_weight multiplies the part of a target that is positive, class by class.

    A sure and wrong logit costs its size, times the weight where the target is 1; the slopes are
    the weights. Exponentials of -8192 are 0: exact.
    """
    each, slopes = losses(cell, TARGETS, LOGITS)
    expect.exactly(observed=each, expected=LOSSES, what="losses")
    expect.exactly(observed=slopes, expected=SLOPES, what="slopes")


@behaviour(
    "losses.bce-positive-weight-at-zero",
    frameworks="numpy torch tensorflow",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"tensorflow": "eager compiled", "others": "eager"},
    catches="torch.bce-ignores-pos-weight torch.bce-weighs-all-targets-alike "
    "torch.bce-slope-is-lost-at-zero",
)
def test_bce_positive_weight_at_zero(losses, cell, expect):
    """At the logit 0 the slope is (1 - t - w t) / 2: of t = 1, 0 and 1/4, for w = 3 and 1/2.

    That is -3/2 and -1/4 for positives, 1/2 for negatives, and exactly 0 where w t = 1 - t.
    """
    _, slopes = losses(cell, ZERO_TARGETS, ZERO_LOGITS)
    expect.exactly(observed=slopes, expected=ZERO_SLOPES, what="slopes at the logit 0")
