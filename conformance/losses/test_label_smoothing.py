"""Smoothed labels: a little of what the true class has is given to all classes.

    (1 - e) * one_hot + e / K      of K classes; the true one takes its share of e back

For e = 1/2 and K = 4 the true class has 1/2 + 1/8 = 5/8 and each other 1/8. Among the three others
alone it would be 1/2 and 1/6.

With the logits 8192, 0, 0, 0 the log-probabilities are 0 and -8192 three times:

    label 0      (3 * 1/8) * 8192          = 3072      gradient 3/8, -1/8, -1/8, -1/8
    label 1      (5/8 + 2 * 1/8) * 8192    = 7168      gradient 7/8, -5/8, -1/8, -1/8

Of two classes by one logit, e gives t * (1 - e) + e / 2: for e = 1/2 targets of 1 become 3/4, and
those of 0 become 1/4, on both sides. (Who wants one side smoothed, as for the discriminator of a
GAN, writes 0.9 for 1 himself.)

Sources: class 117, topics 5 and common mistake 5; class 158, learning outcome 4;
Szegedy et al. 2015 (arXiv:1512.00567), section 7;
https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html (label_smoothing),
https://keras.io/api/losses/probabilistic_losses/,
https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses.smooth_labels
"""

import numpy as np

from fixtures.matrix import behaviour

SMOOTHING = 0.5
LOGITS = np.array([[8192.0, 0.0, 0.0, 0.0], [8192.0, 0.0, 0.0, 0.0]])
LABELS = np.array([0, 1])
ONE_HOT = np.eye(4)[LABELS]
LOSSES = np.array([3072.0, 7168.0])
GRADIENTS = np.array([[3, -1, -1, -1], [7, -5, -1, -1]]) / 8

FLOAT32 = "Keras's losses are float32 unless told otherwise"

# JAX without jit compiles every operation by itself.
COSTLY = "jax-*-float64-eager jax-*float16-eager keras_jax-*float16-eager"


# ----------------------------------------------------------------------------------------------
# Each program returns the losses of both samples and the gradients of their sum, or None.


def smoothed_in_numpy(cell):
    logits = LOGITS.astype(cell.dtype)
    targets = ((1 - SMOOTHING) * ONE_HOT + SMOOTHING / 4).astype(cell.dtype)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = powers.sum(axis=1, keepdims=True)
    log_probabilities = logits - logits.max(axis=1, keepdims=True) - np.log(total)
    return -(targets * log_probabilities).sum(axis=1), powers / total - targets


def smoothed_in_torch(cell):
    import torch

    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING, reduction="none")
    logits = torch.tensor(LOGITS, dtype=cell.dtype, device=cell.device, requires_grad=True)
    losses = cross_entropy(logits, torch.tensor(LABELS, device=cell.device))
    losses.sum().backward()
    return losses, logits.grad


def smoothed_in_keras(cell):
    """Keras has no call that returns a gradient."""
    import keras

    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=SMOOTHING, reduction=None
    )
    targets, logits = (
        keras.ops.convert_to_tensor(array, dtype=cell.dtype) for array in (ONE_HOT, LOGITS)
    )
    return loss(targets, logits), None


def smoothed_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    def losses_and_gradients(logits):
        targets = optax.smooth_labels(jnp.asarray(ONE_HOT, cell.dtype), SMOOTHING)

        def cross_entropy(logits):
            losses = optax.softmax_cross_entropy(logits, targets)
            return losses.sum(), losses

        gradients, losses = jax.grad(cross_entropy, has_aux=True)(logits)
        return losses, gradients

    return losses_and_gradients(jnp.asarray(LOGITS, cell.dtype))


@behaviour(
    "losses.label-smoothing",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    costly=COSTLY,
    catches="torch.labels-smoothed-among-the-others "
    "keras.labels-smoothed-among-the-others optax.labels-smoothed-among-the-others",
)
def test_label_smoothing(smoothed, cell, expect):
    """Smoothing spreads its share over all classes, the true one among them.

    3072 and 7168 from logits of 8192 and 0; exponentials of -8192 are 0, and all else is a dyadic
    fraction of few digits: exact.
    """
    losses, gradients = smoothed(cell)
    expect.exactly(observed=losses, expected=LOSSES, what="losses", other_precision=FLOAT32)
    if gradients is not None:
        expect.exactly(observed=gradients, expected=GRADIENTS, what="gradients")


# ----------------------------------------------------------------------------------------------
# One logit. For z = ±8192 the loss is 8192 times what the other side has.


def binary_in_keras(cell):
    import keras

    loss = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=SMOOTHING, reduction=None
    )
    targets, logits = (
        keras.ops.convert_to_tensor(np.array(values)[:, None], dtype=cell.dtype)
        for values in ([1.0, 1.0, 0.0, 0.0], [8192.0, -8192.0, 8192.0, -8192.0])
    )
    return loss(targets, logits)


@behaviour(
    "losses.binary-label-smoothing",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.binary-labels-smoothed-on-one-side",
)
def test_binary_label_smoothing(binary, cell, expect):
    """Targets of 1 and 0 become 3/4 and 1/4: a sure logit costs 8192 times 1/4, 3/4, 3/4, 1/4."""
    expect.exactly(observed=binary(cell), expected=[2048.0, 6144.0, 6144.0, 2048.0], what="losses")
