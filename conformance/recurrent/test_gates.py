"""LSTM and GRU: the equations of the gates, and how each library stacks and names them.

    LSTM  i, f, o = sigmoid(...)   g = tanh(...)              c = f c + i g      h = o tanh(c)
    GRU   r, z = sigmoid(...)      n = tanh(W x + r (U h))    h = z h + (1 - z) n

The equations agree; a weight copied from one library to another does not fit without care:

                 LSTM gates    its biases          GRU gates    its biases
    torch        i f g o       two, summed         r z n        two (the second inside r (...))
    Keras        i f c o       one                 z r h        two rows, with reset_after=True
    Flax NNX     i f g o       of the state        r z n        of the input

The forget gate's bias starts at 1 in Keras (unit_forget_bias) and at 0 in Flax; here every weight
is set. With reset_after=False Keras computes the GRU as Cho et al. wrote it, tanh(W x + U (r h)),
from the same weights: another number.

Sources: class 137, definitions 1 and 2, topics 1 to 5, result 1; Cho et al. 2014 (arXiv:1406.1078);
https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html,
https://keras.io/api/layers/recurrent_layers/lstm/, https://keras.io/api/layers/recurrent_layers/gru/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html
"""

from dataclasses import replace

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, unit_roundoff
from reference import recurrent

# Two sequences of three steps of two features, three units: no two sizes that could be exchanged
# but batch and features, whose numbers differ.
X = np.array(
    [[[1.0, -0.5], [0.5, 2.0], [-1.5, 0.25]], [[-2.0, 1.0], [0.0, -1.0], [1.5, 0.5]]],
)
H = np.array([[0.5, -0.25, 0.75], [-0.5, 1.0, 0.25]])
C = np.array([[1.0, -0.5, 0.25], [-1.5, 0.5, 2.0]])

# torch.compile takes seconds over two cells, and JAX without jit compiles each operation by itself.
COSTLY = "torch-*-float64-compiled jax-*-float64-eager jax-*float16-eager keras_jax-*-float64-eager"


def eighths(*shape, start):
    """Multiples of 1/8 from -1 to 1, in an order without symmetry; no format rounds them."""
    numbers = start + 7 * np.arange(np.prod(shape))
    return (numbers % 17 - 8).reshape(shape) / 8


def gates_named(names):
    """One gate for each name, no two alike."""
    return {
        name: recurrent.Gate(
            kernel=eighths(2, 3, start=3 * k),
            recurrent_kernel=eighths(3, 3, start=5 * k + 1) / 2,
            input_bias=eighths(3, start=2 * k + 4),
            recurrent_bias=eighths(3, start=11 * k + 2),
        )
        for k, name in enumerate(names)
    }


LSTM = gates_named("ifgo")
GRU = gates_named("rzn")


def one_bias(gates):
    """The same gates with the sum of their biases in the first, for libraries that keep one."""
    return {
        name: replace(
            gate,
            input_bias=gate.input_bias + gate.recurrent_bias,
            recurrent_bias=0 * gate.recurrent_bias,
        )
        for name, gate in gates.items()
    }


def stacked(gates, order, part):
    """A part of every gate, side by side: (..., gates * units)."""
    return np.concatenate([getattr(gates[name], part) for name in order], axis=-1)


def bounds(cell, layer, *arguments, **options):
    """A bound for each result of the reference's `lstm` or `gru`, which counts its roundings."""
    *states, gates = arguments
    gates = {
        name: recurrent.Gate(
            *(recurrent.WithError(part, unit_roundoff(cell.precision)) for part in vars(g).values())
        )
        for name, g in gates.items()
    }
    because = f"running error analysis in {cell.precision}"
    return [
        Bound(absolute=result.error, because=because)
        for result in layer(X, *states, gates, **options)
    ]


def check(cell, expect, observed, layer, *arguments, **options):
    """Outputs and states against the reference's, each within its own bound."""
    for what, found, expected, bound in zip(
        ("outputs", "hidden state", "cell state"),
        observed,
        layer(X, *arguments, **options),
        bounds(cell, layer, *arguments, **options),
        strict=False,
    ):
        expect.within(bound, observed=found, expected=expected, what=what)


# ----------------------------------------------------------------------------------------------
# The layers. A program returns what the layer returns: outputs at each step, and the last state(s).


def lstm_in_numpy(cell):
    x, h, c = (array.astype(cell.dtype) for array in (X, H, C))
    return recurrent.lstm(x, h, c, in_dtype(LSTM, cell.dtype))


