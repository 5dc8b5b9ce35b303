"""Padding: sequences of different lengths in one batch, and recurrent layers that skip the filling.

A masked step is no step: the state stays what it was. In which direction the layer reads, and where
the padding is, makes no difference to the state it ends with.

                 how the padding is told                    outputs at masked steps
    Keras        mask=..., Embedding(mask_zero=True)        the previous output
    torch        pack_padded_sequence(x, lengths)           0, after pad_packed_sequence
    Flax NNX     RNN(cell)(x, seq_lengths=lengths)          whatever: read them up to the length

torch and Flax know lengths only, so padding at the end; a mask of Keras may have holes.

Sources: class 135, common mistake 5; class 137, frequent question 5 and common mistake 2; class
140, common mistake 2 and result 5;
https://keras.io/guides/understanding_masking_and_padding/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html
"""

import numpy as np

from fixtures.matrix import behaviour

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

# A recurrence to compute in the head, and without rounding: h = relu(x + h / 2). The padding is 64,
# large enough to show anywhere.
STEPS = np.array([[4.0, 2.0, 1.0, 64.0, 64.0], [8.0, 64.0, 64.0, 64.0, 64.0]])
LENGTHS = [3, 1]
MASK = np.arange(5) < np.array(LENGTHS)[:, None]

FORWARD = [[4, 4, 3], [8]]  # 4, 2 + 4/2, 1 + 4/2
BACKWARD = [[5.25, 2.5, 1], [8]]  # read from the right: 1, 2 + 1/2, 4 + 2.5/2; at their own steps
LAST = [[3, 5.25], [8, 8]]  # the last state of each direction


def keras_rnn(dtype, **options):
    import keras

    return keras.layers.SimpleRNN(
        1,
        activation="relu",
        kernel_initializer="ones",
        recurrent_initializer=keras.initializers.Constant(0.5),
        return_sequences=True,
        return_state=True,
        dtype=dtype,
        **options,
    )


def both_directions_in_keras(cell):
    """go_backwards hands its outputs over in the order in which it read; Bidirectional turns them.

    A wrapper has a dtype of its own, and casts what goes in.
    """
    import keras

    x = keras.ops.convert_to_tensor(STEPS[..., None], dtype=cell.dtype)
    mask = keras.ops.convert_to_tensor(MASK)
    forward, last_forward = keras_rnn(cell.dtype)(x, mask=mask)
    backward, last_backward = keras_rnn(cell.dtype, go_backwards=True)(x, mask=mask)
    wrapper = keras.layers.Bidirectional(keras_rnn(cell.dtype), dtype=cell.dtype)
    outputs, *states = wrapper(x, mask=mask)
    return {
        "one by one": (forward[..., 0], keras.ops.flip(backward, axis=1)[..., 0]),
        "together": (outputs[..., 0], outputs[..., 1]),
        "last states, one by one": keras.ops.concatenate([last_forward, last_backward], axis=-1),
        "last states, together": keras.ops.concatenate(states, axis=-1),
    }


def both_directions_in_tensorflow(cell):
    """Keras's layer in a tf.function."""
    import keras
    import tensorflow as tf

    dtype = cell.dtype.name
    layer = keras.layers.Bidirectional(keras_rnn(dtype), dtype=dtype)
    run = cell.compile(lambda x, mask: layer(x, mask=mask))
    outputs, *states = run(tf.constant(STEPS[..., None], cell.dtype), tf.constant(MASK))
    return {
        "together": (outputs[..., 0], outputs[..., 1]),
        "last states": tf.concat(states, axis=-1),
    }


def both_directions_in_torch(cell):
    import torch
    from torch.nn.utils import rnn

    layer = torch.nn.RNN(
        1,
        1,
        nonlinearity="relu",
        bias=False,
        batch_first=True,
        bidirectional=True,
        device=cell.device,
        dtype=cell.dtype,
    )
    for name, parameter in layer.named_parameters():
        torch.nn.init.constant_(parameter, 0.5 if "hh" in name else 1.0)
    x = torch.tensor(STEPS[..., None], device=cell.device, dtype=cell.dtype)
    packed = rnn.pack_padded_sequence(x, LENGTHS, batch_first=True)
    with torch.no_grad():
        outputs, last = layer(packed)
    outputs, _ = rnn.pad_packed_sequence(outputs, batch_first=True, total_length=5)
    return {"together": (outputs[..., 0], outputs[..., 1]), "last states": last[..., 0].T}


def flax_cell(cell):
    import jax
    from flax import nnx

    return nnx.SimpleCell(
        1,
        1,
        activation_fn=jax.nn.relu,
        kernel_init=nnx.initializers.ones_init(),
        recurrent_kernel_init=nnx.initializers.constant(0.5),
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )


