"""JAX arrays are immutable: an update makes a new array.

`x[0] = 1` raises TypeError, and `x.at[0].set(1)` returns a copy in which that entry differs; under
jit the compiler makes the copy disappear where nobody needs the old array. TensorFlow's tensors are
immutable too (tf.tensor_scatter_nd_update); torch's are not.

Sources: class 173, topic 1 and common mistake 2;
https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.ndarray.at.html,
https://www.tensorflow.org/guide/tensor
"""

import numpy as np

from fixtures.matrix import behaviour


def mistake_in_jax(cell):
    import jax.numpy as jnp

    @cell.compile
    def assign(x):
        x[0] = 10
        return x

    return assign(jnp.asarray([1, 2, 3], cell.dtype))


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant([1, 2, 3], cell.dtype)
    x[0] = 10
    return x


def fix_in_jax(cell):
    import jax.numpy as jnp

    @cell.compile
    def update(x):
        return x.at[0].set(10), x.at[1:].add(5), x.at[jnp.array([2, 2])].add(1)

    x = jnp.asarray([1, 2, 3], cell.dtype)
    return x, *update(x)


def fix_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def update(x):
        ten, five, one = (tf.constant(number, cell.dtype) for number in ([10], [5, 5], [1, 1]))
        return (
            tf.tensor_scatter_nd_update(x, [[0]], ten),
            tf.tensor_scatter_nd_add(x, [[1], [2]], five),
            tf.tensor_scatter_nd_add(x, [[2], [2]], one),
        )

    x = tf.constant([1, 2, 3], cell.dtype)
    return x, *update(x)


@behaviour(
    "jax.immutable-arrays",
    frameworks="tensorflow jax",
    precisions="float32",
    modes={"tensorflow": "eager", "jax": "eager compiled"},
    catches="tensorflow.scatter-add-counts-duplicates-once jax.scatter-add-counts-duplicates-once",
)
def test_immutable_arrays(mistake, fix, cell, expect):
    """x[0] = 10 raises TypeError; x.at[0].set(10) returns a new array and leaves x alone.

    x = [1, 2, 3]; adding twice at one index adds twice (NumPy's x[[2, 2]] += 1 adds once).
    """
    with expect.raises(TypeError, match="item assignment"):
        mistake(cell)
    original, replaced, added, twice = fix(cell)
    expect.exactly(observed=replaced, expected=np.array([10.0, 2, 3]), what="entry 0 set to 10")
    expect.exactly(observed=added, expected=np.array([1.0, 7, 8]), what="5 added to the others")
    expect.exactly(observed=twice, expected=np.array([1.0, 2, 5]), what="1 added twice to entry 2")
    expect.exactly(observed=original, expected=np.array([1.0, 2, 3]), what="the array itself")
