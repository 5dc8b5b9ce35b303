"""Loops and branches that are part of the compiled program.

Under jit a Python `if` or `while` cannot look at a traced number. lax.scan, while_loop, fori_loop,
cond and switch can; TensorFlow and keras.ops have the like. Each does what these lines do:

    scan(f, carry, xs)              for x in xs: carry, y = f(carry, x); ys.append(y)
    while_loop(test, body, state)   while test(state): state = body(state)
    fori_loop(2, 5, body, state)    for i in (2, 3, 4): state = body(i, state)
    cond(flag, f, g, x)             f(x) if flag else g(x)
    switch(i, branches, x)          branches[i](x), i brought into the range of the branches

Sources: class 173, topics 1 and common mistake 2;
https://docs.jax.dev/en/latest/jax.lax.html#control-flow-operators,
https://docs.jax.dev/en/latest/control-flow.html,
https://www.tensorflow.org/api_docs/python/tf/scan,
https://www.tensorflow.org/api_docs/python/tf/while_loop,
https://keras.io/api/ops/core/
"""

import numpy as np

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# scan: products so far. Each program returns (last carry, all products), forwards and backwards.

NUMBERS = (2.0, 3.0, 4.0)


def products_in_numpy(cell):
    def products(xs):
        carry, ys = cell.dtype.type(1), []
        for x in xs:
            carry = carry * x
            ys.append(carry)
        return carry, np.array(ys)

    xs = np.array(NUMBERS, cell.dtype)
    last, backwards = products(xs[::-1])
    return *products(xs), last, backwards[::-1]


def products_in_tensorflow(cell):
    """tf.scan returns the carry after each element; the carry is the result."""
    import tensorflow as tf

    @cell.compile
    def products(xs):
        one = tf.constant(1, cell.dtype)
        forwards = tf.scan(lambda carry, x: carry * x, xs, one)
        backwards = tf.scan(lambda carry, x: carry * x, xs, one, reverse=True)
        return forwards[-1], forwards, backwards[0], backwards

    return products(tf.constant(NUMBERS, cell.dtype))


def products_in_keras(cell):
    import keras

    def step(carry, x):
        return carry * x, carry * x

    xs = keras.ops.convert_to_tensor(NUMBERS, cell.dtype)
    one = keras.ops.convert_to_tensor(1, cell.dtype)
    return *keras.ops.scan(step, one, xs), *keras.ops.scan(step, one, xs, reverse=True)


def products_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def step(carry, x):
        return carry * x, carry * x

    @cell.compile
    def products(xs):
        one = jnp.ones((), cell.dtype)
        return *jax.lax.scan(step, one, xs), *jax.lax.scan(step, one, xs, reverse=True)

    return products(jnp.asarray(NUMBERS, cell.dtype))


@behaviour(
    "jax.scan-equals-loop",
    frameworks="numpy tensorflow keras jax",
    precisions={"keras": "float32", "others": "float64 float32 float16"},
    modes={"numpy": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"keras": "keras>=3.4"},
    costly="jax-*-float64-eager jax-*-float16-eager",
    catches="jax.scan-stacks-as-it-ran tensorflow.scan-stacks-as-it-ran",
)
def test_scan_equals_loop(products, cell, expect):
    """scan carries a number through the elements and stacks what each step puts out.

    Products of 2, 3, 4: 2, 6, 24. With reverse=True it begins at the end, but each output stands
    where its input stood: 24, 12, 4.
    """
    carry, forwards, carry_back, backwards = products(cell)
    expect.exactly(observed=carry, expected=24.0, what="carry")
    expect.exactly(observed=forwards, expected=np.array([2.0, 6, 24]), what="products")
    expect.exactly(observed=carry_back, expected=24.0, what="carry, in reverse")
    expect.exactly(observed=backwards, expected=np.array([24.0, 12, 4]), what="products in reverse")


WEIGHTS = (1.0, 2.0, 4.0)


