"""reset_state: a metric remembers everything since it was last reset.

fit resets every metric at the start of each epoch. A hand-written loop has to do it, or the second
epoch reports the mean of both.

Sources: class 119, common mistake 2; class 121, topic 3; https://keras.io/api/metrics/base_metric/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

# torch.compile takes tens of seconds over Keras's train step.
COSTLY = "keras_torch-*-compiled keras_*-float64-compiled"

EPOCHS = ((1.0, 1.0), (3.0, 3.0))


def mistake_in_keras(cell):
    import keras

    mean = keras.metrics.Mean(dtype=cell.dtype)
    results = []
    for values in EPOCHS:
        for value in values:
            mean.update_state(value)
        results.append(float(mean.result()))
    return results


def fix_in_keras(cell):
    import keras

    mean = keras.metrics.Mean(dtype=cell.dtype)
    results = []
    for values in EPOCHS:
        mean.reset_state()
        for value in values:
            mean.update_state(value)
        results.append(float(mean.result()))
    return results


def fit_in_keras(cell):
    """The bias is 0, -1, -2, ... before step 1, 2, 3, ..., and so is the prediction."""
    import keras

    def prediction(target, bias):
        return -keras.ops.mean(bias, axis=-1)

    def mean_bias(target, bias):
        return keras.ops.mean(bias)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=mean_bias,
        metrics=[prediction],
    )
    zeros = np.zeros((5, 1))
    history = model.fit(zeros, zeros, batch_size=2, shuffle=False, epochs=3, verbose=0)
    return history.history["prediction"]


@behaviour(
    "metrics.keras-resets-each-epoch",
    frameworks="keras",
    precisions="float64 float32",
    modes="eager compiled",
    costly=COSTLY,
    catches="keras.metrics-weigh-batches-alike[keras_tensorflow-*] "
    "keras.later-epochs-continue-their-metrics[keras_jax-*] "
    "keras.mean-forgets-its-count-alone[keras_torch-*]",
)
def test_keras_resets_each_epoch(mistake, fix, fit, cell, expect):
    """In fit every epoch's metric is that epoch's alone; in a loop only after reset_state.

    Fed with 1, 1 and then 3, 3 a mean is 1 and 2, and with reset_state 1 and 3. In fit batches of
    2, 2 and 1 measure 0, 1, 2 in the first epoch, (0 + 0 + 1 + 1 + 2) / 5 = 0.8, and 3 more in each
    later one: that is 4/5, 19/5 and 34/5, rounded once for the quotient, in float32 at least.
    """
    expect.exactly(observed=mistake(cell), expected=[1.0, 2.0], what="means without reset_state")
    expect.exactly(observed=fix(cell), expected=[1.0, 3.0], what="means with reset_state")
    expect.within(
        rounded(2, "float32"), observed=fit(cell), expected=[0.8, 3.8, 6.8], what="history"
    )
