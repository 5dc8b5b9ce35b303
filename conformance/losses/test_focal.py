"""The focal loss: cross-entropy that hardly counts what the model is already sure of.

For the label 1, the probability p = 1 / (1 + exp(-z)) of a logit z, and its complement q = 1 - p:

    loss = -q**gamma * log(p)          d loss / dz = q**gamma * (gamma * p * log(p) - q)

Written as 1 - p, the complement loses all its digits where p is nearly 1: at z = 20 it should be
2e-9, and in float32 it is 0. The loss is then 0, and with gamma = 1/2 its gradient is infinity
times 0. The logarithm of q is -z + log(p), and keeps them.

Sources: class 119, exercise 1 and homework; Lin et al. (2017), arXiv:1708.02002;
https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses.sigmoid_focal_loss
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

LOGITS = np.array([-2.0, 0.0, 3.0, 20.0])


def focal(logits, gamma):
    """(losses, their gradients) of the label 1, by the logarithms of p and q."""
    log_p = -np.logaddexp(0, -logits)
    log_q = -np.logaddexp(0, logits)
    weight = np.exp(gamma * log_q)
    return -weight * log_p, weight * (gamma * np.exp(log_p) * log_p - np.exp(log_q))


def loss_and_gradient_in_numpy(cell, gamma):
    return focal(LOGITS.astype(cell.dtype), cell.dtype.type(gamma))


def loss_and_gradient_in_jax(cell, gamma):
    import jax
    import jax.numpy as jnp
    import optax

    def losses(logits):
        return optax.sigmoid_focal_loss(logits, jnp.ones_like(logits), gamma=gamma)

    gradient = jax.grad(lambda logits: losses(logits).sum())
    logits = jnp.asarray(LOGITS, cell.dtype)
    return cell.compile(losses)(logits), cell.compile(gradient)(logits)


@behaviour(
    "losses.focal-of-confident-predictions",
    frameworks="numpy jax",
    precisions="float64 float32",
    modes={"numpy": "eager", "jax": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    catches="optax.focal-loss-by-the-complement",
)
def test_focal_of_confident_predictions(loss_and_gradient, cell, expect):
    """The focal loss and its gradient keep their digits however sure the prediction is.

    Logits -2, 0, 3 and 20 of label 1, for gamma 2 and 1/2. Each logarithm passes eight roundings
    (two exponentials and logarithms of three each, two sums). What they leave in the exponent
    gamma * log(q), at most 40 in size, becomes a relative error of the weight 40 times as large;
    the two terms of the gradient have the same sign.
    """
    for gamma in (2.0, 0.5):
        loss, gradient = loss_and_gradient(cell, gamma)
        expected_loss, expected_gradient = focal(LOGITS, gamma)
        bound = rounded(8 * (40 + 3), cell.precision)
        expect.within(bound, observed=loss, expected=expected_loss, what=f"loss, gamma {gamma}")
        expect.within(
            bound, observed=gradient, expected=expected_gradient, what=f"gradient, gamma {gamma}"
        )


# ----------------------------------------------------------------------------------------------
# Balanced classes: alpha weighs the label 1, and 1 - alpha the label 0.


def balanced_in_numpy(cell, labels):
    alpha, half = cell.dtype.type(0.25), cell.dtype.type(0.5)
    weights = np.where(labels == 1, alpha, 1 - alpha)
    return -weights * half * half * np.log(half)


def balanced_in_keras(cell, labels):
    import keras

    loss = keras.losses.BinaryFocalCrossentropy(
        from_logits=True, apply_class_balancing=True, alpha=0.25, gamma=2.0, reduction=None
    )
    targets = keras.ops.convert_to_tensor(labels[:, None], dtype=cell.dtype)
    return loss(targets, keras.ops.zeros_like(targets))


def balanced_in_jax(cell, labels):
    import jax.numpy as jnp
    import optax

    @cell.compile
    def loss(logits, labels):
        return optax.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0)

    labels = jnp.asarray(labels, cell.dtype)
    return loss(jnp.zeros_like(labels), labels)


@behaviour(
    "losses.focal-class-balance",
    frameworks="numpy keras jax",
    precisions={"keras": "float32", "others": "float64 float32"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    catches="optax.focal-loss-weighs-positives-alone keras.focal-loss-weighs-positives-alone",
)
def test_focal_class_balance(balanced, cell, expect):
    """alpha weighs the label 1 and 1 - alpha the label 0: of alpha = 1/4 the ratio is 1 to 3.

    At the logit 0, p is 1/2, and with gamma 2 the losses are log(2) / 16 and 3 log(2) / 16. They
    pass through an exponential and a logarithm (four roundings each), a sum of two terms that
    cannot cancel, the power (as many roundings as its exponent's logarithm has: ten), and four
    products.
    """
    observed = balanced(cell, np.array([1.0, 0.0]))
    expected = np.log(2) / 16 * np.array([1.0, 3.0])
    expect.within(rounded(24, cell.precision), observed=observed, expected=expected, what="losses")
