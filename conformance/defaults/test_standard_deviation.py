"""Standard deviation and variance: divided by n in NumPy, TensorFlow and JAX, by n - 1 in torch.

The numbers 3, -1, -1, -1 have the mean 0 and the squares 9 + 1 + 1 + 1 = 12:

                 variance       standard deviation
    n            12 / 4 = 3     sqrt(3)               NumPy, TensorFlow, Keras, JAX
    n - 1        12 / 3 = 4     2                     torch

torch estimates the variance of what the numbers were drawn from (Bessel's correction), the others
compute that of the numbers themselves. Who standardises features in one of them and computes the
same statistics in another is off by sqrt(n / (n - 1)): 15 % with four numbers, 0.8 % with 64. Each
has the other too: correction=0 in torch, ddof=1 in NumPy and JAX. A single number has the variance
0 by n, and by n - 1 none: 0 / 0 is NaN. Normalization layers divide by n everywhere.

Sources: class 118, results 2; class 122, exercise 1;
https://docs.pytorch.org/docs/stable/generated/torch.std.html,
https://docs.pytorch.org/docs/stable/generated/torch.var.html,
https://numpy.org/doc/stable/reference/generated/numpy.std.html,
https://www.tensorflow.org/api_docs/python/tf/math/reduce_std,
https://keras.io/api/ops/numpy/,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.std.html
"""

import math

from fixtures.matrix import behaviour
from fixtures.precision import rounded

NUMBERS = [3.0, -1.0, -1.0, -1.0]
BY_N = (3.0, math.sqrt(3))
BY_N_MINUS_1 = (4.0, 2.0)

default_in_numpy = BY_N
default_in_torch = BY_N_MINUS_1
default_in_tensorflow = BY_N
default_in_keras = BY_N
default_in_jax = BY_N

single_in_numpy = 0.0
single_in_torch = math.nan
single_in_tensorflow = 0.0
single_in_keras = 0.0
single_in_jax = 0.0


def spread_in_numpy(cell, numbers):
    """(variance, standard deviation) as they come; and by the other divisor, where there is one."""
    import numpy as np

    x = np.array(numbers, cell.dtype)
    return (np.var(x), np.std(x)), (np.var(x, ddof=1), np.std(x, ddof=1))


def spread_in_torch(cell, numbers):
    import torch

    x = torch.tensor(numbers, dtype=cell.dtype, device=cell.device)
    by_n = torch.var(x, correction=0), torch.std(x, correction=0)
    return (torch.var(x), torch.std(x)), by_n


def spread_in_tensorflow(cell, numbers):
    import tensorflow as tf

    @cell.compile
    def spread(x):
        return tf.math.reduce_variance(x), tf.math.reduce_std(x)

    return spread(tf.constant(numbers, cell.dtype)), None


def spread_in_keras(cell, numbers):
    import keras

    x = keras.ops.convert_to_tensor(numbers, cell.dtype)
    return (keras.ops.var(x), keras.ops.std(x)), None


def spread_in_jax(cell, numbers):
    import jax.numpy as jnp

    @cell.compile
    def spread(x):
        return (jnp.var(x), jnp.std(x)), (jnp.var(x, ddof=1), jnp.std(x, ddof=1))

    return spread(jnp.asarray(numbers, cell.dtype))


@behaviour(
    "defaults.std-ddof",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32",
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    catches="torch.variance-divides-by-n tensorflow.variance-divides-by-n-minus-one "
    "jax.std-ignores-its-divisor keras.std-divides-by-n-minus-one",
)
def test_std_ddof(spread, default, cell, expect):
    """3, -1, -1, -1 have the variance 4 in torch, 12 / 3, and 3 elsewhere, 12 / 4.

    The variance is exact, the standard deviation its root. correction=0 in torch and ddof=1 in
    NumPy and JAX give the other pair.
    """
    as_it_comes, other = spread(cell, NUMBERS)
    found = [("as it comes", as_it_comes, default)]
    if other:
        found.append(("the other", other, BY_N if default == BY_N_MINUS_1 else BY_N_MINUS_1))
    for name, (variance, deviation), (expected, root) in found:
        expect.exactly(observed=variance, expected=expected, what=f"variance, {name}")
        expect.within(
            rounded(2, cell.precision),
            observed=deviation,
            expected=root,
            what=f"standard deviation, {name}",
        )


@behaviour(
    "defaults.std-of-one-number",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32",
    modes="eager",
    catches="torch.variance-divides-by-n",
)
def test_std_of_one_number(spread, single, cell, expect):
    """The standard deviation of the single number 3 is NaN in torch, 0 / 0, and 0 elsewhere.

    A batch of one, as the last of an epoch may be, turns a loss with torch.std in it into NaN.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*(degrees of freedom|invalid value)")
        (variance, deviation), _ = spread(cell, [3.0])
    expect.exactly(observed=variance, expected=single, what="variance")
    expect.exactly(observed=deviation, expected=single, what="standard deviation")