def both_directions_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    def both(forward, backward, x, lengths):
        of_forward = forward(x, seq_lengths=lengths)
        return of_forward, backward(x, seq_lengths=lengths)

    forward = nnx.RNN(flax_cell(cell), return_carry=True)
    backward = nnx.RNN(flax_cell(cell), return_carry=True, reverse=True, keep_order=True)
    x = jnp.asarray(STEPS[..., None], cell.dtype)
    run = cell.compile(both, jit=nnx.jit)
    (last_forward, outputs), (last_backward, reversed_outputs) = run(
        forward, backward, x, jnp.asarray(LENGTHS)
    )
    return {
        "one by one": (outputs[..., 0], reversed_outputs[..., 0]),
        "last states": jnp.concatenate([last_forward, last_backward], axis=-1),
    }


@behaviour(
    "recurrent.padding-is-no-step",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32",
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs=NEEDS,
    costly="jax-*-eager keras_jax-*-float64-eager",
    catches="keras.mask-is-not-reversed torch.packing-keeps-the-padding "
    "flax.padding-is-read-backwards",
)
def test_padding_is_no_step(both_directions, cell, expect):
    """h = relu(x + h/2) over [4, 2, 1] ends at 3, read from the right at 5.25; over [8] at 8.

    Whatever stands behind them in a batch of five steps. Backward layers begin at the last real
    step, and in a bidirectional layer the outputs of both directions stand at their own steps.
    """
    for what, found in both_directions(cell).items():
        if what.startswith("last states"):
            expect.exactly(observed=found, expected=LAST, what=what)
            continue
        for direction, outputs, expected in zip(
            ("forward", "backward"), found, (FORWARD, BACKWARD), strict=True
        ):
            for row, length in enumerate(LENGTHS):
                expect.exactly(
                    observed=outputs[row, :length],
                    expected=expected[row],
                    what=f"outputs {direction} of sequence {row}, {what}",
                )


# ----------------------------------------------------------------------------------------------
# A mask with holes, in the layers with gates. Without weights they count their steps: each gate is
# sigmoid(0) = 1/2, each candidate tanh(0) = 0, and so a step halves the state of a GRU and the
# cell state of an LSTM. From 1 they come to 2^-n after n steps.

HOLES = np.array(
    [[True, True, True, True], [False, True, False, True], [False, False, False, False]]
)
COUNT = HOLES.cumsum(axis=1)


def halved_in_keras(cell):
    """Outputs and state of a GRU, of one that reads backwards, and the cell state of an LSTM."""
    import keras

    options = {"return_state": True, "return_sequences": True, "dtype": cell.dtype}
    x = keras.ops.ones((3, 4, 1), dtype=cell.dtype)
    one = keras.ops.ones((3, 1), dtype=cell.dtype)

    def without_weights(layer, mask, states):
        layer.build((None, 4, 1))
        layer.set_weights([0 * weight for weight in layer.get_weights()])
        outputs, *states = layer(x, mask=keras.ops.convert_to_tensor(mask), initial_state=states)
        return outputs[..., 0], states[-1][:, 0]

    gru = without_weights(keras.layers.GRU(1, **options), HOLES, [one])
    backwards = keras.layers.GRU(1, go_backwards=True, **options)
    return {
        "GRU": gru,
        "GRU from the right": without_weights(backwards, HOLES[:, ::-1].copy(), [one]),
        "LSTM": without_weights(keras.layers.LSTM(1, **options), HOLES, [one, one]),
    }


@behaviour(
    "recurrent.masked-step-holds-the-state",
    frameworks="keras",
    precisions="float64 float32",
    modes="eager",
    costly="keras_jax-*-float64-*",
    catches="keras.mask-is-not-reversed keras.masked-step-ends-the-sequence",
)
def test_masked_step_holds_the_state(halved, cell, expect):
    """Without weights LSTM and GRU halve their state at each step that is not masked, exactly.

    Four steps, two with holes between them, and none leave 2^-4, 2^-2 and 1. The output of a masked
    step is that of the step before, in a GRU its state (before any step there is none to repeat).
    From the right the mirrored mask says the same.
    """
    for name, (outputs, state) in halved(cell).items():
        expect.exactly(observed=state, expected=0.5 ** COUNT[:, -1], what=f"state of the {name}")
        if name != "LSTM":
            expect.exactly(
                observed=cell.to_numpy(outputs)[COUNT > 0].tolist(),
                expected=(0.5 ** COUNT[COUNT > 0]).tolist(),
                what=f"outputs of the {name}",
            )
