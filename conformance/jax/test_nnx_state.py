"""Flax NNX: a module is its structure and its state, and may be taken apart and put together.

JAX's functions know arrays; a module of Flax NNX is an object that holds them. nnx.split takes it
apart into a structure and its arrays, sorted by type, and nnx.merge puts both together:

    structure, parameters, rest = nnx.split(model, nnx.Param, ...)
    model = nnx.merge(structure, parameters, rest)

nnx.update writes arrays into a model that is there, nnx.clone makes a second one. A function
compiled by nnx.jit does the splitting and writing by itself, so that what it changes in the model
stays changed; under jax.jit that is lost, unless the function returns the state.

Sources: class 173, definitions 7, question 2, exercise 5 and homework 2;
https://flax.readthedocs.io/en/latest/nnx_basics.html,
https://flax.readthedocs.io/en/latest/guides/filters_guide.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/training/optimizer.html
"""

import numpy as np

from fixtures.matrix import behaviour


def counting_module(cell):
    """w·x, where every call is counted."""
    import jax.numpy as jnp
    from flax import nnx

    class Calls(nnx.Variable):
        pass

    class Counting(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.asarray([2.0, 3.0], cell.dtype))
            self.calls = Calls(jnp.asarray(0))

        def __call__(self, x):
            self.calls.value = self.calls[...] + 1  # calls[...] = cannot be written before 0.11
            return jnp.sum(self.w[...] * x)

    return Counting(), Calls


# ----------------------------------------------------------------------------------------------
# Taken apart and put together.


def parts_in_jax(cell):
    """(parameters, others, output of the model, of the merged one, of a clone after changes)."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    x = jnp.asarray([1.0, 4.0], cell.dtype)
    model, Calls = counting_module(cell)
    output = model(x)
    structure, *states = nnx.split(model, nnx.Param, ...)
    parameters, others = map(jax.tree.leaves, states)
    by_type = [jax.tree.leaves(nnx.state(model, kind)) for kind in (nnx.Param, Calls)]
    merged = nnx.merge(structure, *states)(x)
    clone = nnx.clone(model)
    nnx.update(model, jax.tree.map(lambda leaf: 10 * leaf, nnx.state(model, nnx.Param)))
    return {
        "parameters": parameters,
        "parameters, by nnx.state": by_type[0],
        "number of other arrays": len(others),
        "number of counters": len(by_type[1]),
        "output": output,
        "output, merged": merged,
        "output, updated": model(x),
        "output, cloned before": clone(x),
    }


@behaviour(
    "jax.nnx-split-merge",
    frameworks="jax",
    precisions="float64 float32 bfloat16",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    costly="jax-*-float64-eager jax-*-bfloat16-eager",
    catches="flax.clone-shares-its-arrays flax.update-changes-nothing",
)
def test_nnx_split_merge(parts, cell, expect):
    """split sorts arrays by type, and merge gives a module that computes the same.

    w = (2, 3) and x = (1, 4): 14. An update with ten times the parameters gives 140; the clone made
    before it still 14. The counter of calls is an array, too, but no nnx.Param.
    """
    expected = {
        "parameters": [np.array([2.0, 3])],
        "parameters, by nnx.state": [np.array([2.0, 3])],
        "number of other arrays": 1,
        "number of counters": 1,
        "output": 14.0,
        "output, merged": 14.0,
        "output, updated": 140.0,
        "output, cloned before": 14.0,
    }
    for what, observed in parts(cell).items():
        expect.exactly(observed=observed, expected=expected[what], what=what)


# ----------------------------------------------------------------------------------------------
# What a compiled call changes.


def mistake_in_jax(cell):
    """The module comes into jax.jit from outside: Python runs once, for the trace."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    model, Calls = counting_module(cell)
    structure, state = nnx.split(model)
    called = cell.compile(lambda state, x: nnx.merge(structure, state)(x))
    for _ in range(3):
        output = called(state, jnp.asarray([1.0, 4.0], cell.dtype))
    return output, jax.tree.leaves(nnx.state(model, Calls))


def returned_in_jax(cell):
    """The function returns the new state."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    model, Calls = counting_module(cell)
    structure, state = nnx.split(model)

    @cell.compile
    def called(state, x):
        model = nnx.merge(structure, state)
        output = model(x)
        return output, nnx.state(model)

    for _ in range(3):
        output, state = called(state, jnp.asarray([1.0, 4.0], cell.dtype))
    nnx.update(model, state)
    return output, jax.tree.leaves(nnx.state(model, Calls))


def fix_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    model, Calls = counting_module(cell)
    called = cell.compile(lambda model, x: model(x), jit=nnx.jit)
    for _ in range(3):
        output = called(model, jnp.asarray([1.0, 4.0], cell.dtype))
    return output, jax.tree.leaves(nnx.state(model, Calls))


@behaviour(
    "jax.nnx-jit-propagates-state",
    frameworks="jax",
    precisions="float32",
    modes="compiled",
    needs={"jax": "flax>=0.10"},
    catches="flax.jit-loses-what-the-module-became",
)
def test_nnx_jit_propagates_state(mistake, returned, fix, cell, expect):
    """Three calls are three in the model's counter with nnx.jit, and none with jax.jit.

    With jax.jit the function must return the state. The output is 14 in all of them.
    """
    for what, program, calls in (
        ("jax.jit", mistake, 0),
        ("jax.jit, state returned", returned, 3),
        ("nnx.jit", fix, 3),
    ):
        output, counted = program(cell)
        expect.exactly(observed=output, expected=14.0, what=f"output, {what}")
        expect.exactly(observed=counted, expected=[calls], what=f"calls counted, {what}")


# ----------------------------------------------------------------------------------------------
# The optimizer.


def trained_in_jax(cell):
    """(w, steps counted, calls counted, whether w is the same object) after two steps of SGD."""
    import jax.numpy as jnp
    import optax
    from flax import nnx

    model, _ = counting_module(cell)
    parameter = model.w
    optimizer = nnx.Optimizer(model, optax.sgd(0.5, momentum=0.5), wrt=nnx.Param)

    def train_step(model, optimizer, x):
        gradients = nnx.grad(lambda model: model(x))(model)
        optimizer.update(model, gradients)

    compiled = cell.compile(train_step, jit=nnx.jit)
    for _ in range(2):
        compiled(model, optimizer, jnp.asarray([1.0, 4.0], cell.dtype))
    same = model.w is parameter
    return model.w[...], optimizer.step[...], model.calls[...], same


@behaviour(
    "jax.nnx-optimizer-mutates",
    frameworks="jax",
    precisions="float32",
    modes="eager compiled",
    needs={"jax": "flax>=0.11 optax>=0.2"},
    catches="flax.optimizer-forgets-its-momentum",
)
def test_nnx_optimizer_mutates(trained, cell, expect):
    """nnx.Optimizer changes the model that it is handed, and keeps its own state between steps.

    The gradient of w·x is x = (1, 4). With rate 1/2 and momentum 1/2 two steps take off
    (1 + 3/2)·x/2 = (5/4, 5): w = (2, 3) becomes (3/4, -2). nnx.Param alone is trained.
    """
    weight, steps, calls, same = trained(cell)
    expect.exactly(observed=weight, expected=np.array([0.75, -2.0]), what="w")
    expect.exactly(observed=steps, expected=2, what="steps of the optimizer")
    expect.exactly(observed=calls, expected=2, what="calls of the model")
    expect.exactly(observed=same, expected=True, what="whether the parameter is the same object")
