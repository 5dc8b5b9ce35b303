"""Recurrent layers: LSTM against Conv1D, GRU against LSTM, and what recurrent dropout costs.

An LSTM must finish step t before it begins step t + 1: 100 steps are 100 small matrix products in a
row, whatever the device. A convolution has all positions at once, as one large product, which keeps
many cores busy; so the gap is widest on a GPU, where 5 to 20 times are claimed, and a CPU with few
cores shows less of it. cuDNN and oneDNN narrow it: they fuse the gates of a step.

A GRU has three gates where an LSTM has four, so three quarters of the weights and of the
arithmetic. The time follows only where both are computed alike: torch on a CPU has a fused kernel
for the LSTM (oneDNN) and none for the GRU, which is several times slower for that.

Recurrent dropout multiplies the state by a mask in every step. Besides that work, Keras no longer
uses cuDNN for the layer then, so that a GPU loses far more than a CPU, which has no cuDNN to lose.

A time is that of one training step: forward, backward and update.

Sources: class 137, exercises 2 and 5, definitions 2 and 4, common mistake 1; class 138, exercise 3
and question 5; catalogue: sequence-conv.faster-than-lstm, recurrent.gru-quarter-fewer-parameters,
recurrent.recurrent-dropout-slower; https://keras.io/api/layers/recurrent_layers/lstm/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/recurrent.html
"""

import numpy as np

from fixtures.speed import Variant, claim

SEQUENCES, STEPS, FEATURES, UNITS = 32, 100, 8, 32
X = np.sin(np.arange(SEQUENCES * STEPS * FEATURES)).reshape(SEQUENCES, STEPS, FEATURES)
TARGETS = np.cos(np.arange(SEQUENCES * STEPS * UNITS)).reshape(SEQUENCES, STEPS, UNITS)


def training_step_in_keras(cell, name, *layers):
    """Compiled as the backend does it. Its `fit` is what the cell watches, to prove it."""
    import keras

    x, targets = X.astype("float32"), TARGETS.astype("float32")
    model = keras.Sequential([keras.Input((STEPS, FEATURES)), *layers])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(0.01), loss="mse")
    model.fit(x, targets, batch_size=SEQUENCES, verbose=0)
    return Variant(name, lambda: model.train_on_batch(x, targets))


def training_step_in_torch(cell, name, model):
    import torch

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device)
    targets = torch.tensor(TARGETS, dtype=cell.dtype, device=cell.device)
    model.to(cell.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), targets)
        loss.backward()
        optimizer.step()
        return loss

    return Variant(name, step)


# ----------------------------------------------------------------------------------------------
# Two causal convolutions, each over five steps, against one LSTM of as many units.


def convolution_in_keras(cell):
    from keras import layers

    return (
        training_step_in_keras(cell, "LSTM", layers.LSTM(UNITS, return_sequences=True)),
        training_step_in_keras(
            cell,
            "2 Conv1D",
            layers.Conv1D(UNITS, 5, padding="causal", activation="relu"),
            layers.Conv1D(UNITS, 5, padding="causal"),
        ),
    )


def convolution_in_torch(cell):
    from torch import nn

    class LSTM(nn.LSTM):
        def forward(self, x):
            outputs, _ = super().forward(x)
            return outputs

    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(
                nn.ConstantPad1d((4, 0), 0.0),  # causal: padded on the left alone
                nn.Conv1d(FEATURES, UNITS, 5),
                nn.ReLU(),
                nn.ConstantPad1d((4, 0), 0.0),
                nn.Conv1d(UNITS, UNITS, 5),
            )

        def forward(self, x):
            return self.layers(x.transpose(1, 2)).transpose(1, 2)

    return (
        training_step_in_torch(cell, "LSTM", LSTM(FEATURES, UNITS, batch_first=True)),
        training_step_in_torch(cell, "2 Conv1d", Convolutions()),
    )


@claim(
    "speed.conv1d-against-lstm",
    claimed="faster",
    low=1.0,
    source="class 138, exercise 3",
    frameworks="torch keras",
    precisions="float32",
    modes={"torch": "eager", "keras": "compiled"},
)
def test_conv1d_against_lstm(convolution, cell, speed):
    """Convolutions over a sequence train faster than an LSTM, since they need not wait for a step.

    The two layers of Conv1D and the LSTM give outputs of the same shape.
    """
    speed.compare_unlike(*convolution(cell))


