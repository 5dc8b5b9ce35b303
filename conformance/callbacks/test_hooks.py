"""The hooks of a Keras callback: in which order, and with what in `logs`.

    on_train_begin
      on_epoch_begin
        on_train_batch_begin, on_train_batch_end      for every batch
        on_test_begin ... on_test_end                 where there is validation data
      on_epoch_end
    on_train_end

Sources: class 104, definitions (callback, logs), exercise 4, question 4 and learning outcome 3;
https://keras.io/api/callbacks/base_callback/, https://keras.io/guides/writing_your_own_callbacks/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

# torch.compile takes tens of seconds over Keras's train step, and a callback is not part of it.
COSTLY = "keras_torch-*-compiled"


def fit_in_keras(cell, callback):
    """Two epochs of two batches, of 2 samples and 1. The bias of the model is 0, -1, -2, -3."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss="mae", metrics=["mse"]
    )
    x, y = np.zeros((3, 1)), np.full((3, 1), -8.0)
    return model.fit(
        x,
        y,
        batch_size=2,
        shuffle=False,
        epochs=2,
        validation_data=(x[:1], y[:1]),
        callbacks=[callback],
        verbose=0,
    )


def hooks_in_keras(cell):
    import keras

    seen = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append("train begin")

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(f"epoch {epoch} begin")

        def on_train_batch_begin(self, batch, logs=None):
            seen.append(f"batch {batch} begin")

        def on_train_batch_end(self, batch, logs=None):
            seen.append(f"batch {batch} end")

        def on_test_begin(self, logs=None):
            seen.append("validation begin")

        def on_test_batch_end(self, batch, logs=None):
            seen.append(f"validation batch {batch} end")

        def on_test_end(self, logs=None):
            seen.append("validation end")

        def on_epoch_end(self, epoch, logs=None):
            seen.append(f"epoch {epoch} end")

        def on_train_end(self, logs=None):
            seen.append("train end")

    fit_in_keras(cell, Recorder())
    return seen


@behaviour(
    "callbacks.hook-order",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.last-batch-ends-unnoticed",
)
def test_hook_order(hooks, cell, expect):
    """Training, epoch, batches, validation, end of the epoch; epochs and batches counted from 0."""
    epochs = [
        [
            f"epoch {epoch} begin",
            *("batch 0 begin", "batch 0 end", "batch 1 begin", "batch 1 end"),
            *("validation begin", "validation batch 0 end", "validation end"),
            f"epoch {epoch} end",
        ]
        for epoch in range(2)
    ]
    expect.exactly(
        observed=hooks(cell),
        expected=["train begin", *epochs[0], *epochs[1], "train end"],
        what="hooks",
    )


def logs_in_keras(cell):
    """(the logs of each epoch, the history, the bias at the end of each epoch)."""
    import keras

    seen, biases = [], []

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append({name: float(value) for name, value in logs.items()})
            biases.append(float(keras.ops.convert_to_numpy(self.model.layers[-1].bias)[0]))
            logs["bias"] = biases[-1]

    history = fit_in_keras(cell, Recorder()).history
    return seen, {name: [float(v) for v in values] for name, values in history.items()}, biases


@behaviour(
    "callbacks.logs-content",
    frameworks="keras",
    precisions="float32",
    modes="eager compiled",
    costly=COSTLY,
    catches="keras.epoch-loss-weighs-batches-alike",
)
def test_logs_content(logs, cell, expect):
    """on_epoch_end receives the loss, the metrics and their val_ counterparts, and no more.

    Distances to the target of -8 are 8, 8 and 7 in the first epoch and 6, 6, 5 in the second: the
    means are 23/3 and 17/3, those of their squares 59 and 97/3, rounded to float32; the validation
    after each has the distances 6 and 4. self.model is the model, with the weights of that moment.
    What a callback writes into logs reaches the history.
    """
    seen, history, biases = logs(cell)
    expected = [
        {"loss": 23 / 3, "mse": 59.0, "val_loss": 6.0, "val_mse": 36.0},
        {"loss": 17 / 3, "mse": 97 / 3, "val_loss": 4.0, "val_mse": 16.0},
    ]
    for epoch in range(2):
        names = sorted(expected[epoch])
        expect.exactly(observed=sorted(seen[epoch]), expected=names, what="names in logs")
        expect.within(
            rounded(2, cell.precision),
            observed=[seen[epoch][name] for name in names],
            expected=[expected[epoch][name] for name in names],
            what=f"logs of epoch {epoch}",
        )
        kept = {name: history[name][epoch] for name in names}
        expect.exactly(observed=kept, expected=seen[epoch], what=f"history of epoch {epoch}")
    expect.exactly(observed=biases, expected=[-2.0, -4.0], what="weight of self.model")
    expect.exactly(observed=history["bias"], expected=[-2.0, -4.0], what="history of what we wrote")


# ----------------------------------------------------------------------------------------------
# The common mistake: a class with the right method, but not a Callback.


def mistake_in_keras(cell):
    class Recorder:
        def on_epoch_end(self, epoch, logs=None):
            pass

    fit_in_keras(cell, Recorder())


def fix_in_keras(cell):
    import keras

    class Recorder(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1

    recorder = Recorder()
    fit_in_keras(cell, recorder)
    return recorder.epochs


@behaviour(
    "callbacks.custom-needs-inheritance",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.any-object-passes-for-a-callback",
)
def test_custom_needs_inheritance(mistake, fix, cell, expect):
    """A callback inherits keras.callbacks.Callback: fit also calls set_model and the other hooks.

    A plain class has no such methods, and fit raises AttributeError. The subclass is called after
    both epochs.
    """
    with expect.raises(AttributeError, match="no attribute '(set|on)_"):
        mistake(cell)
    expect.exactly(observed=fix(cell), expected=2, what="calls of on_epoch_end")
