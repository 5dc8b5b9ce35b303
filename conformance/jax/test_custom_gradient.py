"""A gradient that one writes oneself: the straight-through estimator.

Rounding has the slope 0 almost everywhere, so that nothing before it learns. Networks with
quantized weights therefore round on the way forward, and on the way back pass the gradient straight
through, but only where x is between -2 and 2:

    x              0.25   1.75   -3.25
    round(x)       0      2      -3
    from above     1      2      4
    gradient       1      2      0        (of round itself: 0, 0, 0)

    torch         torch.autograd.Function      forward(ctx, x, limit), backward(ctx, gradient)
    TensorFlow    tf.custom_gradient           returns (value, gradient function)
    JAX           jax.custom_vjp               f.defvjp(forward, backward)

Sources: class 173, definitions 3;
https://docs.pytorch.org/docs/stable/notes/extending.html#extending-torch-autograd,
https://www.tensorflow.org/api_docs/python/tf/custom_gradient,
https://docs.jax.dev/en/latest/notebooks/Custom_derivative_rules_for_Python_code.html;
Bengio et al. 2013 (arXiv:1308.3432)
"""

import numpy as np

from fixtures.matrix import behaviour

X, ABOVE, LIMIT = (0.25, 1.75, -3.25), (1.0, 2.0, 4.0), 2.0

# ----------------------------------------------------------------------------------------------
# Each program returns (rounded, gradient).


def mistake_in_torch(cell):
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    rounded = torch.round(x)
    rounded.backward(torch.tensor(ABOVE, dtype=cell.dtype, device=cell.device))
    return rounded, x.grad


def fix_in_torch(cell):
    import torch

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, limit):
            ctx.save_for_backward(x)
            ctx.limit = limit
            return torch.round(x)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return torch.where(x.abs() <= ctx.limit, gradient, 0.0), None

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    rounded = StraightThrough.apply(x, LIMIT)
    rounded.backward(torch.tensor(ABOVE, dtype=cell.dtype, device=cell.device))
    return rounded, x.grad


def pulled_back_in_tensorflow(cell, function):
    import tensorflow as tf

    @cell.compile
    def pulled_back(x, above):
        with tf.GradientTape() as tape:
            tape.watch(x)
            rounded = function(x)
        return rounded, tape.gradient(rounded, x, output_gradients=above)

    return pulled_back(tf.constant(X, cell.dtype), tf.constant(ABOVE, cell.dtype))


def mistake_in_tensorflow(cell):
    """tf.round has no gradient at all, which tape.gradient says with None: x * 0 makes it 0."""
    import tensorflow as tf

    return pulled_back_in_tensorflow(cell, lambda x: tf.round(x) + 0 * x)


def fix_in_tensorflow(cell):
    import tensorflow as tf

    @tf.custom_gradient
    def straight_through(x):
        def backward(gradient):
            return tf.where(tf.abs(x) <= LIMIT, gradient, tf.zeros_like(gradient))

        return tf.round(x), backward

    return pulled_back_in_tensorflow(cell, straight_through)


def pulled_back_in_jax(cell, function):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def pulled_back(x, above):
        rounded, backward = jax.vjp(function, x)
        return rounded, *backward(above)

    return pulled_back(jnp.asarray(X, cell.dtype), jnp.asarray(ABOVE, cell.dtype))


def mistake_in_jax(cell):
    import jax.numpy as jnp

    return pulled_back_in_jax(cell, jnp.round)


def fix_in_jax(cell):
    """`limit` is no array to be differentiated, and comes first to backward."""
    from functools import partial

    import jax
    import jax.numpy as jnp

    @partial(jax.custom_vjp, nondiff_argnums=(1,))
    def straight_through(x, limit):
        return jnp.round(x)

    def forward(x, limit):
        return jnp.round(x), x

    def backward(limit, x, gradient):
        return (jnp.where(jnp.abs(x) <= limit, gradient, 0),)

    straight_through.defvjp(forward, backward)
    return pulled_back_in_jax(cell, lambda x: straight_through(x, LIMIT))


@behaviour(
    "autograd.custom-gradient",
    frameworks="torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "others": "eager compiled"},
    costly="jax-*-float64-eager jax-*float16-eager tensorflow-*float16-compiled "
    "tensorflow-*-float64-compiled",
    catches="torch.own-backward-is-ignored tensorflow.own-gradient-is-ignored "
    "jax.own-gradient-is-ignored",
)
def test_custom_gradient(mistake, fix, cell, expect):
    """The backward function replaces the derivative of what the forward function computes.

    It sees what forward has kept for it, and the gradient from above. All numbers are exact.
    """
    rounded, gradient = mistake(cell)
    expect.exactly(observed=rounded, expected=np.array([0.0, 2, -3]), what="rounded")
    expect.exactly(observed=gradient, expected=np.zeros(3), what="gradient of round itself")
    rounded, gradient = fix(cell)
    expect.exactly(observed=rounded, expected=np.array([0.0, 2, -3]), what="rounded, own gradient")
    expect.exactly(observed=gradient, expected=np.array([1.0, 2, 0]), what="own gradient")
