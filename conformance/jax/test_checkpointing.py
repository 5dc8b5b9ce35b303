"""Gradient checkpointing: compute again instead of keeping, and get the same gradient.

What a checkpointed function computes on the way forward is thrown away, and computed again on the
way back: less memory for more time. The numbers must be the same the second time. Dropout is the
test of it: its mask is drawn, and a mask drawn anew on the way back would belong to another output.

With rate 1/2 an output is 2x or 0, and the gradient of their sum 2 or 0, at the same places. torch
puts the random generator back for the second time; JAX has nothing to put back, for its keys are
arguments. The mistake is to tell torch not to.

                                                    what is run on the way back
    torch.utils.checkpoint.checkpoint(f, x)         all of f
    jax.checkpoint(f), also called jax.remat        what the policy does not keep
    tf.recompute_grad(f)                            all of f

Sources: class 143, common mistake 4; class 172, topics 3;
https://docs.pytorch.org/docs/stable/checkpoint.html,
https://docs.jax.dev/en/latest/_autosummary/jax.checkpoint.html,
https://www.tensorflow.org/api_docs/python/tf/recompute_grad
"""

import numpy as np

from fixtures.matrix import behaviour

FEATURES = 64


def dropped_in_torch(cell, **options):
    """(outputs, their gradient) of a checkpointed dropout of ones."""
    import torch
    from torch.utils.checkpoint import checkpoint

    torch.manual_seed(cell.seed)
    x = torch.ones(FEATURES, dtype=cell.dtype, device=cell.device, requires_grad=True)
    outputs = checkpoint(torch.nn.functional.dropout, x, use_reentrant=False, **options)
    outputs.sum().backward()
    return outputs, x.grad


def mistake_in_torch(cell):
    return dropped_in_torch(cell, preserve_rng_state=False)


def fix_in_torch(cell):
    return dropped_in_torch(cell)


@behaviour(
    "autograd.checkpoint-keeps-the-mask",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.checkpoint-draws-anew",
)
def test_checkpoint_keeps_the_mask(mistake, fix, cell, expect):
    """The mask of the way back is that of the way forward: outputs and gradient are equal.

    Both are 2 where the input of 1 was kept, and 0 elsewhere. With preserve_rng_state=False they
    differ somewhere; that two masks of 64 agree by chance has the probability 2^-64.
    """
    outputs, gradient = fix(cell)
    values = set(cell.to_numpy(outputs).tolist())
    expect.exactly(observed=values == {0.0, 2.0}, expected=True, what="outputs are 0 or 2")
    expect.exactly(observed=gradient, expected=cell.to_numpy(outputs), what="gradient")
    outputs, gradient = (cell.to_numpy(array) for array in mistake(cell))
    equal = bool((outputs == gradient).all())
    expect.exactly(observed=equal, expected=False, what="whether equal with another mask")


# ----------------------------------------------------------------------------------------------
# f(x) = (x²)² at x = 2, 3. Each program returns (value, gradient, times that f was run).

X = (2.0, 3.0)


def recomputed_in_torch(cell):
    import torch
    from torch.utils.checkpoint import checkpoint

    runs = []

    def fourth_power(x):
        runs.append(x)
        return (x * x) * (x * x)

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    value = checkpoint(fourth_power, x, use_reentrant=False).sum()
    value.backward()
    return value, x.grad, len(runs)


def recomputed_in_tensorflow(cell):
    import tensorflow as tf

    runs = []

    def fourth_power(x):
        runs.append(x)
        return (x * x) * (x * x)

    x = tf.constant(X, cell.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(tf.recompute_grad(fourth_power)(x))
    return value, tape.gradient(value, x), len(runs)


def recomputed_in_jax(cell):
    """What is run again is counted by a callback, for Python itself runs while tracing alone."""
    import jax
    import jax.numpy as jnp

    runs = []

    @jax.checkpoint
    def fourth_power(x):
        jax.debug.callback(lambda: runs.append(True))
        return (x * x) * (x * x)

    value, gradient = jax.value_and_grad(lambda x: fourth_power(x).sum())(
        jnp.asarray(X, cell.dtype)
    )
    jax.effects_barrier()
    return value, gradient, len(runs)


@behaviour(
    "autograd.checkpoint-gradient",
    frameworks="torch tensorflow jax",
    precisions="float64 float32 float16",
    modes="eager",
    costly="jax-*-float64-eager jax-*-float16-eager",
    catches="torch.checkpoint-keeps-everything jax.checkpoint-keeps-everything "
    "tensorflow.recompute-keeps-everything",
)
def test_checkpoint_gradient(recomputed, cell, expect):
    """A checkpointed function runs twice, and its gradient is as without: 4x³ = 32 and 108.

    The value is 2⁴ + 3⁴ = 97; all numbers are exact.
    """
    value, gradient, runs = recomputed(cell)
    expect.exactly(observed=value, expected=97.0, what="value")
    expect.exactly(observed=gradient, expected=np.array([32.0, 108.0]), what="gradient")
    expect.exactly(observed=runs, expected=2, what="times the function was run")
