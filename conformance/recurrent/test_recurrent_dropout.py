"""Dropout in recurrent layers: in training alone, and where each library draws its masks.

    Keras   LSTM(dropout=...)            of the inputs: one mask for all steps of a sequence
            LSTM(recurrent_dropout=...)  of the state: one mask for all steps too
    torch   LSTM(num_layers=2, dropout)  of the outputs of each layer but the last: a mask per step

The LSTM here counts. Its gates are held open by a bias of 64, sigmoid(64) = 1, so that a step adds
to the cell state c the candidate tanh(64 x): 1 for whatever is kept, 0 for what is dropped. After
four steps c is the number of steps at which the feature was there.

Sources: class 137, definitions 3 and 5, exercise 3, common mistake 4 and frequent question 4;
Gal and Ghahramani 2016 (arXiv:1512.05287) for one mask per sequence;
https://keras.io/api/layers/recurrent_layers/lstm/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.statistics import binomial_limits

SEQUENCES, STEPS, UNITS = 8, 4, 64
OPEN = 64.0

# ----------------------------------------------------------------------------------------------
# The steps counted, (sequences, units): in inference and in training, for each kind of dropout.


def counting_weights(of_inputs, of_state):
    """Kernel, recurrent kernel and bias in the order of the gates i, f, c, o."""
    none = np.zeros((UNITS, UNITS))
    kernel, recurrent = OPEN * of_inputs * np.eye(UNITS), OPEN * of_state * np.eye(UNITS)
    gate = np.full(UNITS, OPEN)
    return [
        np.concatenate([none, none, kernel, none], axis=1),
        np.concatenate([none, none, recurrent, none], axis=1),
        np.concatenate([gate, gate, 0 * gate, gate]),
    ]


def counts_in_keras(cell):
    """The state is seen as h = tanh(c), and c starts at 1 so that there is something to drop."""
    import keras

    found = {}
    for name, of_inputs, of_state in (("dropout", 1, 0), ("recurrent_dropout", 0, 1)):
        layer = keras.layers.LSTM(
            UNITS, return_state=True, dtype=cell.dtype, seed=cell.seed, **{name: 0.5}
        )
        layer.build((None, STEPS, UNITS))
        layer.set_weights(counting_weights(of_inputs, of_state))
        x = keras.ops.ones((SEQUENCES, STEPS, UNITS), dtype=cell.dtype)
        state = keras.ops.ones((SEQUENCES, UNITS), dtype=cell.dtype)
        for training in (False, True):
            *_, c = layer(x, initial_state=[state, state], training=training)
            found[name, training] = c - 1
    return found


def counts_in_torch(cell):
    """Two layers: the first counts undisturbed, the second what the dropout between them left."""
    import torch

    lstm = torch.nn.LSTM(
        UNITS, UNITS, num_layers=2, dropout=0.5, bias=True, device=cell.device, dtype=cell.dtype
    )
    kernel, recurrent, bias = counting_weights(1, 0)
    with torch.no_grad():
        for layer in ("l0", "l1"):
            getattr(lstm, f"weight_ih_{layer}").copy_(torch.tensor(kernel.T))
            getattr(lstm, f"weight_hh_{layer}").copy_(torch.tensor(recurrent.T))
            getattr(lstm, f"bias_ih_{layer}").copy_(torch.tensor(bias))
            getattr(lstm, f"bias_hh_{layer}").zero_()
    x = torch.ones(STEPS, SEQUENCES, UNITS, device=cell.device, dtype=cell.dtype)
    found = {}
    for training in (False, True):
        lstm.train(training)
        with torch.no_grad():
            _, (_, c) = lstm(x)
        found["dropout", training] = c[1]
        found["of the first layer", training] = c[0]
    return found


one_mask_in_keras = True
one_mask_in_torch = False


@behaviour(
    "recurrent.dropout-in-training-only",
    frameworks="torch keras",
    precisions="float64 float32",
    modes="eager",
    costly="keras_jax-*-float64-*",
    catches="torch.lstm-drops-in-inference keras.lstm-drops-in-inference "
    "keras.lstm-drops-states-in-inference",
)
def test_dropout_in_training_only(counts, one_mask, cell, expect):
    """In inference all four steps count; in training, at rate 1/2, those that were kept.

    Keras keeps a feature of a sequence at all steps or at none: 4 or 0. torch decides at each step,
    and not at all in front of the first layer or behind the last. The limits on the share kept, of
    512 or 2048 draws, fail a correct library with a probability of 1e-9.
    """
    bound = Bound(
        absolute=STEPS * accumulated(8, cell.precision), because=f"{STEPS} sums of saturated gates"
    )
    for (name, training), found in counts(cell).items():
        observed = cell.to_numpy(found)
        steps = np.round(observed)
        if not training or name == "of the first layer":
            steps = np.full(observed.shape, STEPS)
        elif one_mask:
            steps = STEPS * np.round(observed / STEPS)
        expect.within(
            bound,
            observed=found,
            expected=steps,
            what=f"steps counted, {name}, {'training' if training else 'inference'}",
        )
        if training and name != "of the first layer":
            draws = steps.size if one_mask else steps.size * STEPS
            least, most = binomial_limits(draws, 0.5, 1e-9 / 2)
            kept = int(steps.sum() / (STEPS if one_mask else 1))
            expect.at_least(observed=kept, least=least, what=f"kept by {name}")
            expect.at_most(observed=kept, most=most, what=f"kept by {name}")