def slopes_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def slopes(xs):
        one, weights = tf.constant(1, cell.dtype), tf.constant(WEIGHTS, cell.dtype)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(xs)
            forwards = tf.scan(lambda carry, x: carry * x, xs, one) * weights
            backwards = tf.scan(lambda carry, x: carry * x, xs, one, reverse=True) * weights
        return tape.gradient(forwards, xs), tape.gradient(backwards, xs)

    return slopes(tf.constant(NUMBERS, cell.dtype))


def slopes_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def total(xs, reverse):
        one, weights = jnp.ones((), cell.dtype), jnp.asarray(WEIGHTS, cell.dtype)
        _, products = jax.lax.scan(lambda c, x: (c * x, c * x), one, xs, reverse=reverse)
        return jnp.sum(weights * products)

    @cell.compile
    def slopes(xs):
        return jax.grad(total)(xs, False), jax.grad(total)(xs, True)

    return slopes(jnp.asarray(NUMBERS, cell.dtype))


@behaviour(
    "jax.scan-gradient",
    frameworks="tensorflow jax",
    precisions="float64 float32",
    modes="eager compiled",
    costly="jax-*-float64-eager",
    catches="jax.scan-stacks-as-it-ran jax.scan-gradient-stops-at-the-carry "
    "tensorflow.scan-stacks-as-it-ran",
)
def test_scan_gradient(slopes, cell, expect):
    """scan is differentiated through its carry: the sum of all products of a, b, c = 2, 3, 4.

    a + ab + abc      (1 + b + bc, a + ac, ab) = (16, 10, 6)
    abc + bc + c      (bc, ac + c, ab + b + 1) = (12, 12, 10), in reverse
    """
    forwards, backwards = slopes(cell)
    expect.exactly(observed=forwards, expected=np.array([55.0, 36, 24]), what="gradient")
    expect.exactly(observed=backwards, expected=np.array([12.0, 16, 16]), what="gradient, reversed")


# ----------------------------------------------------------------------------------------------
# The others. Each program returns {what: number}.


def flow_in_tensorflow(cell):
    """A branch that tf.switch_case does not have is the last one, or the default."""
    import tensorflow as tf

    @cell.compile
    def flow(x, flag, index):
        def body(count, x):
            return count + 1, x / 2

        count, small = tf.while_loop(lambda count, x: x >= 1, body, (0, x))
        limited, _ = tf.while_loop(lambda count, x: x >= 1, body, (0, x), maximum_iterations=2)
        return {
            "halvings": count,
            "halved": small,
            "at most two halvings": limited,
            "branch for True": tf.cond(flag, lambda: 2 * x, lambda: -x),
            "branch for False": tf.cond(~flag, lambda: 2 * x, lambda: -x),
            "branch 1": tf.switch_case(index, [lambda: x, lambda: 2 * x, lambda: 3 * x]),
        }

    return flow(tf.constant(10, cell.dtype), tf.constant(True), tf.constant(1))


def flow_in_keras(cell):
    import keras

    ops = keras.ops
    x, flag = ops.convert_to_tensor(10, cell.dtype), ops.convert_to_tensor(True)
    zero = ops.convert_to_tensor(0, "int32")

    def halvings(**options):
        return ops.while_loop(
            lambda count, x: x >= 1, lambda count, x: (count + 1, x / 2), (zero, x), **options
        )

    count, small = halvings()
    limited, _ = halvings(maximum_iterations=2)
    return {
        "halvings": count,
        "halved": small,
        "at most two halvings": limited,
        "sum of 2, 3, 4": ops.fori_loop(2, 5, lambda i, total: total + i, zero),
        "no rounds": ops.fori_loop(5, 2, lambda i, total: total + i, zero),
        "branch for True": ops.cond(flag, lambda: 2 * x, lambda: -x),
        "branch for False": ops.cond(ops.logical_not(flag), lambda: 2 * x, lambda: -x),
    }


