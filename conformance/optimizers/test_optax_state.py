"""The state of an optax optimizer: whoever wants momentum carries it along.

An update of optax is a function: gradients and a state go in, updates and the next state come out,
and nothing is remembered in between. A loop that forgets to take up the new state runs without an
error and without momentum, or, with Adam, for ever in its first step.

The weight here has the gradient 1. With rate 1 and momentum 1/2 the velocity is 1, 3/2, 7/4 where
the state is carried along, and 1 in each step where it is dropped:

    step         0      1      2       3
    carried      0     -1    -5/2   -17/4
    dropped      0     -1     -2      -3      the mistake

nnx.Optimizer of Flax carries it by itself (conformance/jax/test_nnx_state.py); so do the optimizer
objects of torch and Keras.

Sources: class 173, definitions 7; https://optax.readthedocs.io/en/latest/getting_started.html,
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.trace
"""

from fixtures.matrix import behaviour


def fix_in_jax(cell):
    """The weight after each of three steps."""
    return _steps_in_jax(cell, carry=lambda old, new: new)


def mistake_in_jax(cell):
    """Every step is handed the state that init made."""
    return _steps_in_jax(cell, carry=lambda old, new: old)


def _steps_in_jax(cell, carry):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(1.0, momentum=0.5)

    @cell.compile
    def train_step(weight, state):
        updates, state = optimizer.update(jax.grad(jnp.sum)(weight), state, weight)
        return optax.apply_updates(weight, updates), state

    weight, weights = jnp.zeros(1, cell.dtype), []
    state = optimizer.init(weight)
    for _ in range(3):
        weight, new_state = train_step(weight, state)
        state = carry(state, new_state)
        weights.append(weight)
    return weights


@behaviour(
    "optimizers.optax-state-is-carried",
    frameworks="jax",
    precisions="float64 float32",
    modes="eager compiled",
    needs={"jax": "optax>=0.2"},
    catches="optax.trace-hands-back-its-old-state optax.trace-keeps-its-state-by-itself[*-eager]",
)
def test_optax_state_is_carried(mistake, fix, cell, expect):
    """With the new state carried along three steps lead to -1, -5/2, -17/4; without, to -1, -2, -3.

    An update has no memory of its own: the same arguments give the same updates.
    """
    expect.exactly(observed=fix(cell), expected=[[-1.0], [-2.5], [-4.25]], what="weight, carried")
    expect.exactly(observed=mistake(cell), expected=[[-1.0], [-2.0], [-3.0]], what="dropped")
