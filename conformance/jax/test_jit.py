"""jit compiles what a function did while it was traced, and Python only runs while it is traced.

A print, an append, the value of a global variable: each belongs to the trace. It happens once for
every new signature (shapes and dtypes), and never again. So compiled functions should be pure: take
what they need as arguments, and return what they make. tf.function works alike.

Sources: class 173, topic 1 and common mistake 2;
https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html#pure-functions,
https://www.tensorflow.org/guide/function#limitations
"""

import numpy as np

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# An append. Each program returns the shapes that were noted, and the last result.


def noted_in_jax(cell):
    import jax.numpy as jnp

    shapes = []

    @cell.compile
    def double(x):
        shapes.append(len(x))
        return 2 * x

    for x in ([1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7]):
        doubled = double(jnp.asarray(x, cell.dtype))
    return shapes, doubled


def noted_in_tensorflow(cell):
    import tensorflow as tf

    shapes = []

    @cell.compile
    def double(x):
        shapes.append(len(x))
        return 2 * x

    for x in ([1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3, 4], [5, 6, 7, 8], [9, 8, 7]):
        doubled = double(tf.constant(x, cell.dtype))
    return shapes, doubled


@behaviour(
    "jax.jit-side-effects-once",
    frameworks="tensorflow jax",
    precisions="float32",
    modes="eager compiled",
    catches="tensorflow.function-traces-every-call tensorflow.function-relaxes-shapes "
    "jax.jit-traces-every-call",
)
def test_jit_side_effects_once(noted, cell, expect):
    """An append in a compiled function runs once per shape: six calls with two shapes note two.

    Run eagerly it notes all six. The numbers are right either way: twice [9, 8, 7] at the end.
    """
    shapes, doubled = noted(cell)
    expected = [3, 4] if cell.is_compiled else [3, 3, 3, 4, 4, 3]
    expect.exactly(observed=str(shapes), expected=str(expected), what="shapes noted")
    expect.exactly(observed=doubled, expected=np.array([18.0, 16, 14]), what="result")


# ----------------------------------------------------------------------------------------------
# A variable of Python that the function reads. It is 2 at first, then 3.


def mistake_in_jax(cell):
    import jax.numpy as jnp

    settings = {"scale": 2.0}
    scaled = cell.compile(lambda x: settings["scale"] * x)
    before = scaled(jnp.asarray([1, 2, 3], cell.dtype))
    settings["scale"] = 3.0
    after = scaled(jnp.asarray([1, 2, 3], cell.dtype))
    return before, after, scaled(jnp.asarray([1, 2], cell.dtype))


def fix_in_jax(cell):
    import jax.numpy as jnp

    scaled = cell.compile(lambda scale, x: scale * x)
    two, three = jnp.asarray(2, cell.dtype), jnp.asarray(3, cell.dtype)
    before = scaled(two, jnp.asarray([1, 2, 3], cell.dtype))
    after = scaled(three, jnp.asarray([1, 2, 3], cell.dtype))
    return before, after, scaled(three, jnp.asarray([1, 2], cell.dtype))


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    settings = {"scale": 2.0}
    scaled = cell.compile(lambda x: settings["scale"] * x)
    before = scaled(tf.constant([1, 2, 3], cell.dtype))
    settings["scale"] = 3.0
    after = scaled(tf.constant([1, 2, 3], cell.dtype))
    return before, after, scaled(tf.constant([1, 2], cell.dtype))


def fix_in_tensorflow(cell):
    """Besides an argument, TensorFlow has tf.Variable: its value is read at every call."""
    import tensorflow as tf

    scale = tf.Variable(2, dtype=cell.dtype)
    scaled = cell.compile(lambda x: scale * x)
    before = scaled(tf.constant([1, 2, 3], cell.dtype))
    scale.assign(3)
    after = scaled(tf.constant([1, 2, 3], cell.dtype))
    return before, after, scaled(tf.constant([1, 2], cell.dtype))


@behaviour(
    "jax.jit-bakes-in-closures",
    frameworks="tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="tensorflow.function-traces-every-call tensorflow.function-relaxes-shapes "
    "jax.jit-traces-every-call",
)
def test_jit_bakes_in_closures(mistake, fix, cell, expect):
    """A Python variable is read while tracing: 2·[1, 2, 3] stays [2, 4, 6] after 2 became 3.

    Until a new shape is traced: then it is suddenly 3·[1, 2]. An argument (in TensorFlow also a
    tf.Variable) is read at every call.
    """
    before, after, other_shape = mistake(cell)
    expect.exactly(observed=before, expected=np.array([2.0, 4, 6]), what="with 2")
    expect.exactly(observed=after, expected=np.array([2.0, 4, 6]), what="with a stale 2")
    expect.exactly(observed=other_shape, expected=np.array([3.0, 6]), what="another shape")

    before, after, other_shape = fix(cell)
    expect.exactly(observed=before, expected=np.array([2.0, 4, 6]), what="argument 2")
    expect.exactly(observed=after, expected=np.array([3.0, 6, 9]), what="argument 3")
    expect.exactly(observed=other_shape, expected=np.array([3.0, 6]), what="argument 3, short")