def gru_in_numpy(cell):
    return recurrent.gru(X.astype(cell.dtype), H.astype(cell.dtype), in_dtype(GRU, cell.dtype))


def in_dtype(gates, dtype):
    return {
        name: recurrent.Gate(*(part.astype(dtype) for part in vars(gate).values()))
        for name, gate in gates.items()
    }


def torch_weights(cell, module, gates, suffix):
    """torch keeps (gates * units, inputs) and two biases."""
    import torch

    with torch.no_grad():
        for name, part in (("weight_ih", "kernel"), ("weight_hh", "recurrent_kernel")):
            weight = stacked(gates, gates, part).T
            getattr(module, name + suffix).copy_(torch.tensor(weight))
        for name, part in (("bias_ih", "input_bias"), ("bias_hh", "recurrent_bias")):
            getattr(module, name + suffix).copy_(torch.tensor(stacked(gates, gates, part)))
    return module


def lstm_in_torch(cell):
    import torch

    x, h, c = (torch.tensor(a, device=cell.device, dtype=cell.dtype) for a in (X, H, C))
    layer = torch.nn.LSTM(2, 3, batch_first=True, device=cell.device, dtype=cell.dtype)
    torch_weights(cell, layer, LSTM, "_l0")
    outputs, (h, c) = layer(x, (h[None], c[None]))
    return outputs, h[0], c[0]


def gru_in_torch(cell):
    import torch

    x, h = (torch.tensor(a, device=cell.device, dtype=cell.dtype) for a in (X, H))
    layer = torch.nn.GRU(2, 3, batch_first=True, device=cell.device, dtype=cell.dtype)
    torch_weights(cell, layer, GRU, "_l0")
    outputs, h = layer(x, h[None])
    return outputs, h[0]


def keras_lstm_weights():
    gates = one_bias(LSTM)
    return [stacked(gates, "ifgo", part) for part in ("kernel", "recurrent_kernel", "input_bias")]


def keras_gru_weights(reset_after=True):
    biases = [stacked(GRU, "zrn", part) for part in ("input_bias", "recurrent_bias")]
    bias = np.stack(biases) if reset_after else sum(biases)
    return [stacked(GRU, "zrn", part) for part in ("kernel", "recurrent_kernel")] + [bias]


def keras_lstm(dtype):
    import keras

    layer = keras.layers.LSTM(3, return_sequences=True, return_state=True, dtype=dtype)
    layer.build((None, 3, 2))
    layer.set_weights(keras_lstm_weights())
    return layer


def keras_gru(dtype, reset_after=True):
    import keras

    layer = keras.layers.GRU(
        3, return_sequences=True, return_state=True, reset_after=reset_after, dtype=dtype
    )
    layer.build((None, 3, 2))
    layer.set_weights(keras_gru_weights(reset_after))
    return layer


def lstm_in_tensorflow(cell):
    """Keras's layer in a tf.function."""
    import tensorflow as tf

    layer = keras_lstm(cell.dtype.name)
    x, h, c = (tf.constant(a, cell.dtype) for a in (X, H, C))
    return cell.compile(lambda x, h, c: layer(x, initial_state=[h, c]))(x, h, c)


def gru_in_tensorflow(cell, reset_after=True):
    import tensorflow as tf

    layer = keras_gru(cell.dtype.name, reset_after)
    x, h = (tf.constant(a, cell.dtype) for a in (X, H))
    return cell.compile(lambda x, h: layer(x, initial_state=h))(x, h)


def lstm_in_keras(cell):
    import keras

    x, h, c = (keras.ops.convert_to_tensor(a, dtype=cell.dtype) for a in (X, H, C))
    return keras_lstm(cell.dtype)(x, initial_state=[h, c])


def gru_in_keras(cell, reset_after=True):
    import keras

    x, h = (keras.ops.convert_to_tensor(a, dtype=cell.dtype) for a in (X, H))
    return keras_gru(cell.dtype, reset_after)(x, initial_state=h)


def lstm_in_jax(cell):
    """A cell of one kernel for all gates, and one bias: that of the state."""
    import jax.numpy as jnp
    from flax import nnx

    gates = one_bias(LSTM)
    lstm = flax_cell(cell, nnx.OptimizedLSTMCell)
    lstm.dense_i.kernel = parameter(cell, stacked(gates, "ifgo", "kernel"))
    lstm.dense_h.kernel = parameter(cell, stacked(gates, "ifgo", "recurrent_kernel"))
    lstm.dense_h.bias = parameter(cell, stacked(gates, "ifgo", "input_bias"))
    x, h, c = (jnp.asarray(a, cell.dtype) for a in (X, H, C))
    outputs, (c, h) = cell.compile(every_step, jit=nnx.jit)(lstm, (c, h), x)
    return outputs, h, c


