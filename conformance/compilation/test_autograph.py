"""AutoGraph: Python's words for logic and flow, said of tensors, mean what they mean in Python.

`if`, `while`, `for`, `and`, `or` and `not` ask for truth, and a tensor in a graph has none yet.
tf.function therefore rewrites the function first: `if` becomes tf.cond, loops tf.while_loop, `and`
an operation that evaluates its second operand only if the first is true, as Python does. (jax.jit
and torch.compile(fullgraph=True) rewrite nothing of the kind and refuse.)

Every function here is run with each of its inputs, as Python on numbers and as TensorFlow on
tensors, eager and compiled.

Sources: class 120, exercise 3, definitions (AutoGraph), frequent question 3, common mistake 4;
https://www.tensorflow.org/guide/function (AutoGraph transformations),
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/python/autograph/g3doc/reference/control_flow.md
"""

import itertools

from fixtures.matrix import behaviour

BOOLEANS = list(itertools.product([False, True], repeat=2))

# ----------------------------------------------------------------------------------------------
# and, or, not.


def both(a, b):
    return a and b


def either(a, b):
    return a or b


def neither(a, b):
    return not (a or b)


def just_one(a, b):
    return a and not b or not a and b


def divides(a, b):
    """The second operand would divide by zero, and is not looked at where the first is false."""
    return b != 0 and a % b == 0


def logic_in_numpy(cell, function, arguments):
    return function(*arguments)


def logic_in_tensorflow(cell, function, arguments):
    import tensorflow as tf

    return cell.compile(function)(*(tf.constant(argument) for argument in arguments))


@behaviour(
    "compilation.autograph-logic",
    frameworks="numpy tensorflow",
    precisions="float32",
    modes={"numpy": "eager", "tensorflow": "eager compiled"},
    catches="tensorflow.autograph-and-means-or tensorflow.autograph-and-looks-at-both",
)
def test_autograph_logic(logic, cell, expect):
    """The truth tables of and, or, not, their combination, and a second operand that must not run.

    For (False, False), (False, True), (True, False), (True, True). 3 divides 6, 4 does not, and 0
    divides nothing: the remainder by 0 would be an error.
    """
    for function, table in (
        (both, [False, False, False, True]),
        (either, [False, True, True, True]),
        (neither, [True, False, False, False]),
        (just_one, [False, True, True, False]),
    ):
        observed = [bool(logic(cell, function, arguments)) for arguments in BOOLEANS]
        expect.exactly(observed=observed, expected=table, what=function.__name__)
    observed = [bool(logic(cell, divides, arguments)) for arguments in [(6, 3), (6, 4), (6, 0)]]
    expect.exactly(observed=observed, expected=[True, False, False], what="divides")


# ----------------------------------------------------------------------------------------------
# if, while, for, break, continue.


def absolute_value(x):
    if x > 0:
        y = x
    elif x < 0:
        y = -x
    else:
        y = 0 * x
    return y


def steps_to_one(n):
    """Collatz: 6, 3, 10, 5, 16, 8, 4, 2, 1."""
    steps = 0 * n
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def odd_numbers_until(total):
    """How many of 1, 3, 5, ... to add until the sum is `total` or more."""
    added, number = 0 * total, 0 * total
    while number < 100:
        number += 1
        if number % 2 == 0:
            continue
        added += number
        if added >= total:
            break
    return (number + 1) // 2


flow_in_numpy = logic_in_numpy
flow_in_tensorflow = logic_in_tensorflow


@behaviour(
    "compilation.autograph-control-flow",
    frameworks="numpy tensorflow",
    precisions="float32",
    modes={"numpy": "eager", "tensorflow": "eager compiled"},
    catches="tensorflow.autograph-always-takes-the-first-branch",
)
def test_autograph_control_flow(flow, cell, expect):
    """|x|, the steps of Collatz's sequence, and the roots of squares by adding odd numbers.

    From 6 it is eight steps to 1, from 7 sixteen, from 1 none. The sum of the first n odd numbers
    is n²: for 16 it takes four of them, for 17 five.
    """
    for function, values in (
        (absolute_value, {-3: 3, 0: 0, 3: 3}),
        (steps_to_one, {1: 0, 6: 8, 7: 16}),
        (odd_numbers_until, {1: 1, 16: 4, 17: 5}),
    ):
        observed = [int(flow(cell, function, (argument,))) for argument in values]
        expect.exactly(observed=observed, expected=list(values.values()), what=function.__name__)
