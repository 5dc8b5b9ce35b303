"""Compiled equals eager: a compiler may change the speed of a function, not its value or gradient.

The function has the four parts that compilers treat differently: a matrix product, a condition that
depends on the data, a chain of element-wise operations (which they fuse into one loop) and a
reduction. Eager and compiled results are compared with one float64 reference, not with each other:
a compiler may keep more digits between two fused operations than eager code does, and is not wrong.

Sources: class 120, definition of @tf.function; class 122, question 2; class 118, tf.function;
catalogue: compilation.tf-function-equals-eager, jax.jit-parity;
https://www.tensorflow.org/guide/function, https://www.tensorflow.org/xla,
https://docs.pytorch.org/docs/stable/generated/torch.compile.html,
https://docs.jax.dev/en/latest/_autosummary/jax.jit.html;
Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3, for the bounds
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to

# Three batches of four features: the second is fresh data for the code compiled for the first, the
# third is a partial batch. Sines only to have numbers of both signs without a pattern.
WEIGHT = np.sin(3.0 * np.arange(20)).reshape(4, 5)
BATCHES = (
    np.sin(np.arange(12)).reshape(3, 4),
    2 * np.sin(7.0 + np.arange(12)).reshape(3, 4),
    1.5 * np.sin(5.0 + np.arange(8)).reshape(2, 4),
)

# An exp or tanh of a vendor library errs by a few units in the last place.
ELEMENTARY = 4


def reference(x, weight):
    """Value and gradients of sum(h), with h = a * tanh(3/4 a + 1/2) and a = elu(x @ weight)."""
    z = x @ weight
    a = np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)
    slope_of_a = np.where(z > 0, 1.0, a + 1)
    t = np.tanh(0.75 * a + 0.5)
    rows = (a * t).sum(axis=1)
    g = (t + 0.75 * a * (1 - t**2)) * slope_of_a  # d h / d z
    return rows, g @ weight.T, x.T @ g


def bounds(x, weight, precision):
    """The error of each result to first order: every rounding, carried to the end by derivatives.

    z is a sum of products; a adds an exp and a difference from 1; the argument of tanh two
    roundings, tanh its own and the product one. The derivative is built from the same numbers; a
    moves it by at most its own derivative. A tenth more covers the higher orders: twenty
    roundings are 8 % in bfloat16.
    """
    u = accumulated(1, precision)
    z = x @ weight
    a = np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1)
    slope = np.where(z > 0, 1.0, a + 1)
    t = np.tanh(0.75 * a + 0.5)
    s = 1 - t**2

    of_z = accumulated(4, precision) * (np.abs(x) @ np.abs(weight))
    of_a = slope * of_z + (ELEMENTARY * slope + np.abs(a)) * u
    of_t = s * (0.75 * of_a + 2 * (np.abs(0.75 * a) + 0.5) * u) + ELEMENTARY * np.abs(t) * u
    of_h = np.abs(t) * of_a + np.abs(a) * of_t + np.abs(a * t) * u
    of_rows = of_h.sum(axis=1) + accumulated(5, precision) * np.abs(a * t).sum(axis=1)

    of_s = 2 * np.abs(t) * of_t + 2 * u  # 1 - t * t: the square and the difference
    of_inner = of_t + 0.75 * (s * of_a + np.abs(a) * of_s) + 4 * (np.abs(t) + np.abs(a) * s) * u
    inner = t + 0.75 * a * s
    # On the side where elu is exp(z) - 1 its slope exp(z) moves with z; on the other it is 1.
    of_slope = np.where(z > 0, 0.0, slope * (of_z + ELEMENTARY * u) + u)
    of_g = of_inner * slope + np.abs(inner) * of_slope + 2 * np.abs(inner * slope) * u
    g = np.abs(inner * slope)
    of_x = of_g @ np.abs(weight).T + accumulated(5, precision) * (g @ np.abs(weight).T)
    of_w = np.abs(x).T @ of_g + accumulated(len(x), precision) * (np.abs(x).T @ g)
    because = f"the roundings of each operation in {precision}, carried on by its derivatives"
    return [Bound(absolute=1.1 * error, because=because) for error in (of_rows, of_x, of_w)]


def results_in_numpy(cell, batches, weight):
    """elu(z) from parts that the reference can differentiate: relu(z) + exp(-relu(-z)) - 1."""
    from reference.autodiff import Tensor

    results = []
    for batch in batches:
        x = Tensor(batch.astype(cell.dtype), requires_grad=True)
        w = Tensor(weight.astype(cell.dtype), requires_grad=True)
        z = x @ w
        a = z.relu() + ((-(-z).relu()).exp() - 1)
        rows = (a * (a * 0.75 + 0.5).tanh()).sum(axis=1)
        rows.sum().backward()
        results.append((rows, x.grad, w.grad))
    return {"interpreted": results}


def results_in_torch(cell, batches, weight):
    import torch

    @cell.compile
    def rows(x, weight):
        z = x @ weight
        a = torch.where(z > 0, z, torch.exp(z) - 1)
        return (a * torch.tanh(0.75 * a + 0.5)).sum(dim=1)

    results = []
    for batch in batches:
        x = torch.tensor(batch, dtype=cell.dtype, device=cell.device, requires_grad=True)
        w = torch.tensor(weight, dtype=cell.dtype, device=cell.device, requires_grad=True)
        observed = rows(x, w)
        observed.sum().backward()
        results.append((observed, x.grad, w.grad))
    return {"torch.compile": results}


def results_in_tensorflow(cell, batches, weight):
    import tensorflow as tf

    def value_and_gradients(x, weight):
        with tf.GradientTape() as tape:
            tape.watch([x, weight])
            z = x @ weight
            a = tf.where(z > 0, z, tf.exp(z) - 1)
            rows = tf.reduce_sum(a * tf.tanh(0.75 * a + 0.5), axis=1)
        return rows, *tape.gradient(rows, [x, weight])

    w = tf.constant(weight, cell.dtype)
    return {
        compiler: [function(tf.constant(batch, cell.dtype), w) for batch in batches]
        for compiler, function in (
            ("tf.function", cell.compile(value_and_gradients)),
            ("XLA", cell.compile(value_and_gradients, jit_compile=True)),
        )
    }


def results_in_jax(cell, batches, weight):
    import jax
    import jax.numpy as jnp

    def rows(x, weight):
        z = x @ weight
        a = jnp.where(z > 0, z, jnp.exp(z) - 1)
        return (a * jnp.tanh(0.75 * a + 0.5)).sum(axis=1)

    @cell.compile
    def value_and_gradients(x, weight):
        observed, pullback = jax.vjp(rows, x, weight)
        return observed, *pullback(jnp.ones_like(observed))

    w = jnp.asarray(weight, cell.dtype)
    return {
        "jax.jit": [value_and_gradients(jnp.asarray(batch, cell.dtype), w) for batch in batches]
    }


@behaviour(
    "compilation.compiled-equals-eager",
    frameworks="numpy torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"numpy": "eager", "others": "eager compiled"},
    costly="jax-*-float64-eager jax-*float16-eager torch-*-float16-compiled",
    catches="torch.compiled-results-through-float32 "
    "torch.compiled-partial-batch-off-by-a-thousandth[torch-*-float32-*] "
    "tensorflow.xla-in-bfloat16[!*-float16-*] "
    "tensorflow.function-keeps-half-digits-of-float64 "
    "tensorflow.compiled-gradient-off-by-a-thousandth[*-float64-*|*-float32-*] "
    "jax.compiled-results-through-float32 jax.compiled-partial-batch-off-by-a-thousandth",
)
def test_compiled_equals_eager(results, cell, expect):
    """tf.function, XLA, torch.compile and jax.jit keep values and gradients, up to rounding.

    sum(h), h = a tanh(3/4 a + 1/2), a = z where z > 0, else exp(z) - 1, z = x @ weight: sums by
    row, and gradients in x and weight, for two batches of three rows and a last one of two.
    """
    weight = round_to(WEIGHT, cell.precision)
    batches = [round_to(batch, cell.precision) for batch in BATCHES]
    for compiler, per_batch in results(cell, batches, weight).items():
        for number, (observed, batch) in enumerate(zip(per_batch, batches, strict=True), 1):
            expected = reference(batch, weight)
            limits = bounds(batch, weight, cell.precision)
            for part, value, answer, bound in zip(
                ("sums", "gradient in x", "gradient in weight"),
                observed,
                expected,
                limits,
                strict=True,
            ):
                expect.within(
                    bound,
                    observed=value,
                    expected=answer,
                    what=f"{part} of batch {number} ({compiler})",
                )
