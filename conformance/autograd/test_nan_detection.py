"""A NaN that only the gradient has, and how to be told where it arose.

x log(x), a term of an entropy, tends to 0 at x = 0, where the formula gives 0 · (-infinity) = NaN.
Masking the result makes the loss look fine, but the chain rule still goes through log, whose slope
there is infinite: 0 · infinity, the gradient is NaN, and after one step so is the weight. Each
framework can raise at the operation that made the NaN:

    torch        torch.autograd.detect_anomaly(): RuntimeError, names the backward function
    TensorFlow   tf.debugging.check_numerics(tensor, message): InvalidArgumentError
    JAX          jax.debug_nans(True): FloatingPointError, names the primitive

The cure is to keep the dangerous number away from log, not to mask its result.

Sources: Keras fit vs PyTorch loop (004), debugging; class 107, common mistake 1;
https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection,
https://www.tensorflow.org/api_docs/python/tf/debugging/check_numerics,
https://docs.jax.dev/en/latest/debugging/flags.html,
https://docs.jax.dev/en/latest/faq.html#gradients-contain-nan-where-using-where
"""

import numpy as np

from fixtures.matrix import behaviour

X = [0.0, 1.0]

alarm_in_torch = (RuntimeError, "returned nan values")
# The error of TensorFlow is an Exception with a class that only TensorFlow can name.
alarm_in_tensorflow = (Exception, "Tensor had NaN values")
alarm_in_jax = (FloatingPointError, "nan")


def masked_in_torch(cell):
    """The result of log is masked where x is 0, and its gradient is NaN all the same."""
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    torch.where(x > 0, x * torch.log(x), 0.0).sum().backward()
    return x.grad


def detected_in_torch(cell):
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    with torch.autograd.detect_anomaly():
        torch.where(x > 0, x * torch.log(x), 0.0).sum().backward()


def cured_in_torch(cell):
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    with torch.autograd.detect_anomaly():
        (x * torch.log(torch.where(x > 0, x, 1.0))).sum().backward()
    return x.grad


def masked_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(X, cell.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.where(x > 0, x * tf.math.log(x), tf.zeros_like(x))
    return tape.gradient(y, x)


def detected_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(X, cell.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.where(x > 0, x * tf.math.log(x), tf.zeros_like(x))
    tf.debugging.check_numerics(y, "y")
    tf.debugging.check_numerics(tape.gradient(y, x), "gradient of y")


def cured_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(X, cell.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x * tf.math.log(tf.where(x > 0, x, tf.ones_like(x)))
    return tf.debugging.check_numerics(tape.gradient(y, x), "gradient of y")


def masked_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradient = jax.grad(lambda x: jnp.where(x > 0, x * jnp.log(x), 0.0).sum())
    return gradient(jnp.asarray(X, cell.dtype))


def detected_in_jax(cell):
    """Only the way back is watched: on the way there 0 · log(0) would raise, before the mask."""
    import jax
    import jax.numpy as jnp

    x = jnp.asarray(X, cell.dtype)
    y, gradient_of = jax.vjp(lambda x: jnp.where(x > 0, x * jnp.log(x), 0.0).sum(), x)
    with jax.debug_nans(True):
        gradient_of(jnp.ones_like(y))


def cured_in_jax(cell):
    import jax
    import jax.numpy as jnp

    gradient = jax.grad(lambda x: (x * jnp.log(jnp.where(x > 0, x, 1.0))).sum())
    with jax.debug_nans(True):
        return gradient(jnp.asarray(X, cell.dtype))


@behaviour(
    "autograd.nan-detection",
    frameworks="torch tensorflow jax",
    precisions="float64 float32",
    modes="eager",
    catches="torch.anomaly-detection-overlooks-nan tensorflow.check-numerics-lets-nan-pass "
    "jax.debug-nans-is-ignored jax.debug-nans-watches-the-way-forward-only",
)
def test_nan_detection(masked, detected, cured, alarm, cell, expect):
    """The gradient of a masked x log(x) at (0, 1) is (NaN, 1); a detector raises at the NaN.

    With the 0 replaced by 1 before log sees it the gradient is log(1) = 0 there and log(x) + 1 = 1
    at 1, exactly, and no detector has anything to say.
    """
    gradient = cell.to_numpy(masked(cell)).tolist()
    expect.exactly(observed=np.isnan(gradient).tolist(), expected=[True, False], what="is NaN")
    expect.exactly(observed=gradient[1], expected=1.0, what="gradient at 1")
    error, message = alarm
    with expect.raises(error, match=message):
        detected(cell)
    expect.exactly(observed=cured(cell), expected=[0.0, 1.0], what="cured gradient")
