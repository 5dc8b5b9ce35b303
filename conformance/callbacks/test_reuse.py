"""One callback object, two trainings: what it has seen of the first does not count in the second.

EarlyStopping and ReduceLROnPlateau compare each epoch with the best one of *this* fit. The model is
one weight w that starts at 0, its loss |w + target| has the gradient 1, so with learning rate 1 the
loss falls by 1 an epoch. The first fit falls from 5, the second from 100:

    first    5   4   3   2   1      best 1
    second 100  99  98  97  96      every epoch is the best so far, though none is below 1

A callback that remembers the 1 sees no improvement in the second fit, stops it after `patience`
epochs, or takes the learning rate from it.

Sources: class 101, exercise 5; class 104, definitions (EarlyStopping, ReduceLROnPlateau);
https://keras.io/api/callbacks/early_stopping/, https://keras.io/api/callbacks/reduce_lr_on_plateau/,
https://github.com/keras-team/keras/issues/20521
"""

import numpy as np

from fixtures.matrix import behaviour

TARGETS = (5.0, 100.0)

# ----------------------------------------------------------------------------------------------
# How each of the two trainings ends.


def fit_in_keras(cell, target, callback):
    """A Dense layer that is fed with a zero returns its bias: the model after five epochs."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss="mae")
    zero = np.zeros((1, 1))
    model.fit(zero, zero - target, epochs=5, callbacks=[callback], verbose=0)
    return model


def epochs_in_keras(cell):
    """Each epoch takes 1 from the bias."""
    import keras

    stopping = keras.callbacks.EarlyStopping("loss", patience=2, mode="min")
    models = [fit_in_keras(cell, target, stopping) for target in TARGETS]
    return [-float(keras.ops.convert_to_numpy(model.layers[-1].bias)[0]) for model in models]


def rates_in_keras(cell):
    import keras

    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=2, mode="min")
    models = [fit_in_keras(cell, target, plateau) for target in TARGETS]
    return [float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) for model in models]


@behaviour(
    "callbacks.early-stopping-reuse",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.early-stopping-remembers-the-last-fit",
)
def test_early_stopping_reuse(epochs, cell, expect):
    """An EarlyStopping that is used again begins anew: both fits improve in all five epochs."""
    expect.exactly(observed=epochs(cell), expected=[5.0, 5.0], what="epochs run")


@behaviour(
    "callbacks.reduce-lr-on-plateau-reuse",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.plateau-remembers-the-last-fit",
)
def test_reduce_lr_on_plateau_reuse(rates, cell, expect):
    """A ReduceLROnPlateau that is used again begins anew: neither fit has a plateau."""
    expect.exactly(observed=rates(cell), expected=[1.0, 1.0], what="learning rates afterwards")