def gru_in_jax(cell):
    """Its one bias is the input's, so a bias of the state, which r would multiply, has no place."""
    import jax.numpy as jnp
    from flax import nnx

    gru = flax_cell(cell, nnx.GRUCell)
    gru.dense_i.kernel = parameter(cell, stacked(GRU, "rzn", "kernel"))
    gru.dense_i.bias = parameter(cell, stacked(GRU, "rzn", "input_bias"))
    gru.dense_h.kernel = parameter(cell, stacked(GRU, "rzn", "recurrent_kernel"))
    x, h = (jnp.asarray(a, cell.dtype) for a in (X, H))
    return cell.compile(every_step, jit=nnx.jit)(gru, h, x)


def flax_cell(cell, kind):
    """Recurrent kernels start orthogonal unless told otherwise, by an algorithm of 32 bits up."""
    from flax import nnx

    return kind(
        2,
        3,
        recurrent_kernel_init=nnx.initializers.zeros_init(),
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )


def parameter(cell, array):
    import jax.numpy as jnp
    from flax import nnx

    return nnx.Param(jnp.asarray(array, cell.dtype))


def every_step(module, state, x):
    """The outputs of a cell along the time axis, and its last state."""
    import jax.numpy as jnp

    outputs = []
    for t in range(x.shape[1]):
        state, output = module(state, x[:, t])
        outputs.append(output)
    return jnp.stack(outputs, axis=1), state


@behaviour(
    "recurrent.lstm-equations",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "torch": "float64 float32 bfloat16 float16",
        "jax": "float64 float32 bfloat16 float16",
        "others": "float64 float32",
    },
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    costly=f"{COSTLY} jax-*-eager",
    catches="torch.lstm-forgets-a-bias keras.recurrent-gates-are-hard-sigmoids[*-float32-*] "
    "flax.lstm-carries-bfloat16",
)
def test_lstm_equations(lstm, cell, expect):
    """Three steps of an LSTM layer, from a state that is not zero, follow the equations above.

    Outputs, the last hidden and the last cell state, for weights in eighths, within the roundings
    that the reference counts in itself. torch's biases differ
    from each other, and their sum counts. (torch.compile refuses whole torch.nn.LSTM layers; cells
    are compiled in recurrent.cell-loop-equals-layer.)
    """
    outputs, h, c = lstm(cell)
    check(cell, expect, (outputs, h, c), recurrent.lstm, H, C, LSTM)


def without_state_bias(gates):
    return {
        name: replace(gate, recurrent_bias=0 * gate.recurrent_bias) for name, gate in gates.items()
    }


gru_gates_in_numpy = GRU
gru_gates_in_torch = GRU
gru_gates_in_tensorflow = GRU
gru_gates_in_keras = GRU
gru_gates_in_jax = without_state_bias(GRU)


@behaviour(
    "recurrent.gru-equations",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "torch": "float64 float32 bfloat16 float16",
        "jax": "float64 float32 bfloat16 float16",
        "others": "float64 float32",
    },
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"},
    costly=COSTLY,
    catches="flax.gru-gates-in-kerass-order keras.recurrent-gates-are-hard-sigmoids[*-float32-*] "
    "torch.gru-in-bfloat16",
)
def test_gru_equations(gru, gru_gates, cell, expect):
    """Three steps of a GRU layer: the reset gate multiplies U h after the product, bias and all.

    That is torch, Flax, and Keras unless told reset_after=False. Flax has no bias inside r (...),
    so it is compared without.
    """
    outputs, h = gru(cell)
    check(cell, expect, (outputs, h), recurrent.gru, H, gru_gates)


def reset_before_in_numpy(cell):
    gates = in_dtype(one_bias(GRU), cell.dtype)
    return recurrent.gru(X.astype(cell.dtype), H.astype(cell.dtype), gates, reset_after=False)


def reset_before_in_tensorflow(cell):
    return gru_in_tensorflow(cell, reset_after=False)


def reset_before_in_keras(cell):
    return gru_in_keras(cell, reset_after=False)


