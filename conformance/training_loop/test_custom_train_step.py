"""A train_step of one's own: fit reports what it returns.

A Keras model may override train_step. Its return value, a dict, is the logs of the batch, and those
of the last batch are the logs of the epoch: they go to the callbacks, the history and the screen.
The names of the dict are the author's.

Sources: class 119, definitions (train_step), common mistake 5;
https://keras.io/guides/custom_train_step_in_tensorflow/,
https://keras.io/guides/custom_train_step_in_torch/
"""

import numpy as np

from fixtures.matrix import behaviour


def history_in_keras(cell):
    import keras

    class Counting(keras.Model):
        """Every step adds 1 to `steps`."""

        def __init__(self):
            super().__init__(dtype=cell.dtype)
            self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            return x

        def train_step(self, batch):
            self.steps.assign(self.steps + 1)
            return {"steps so far": self.steps + 0, "half": self.steps / 2}

    model = Counting()
    model.compile(optimizer="sgd", loss="mse", run_eagerly=True)
    model.build((None, 1))
    zeros = np.zeros((3, 1), "float32")
    history = model.fit(zeros, zeros, batch_size=1, epochs=2, verbose=0).history
    return {name: [float(value) for value in values] for name, values in history.items()}


@behaviour(
    "training-loop.custom-train-step-logs",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    # On JAX a train_step is handed the state, and returns it.
    needs={"keras": "keras-backend:tensorflow"},
    catches="keras.logs-of-a-train-step-are-ignored",
)
def test_custom_train_step_logs(history, cell, expect):
    """The history holds what train_step returned for the last of three batches, and nothing else.

    3 and 6 steps after the two epochs.
    """
    expected = {"half": [1.5, 3.0], "steps so far": [3.0, 6.0]}
    observed = dict(sorted(history(cell).items()))
    expect.exactly(observed=list(observed), expected=list(expected), what="names in the history")
    expect.exactly(
        observed=list(observed.values()), expected=list(expected.values()), what="history"
    )
