"""A PyDataset is told when an epoch has ended, and once.

keras.utils.PyDataset gives fit its batches by index, and on_epoch_end is called at the end of every
epoch: for shuffling, or harder examples as training goes on. The data set here counts the epochs
that have ended, and its targets are 10 · epoch + index, so the mean absolute error of a model that
returns 0 and learns nothing tells in which epoch the data set believes to be:

    epoch 0: 0, 1, 2     epoch 1: 10, 11, 12     epoch 2: 20, 21, 22
         mean 1               mean 11                 mean 21

Sources: the comparison of Keras's fit and a PyTorch loop (model.fit);
https://keras.io/api/utils/python_utils/#pydataset-class
"""

import numpy as np

from fixtures.matrix import behaviour


def epochs_in_keras(cell):
    import keras

    class Epochs(keras.utils.PyDataset):
        ended = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return np.zeros((1, 1)), np.full((1, 1), 10.0 * self.ended + index)

        def on_epoch_end(self):
            self.ended += 1

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(learning_rate=0.0), loss="mae")
    losses = model.fit(Epochs(), epochs=3, shuffle=False, verbose=0).history["loss"]
    return [float(loss) for loss in losses]


@behaviour(
    "data.dataset-between-epochs",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.dataset-is-not-told-of-epochs",
)
def test_dataset_between_epochs(epochs, cell, expect):
    """Each epoch's data are ten further than the last one's: it is told once between two."""
    losses = epochs(cell)
    between = [later - earlier for earlier, later in zip(losses, losses[1:], strict=False)]
    expect.exactly(observed=between, expected=[10.0, 10.0], what="change from epoch to epoch")


@behaviour(
    "data.dataset-epoch-end",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.dataset-is-not-told-of-epochs",
)
def test_dataset_epoch_end(epochs, cell, expect):
    """No epoch has ended before the first one: its data are 0, 1 and 2."""
    expect.exactly(observed=epochs(cell)[0], expected=1.0, what="first epoch's mean")
