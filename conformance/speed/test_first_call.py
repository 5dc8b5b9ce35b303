"""What a compiled function costs before it is fast: its first call.

The first call of a compiled function traces its Python body, builds a graph and compiles it; the
second runs what was made. So a function that is called once is slower compiled than not, and so is
one that is called with a new shape each time. Each sample of a first call here is of a function
that was compiled anew, before the clock started; nothing it did is left over for the next.

torch.compile keeps the code it generates in a cache on disk, across processes. After the very first
one, a first call here traces and looks its code up, which is less than what a new function costs;
the seconds of that one stand in the record as the variant's `first_calls`.

Sources: class 120, topics (when it pays off), question 1 and definitions (retracing); class 173,
acceptance criterion and common mistake 1; catalogue: speed.one-shot-tracing-cost,
speed.jax-first-call-compiles; https://www.tensorflow.org/guide/function,
https://docs.jax.dev/en/latest/201/jit.html,
https://docs.pytorch.org/tutorials/recipes/torch_compile_caching_tutorial.html
"""

import types

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

VALUES = np.sin(np.arange(100.0))


def function(x):
    return (2 * x + 3 * x + 1) ** 2


def function_bound(cell):
    return rounded(6, cell.precision, terms=36.0)  # |x| is at most 1


def another_function():
    """A function equal to the one above that no compiler has seen, since its code is another."""
    return types.FunctionType(function.__code__.replace(), globals())


def calls_in_torch(cell):
    """The array, and the compiler."""
    import torch

    return torch.tensor(VALUES, dtype=cell.dtype, device=cell.device), torch.compile


def calls_in_tensorflow(cell):
    import tensorflow as tf

    return tf.constant(VALUES, cell.dtype), tf.function


def calls_in_jax(cell):
    import jax
    import jax.numpy as jnp

    return jnp.asarray(VALUES, cell.dtype), jax.jit


def first_call(x, compiler):
    return Variant(
        "first call", lambda compiled: compiled(x), prepare=lambda: compiler(another_function())
    )


@claim(
    "speed.first-call-compiles",
    claimed="at least 20 times slower",
    low=20.0,
    source="class 173, acceptance criterion",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
)
def test_first_call_compiles(calls, cell, speed):
    """The first call of a compiled function is slow, at least 20 times as slow as the second."""
    x, compiler = calls(cell)
    compiled = cell.compile(function)
    compiled(x)
    second_call = Variant("second call", lambda: compiled(x))
    speed.compare(first_call(x, compiler), second_call, within=function_bound(cell))


@claim(
    "speed.one-shot-tracing-cost",
    claimed="at least 5 times slower",
    low=5.0,
    source="class 120, question 1",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="eager",
)
def test_one_shot_tracing_cost(calls, cell, speed):
    """A function that is called once is slower compiled: the call costs at least 5 eager ones."""
    x, compiler = calls(cell)
    eager_call = Variant("eager call", lambda: function(x))
    speed.compare(first_call(x, compiler), eager_call, within=function_bound(cell))
