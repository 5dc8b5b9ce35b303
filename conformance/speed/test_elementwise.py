"""What compilers gain on element-wise code, the code that they were made for.

Run eagerly, each operation is dispatched by itself, reads its input from memory and writes its
result back. A compiler can save two things: the dispatch, which is all that small arrays cost, and
by fusing the chain into one loop, the memory traffic, which is most of what large arrays cost. So
the gain grows with the number of operations in one compiled call, not with how often it is called:
calling a compiled function has a price of its own, about that of a few eager operations, and a
function of five small ones has nothing left to save. XLA fuses where tf.function alone does not,
but on a CPU it may run the fused loop in one thread where TensorFlow used them all.

Sources: class 120, exercise 1, objective and question 4; class 122, question 2; class 173,
exercise 3; catalogue: speed.tf-function-small-ops, speed.xla-jit-compile,
speed.torch-compile-claim, speed.jax-jit-fusion;
https://www.tensorflow.org/guide/function, https://openxla.org/xla/tf2xla,
https://docs.pytorch.org/docs/stable/generated/torch.compile.html,
https://docs.jax.dev/en/latest/201/jit.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

# Horner's rule: six products and six sums, a chain of twelve operations.
COEFFICIENTS = [0.5, -0.25, 0.125, 1.0, -0.5, 0.75]


def polynomial(x):
    y = x
    for coefficient in COEFFICIENTS:
        y = y * x + coefficient
    return y


def waves(count):
    return np.sin(np.arange(float(count)))


def polynomial_bound(cell):
    return rounded(12, cell.precision, terms=[1.0, *COEFFICIENTS])  # |x| is at most 1


def small_variants_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(waves(100), cell.dtype)

    def total(x):
        return tf.reduce_sum(2 * x + 3 * x + 1)

    compiled = cell.compile(total)
    return Variant("eager", lambda: total(x)), Variant("@tf.function", lambda: compiled(x))


@claim(
    "speed.tf-function-small-ops",
    claimed="2 to 10 times faster",
    low=2.0,
    high=10.0,
    source="class 120, exercise 1",
    frameworks="tensorflow",
    precisions="float32",
    modes="compiled",
)
def test_tf_function_small_ops(small_variants, cell, speed):
    """@tf.function makes a small element-wise function, called 10,000 times, 2 to 10 times faster.

    The function is the sum of 2x + 3x + 1 over 100 numbers: five operations.
    """
    # Three roundings of each of 100 terms of at most 6, and 99 additions.
    speed.compare(*small_variants(cell), within=rounded(102, cell.precision, terms=6.0 * 100))


def xla_variants_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(waves(200_000), cell.dtype)
    graph = cell.compile(polynomial)
    xla = cell.compile(polynomial, jit_compile=True)
    return Variant("@tf.function", lambda: graph(x)), Variant("jit_compile=True", lambda: xla(x))


@claim(
    "speed.xla-jit-compile",
    claimed="a further 1.5 to 3 times faster",
    low=1.5,
    high=3.0,
    source="class 120, question 4",
    frameworks="tensorflow",
    precisions="float32",
    modes="compiled",
)
def test_xla_jit_compile(xla_variants, cell, speed):
    """jit_compile=True makes a tf.function a further 1.5 to 3 times faster.

    Here a chain of twelve element-wise operations on 200,000 numbers, which XLA can fuse.
    """
    speed.compare(*xla_variants(cell), within=polynomial_bound(cell))


def chain_variants_in_torch(cell):
    import torch

    x = torch.tensor(waves(1_000_000), dtype=cell.dtype, device=cell.device)
    compiled = cell.compile(polynomial)
    return Variant("eager", lambda: polynomial(x)), Variant("torch.compile", lambda: compiled(x))


@claim(
    "speed.torch-compile-elementwise",
    claimed="2 to 5 times faster",
    low=2.0,
    high=5.0,
    source="class 122, question 2",
    frameworks="torch",
    precisions="float32",
    modes="compiled",
)
def test_torch_compile_elementwise(chain_variants, cell, speed):
    """torch.compile makes code 2 to 5 times faster without changing it.

    Here a chain of twelve element-wise operations on a million numbers, its best case.
    """
    speed.compare(*chain_variants(cell), within=polynomial_bound(cell))


def fusion_variants_in_jax(cell):
    import jax.numpy as jnp

    x = jnp.asarray(waves(1_000), cell.dtype)
    compiled = cell.compile(polynomial)
    return Variant("op by op", lambda: polynomial(x)), Variant("jax.jit", lambda: compiled(x))


@claim(
    "speed.jax-jit-fusion",
    claimed="at least 5 times faster",
    low=5.0,
    source="class 173, exercise 3 and acceptance criterion",
    frameworks="jax",
    precisions="float32",
    modes="compiled",
)
def test_jax_jit_fusion(fusion_variants, cell, speed):
    """jax.jit makes a numerical function at least 5 times faster.

    Here a chain of twelve element-wise operations on 1,000 numbers.
    """
    speed.compare(*fusion_variants(cell), within=polynomial_bound(cell))