@behaviour(
    "recurrent.gru-reset-before",
    frameworks="numpy tensorflow keras",
    precisions="float64 float32",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow"},
    costly=COSTLY,
    catches="keras.gru-always-resets-after[tensorflow-*-float32-*|keras_torch-*-float32-*]",
)
def test_gru_reset_before(reset_before, cell, expect):
    """reset_after=False multiplies h by the reset gate before U: the GRU of Cho et al., one bias.

    From the same kernels the last state differs by 0.12 from that of reset_after=True.
    """
    outputs, h = reset_before(cell)
    check(cell, expect, (outputs, h), recurrent.gru, H, one_bias(GRU), reset_after=False)
    _, other = recurrent.gru(X, H, one_bias(GRU))
    distance = float(np.abs(cell.to_numpy(h) - other).max())
    expect.at_least(observed=distance, least=0.1, what="distance from reset_after=True")


# ----------------------------------------------------------------------------------------------
# A cell is one step of its layer: looped by hand it gives the same numbers.


def cells_in_torch(cell):
    import torch

    x, h, c = (torch.tensor(a, device=cell.device, dtype=cell.dtype) for a in (X, H, C))
    lstm = torch.nn.LSTMCell(2, 3, device=cell.device, dtype=cell.dtype)
    gru = torch.nn.GRUCell(2, 3, device=cell.device, dtype=cell.dtype)
    torch_weights(cell, lstm, LSTM, "")
    torch_weights(cell, gru, GRU, "")

    @cell.compile
    def both(x, state, hidden):
        return lstm(x, state), gru(x, hidden)

    of_lstm, of_gru, state, hidden = [], [], (h, c), h
    with torch.no_grad():
        for t in range(3):
            state, hidden = both(x[:, t].contiguous(), state, hidden)
            of_lstm.append(state[0])
            of_gru.append(hidden)
    return torch.stack(of_lstm, dim=1), torch.stack(of_gru, dim=1)


def cells_in_keras(cell):
    import keras

    x, h, c = (keras.ops.convert_to_tensor(a, dtype=cell.dtype) for a in (X, H, C))
    lstm = keras.layers.LSTMCell(3, dtype=cell.dtype)
    gru = keras.layers.GRUCell(3, dtype=cell.dtype)
    for layer, weights in ((lstm, keras_lstm_weights()), (gru, keras_gru_weights())):
        layer.build((None, 2))
        layer.set_weights(weights)
    of_lstm, of_gru, states, hidden = [], [], [h, c], [h]
    for t in range(3):
        output, states = lstm(x[:, t], states)
        of_lstm.append(output)
        output, hidden = gru(x[:, t], hidden)
        of_gru.append(output)
    return keras.ops.stack(of_lstm, axis=1), keras.ops.stack(of_gru, axis=1)


def cells_in_jax(cell):
    """nnx.LSTMCell has a layer for each gate and each of input and state."""
    import jax.numpy as jnp
    from flax import nnx

    lstm = flax_cell(cell, nnx.LSTMCell)
    for gate, of_input, of_state in zip(
        one_bias(LSTM).values(),
        (lstm.ii, lstm.if_, lstm.ig, lstm.io),
        (lstm.hi, lstm.hf, lstm.hg, lstm.ho),
        strict=True,
    ):
        of_input.kernel = parameter(cell, gate.kernel)
        of_state.kernel = parameter(cell, gate.recurrent_kernel)
        of_state.bias = parameter(cell, gate.input_bias)
    x, h, c = (jnp.asarray(a, cell.dtype) for a in (X, H, C))
    of_lstm, _ = cell.compile(every_step, jit=nnx.jit)(lstm, (c, h), x)
    return of_lstm, None


@behaviour(
    "recurrent.cell-loop-equals-layer",
    frameworks="torch keras jax",
    precisions="float64 float32",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"jax": "flax>=0.10"},
    costly=f"{COSTLY} jax-*-eager",
    catches="torch.lstm-cell-carries-float32[*-eager] "
    "keras.recurrent-gates-are-hard-sigmoids[keras_tensorflow-*-float32-*] "
    "flax.lstm-carries-bfloat16 flax.lstm-cell-forgets-the-tanh",
)
def test_cell_loop_equals_layer(cells, cell, expect):
    """Three calls of LSTMCell and GRUCell give the outputs of the layers, step by step.

    (Flax has cells only: its GRUCell stands in recurrent.gru-equations.)
    """
    of_lstm, of_gru = cells(cell)
    check(cell, expect, (of_lstm,), recurrent.lstm, H, C, LSTM)
    if of_gru is not None:
        check(cell, expect, (of_gru,), recurrent.gru, H, GRU)