def flow_in_jax(cell):
    import jax
    import jax.numpy as jnp

    lax = jax.lax

    @cell.compile
    def flow(x, flag, index):
        count, small = lax.while_loop(
            lambda state: state[1] >= 1, lambda state: (state[0] + 1, state[1] / 2), (0, x)
        )
        branches = [lambda x: x, lambda x: 2 * x, lambda x: 3 * x]
        return {
            "halvings": count,
            "halved": small,
            "sum of 2, 3, 4": lax.fori_loop(2, 5, lambda i, total: total + i, 0),
            "no rounds": lax.fori_loop(5, 2, lambda i, total: total + i, 0),
            "branch for True": lax.cond(flag, lambda x: 2 * x, lambda x: -x, x),
            "branch for False": lax.cond(~flag, lambda x: 2 * x, lambda x: -x, x),
            "branch 1": lax.switch(index, branches, x),
            "branch 7 of 3": lax.switch(index + 6, branches, x),
            "branch -1": lax.switch(index - 2, branches, x),
        }

    return flow(jnp.asarray(10, cell.dtype), jnp.asarray(True), jnp.asarray(1))


EXPECTED = {
    "halvings": 4,
    "halved": 0.625,
    "at most two halvings": 2,
    "sum of 2, 3, 4": 9,
    "no rounds": 0,
    "branch for True": 20.0,
    "branch for False": -10.0,
    "branch 1": 20.0,
    "branch 7 of 3": 30.0,
    "branch -1": 10.0,
}


@behaviour(
    "jax.control-flow",
    frameworks="tensorflow keras jax",
    precisions="float32",
    modes={"keras": "eager", "others": "eager compiled"},
    catches="jax.fori-loop-includes-its-end jax.switch-counts-from-the-end "
    "tensorflow.while-loop-forgets-its-limit",
)
def test_control_flow(flow, cell, expect):
    """Loops and branches take their decisions from tensors, compiled or not.

    10 is halved four times until it is below 1: 5/8. fori_loop leaves out its upper end, as range
    does: 2 + 3 + 4 = 9, and runs no round from 5 to 2. lax.switch clamps the number of the branch:
    7 is the last of three and -1 the first, not the last as in a list.
    """
    observed = flow(cell)
    for what, number in observed.items():
        expect.exactly(observed=number, expected=EXPECTED[what], what=what)


# ----------------------------------------------------------------------------------------------
# Which loops can be differentiated.


def static_in_jax(cell):
    """x times 2, three times: the slope is 8."""
    import jax
    import jax.numpy as jnp

    slope = jax.grad(lambda x: jax.lax.fori_loop(0, 3, lambda i, x: 2 * x, x))
    return cell.compile(slope)(jnp.ones((), cell.dtype))


def forward_in_jax(cell):
    """The same loop, with a bound that is traced, in forward mode."""
    import jax
    import jax.numpy as jnp

    def slope(x, rounds):
        def loop(x):
            return jax.lax.fori_loop(0, rounds, lambda i, x: 2 * x, x)

        return jax.jvp(loop, (x,), (jnp.ones_like(x),))[1]

    return cell.compile(slope)(jnp.ones((), cell.dtype), 3)


def mistake_in_jax(cell, expect):
    import jax
    import jax.numpy as jnp

    slope = jax.grad(lambda x, rounds: jax.lax.fori_loop(0, rounds, lambda i, x: 2 * x, x))
    with expect.raises(ValueError, match="Reverse-mode differentiation does not work"):
        jax.jit(slope)(jnp.ones((), cell.dtype), 3)


@behaviour(
    "jax.loop-gradient",
    frameworks="jax",
    precisions="float32",
    modes="eager compiled",
    catches="jax.fori-loop-includes-its-end",
)
def test_loop_gradient(static, forward, mistake, cell, expect):
    """Reverse mode needs to know beforehand how often a loop runs; forward mode does not.

    A fori_loop with bounds that are Python numbers is a scan, and 2·2·2·x has the slope 8. With a
    traced bound jax.grad raises ValueError, and jax.jvp gives 8.
    """
    expect.exactly(observed=static(cell), expected=8.0, what="slope, static bound")
    expect.exactly(observed=forward(cell), expected=8.0, what="slope, traced bound, forward mode")
    mistake(cell, expect)
