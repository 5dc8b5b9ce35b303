"""A restored backup says where *this* fit goes on; the fits after it are whole again.

BackupAndRestore makes one interrupted fit go on at its next epoch. What comes later, such as three
more epochs of fine-tuning, is a fit of its own: from `initial_epoch`, 0 by default, to `epochs`.

    fit(epochs=5), interrupted in its epoch 2      epochs 0  1
    the same fit in a new program, with the backup       2  3  4
    fit(epochs=3)                                  epochs 0  1  2

The model is one weight that starts at 0, its loss |w + 100| has the gradient 1: with learning rate
1 every epoch takes 1 from it. A model that remembers the 2 begins the last fit there, trains one
epoch of three, and none at all where two are asked for.

Sources: class 104, exercise 5, learning outcome 5;
https://keras.io/api/callbacks/backup_and_restore/,
https://keras.io/api/models/model_training_apis/,
https://github.com/keras-team/keras/blob/v3.15.1/keras/src/trainers/trainer.py
"""

import contextlib

import numpy as np

from fixtures.matrix import behaviour


def later_in_keras(cell, folder, interrupted):
    """(epochs of a fit after one with a backup, how far it moves the weight)."""
    import keras

    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def new_model():
        """A Dense layer that is fed with a zero returns its bias."""
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
        cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss="mae")
        return model

    def fit(model, epochs, *callbacks):
        zero = np.zeros((1, 1))
        return model.fit(zero, zero - 100, epochs=epochs, callbacks=[*callbacks], verbose=0)

    def backup():
        return keras.callbacks.BackupAndRestore(str(folder / "backup"))

    def weight():
        return float(keras.ops.convert_to_numpy(model.layers[-1].bias)[0])

    if interrupted:
        with contextlib.suppress(KeyboardInterrupt):
            fit(new_model(), 5, backup(), Interruption())
    model = new_model()  # as a new program makes it
    fit(model, 5, backup())
    before = weight()
    history = fit(model, 3)
    return history.epoch, weight() - before


@behaviour(
    "callbacks.fit-after-backup",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.backup-marks-epochs-as-done",
)
def test_fit_after_backup(later, cell, expect, tmp_path):
    """After a training whose backup nobody needed, a fit of three epochs runs 0, 1 and 2."""
    epochs, change = later(cell, tmp_path, interrupted=False)
    expect.exactly(observed=epochs, expected=[0, 1, 2], what="epochs of the later fit")
    expect.exactly(observed=change, expected=-3.0, what="change of the weight")


@behaviour(
    "callbacks.fit-after-restored-backup",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.backup-marks-epochs-as-done",
)
def test_fit_after_restored_backup(later, cell, expect, tmp_path):
    """After a training that was interrupted and resumed, one of three epochs runs 0, 1 and 2."""
    epochs, change = later(cell, tmp_path, interrupted=True)
    expect.exactly(observed=epochs, expected=[0, 1, 2], what="epochs of the later fit")
    expect.exactly(observed=change, expected=-3.0, what="change of the weight")
