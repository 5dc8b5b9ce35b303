"""Side effects: what compiled Python still does at every call, and what it did once.

tf.function and jax.jit run the Python body to record the tensor operations in it, and from then on
run the record. print, append and counters are not tensor operations: they happen while tracing and
never again. The frameworks bring replacements that are recorded: tf.print, jax.debug.print.
torch.compile reads the byte code instead and keeps its meaning: what it cannot put into a graph it
leaves to Python, between two graphs (a graph break) or after one, so that print prints each time.

    three calls         print   append   the framework's print
    tf.function         1       1        3
    jax.jit             1       1        3
    torch.compile       3       3        (none)

Sources: class 120, exercise 4, common mistakes 1 and 3;
https://www.tensorflow.org/guide/function,
https://docs.jax.dev/en/latest/debugging/print_breakpoint.html,
https://docs.pytorch.org/docs/stable/torch.compiler_faq.html
"""

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# print: the function squares 1, 2 and 3.


def squares_printed_in_torch(cell):
    """print is no part of a graph: fullgraph=True, which `cell.compile` asks for, would refuse."""
    import torch

    cell.compiles_itself("compilation.retrace-on-shape-and-dtype")
    graphs = []

    def run_as_it_is(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=run_as_it_is)
    def square(x):
        y = x * x
        print("Python prints")
        return y + 0

    squares = [
        square(torch.tensor(number, dtype=cell.dtype, device=cell.device)).item()
        for number in (1.0, 2.0, 3.0)
    ]
    return squares, len(graphs) > 0


def squares_printed_in_tensorflow(cell):
    import sys

    import tensorflow as tf

    @cell.compile
    def square(x):
        print("Python prints")
        tf.print("the framework prints", output_stream=sys.stdout)
        return x * x

    return [float(square(tf.constant(number, cell.dtype))) for number in (1.0, 2.0, 3.0)], True


def squares_printed_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def square(x):
        print("Python prints")
        jax.debug.print("the framework prints")
        return x * x

    squares = [float(square(jnp.asarray(number, cell.dtype))) for number in (1.0, 2.0, 3.0)]
    jax.effects_barrier()
    return squares, True


prints_in_torch = {"Python prints": 3, "the framework prints": 0}
prints_in_tensorflow = {"Python prints": 1, "the framework prints": 3}
prints_in_jax = {"Python prints": 1, "the framework prints": 3}


@behaviour(
    "compilation.print-only-while-tracing",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="torch.compile-runs-python-once tensorflow.print-prints-while-tracing "
    "tensorflow.function-traces-every-call jax.debug-print-prints-while-tracing",
)
def test_print_only_while_tracing(squares_printed, prints, cell, expect, capfd):
    """print in a compiled function runs while it is traced, once; tf.print runs at each of 3 calls.

    jax.jit does likewise, with jax.debug.print; under torch.compile print runs at each call,
    between two graphs.
    """
    squares, compiled = squares_printed(cell)
    written = "".join(capfd.readouterr())
    expect.exactly(observed=squares, expected=[1.0, 4.0, 9.0], what="squares")
    expect.exactly(observed=compiled, expected=True, what="whether a graph was compiled")
    counted = {text: written.count(text) for text in prints}
    expect.exactly(observed=counted, expected=prints, what="lines printed")


# ----------------------------------------------------------------------------------------------
# append


def squares_remembered_in_torch(cell):
    """The length of the list is part of the kind of call: each append costs a compilation."""
    import torch

    cell.compiles_itself("compilation.retrace-on-shape-and-dtype")
    graphs, remembered = [], []

    def run_as_it_is(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=run_as_it_is)
    def square(x):
        remembered.append(x)
        return x * x

    numbers = [torch.tensor(n, dtype=cell.dtype, device=cell.device) for n in (1.0, 2.0, 3.0)]
    squares = [square(x).item() for x in numbers]
    return squares, len(graphs) > 0, remembered


