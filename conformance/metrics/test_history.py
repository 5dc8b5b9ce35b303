"""The loss of an epoch: a mean over its samples, taken while the weights change.

The model is one weight b, its loss |b + 100| has the gradient 1, so with learning rate 1 the
batches of an epoch see 100, 99, 98. Eight samples come in batches of 3, 3 and 2:

    mean over the samples      (3 * 100 + 3 * 99 + 2 * 98) / 8 = 99.125
    mean of the batch means    (100 + 99 + 98) / 3             = 99
    loss after the epoch                                         97

fit reports the first, for the loss and for every metric, and starts anew in each epoch. Many a
hand-written loop, with running_loss / len(loader), reports the second. None of them is the loss of
the model that the epoch has made: that is the third, and evaluate's.

Sources: class 101, learning outcome 3; class 119, common mistake 2; class 121, topic 3; the
comparison of Keras's fit and a PyTorch loop (running_loss);
https://keras.io/api/models/model_training_apis/, https://keras.io/api/metrics/base_metric/
"""

import numpy as np

from fixtures.matrix import behaviour

SIZES = (3, 3, 2)

# torch.compile takes tens of seconds over Keras's train step, and JAX compiles each precision anew.
COSTLY = "keras_torch-*-compiled keras_*-float64-compiled keras_jax-*-float64-eager"

# ----------------------------------------------------------------------------------------------
# Two epochs: the means of losses 100, 99, 98 and 97, 96, 95, and the loss after each.


def epochs_in_torch(cell):
    """The sum over samples, divided by their number: ([losses], losses afterwards)."""
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    losses, afterwards = [], []
    for _ in range(2):
        running_loss = 0.0
        for size in SIZES:
            optimizer.zero_grad()
            loss = (w + 100).abs().expand(size).mean()
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * size
        losses.append(running_loss / sum(SIZES))
        afterwards.append((w + 100).abs().item())
    return [losses], afterwards


def mistake_in_torch(cell):
    """running_loss / len(loader): the last batch, smaller than the others, counts as much."""
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    running_loss = 0.0
    for size in SIZES:
        optimizer.zero_grad()
        loss = (w + 100).abs().expand(size).mean()
        loss.backward()
        optimizer.step()
        running_loss += loss.item()
    return running_loss / len(SIZES)


def batch_means_in_keras():
    """Collected by hand from the end of each batch, where logs hold the mean so far."""
    import keras

    class BatchMeans(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.total, self.samples, self.means = 0.0, 0, []

        def on_train_batch_end(self, batch, logs=None):
            samples = self.samples + SIZES[batch]
            total = float(logs["loss"]) * samples
            self.means.append((total - self.total) / SIZES[batch])
            self.total, self.samples = total, samples

    return BatchMeans()


def fit_in_keras(cell, epochs, callbacks=()):
    """A Dense layer that is fed with zeros returns its bias; the target is -100."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss="mae",
        metrics=["mae"],
    )
    x, y = np.zeros((8, 1)), np.full((8, 1), -100.0)
    history = model.fit(
        x,
        y,
        batch_size=3,
        shuffle=False,
        epochs=epochs,
        validation_data=(x, y),
        callbacks=list(callbacks),
        verbose=0,
    )
    return history.history, model.evaluate(x, y, batch_size=3, verbose=0)[0]


def epochs_in_keras(cell):
    """The loss and the same as a metric: ([losses, metrics], losses afterwards)."""
    history, evaluated = fit_in_keras(cell, epochs=2)
    return [history["loss"], history["mae"]], [history["val_loss"][0], evaluated]


def mistake_in_keras(cell):
    means = batch_means_in_keras()
    fit_in_keras(cell, epochs=1, callbacks=[means])
    return sum(means.means) / len(means.means)


@behaviour(
    "metrics.history-loss-running-mean",
    frameworks="torch keras",
    precisions="float64 float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="torch.zero-grad-does-nothing keras.metrics-weigh-batches-alike[keras_tensorflow-*] "
    "keras.epoch-loss-weighs-batches-alike[keras_tensorflow-*] "
    "keras.later-epochs-continue-their-metrics[keras_jax-*]",
)
def test_history_loss_running_mean(epochs, mistake, cell, expect):
    """The loss of an epoch is the mean of its samples' losses, each with the weights of its step.

    99.125 and 96.125 in two epochs, after which the loss is 97 and 94. The mean of the first three
    batch means is 99. Every number is exact in float32.
    """
    reported, afterwards = epochs(cell)
    for losses in reported:
        expect.exactly(observed=losses, expected=[99.125, 96.125], what="loss of each epoch")
    expect.exactly(observed=afterwards, expected=[97.0, 94.0], what="loss after each epoch")
    expect.exactly(observed=mistake(cell), expected=99.0, what="mean of the batch means")
