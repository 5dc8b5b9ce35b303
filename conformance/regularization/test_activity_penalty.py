"""An activity regularizer's penalty is one per sample.

activity_regularizer penalises what a layer returns. Its sum is divided by the size of the batch, so
that its weight beside the loss does not depend on it. A layer that returns 2 for every sample, with
L1(0.5) and no other loss:

    a batch of 1    0.5 · 2 / 1 = 1
    a batch of 4    0.5 · (2 + 2 + 2 + 2) / 4 = 1

The penalty of a kernel is not divided: there is one kernel, whatever the batch.

Sources: class 156, exercise 4 and definitions 4; https://keras.io/api/layers/regularizers/,
https://github.com/keras-team/keras/issues/22018
"""

import numpy as np

from fixtures.matrix import behaviour


def penalty_in_keras(cell, samples, regularizer):
    """The loss of a layer that returns its input, 2, and is right."""
    import keras

    layer = keras.layers.Dense(
        1,
        kernel_initializer="ones",
        dtype=cell.dtype,
        **{regularizer: keras.regularizers.L1(0.5)},
    )
    model = keras.Sequential([keras.Input((1,)), layer])
    cell.compile_model(model, optimizer="sgd", loss="mae")
    x = np.full((samples, 1), 2.0)
    return float(model.evaluate(x, x, batch_size=samples, verbose=0))


@behaviour(
    "regularization.activity-penalty-per-sample",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.activity-penalty-grows-with-the-batch",
)
def test_activity_penalty_per_sample(penalty, cell, expect):
    """The penalty on activations of 2 is 0.5 · 2 = 1 in a batch of one and in a batch of four.

    That on a kernel of 1 is 0.5 in both.
    """
    activity = [penalty(cell, samples, "activity_regularizer") for samples in (1, 4)]
    expect.exactly(observed=activity, expected=[1.0, 1.0], what="penalty on the activity")
    kernel = [penalty(cell, samples, "kernel_regularizer") for samples in (1, 4)]
    expect.exactly(observed=kernel, expected=[0.5, 0.5], what="penalty on the kernel")