def squares_remembered_in_tensorflow(cell):
    import tensorflow as tf

    remembered = []

    @cell.compile
    def square(x):
        remembered.append(x)
        return x * x

    squares = [float(square(tf.constant(n, cell.dtype))) for n in (1.0, 2.0, 3.0)]
    return squares, True, remembered


def squares_remembered_in_jax(cell):
    import jax.numpy as jnp

    remembered = []

    @cell.compile
    def square(x):
        remembered.append(x)
        return x * x

    squares = [float(square(jnp.asarray(n, cell.dtype))) for n in (1.0, 2.0, 3.0)]
    return squares, True, remembered


appended_in_torch = 3
appended_in_tensorflow = 1
appended_in_jax = 1


@behaviour(
    "compilation.side-effects-once",
    frameworks="torch tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="torch.compile-runs-python-once tensorflow.function-traces-every-call "
    "jax.jit-traces-every-call",
)
def test_side_effects_once(squares_remembered, appended, cell, expect):
    """append in a compiled function happens once in tf.function and jax.jit, at each call in torch.

    What tf.function and jax.jit appended is a placeholder of the trace: outside, using it as a
    number raises TypeError. torch.compile replays the append after the graph, with the tensor.
    """
    squares, compiled, remembered = squares_remembered(cell)
    expect.exactly(observed=squares, expected=[1.0, 4.0, 9.0], what="squares")
    expect.exactly(observed=compiled, expected=True, what="whether a graph was compiled")
    expect.exactly(observed=len(remembered), expected=appended, what="appended in 3 calls")
    if appended == 3:
        numbers = [float(x) for x in remembered]
        expect.exactly(observed=numbers, expected=[1.0, 2.0, 3.0], what="what was appended")
    else:
        with expect.raises(TypeError, match="(?i)abstract|symbolic|tensor"):
            float(remembered[0])


# ----------------------------------------------------------------------------------------------
# The common mistake: a random number of NumPy is one number, drawn while tracing.


def mistake_in_tensorflow(cell):
    import numpy as np
    import tensorflow as tf

    noisy = cell.compile(lambda x: x + np.random.uniform())
    return [float(noisy(tf.constant(1.0, cell.dtype))) for _ in range(5)]


def fix_in_tensorflow(cell):
    """The framework's own random numbers are operations."""
    import tensorflow as tf

    noisy = cell.compile(lambda x: x + tf.random.uniform([], dtype=x.dtype))
    return [float(noisy(tf.constant(1.0, cell.dtype))) for _ in range(5)]


def mistake_in_jax(cell):
    import jax.numpy as jnp
    import numpy as np

    noisy = cell.compile(lambda x: x + np.random.uniform())
    return [float(noisy(jnp.asarray(1.0, cell.dtype))) for _ in range(5)]


def fix_in_jax(cell):
    """A fresh key for every call, as an argument."""
    import jax
    import jax.numpy as jnp

    noisy = cell.compile(lambda x, key: x + jax.random.uniform(key, dtype=x.dtype))
    keys = jax.random.split(jax.random.key(cell.seed), 5)
    return [float(noisy(jnp.asarray(1.0, cell.dtype), key)) for key in keys]


@behaviour(
    "compilation.numpy-random-frozen",
    frameworks="tensorflow jax",
    precisions="float32",
    modes="compiled",
    catches="tensorflow.uniform-is-drawn-while-tracing jax.uniform-is-drawn-while-tracing",
)
def test_numpy_random_frozen(mistake, fix, cell, expect):
    """np.random in a compiled function draws once, while tracing: five calls give one number.

    tf.random, or a jax.random key that comes as an argument, gives five. (Of the 2^23 numbers from
    1 to 2, two of five are equal with 1e-6, but fewer than three differ with 3e-20.)
    """
    expect.exactly(observed=len(set(mistake(cell))), expected=1, what="numbers with np.random")
    expect.at_least(observed=len(set(fix(cell))), least=3, what="numbers with the framework's own")