@claim(
    "speed.conv1d-against-lstm-on-gpu",
    claimed="5 to 20 times faster",
    low=5.0,
    high=20.0,
    source="class 138, question 5",
    frameworks="torch keras",
    precisions="float32",
    modes={"torch": "eager", "keras": "compiled"},
    devices="cuda",
)
def test_conv1d_against_lstm_on_gpu(convolution, cell, speed):
    """On a GPU, Conv1D trains 5 to 20 times faster than an LSTM: all positions at once."""
    speed.compare_unlike(*convolution(cell))


# ----------------------------------------------------------------------------------------------
# GRU and LSTM of the same size, on rows of an image: 28 features, 64 units.


def parameters_in_torch(cell):
    from torch import nn

    return [
        sum(weight.numel() for weight in layer(28, 64).parameters()) for layer in (nn.LSTM, nn.GRU)
    ]


def parameters_in_keras(cell):
    import keras

    counts = []
    for layer in (keras.layers.LSTM(64), keras.layers.GRU(64)):
        layer.build((None, 28, 28))
        counts.append(layer.count_params())
    return counts


def parameters_in_jax(cell):
    import jax
    from flax import nnx

    return [
        sum(weight.size for weight in jax.tree.leaves(nnx.state(layer, nnx.Param)))
        for layer in (nnx.LSTMCell(28, 64, rngs=nnx.Rngs(0)), nnx.GRUCell(28, 64, rngs=nnx.Rngs(0)))
    ]


@claim(
    "speed.gru-parameters",
    claimed="about 25 % fewer parameters",
    low=1 / 0.78,  # 22 to 28 % fewer
    high=1 / 0.72,
    both=True,
    source="class 137, definition 2",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
)
def test_gru_parameters(parameters, cell, speed):
    """A GRU has about 25 % fewer parameters than an LSTM of the same size: 3 gates, not 4.

    Exactly 25 % in torch and Flax. Keras gives a GRU two biases for each gate and an LSTM one, so
    that it is 24 % here, and 23 % for 32 units and one feature.
    """
    lstm, gru = parameters(cell)
    speed.count("parameters", ("LSTM", lstm), ("GRU", gru))


def gru_in_torch(cell):
    from torch import nn

    def first_output(layer):
        class Outputs(layer):
            def forward(self, x):
                outputs, _ = super().forward(x)
                return outputs

        return Outputs(FEATURES, UNITS, batch_first=True)

    return (
        training_step_in_torch(cell, "LSTM", first_output(nn.LSTM)),
        training_step_in_torch(cell, "GRU", first_output(nn.GRU)),
    )


def gru_in_keras(cell):
    from keras import layers

    return (
        training_step_in_keras(cell, "LSTM", layers.LSTM(UNITS, return_sequences=True)),
        training_step_in_keras(cell, "GRU", layers.GRU(UNITS, return_sequences=True)),
    )


@claim(
    "speed.gru-against-lstm",
    claimed="faster",
    low=1.0,
    source="class 137, exercise 2",
    frameworks="torch keras",
    precisions="float32",
    modes={"torch": "eager", "keras": "compiled"},
)
def test_gru_against_lstm(gru, cell, speed):
    """A GRU trains faster than an LSTM of as many units, since it has three gates and not four."""
    speed.compare_unlike(*gru(cell))


# ----------------------------------------------------------------------------------------------
# Dropout of the recurrent state.


def recurrent_dropout_in_keras(cell):
    from keras import layers

    return (
        training_step_in_keras(
            cell,
            "recurrent_dropout=0.2",
            layers.LSTM(UNITS, return_sequences=True, recurrent_dropout=0.2),
        ),
        training_step_in_keras(cell, "none", layers.LSTM(UNITS, return_sequences=True)),
    )


@claim(
    "speed.recurrent-dropout",
    claimed="slower with recurrent_dropout",
    low=1.0,
    source="class 137, common mistake 1",
    frameworks="keras",
    precisions="float32",
    modes="compiled",
)
def test_recurrent_dropout(recurrent_dropout, cell, speed):
    """recurrent_dropout makes an LSTM slower; on a GPU it also rules cuDNN out."""
    speed.compare_unlike(*recurrent_dropout(cell))
