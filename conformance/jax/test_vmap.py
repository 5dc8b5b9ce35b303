"""vmap: a function of one sample becomes a function of a batch.

jax.vmap, torch.func.vmap and tf.vectorized_map give what a Python loop over the samples would,
without the loop. `in_axes` tells which axis of which argument holds the samples (None: shared by
all), `out_axes` where the results go. Mapped over a gradient it gives what no single backward pass
can: the gradient of every sample. Their mean is the gradient of the batch.

Sources: class 173, exercise 4 and definition 4;
https://docs.jax.dev/en/latest/_autosummary/jax.vmap.html,
https://docs.pytorch.org/docs/stable/generated/torch.func.vmap.html,
https://www.tensorflow.org/api_docs/python/tf/vectorized_map
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated

# torch.compile and JAX without jit both take seconds for every size of batch and every precision.
COSTLY = "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager"

# Seven samples of three features, in quarters: every precision holds them.
WEIGHT = np.array([0.5, -1.25, 0.75])
SAMPLES = np.array(
    [
        [1.0, 0.25, -0.5],
        [-1.5, 0.75, 2.0],
        [0.5, -0.25, 1.25],
        [0.0, 1.0, 0.0],
        [2.0, 0.5, -1.0],
        [-0.25, -0.75, 0.5],
        [1.75, 1.5, 0.25],
    ]
)  # (7, 3)

# ----------------------------------------------------------------------------------------------
# f(w, x) = tanh(w·x). Each program returns, for a batch of samples: the values; tanh of every
# entry, with the samples in columns before and after; the gradient with respect to w by sample.


def batched_in_numpy(cell):
    def batched(samples):
        weight, samples = WEIGHT.astype(cell.dtype), samples.astype(cell.dtype)
        values = np.array([np.tanh(np.sum(weight * x)) for x in samples])
        columns = np.stack([np.tanh(weight * x) for x in samples], axis=1)
        gradients = np.stack([(1 - y * y) * x for y, x in zip(values, samples, strict=True)])
        return values, columns, gradients

    return batched


def batched_in_torch(cell):
    import torch

    def f(w, x):
        return torch.tanh(torch.sum(w * x))

    @cell.compile
    def batched_f(w, samples):
        values = torch.func.vmap(f, in_dims=(None, 0))(w, samples)
        columns = torch.func.vmap(lambda w, x: torch.tanh(w * x), in_dims=(None, 1), out_dims=1)
        gradients = torch.func.vmap(torch.func.grad(f), in_dims=(None, 0))(w, samples)
        return values, columns(w, samples.T), gradients

    def batched(samples):
        return batched_f(
            torch.tensor(WEIGHT, dtype=cell.dtype, device=cell.device),
            torch.tensor(samples, dtype=cell.dtype, device=cell.device),
        )

    return batched


def batched_in_tensorflow(cell):
    """vectorized_map knows one axis, the first; what is shared is captured."""
    import tensorflow as tf

    w = tf.constant(WEIGHT, cell.dtype)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(w)
            y = tf.tanh(tf.reduce_sum(w * x))
        return tape.gradient(y, w)

    @cell.compile
    def batched_f(samples):
        values = tf.vectorized_map(lambda x: tf.tanh(tf.reduce_sum(w * x)), samples)
        rows = tf.vectorized_map(lambda x: tf.tanh(w * x), samples)
        return values, tf.transpose(rows), tf.vectorized_map(gradient, samples)

    return lambda samples: batched_f(tf.constant(samples, cell.dtype))


def batched_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def f(w, x):
        return jnp.tanh(jnp.sum(w * x))

    @cell.compile
    def batched_f(w, samples):
        values = jax.vmap(f, in_axes=(None, 0))(w, samples)
        columns = jax.vmap(lambda w, x: jnp.tanh(w * x), in_axes=(None, 1), out_axes=1)
        gradients = jax.vmap(jax.grad(f), in_axes=(None, 0))(w, samples)
        return values, columns(w, samples.T), gradients

    return lambda samples: batched_f(
        jnp.asarray(WEIGHT, cell.dtype), jnp.asarray(samples, cell.dtype)
    )


@behaviour(
    "jax.vmap-equals-loop",
    frameworks="numpy torch tensorflow jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes="eager compiled",
    costly=COSTLY,
    catches="torch.func-grad-through-float32[*-eager] tensorflow.vectorized-map-through-float32 "
    "jax.vmap-through-bfloat16[!*-float16-*]",
)
def test_vmap_equals_loop(batched, cell, expect):
    """vmap of tanh(w·x) over seven samples equals the loop: values, columns, sample gradients.

    And over a batch of one. The dot product rounds three products and two sums, three in a row;
    tanh errs by four roundings and has a slope of at most 1. The gradient (1 - y²)·x takes the
    error of y twice, times |y|, and four roundings of its own.
    """
    three, four = accumulated(3, cell.precision), accumulated(4, cell.precision)
    f = batched(cell)
    for samples in (SAMPLES[:1], SAMPLES):
        y = np.tanh(samples @ WEIGHT)
        error_y = three * (np.abs(samples) @ np.abs(WEIGHT)) + four * np.abs(y)
        entries = np.tanh(WEIGHT * samples)
        gradients = (1 - y**2)[:, None] * samples
        error_g = (2 * np.abs(y) * error_y + four)[:, None] * np.abs(samples)
        values, columns, by_sample = f(samples)
        size = f"batch of {len(samples)}"
        for what, observed, expected, error in (
            ("values", values, y, error_y),
            ("columns", columns, entries.T, (three + four) * np.abs(WEIGHT * samples).T),
            ("gradients", by_sample, gradients, error_g),
        ):
            absolute = error if error.size > 1 else error.item()
            bound = Bound(absolute=absolute, because="roundings counted in the docstring")
            expect.within(bound, observed=observed, expected=expected, what=f"{what}, {size}")
    expect.within(
        Bound(absolute=error_g.mean(axis=0), because="the mean of the bounds of the gradients"),
        observed=cell.to_numpy(by_sample).mean(axis=0),
        expected=gradients.mean(axis=0),
        what="mean of the gradients",
        other_precision="the mean is taken in float64",
    )


# ----------------------------------------------------------------------------------------------
# Seven samples and six targets.


def mismatched_in_jax(cell):
    import jax
    import jax.numpy as jnp

    add = jax.vmap(lambda x, y: x + y)
    return add(jnp.ones((7, 3)), jnp.ones((6, 3)))


def mismatched_in_torch(cell):
    import torch

    add = torch.func.vmap(lambda x, y: x + y)
    return add(torch.ones(7, 3, device=cell.device), torch.ones(6, 3, device=cell.device))


@behaviour(
    "jax.vmap-size-mismatch",
    frameworks="torch jax",
    precisions="float32",
    modes="eager",
    catches="torch.vmap-stops-at-the-shortest-batch jax.vmap-stops-at-the-shortest-batch",
)
def test_vmap_size_mismatch(mismatched, cell, expect):
    """Mapped axes of 7 and 6 raise ValueError and are not broadcast."""
    with expect.raises(ValueError, match="(?i)size"):
        mismatched(cell)


# ----------------------------------------------------------------------------------------------
# A dict of arguments, of which one is shared. y = w·x + b for the three columns of x:
#   2·(1, 4) + 1 = (3, 9), 2·(2, 5) + 2 = (6, 12), 2·(3, 6) + 3 = (9, 15).

COLUMNS, SHIFTS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [1.0, 2.0, 3.0]


def columns_in_jax(cell, axis):
    """(outputs in columns, their sums by column, the shared weight as it came in)."""
    import jax
    import jax.numpy as jnp

    def f(parameters, x):
        y = parameters["w"] * x + parameters["b"]
        return y, jnp.sum(y), parameters["w"]

    parameters = {"w": jnp.asarray(2, cell.dtype), "b": jnp.asarray(SHIFTS, cell.dtype)}
    mapped = jax.vmap(f, in_axes=({"w": None, "b": 0}, axis), out_axes=(axis, 0, None))
    return cell.compile(mapped)(parameters, jnp.asarray(COLUMNS, cell.dtype))


def columns_in_torch(cell, axis):
    """torch has no out_dims=None: what is shared goes back as it came."""
    import torch

    def f(parameters, x):
        y = parameters["w"] * x + parameters["b"]
        return y, torch.sum(y)

    def tensor(values):
        return torch.tensor(values, dtype=cell.dtype, device=cell.device)

    parameters = {"w": tensor(2), "b": tensor(SHIFTS)}
    mapped = torch.func.vmap(f, in_dims=({"w": None, "b": 0}, axis), out_dims=(axis, 0))
    return *mapped(parameters, tensor(COLUMNS)), parameters["w"]


@behaviour(
    "jax.vmap-axes",
    frameworks="torch jax",
    precisions="float32",
    modes={"torch": "eager", "jax": "eager compiled"},
    catches="jax.vmap-takes-the-last-axis-for-the-first "
    "torch.vmap-takes-the-last-axis-for-the-first",
)
def test_vmap_axes(columns, cell, expect):
    """in_axes follows the structure of the arguments, None stands for what all samples share.

    Axes may be counted from the end, and every output has its own: here the last, the first, and
    with None one that is the same for all samples.
    """
    for axis in (1, -1):
        outputs, sums, shared = columns(cell, axis)
        expect.exactly(
            observed=outputs, expected=np.array([[3.0, 6, 9], [9, 12, 15]]), what=f"axis {axis}"
        )
        expect.exactly(observed=sums, expected=np.array([12.0, 18, 24]), what="sums")
        expect.exactly(observed=shared, expected=2.0, what="what is shared")
