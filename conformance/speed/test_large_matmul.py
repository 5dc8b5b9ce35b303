"""Where compilation gains nothing: one operation that takes all the time.

A product of two 1000 × 1000 matrices is two billion operations in one call of a library (oneDNN,
Eigen, cuBLAS). Compiled or not, the same routine runs, and the microseconds of dispatch that a
compiler saves do not show beside its milliseconds. This is the documented limit of the factors in
`test_elementwise.py` and `test_training_loop.py`.

Sources: class 120, objective and question 1; class 173, exercise 3; catalogue:
speed.tf-function-large-matmul, speed.jax-jit-fusion; https://www.tensorflow.org/guide/function,
https://docs.jax.dev/en/latest/201/jit.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

SIZE = 1000
MATRIX = np.sin(np.arange(SIZE * SIZE) ** 1.5).reshape(SIZE, SIZE)


def product(x):
    return x @ x


def variants_of(cell, x, name):
    compiled = cell.compile(product)
    return Variant("eager", lambda: product(x)), Variant(name, lambda: compiled(x))


def variants_in_torch(cell):
    import torch

    x = torch.tensor(MATRIX, dtype=cell.dtype, device=cell.device)
    return variants_of(cell, x, "torch.compile")


def variants_in_tensorflow(cell):
    import tensorflow as tf

    return variants_of(cell, tf.constant(MATRIX, cell.dtype), "@tf.function")


def variants_in_jax(cell):
    import jax.numpy as jnp

    return variants_of(cell, jnp.asarray(MATRIX, cell.dtype), "jax.jit")


@claim(
    "speed.tf-function-large-matmul",
    claimed="as fast, within 10 %",
    low=0.9,
    high=1.1,
    both=True,
    source="class 120, question 1",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
)
def test_large_matmul(variants, cell, speed):
    """Compilation gains nothing where a single large operation dominates: a matrix product."""
    # An element sums 1000 products of numbers of at most 1.
    speed.compare(*variants(cell), within=rounded(SIZE, cell.precision, terms=np.ones(SIZE)))
