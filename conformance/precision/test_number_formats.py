"""Number formats: how far they reach, how fine they are, and how a number is rounded to them.

                 stored bits of the    eps = 1's distance    largest        smallest
                 significand           to the next number    number         normal number
    float64      52                    2.2e-16               1.8e308        2.2e-308
    float32      23                    1.2e-7                3.4e38         1.2e-38
    bfloat16     7                     7.8e-3                3.4e38         1.2e-38
    float16      10                    9.8e-4                65,504         6.1e-5

bfloat16 is float32 with two bytes less: the same range, two to three digits. float16 has three to
four digits and overflows soon: a gradient of 70,000 is infinite in it.

Sources: class 118, learning outcome 5 and question 3; class 113, common mistake 4; class 171, topic
3, definition 5; IEEE 754-2019, section 4.3.1 (roundTiesToEven);
https://docs.pytorch.org/docs/stable/type_info.html, https://github.com/jax-ml/ml_dtypes,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.finfo.html,
https://keras.io/api/ops/core/#cast-function
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import round_to

# ----------------------------------------------------------------------------------------------
# What the library says about its formats.

# precision -> (eps, largest, smallest normal), from the widths of significand and exponent.
LIMITS = {
    "float64": (2.0**-52, (2 - 2.0**-52) * 2.0**1023, 2.0**-1022),
    "float32": (2.0**-23, (2 - 2.0**-23) * 2.0**127, 2.0**-126),
    "bfloat16": (2.0**-7, (2 - 2.0**-7) * 2.0**127, 2.0**-126),
    "float16": (2.0**-10, 65504.0, 2.0**-14),
}


def limits_in_numpy(cell):
    import ml_dtypes

    info = ml_dtypes.finfo(cell.dtype)
    return info.eps, info.max, info.tiny


def limits_in_torch(cell):
    import torch

    info = torch.finfo(cell.dtype)
    return info.eps, info.max, info.tiny


def limits_in_tensorflow(cell):
    """A tf.DType knows its largest number; the rest is in its NumPy type."""
    import ml_dtypes

    info = ml_dtypes.finfo(cell.dtype.as_numpy_dtype)
    return info.eps, cell.dtype.max, info.tiny


def limits_in_jax(cell):
    import jax.numpy as jnp

    info = jnp.finfo(cell.dtype)
    return info.eps, info.max, info.tiny


@behaviour(
    "precision.dtype-limits",
    frameworks="numpy torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="jax.bfloat16-tiny-is-subnormal tensorflow.bfloat16-ends-with-float32",
)
def test_dtype_limits(limits, cell, expect):
    """finfo: eps is 2^-52, 2^-23, 2^-7, 2^-10; float16 ends at 65,504, bfloat16 at 3.39e38.

    The smallest normal numbers are 2^-1022, 2^-126, 2^-126 (bfloat16 too) and 2^-14.
    """
    for name, observed, expected in zip(
        ("eps", "max", "tiny"), limits(cell), LIMITS[cell.precision], strict=True
    ):
        expect.exactly(observed=float(observed), expected=expected, what=name)


# ----------------------------------------------------------------------------------------------
# Rounding float32 to 16 bits.

# precision -> {float32 number: what it becomes}. Ties go to the number whose last bit is 0.
ROUNDED = {
    "bfloat16": {
        1 + 2.0**-8: 1.0,  # halfway between 1 and 1 + 2^-7: to even
        1 + 3 * 2.0**-8: 1 + 2.0**-6,  # halfway, and even is above
        1 + 2.0**-8 + 2.0**-23: 1 + 2.0**-7,  # just above halfway
        1 + 3 * 2.0**-8 - 2.0**-23: 1 + 2.0**-7,  # just below halfway
        -1 - 3 * 2.0**-8: -1 - 2.0**-6,  # the same for negative numbers
        1.001: 1.0,
        257.0: 256.0,  # beyond 256 only even numbers, beyond 512 multiples of four
        515.0: 516.0,
        70000.0: 70144.0,
        (2 - 2.0**-7) * 2.0**127: (2 - 2.0**-7) * 2.0**127,  # the largest number
        (2 - 2.0**-8) * 2.0**127: np.inf,  # halfway beyond it: infinity counts as even
        (2 - 2.0**-8 - 2.0**-23) * 2.0**127: (2 - 2.0**-7) * 2.0**127,  # just below
        -(2 - 2.0**-8) * 2.0**127: -np.inf,
        2.0**-126: 2.0**-126,  # the smallest normal number, as in float32
        np.inf: np.inf,
    },
    "float16": {
        1 + 2.0**-11: 1.0,
        1 + 3 * 2.0**-11: 1 + 2.0**-9,
        1 + 2.0**-11 + 2.0**-23: 1 + 2.0**-10,
        1 + 3 * 2.0**-11 - 2.0**-23: 1 + 2.0**-10,
        -1 - 3 * 2.0**-11: -1 - 2.0**-9,
        1.001: 1 + 2.0**-10,
        2049.0: 2048.0,  # beyond 2048 only even numbers
        2051.0: 2052.0,
        65504.0: 65504.0,  # the largest number
        65519.0: 65504.0,
        65520.0: np.inf,  # halfway to 65,536
        70000.0: np.inf,
        -65520.0: -np.inf,
        2.0**-14: 2.0**-14,  # the smallest normal number
        2.0**-14 - 2.0**-24: 2.0**-14 - 2.0**-24,  # and the largest subnormal
        2.0**-24: 2.0**-24,  # the smallest subnormal
        2.0**-25: 0.0,  # halfway to it: to even
        3 * 2.0**-25: 2.0**-23,  # halfway between the first two: the second is even
        3 * 2.0**-26: 2.0**-24,
        np.inf: np.inf,
    },
}


def narrowed_in_numpy(cell, numbers):
    import numpy as np

    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float32).astype(cell.dtype)


def narrowed_in_torch(cell, numbers):
    import torch

    narrow = cell.compile(lambda x: x.to(cell.dtype))
    return narrow(torch.tensor(numbers, dtype=torch.float32, device=cell.device))


def narrowed_in_tensorflow(cell, numbers):
    import tensorflow as tf

    narrow = cell.compile(lambda x: tf.cast(x, cell.dtype))
    return narrow(tf.constant(numbers, tf.float32))


def narrowed_in_keras(cell, numbers):
    import keras

    narrow = cell.compile(lambda x: keras.ops.cast(x, cell.dtype))
    return narrow(keras.ops.convert_to_tensor(numbers, dtype="float32"))


def narrowed_in_jax(cell, numbers):
    import jax.numpy as jnp

    narrow = cell.compile(lambda x: x.astype(cell.dtype))
    return narrow(jnp.asarray(numbers, jnp.float32))


@behaviour(
    "precision.round-to-nearest-even",
    frameworks="numpy torch tensorflow keras jax",
    precisions="bfloat16 float16",
    modes={"numpy": "eager", "others": "eager compiled"},
    catches="tensorflow.cast-truncates-to-bfloat16",
)
def test_round_to_nearest_even(narrowed, cell, expect):
    """A float32 becomes the nearest 16-bit number; of two equally near, the one ending in bit 0.

    In float16 65,519 becomes 65,504, the largest number, and 65,520 infinity; 2^-24 is the smallest
    subnormal, and half of it 0. In bfloat16 1.001 becomes 1, and 70,000 becomes 70,144.
    """
    cases = ROUNDED[cell.precision]
    observed = narrowed(cell, np.array(list(cases), np.float32))
    expect.exactly(observed=observed, expected=np.array(list(cases.values())), what="rounded")


# ----------------------------------------------------------------------------------------------
# An epsilon that is smaller than half the spacing is no epsilon.

# The root of a second moment of order 1, and of a tiny one, 2^-32.
ROOTS = np.array([1.0, 1.0, 1.0, 1.0, 2.0**-16, 2.0**-16, 2.0**-16])
EPSILONS = np.array([1e-7, 1e-5, 1e-3, 1e-2, 1e-8, 1e-6, 1e-5])


def sums_in_numpy(cell, roots, epsilons):
    return roots.astype(cell.dtype) + epsilons.astype(cell.dtype)


def sums_in_torch(cell, roots, epsilons):
    import torch

    x = torch.tensor(roots, dtype=cell.dtype, device=cell.device)
    return x + torch.tensor(epsilons, dtype=cell.dtype, device=cell.device)


def sums_in_tensorflow(cell, roots, epsilons):
    import tensorflow as tf

    return tf.constant(roots, cell.dtype) + tf.constant(epsilons, cell.dtype)


def sums_in_keras(cell, roots, epsilons):
    import keras

    return keras.ops.add(
        keras.ops.convert_to_tensor(roots, dtype=cell.dtype),
        keras.ops.convert_to_tensor(epsilons, dtype=cell.dtype),
    )


def sums_in_jax(cell, roots, epsilons):
    import jax.numpy as jnp

    return jnp.asarray(roots, cell.dtype) + jnp.asarray(epsilons, cell.dtype)


@behaviour(
    "precision.bfloat16-eps-claim",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16",
    modes="eager",
    catches="torch.float64-tensors-through-float32",
)
def test_bfloat16_eps_claim(sums, cell, expect):
    """In bfloat16 1 + 1e-3 is 1: no epsilon of Adam or BatchNorm changes a number of order 1.

    Of 1e-7, 1e-5, 1e-3 and 1e-2 only the last is more than half the spacing above 1, 2^-8 = 0.0039,
    and gives 1.0078125. Next to 2^-16 = 1.5e-5, the root of a tiny second moment, 1e-8 is lost too,
    but 1e-6 and 1e-5 count. A sum is rounded once, from its rounded terms: nothing is tolerated.
    """
    roots, epsilons = round_to(ROOTS, cell.precision), round_to(EPSILONS, cell.precision)
    expected = round_to(roots + epsilons, cell.precision)
    expect.exactly(observed=sums(cell, roots, epsilons), expected=expected, what="root + epsilon")
