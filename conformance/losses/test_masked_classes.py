"""Classes that are left out of a softmax: actions that are not allowed, labels not in the task.

Of the logits 1000, 1, 2 the first is left out; the label is the second class:

    loss = log(exp(1) + exp(2)) - 1        gradient = 0, softmax(1, 2) - (1, 0)

    torch    logits.masked_fill(~mask, -inf), then cross_entropy: exp(-inf) is 0
    Optax    the argument `where` of its cross-entropies

The class that is left out must not be seen at all, whatever its logit. A mask that comes after the
exponential keeps the infinity of exp(1000): the loss is right, and the gradient is infinity times
0, which is not a number.

Sources: class 101, definitions of softmax;
https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses.softmax_cross_entropy,
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

LOGITS = np.array([[1000.0, 1.0, 2.0]])
MASK = np.array([[False, True, True]])
LABEL = np.array([1])

LOSS = np.log(np.exp(1) + np.exp(2)) - 1
SOFTMAX = 1 / (1 + np.exp(1))
GRADIENT = np.array([[0, SOFTMAX - 1, 1 - SOFTMAX]])


def loss_and_gradient_in_numpy(cell):
    logits = np.where(MASK, LOGITS.astype(cell.dtype), cell.dtype.type(-np.inf))
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)
    loss = np.log(total[0, 0]) - shifted[0, LABEL[0]]
    return loss, exponentials / total - np.eye(3, dtype=cell.dtype)[LABEL]


def loss_and_gradient_in_torch(cell):
    import torch

    logits = torch.tensor(LOGITS, dtype=cell.dtype, device=cell.device, requires_grad=True)
    mask = torch.tensor(MASK, device=cell.device)
    label = torch.tensor(LABEL, device=cell.device)
    allowed = logits.masked_fill(~mask, -torch.inf)
    loss = torch.nn.functional.cross_entropy(allowed, label)
    loss.backward()
    return loss, logits.grad


def loss_and_gradient_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    @cell.compile
    @jax.value_and_grad
    def loss_and_gradient(logits):
        losses = optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.asarray(LABEL), where=jnp.asarray(MASK)
        )
        return losses.sum()

    return loss_and_gradient(jnp.asarray(LOGITS, cell.dtype))


@behaviour(
    "losses.masked-classes",
    frameworks="numpy torch jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2.4"},
    catches="optax.integer-labels-mask-after-the-exponential",
)
def test_masked_classes(loss_and_gradient, cell, expect):
    """A class that is left out takes no part in the loss, and its logit has the gradient 0.

    The loss is log(sum(exp(z - max))) - (z[k] - max): exponential and logarithm may each err by
    four roundings, two sums precede and two follow. The gradient is a softmax (an exponential of
    four roundings, two sums, a division) and one subtraction from 1.
    """
    loss, gradient = loss_and_gradient(cell)
    expect.within(
        rounded(12, cell.precision, terms=[2.0]), observed=loss, expected=LOSS, what="loss"
    )
    expect.within(
        rounded(8, cell.precision, terms=[1.0]),
        observed=gradient,
        expected=GRADIENT,
        what="gradient",
    )
