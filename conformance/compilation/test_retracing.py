"""Retracing: what makes a compiler start again, and what does not.

A compiled function is compiled for the *kind* of its arguments. The same kind again reuses the
code; another kind runs Python once more, to trace it, and compiles. What a kind is differs:

                    a new value    a new shape           a new dtype    a new Python integer
    tf.function     reused         traced again          traced again   traced again
    jax.jit         reused         traced again          traced again   reused (unless static)
    torch.compile   reused         again once, then for  traced again   again once, then for
                                   any size                             any integer

Each program counts for itself: in TensorFlow and JAX a line of Python in the body runs once per
trace, and torch.compile calls its backend once per graph.

Sources: class 120, definition of retracing, exercises 2 and 5, common mistake 2, learning outcomes
3 and 4; https://www.tensorflow.org/guide/function,
https://docs.jax.dev/en/latest/jit-compilation.html,
https://docs.pytorch.org/docs/stable/torch.compiler_dynamic_shapes.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# Shapes and dtypes. The function is the sum of squares: of 1, 2 it is 5.


SHAPES_AND_SUMS = (
    ([1, 2], "floating", 5.0),
    ([3, 4], "floating", 25.0),  # other values
    ([1, 2, 3], "floating", 14.0),  # another size
    ([1, 2, 3, 4], "floating", 30.0),  # and one more
    ([1, 2, 3, 4], "integer", 30.0),  # another dtype
    ([5, 6], "floating", 61.0),  # the first shape once more
    ([[1, 2], [3, 4]], "floating", 30.0),  # another rank
)


def sums_of_squares_in_torch(cell):
    import torch

    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    sum_of_squares = cell.compile(lambda x: (x * x).sum(), backend=count)
    dtypes = {"floating": cell.dtype, "integer": torch.int32}
    sums, traces = [], []
    for values, kind, _ in SHAPES_AND_SUMS:
        x = torch.tensor(values, dtype=dtypes[kind], device=cell.device)
        sums.append(sum_of_squares(x).item())
        traces.append(len(graphs))
    return sums, traces


def sums_of_squares_in_tensorflow(cell):
    import tensorflow as tf

    traced = []

    @cell.compile
    def sum_of_squares(x):
        traced.append(x.shape)
        return tf.reduce_sum(x * x)

    dtypes = {"floating": cell.dtype, "integer": tf.int32}
    sums, traces = [], []
    for values, kind, _ in SHAPES_AND_SUMS:
        sums.append(float(sum_of_squares(tf.constant(values, dtypes[kind]))))
        traces.append(len(traced))
    return sums, traces


def sums_of_squares_in_jax(cell):
    import jax.numpy as jnp

    traced = []

    @cell.compile
    def sum_of_squares(x):
        traced.append(x.shape)
        return (x * x).sum()

    dtypes = {"floating": cell.dtype, "integer": jnp.int32}
    sums, traces = [], []
    for values, kind, _ in SHAPES_AND_SUMS:
        sums.append(float(sum_of_squares(jnp.asarray(values, dtypes[kind]))))
        traces.append(len(traced))
    return sums, traces


traces_in_torch = [1, 1, 2, 2, 3, 3, 4]  # the second size compiles code for any size
traces_in_tensorflow = [1, 1, 2, 3, 4, 4, 5]
traces_in_jax = [1, 1, 2, 3, 4, 4, 5]


@behaviour(
    "compilation.retrace-on-shape-and-dtype",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="torch.compile-for-each-size torch.compile-for-any-size-at-once "
    "tensorflow.function-relaxes-shapes tensorflow.function-traces-every-call "
    "jax.jit-traces-every-call",
)
def test_retrace_on_shape_and_dtype(sums_of_squares, traces, cell, expect):
    """A new shape or dtype traces again; new values do not, and neither does a shape seen before.

    The sum of squares of [1, 2], [3, 4], [1, 2, 3], [1, 2, 3, 4], the same as integers, [5, 6] and
    [[1, 2], [3, 4]]: tf.function and jax.jit have traced 1, 1, 2, 3, 4, 4 and 5 times by then.
    torch.compile makes the second size dynamic and serves the third with it: 1, 1, 2, 2, 3, 3, 4.
    """
    observed, traces_seen = sums_of_squares(cell)
    expect.exactly(
        observed=observed, expected=[total for *_, total in SHAPES_AND_SUMS], what="sums"
    )
    expect.exactly(observed=traces_seen, expected=traces, what="traces after each call")


# ----------------------------------------------------------------------------------------------
# Python numbers. The function is x + n for x = 1/2.


def sums_with_integers_in_torch(cell):
    import torch

    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    add = cell.compile(lambda x, n: x + n, backend=count)
    x = torch.tensor(0.5, dtype=cell.dtype, device=cell.device)
    with_integers = [add(x, n).item() for n in (2, 3, 4, 5, 6)]
    traces = len(graphs)
    integers = [torch.tensor(n, device=cell.device) for n in (2, 3, 4, 5, 6)]
    with_tensors = [add(x, n).item() for n in integers]
    return with_integers, traces, with_tensors, len(graphs) - traces


def sums_with_integers_in_tensorflow(cell):
    import tensorflow as tf

    traced = []

    @cell.compile
    def add(x, n):
        traced.append(n)
        return x + tf.cast(n, x.dtype)

    x = tf.constant(0.5, cell.dtype)
    with_integers = [float(add(x, n)) for n in (2, 3, 4, 5, 6)]
    traces = len(traced)
    with_tensors = [float(add(x, tf.constant(n))) for n in (2, 3, 4, 5, 6)]
    return with_integers, traces, with_tensors, len(traced) - traces


def sums_with_integers_in_jax(cell):
    """The integers a tensor may not stand for, such as an axis, are declared static."""
    import jax.numpy as jnp

    def watched(traced):
        def add(x, n):
            traced.append(n)
            return x + n

        return add

    x = jnp.asarray(0.5, cell.dtype)
    traced, traced_static = [], []
    add = cell.compile(watched(traced))
    with_integers = [float(add(x, n)) for n in (2, 3, 4, 5, 6)]
    add = cell.compile(watched(traced_static), static_argnums=1)
    with_static = [float(add(x, n)) for n in (2, 3, 4, 5, 6)]
    return with_integers, len(traced), with_static, len(traced_static)


traces_for_integers_in_torch = {"Python integers": 2, "tensors": 1}
traces_for_integers_in_tensorflow = {"Python integers": 5, "tensors": 1}
traces_for_integers_in_jax = {"Python integers": 1, "static integers": 5}


@behaviour(
    "compilation.retrace-python-scalars",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="torch.compile-for-each-size tensorflow.function-traces-for-each-scalar "
    "jax.jit-takes-integers-for-constants jax.jit-forgets-what-is-static",
)
def test_retrace_python_scalars(sums_with_integers, traces_for_integers, cell, expect):
    """tf.function traces again for every new Python number, but not for every new tensor.

    x + n with n = 2, 3, 4, 5, 6 traces five times in TensorFlow, and once when n is a tensor.
    jax.jit makes a tensor of n: one trace, or five when n is static. torch.compile takes the first
    n for a constant, the second for a variable: two. (0 and 1 stay constants; they are left out.)
    """
    first, traces, second, more_traces = sums_with_integers(cell)
    expected = [2.5, 3.5, 4.5, 5.5, 6.5]
    one, other = traces_for_integers
    expect.exactly(observed=first, expected=expected, what=f"sums with {one}")
    expect.exactly(observed=second, expected=expected, what=f"sums with {other}")
    expect.exactly(
        observed={one: traces, other: more_traces}, expected=traces_for_integers, what="traces"
    )


# ----------------------------------------------------------------------------------------------
# A signature fixed in advance.


def row_sums_in_tensorflow(cell):
    import tensorflow as tf

    traced = []

    def row_sums(x):
        traced.append(x.shape)
        return tf.reduce_sum(x, axis=1)

    signature = [tf.TensorSpec([None, 3], cell.dtype)]
    return cell.compile(row_sums, input_signature=signature), traced


@behaviour(
    "compilation.input-signature",
    frameworks="tensorflow",
    precisions="float64 float32 bfloat16 float16",
    modes="compiled",
    catches="tensorflow.function-ignores-its-signature tensorflow.function-casts-to-its-signature",
)
def test_input_signature(row_sums, cell, expect):
    """input_signature=[TensorSpec([None, 3])] traces once for batches of every size.

    An input of another width, rank or dtype raises TypeError instead of tracing again.
    """
    import tensorflow as tf

    sums, traced = row_sums(cell)
    for rows in (1, 4, 2):
        x = tf.constant([[1.0, 2.0, 4.0]] * rows, cell.dtype)
        expect.exactly(observed=sums(x), expected=[7.0] * rows, what=f"sums of {rows} rows")
    for refused in (
        tf.ones([2, 4], cell.dtype),
        tf.ones([3], cell.dtype),
        tf.ones([2, 3, 1], cell.dtype),
        tf.ones([2, 3], tf.int32),
    ):
        with expect.raises(TypeError, match="(?i)signature|binding|cast|compatible"):
            sums(refused)
    expect.exactly(observed=len(traced), expected=1, what="traces")


# ----------------------------------------------------------------------------------------------
# A training loop: one trace for all full batches.

# w starts at 0 and learns the sum of each batch at learning rate 1/4: the loss w * sum(x) has the
# gradient sum(x), whatever w. Batches [1, 2], [3, 1], [2, 2], [4, 4] and a partial one, [8].
TRAINING_BATCHES = ([1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [4.0, 4.0], [8.0])
WEIGHTS = [-0.75, -1.75, -2.75, -4.75, -6.75]


def training_in_torch(cell):
    import torch

    graphs = []

    def count(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    loss = cell.compile(lambda w, x: w * x.sum(), backend=count)
    w = torch.zeros((), dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.25)
    weights, traces = [], []
    for batch in TRAINING_BATCHES:
        optimizer.zero_grad()
        loss(w, torch.tensor(batch, dtype=cell.dtype, device=cell.device)).backward()
        optimizer.step()
        weights.append(w.item())
        traces.append(len(graphs))
    return weights, traces


def training_in_tensorflow(cell):
    import tensorflow as tf

    traced = []
    w = tf.Variable(0.0, dtype=cell.dtype)

    @cell.compile
    def train_step(x):
        traced.append(x.shape)
        with tf.GradientTape() as tape:
            loss = w * tf.reduce_sum(x)
        w.assign_sub(0.25 * tape.gradient(loss, w))

    weights, traces = [], []
    for batch in TRAINING_BATCHES:
        train_step(tf.constant(batch, cell.dtype))
        weights.append(float(w))
        traces.append(len(traced))
    return weights, traces


def training_in_jax(cell):
    import jax
    import jax.numpy as jnp

    traced = []

    @cell.compile
    def train_step(w, x):
        traced.append(x.shape)
        return w - 0.25 * jax.grad(lambda w: w * x.sum())(w)

    w = jnp.zeros((), cell.dtype)
    weights, traces = [], []
    for batch in TRAINING_BATCHES:
        w = train_step(w, jnp.asarray(batch, cell.dtype))
        weights.append(float(w))
        traces.append(len(traced))
    return weights, traces


@behaviour(
    "compilation.no-recompile-for-same-shapes",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="torch.compile-starts-again-at-every-call tensorflow.function-relaxes-shapes "
    "jax.jit-traces-every-call",
)
def test_no_recompile_for_same_shapes(training, cell, expect):
    """A training step compiles once for all full batches, and once more for a last partial one.

    Neither new data nor new weights compile again: after batches of 2, 2, 2, 2 and 1 there were
    1, 1, 1, 1 and 2 traces. (A list or a Python number for an argument would end that.)
    """
    weights, traces = training(cell)
    expect.exactly(observed=weights, expected=WEIGHTS, what="weights")
    expect.exactly(observed=traces, expected=[1, 1, 1, 1, 2], what="traces after each step")
