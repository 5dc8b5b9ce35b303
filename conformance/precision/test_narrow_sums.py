"""Sums in a narrow format: where one more 1 changes nothing.

A format with t stored bits of significand has a spacing of 2 beyond 2^(t+1): there x + 1 lies
halfway between two numbers and is rounded back to x (to even). Counting by ones stops at 256 in
bfloat16, 2,048 in float16, 16,777,216 in float32 and 2^53 in float64. The sums of the libraries do
not: they keep the total of 16-bit numbers in float32, or add in a tree.

Sources: class 118, question 3; Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
chapter 4; https://docs.pytorch.org/docs/stable/notes/numerical_accuracy.html,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.sum.html
"""

import numpy as np

from fixtures.matrix import behaviour

# precision -> where counting by ones stops, 2^(t+1).
STANDSTILL = {"float64": 2.0**53, "float32": 2.0**24, "bfloat16": 256.0, "float16": 2048.0}


def counted_in_numpy(cell, start):
    import numpy as np

    total, one = np.asarray([start], cell.dtype), np.ones(1, cell.dtype)
    for _ in range(8):
        total = total + one
    return total


def counted_in_torch(cell, start):
    import torch

    total = torch.tensor([start], dtype=cell.dtype, device=cell.device)
    for _ in range(8):
        total = total + 1
    return total


def counted_in_tensorflow(cell, start):
    import tensorflow as tf

    total = tf.constant([start], cell.dtype)
    for _ in range(8):
        total = total + 1
    return total


def counted_in_keras(cell, start):
    import keras

    total = keras.ops.convert_to_tensor([start], dtype=cell.dtype)
    one = keras.ops.ones_like(total)
    for _ in range(8):
        total = keras.ops.add(total, one)
    return total


def counted_in_jax(cell, start):
    import jax.numpy as jnp

    total = jnp.asarray([start], cell.dtype)
    for _ in range(8):
        total = total + 1
    return total


def row_sums_in_numpy(cell, rows):
    from reference.autodiff import Tensor

    return Tensor(rows.astype(cell.dtype)).sum(axis=1)


def row_sums_in_torch(cell, rows):
    import torch

    row_sums = cell.compile(lambda x: x.sum(dim=1))
    return row_sums(torch.tensor(rows, dtype=cell.dtype, device=cell.device))


def row_sums_in_tensorflow(cell, rows):
    import tensorflow as tf

    row_sums = cell.compile(lambda x: tf.reduce_sum(x, axis=1))
    return row_sums(tf.constant(rows, cell.dtype))


def row_sums_in_keras(cell, rows):
    import keras

    row_sums = cell.compile(lambda x: keras.ops.sum(x, axis=1))
    return row_sums(keras.ops.convert_to_tensor(rows, dtype=cell.dtype))


def row_sums_in_jax(cell, rows):
    import jax.numpy as jnp

    row_sums = cell.compile(lambda x: x.sum(axis=1))
    return row_sums(jnp.asarray(rows, cell.dtype))


@behaviour(
    "precision.float16-sum-saturates",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"numpy": "eager", "torch": "eager", "keras": "eager", "others": "eager compiled"},
    catches="torch.sixteen-bit-sums-stand-still",
)
def test_float16_sum_saturates(counted, row_sums, cell, expect):
    """Counting by ones stops at 2,048 in float16 and 256 in bfloat16; sum() of 4,096 ones is 4,096.

    So it is with float32 at 2^24 and float64 at 2^53: eight ones added to four less than that give
    that. A library's sum of 4,096 numbers, all 1 or all -3/2, passes the point where a 16-bit
    total would stand still.
    """
    stop = STANDSTILL[cell.precision]
    expect.exactly(observed=counted(cell, stop - 4), expected=[stop], what="counted by ones")
    rows = np.array([[1.0], [-1.5]]) * np.ones(4096)
    expect.exactly(observed=row_sums(cell, rows), expected=[4096.0, -6144.0], what="sums")
