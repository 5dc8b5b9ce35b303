"""BackupAndRestore: a training that was interrupted goes on where it stopped.

The model is one weight w that starts at 0, its loss |w + 100| has the gradient 1, so with learning
rate 1 w is minus the number of steps. The first fit is interrupted in its third epoch, w = -3,
after two were backed up, w = -2. A new program with a new model, w = 0, calls the same fit of five
epochs: it finds the backup, runs the three that are missing, and ends with w = -5, as a training
without interruption does.

Sources: class 104, exercise 5, learning outcome 5;
https://keras.io/api/callbacks/backup_and_restore/
"""

import numpy as np

from fixtures.matrix import behaviour


def resumed_in_keras(cell, folder):
    """([first epoch of the second fit, how many], weight after it, whether a backup is left)."""
    import keras

    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 2:
                raise KeyboardInterrupt

    def fit(*callbacks):
        """A Dense layer that is fed with a zero returns its bias."""
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
        cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss="mae")
        zero = np.zeros((1, 1))
        backup = keras.callbacks.BackupAndRestore(str(folder / "backup"))
        history = model.fit(zero, zero - 100, epochs=5, callbacks=[backup, *callbacks], verbose=0)
        epochs = [history.epoch[0], len(history.epoch)]
        return epochs, float(keras.ops.convert_to_numpy(model.layers[-1].bias)[0])

    try:
        fit(Interruption())
    except KeyboardInterrupt:
        epochs, weight = fit()
    return epochs, weight, (folder / "backup").exists()


@behaviour(
    "callbacks.backup-and-restore",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.backup-starts-the-epochs-anew",
)
def test_backup_and_restore(resumed, cell, expect, tmp_path):
    """The second fit runs epochs 2, 3 and 4 and ends as an uninterrupted one, at w = -5.

    The backup is gone then.
    """
    epochs, weight, is_kept = resumed(cell, tmp_path)
    expect.exactly(observed=epochs, expected=[2, 3], what="first epoch and number of epochs")
    expect.exactly(observed=weight, expected=-5.0, what="weight at the end")
    expect.exactly(observed=is_kept, expected=False, what="whether the backup is kept")
