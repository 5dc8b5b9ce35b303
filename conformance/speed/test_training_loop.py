"""How much a compiled training step gains: a plain loop of linear regression.

The step is tiny (100 rows of two features), so an eager loop spends its time between operations,
in Python and in each operation's dispatch, and a compiled step does all of them in one call. That
is the best case of a compiler; `test_elementwise.py` and `test_mlp_step.py` have ordinary ones.

Sources: class 120, homework and acceptance criterion; class 121, exercise 4;
catalogue: speed.tf-function-training-loop, speed.jax-jit;
https://www.tensorflow.org/guide/function, https://docs.jax.dev/en/latest/jit-compilation.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

ROWS = np.sin(np.arange(200.0)).reshape(100, 2)
TARGETS = ROWS @ np.array([[2.0], [-3.0]]) + 1.0
STEPS = 20  # of the homework's 1,000; each costs the same
RATE = 0.1


def variants_in_tensorflow(cell):
    import tensorflow as tf

    x, y = tf.constant(ROWS, cell.dtype), tf.constant(TARGETS, cell.dtype)

    def loop(compile_step):
        weight = tf.Variable(tf.zeros([2, 1], cell.dtype))
        bias = tf.Variable(tf.zeros([1], cell.dtype))

        @compile_step
        def step():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((x @ weight + bias - y) ** 2)
            for variable, gradient in zip(
                (weight, bias), tape.gradient(loss, [weight, bias]), strict=True
            ):
                variable.assign_sub(RATE * gradient)

        def train():
            weight.assign(tf.zeros([2, 1], cell.dtype))
            bias.assign(tf.zeros([1], cell.dtype))
            for _ in range(STEPS):
                step()
            return tf.concat([weight[:, 0], bias], axis=0)

        return train

    return Variant("eager", loop(lambda step: step)), Variant("@tf.function", loop(cell.compile))


def variants_in_jax(cell):
    import jax
    import jax.numpy as jnp

    x, y = jnp.asarray(ROWS, cell.dtype), jnp.asarray(TARGETS, cell.dtype)

    def loss(parameters):
        weight, bias = parameters
        return jnp.mean((x @ weight + bias - y) ** 2)

    def step(parameters):
        gradients = jax.grad(loss)(parameters)
        return jax.tree.map(lambda value, slope: value - RATE * slope, parameters, gradients)

    def loop(step):
        def train():
            parameters = jnp.zeros((2, 1), cell.dtype), jnp.zeros(1, cell.dtype)
            for _ in range(STEPS):
                parameters = step(parameters)
            weight, bias = parameters
            return jnp.concatenate([weight[:, 0], bias])

        return train

    return Variant("op by op", loop(step)), Variant("jax.jit", loop(cell.compile(step)))


@claim(
    "speed.compiled-training-loop",
    claimed="at least 2 times faster",
    low=2.0,
    source="class 120, homework",
    frameworks="tensorflow jax",
    precisions="float32",
    modes="compiled",
)
def test_compiled_training_loop(variants, cell, speed):
    """A loop of gradient steps runs at least twice as fast when the step is compiled.

    Both loops start at zero and reach the same weights and bias.
    """
    # A step makes about 100 roundings in a row (a mean over 100 rows), and no later step enlarges
    # an error: the loss is convex and the rate below 1 over its curvature.
    speed.compare(*variants(cell), within=rounded(100 * STEPS, cell.precision, terms=3.0))
