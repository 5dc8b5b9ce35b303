"""What is differentiated: tracked inputs, watched tensors, chosen arguments.

    torch        tensors with requires_grad=True; asking for the gradient of another is an error
    TensorFlow   trainable variables, and what tape.watch was called on before it was used;
                 the gradient of anything else is None, without a word
    JAX          the arguments that argnums names, by default the first; nothing has to be marked

Everything here is d(x²)/dx at 3, which is 6, or d(x² y)/d(x, y) at (3, 5), which is (30, 9).

Sources: class 121, topic 2 and definitions of tape.watch and requires_grad; class 118, frequent
question 5; class 122, definitions; https://www.tensorflow.org/api_docs/python/tf/GradientTape,
https://docs.pytorch.org/docs/stable/notes/autograd.html,
https://docs.jax.dev/en/latest/_autosummary/jax.grad.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# TensorFlow: constants are not watched, and a watch does not reach into the past.


def untracked_in_tensorflow(cell):
    """A constant, a constant watched too late, a variable that is not trainable."""
    import tensorflow as tf

    frozen = tf.Variable(3.0, trainable=False, dtype=cell.dtype)

    @cell.compile
    def gradients(x):
        with tf.GradientTape() as tape:
            y = x * x
        constant = tape.gradient(y, x)
        with tf.GradientTape() as tape:
            y = x * x
            tape.watch(x)
        too_late = tape.gradient(y, x)
        with tf.GradientTape() as tape:
            y = frozen * frozen
        return constant, too_late, tape.gradient(y, frozen)

    return gradients(tf.constant(3.0, cell.dtype))


def tracked_in_tensorflow(cell):
    """The same three, cured, and a trainable variable, which needs no cure."""
    import tensorflow as tf

    frozen = tf.Variable(3.0, trainable=False, dtype=cell.dtype)
    variable = tf.Variable(3.0, dtype=cell.dtype)

    @cell.compile
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x * x
        constant = tape.gradient(y, x)
        with tf.GradientTape() as tape:
            tape.watch(frozen)
            y = frozen * frozen
        watched_variable = tape.gradient(y, frozen)
        with tf.GradientTape() as tape:
            y = variable * variable
        return constant, watched_variable, tape.gradient(y, variable)

    return gradients(tf.constant(3.0, cell.dtype))


@behaviour(
    "autograd.tape-watch-constant",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="tensorflow.unconnected-gradients-are-zero tensorflow.frozen-variables-are-watched",
)
def test_tape_watch_constant(untracked, tracked, cell, expect):
    """The gradient of a tensor nobody watched is None; tape.watch before its use makes it 6.

    None: a constant, a constant watched after x² was computed, a variable with trainable=False.
    """
    expect.exactly(observed=untracked(cell), expected=(None, None, None), what="not tracked")
    expect.exactly(observed=tracked(cell), expected=[6.0, 6.0, 6.0], what="tracked")


# ----------------------------------------------------------------------------------------------
# torch: the gradient of an untracked tensor is an error.

error_in_numpy = "nothing to differentiate"
error_in_torch = "does not require grad"


def mistake_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array(3.0, cell.dtype))
    (x * x).backward()


def fix_in_numpy(cell):
    import numpy as np

    from reference.autodiff import Tensor

    x = Tensor(np.array(3.0, cell.dtype), requires_grad=True)
    (x * x).backward()
    return x.grad


def mistake_in_torch(cell):
    import torch

    square = cell.compile(lambda x: x * x)
    x = torch.tensor(3.0, dtype=cell.dtype, device=cell.device)
    square(x).backward()


def fix_in_torch(cell):
    import torch

    square = cell.compile(lambda x: x * x)
    x = torch.tensor(3.0, dtype=cell.dtype, device=cell.device)
    x.requires_grad_()
    square(x).backward()
    return x.grad


@behaviour(
    "autograd.untracked-input-behaviour",
    frameworks="numpy torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.backward-of-a-constant-does-nothing",
)
def test_untracked_input_behaviour(mistake, fix, error, cell, expect):
    """backward() without any tracked input raises RuntimeError; requires_grad_() cures it: 6."""
    with expect.raises(RuntimeError, match=error):
        mistake(cell)
    expect.exactly(observed=fix(cell), expected=6.0, what="gradient")


# ----------------------------------------------------------------------------------------------
# JAX: any argument can be differentiated, and argnums says which are.


def chosen_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def function(x, y):
        return x * x * y

    @cell.compile
    def gradients(x, y):
        by_default = jax.grad(function)(x, y)
        second = jax.grad(function, argnums=1)(x, y)
        return by_default, second, *jax.grad(function, argnums=(1, 0))(x, y)

    return gradients(jnp.asarray(3.0, cell.dtype), jnp.asarray(5.0, cell.dtype))


@behaviour(
    "autograd.argnums-chooses-arguments",
    frameworks="jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager compiled",
    catches="jax.argnums-in-ascending-order",
)
def test_argnums_chooses_arguments(chosen, cell, expect):
    """jax.grad(f) differentiates the first argument, argnums=1 the second, a tuple several.

    x² y at (3, 5): 2xy = 30 by default, x² = 9 for argnums=1, both in the order that is asked for.
    """
    expect.exactly(observed=chosen(cell), expected=[30.0, 9.0, 9.0, 30.0], what="gradients")
