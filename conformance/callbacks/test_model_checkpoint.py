"""ModelCheckpoint: which epochs have a file, and whose weights are in it.

The model is one weight w that starts at 0, and the loss is w itself: with a learning rate of 1 and
one batch an epoch w is -1, -2, -3, ... after epochs 1, 2, 3, ..., so a file tells which epoch wrote
it. The validation score after each epoch is read from a list:

    score after epoch   1    2    3    4    5    6
                        4    5    2    3    2.5  2      lowest: epoch 3, then equalled

                 files kept by default              better is, by default
    Keras        the last epoch's (one by one,      higher for an accuracy, lower for a loss
                 where the name has {epoch})
    Lightning    the last epoch's                   lower, whatever is monitored

So Keras needs no mode="max" for val_accuracy, though the course asks for it, and Lightning does.

Sources: class 101, homework 5; class 104, definitions, exercise 1, common mistake 2 and questions 1
and 2; https://keras.io/api/callbacks/model_checkpoint/,
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelCheckpoint.html
"""

from fixtures.matrix import behaviour

SCORES = (4.0, 5.0, 2.0, 3.0, 2.5, 2.0)

# torch.compile takes tens of seconds over Keras's train step, and a callback is not part of it.
COSTLY = "keras_torch-*-compiled"


def train_in_keras(cell, checkpoint):
    """Six epochs. A Dense layer that is fed with zeros returns its bias.

    The target of the validation is the row of all scores: the metric picks that of the epoch.
    """
    import keras
    import numpy as np

    def score(scores, bias):  # (1, 6), (1, 1)
        of_epoch = keras.ops.equal(np.arange(1.0, 7.0, dtype="float32"), -bias)
        of_epoch = keras.ops.cast(of_epoch, scores.dtype)
        return keras.ops.sum(keras.ops.multiply(scores, of_epoch), axis=-1)

    def mean_bias(target, bias):
        return keras.ops.mean(bias)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model, optimizer=keras.optimizers.SGD(learning_rate=1.0), loss=mean_bias, metrics=[score]
    )
    zero = np.zeros((1, 1))
    model.fit(
        zero,
        zero,
        validation_data=(zero, np.array([SCORES])),
        epochs=len(SCORES),
        callbacks=[checkpoint],
        verbose=0,
    )


def bias_in(file):
    """Of a model that Keras saved."""
    import keras

    return keras.models.load_model(file, compile=False).layers[-1].bias.numpy()[0]


def train_in_lightning(cell, checkpoint):
    """Six epochs; returns a function that reads the w of a file."""
    import lightning
    import torch

    class Countdown(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("val_score", SCORES[int(-self.w.item()) - 1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    one_batch = torch.utils.data.DataLoader([0])
    options = {**cell.trainer_options, "enable_checkpointing": True}
    lightning.Trainer(
        max_epochs=len(SCORES), num_sanity_val_steps=0, callbacks=[checkpoint], **options
    ).fit(Countdown(), one_batch, one_batch)
    return lambda file: Countdown.load_from_checkpoint(file).w.item()


# ----------------------------------------------------------------------------------------------
# The common mistake: a checkpoint that is not told to keep the best keeps the last.


def mistake_in_keras(cell, folder):
    from keras.callbacks import ModelCheckpoint

    train_in_keras(cell, ModelCheckpoint(folder / "last.keras"))
    return bias_in(folder / "last.keras")


def fix_in_keras(cell, folder, mode):
    from keras.callbacks import ModelCheckpoint

    file = folder / f"{mode}.keras"
    train_in_keras(cell, ModelCheckpoint(file, "val_score", save_best_only=True, mode=mode))
    return bias_in(file)


def mistake_in_lightning(cell, folder):
    from lightning.pytorch.callbacks import ModelCheckpoint

    checkpoint = ModelCheckpoint(str(folder / "last"))
    w_in = train_in_lightning(cell, checkpoint)
    return w_in(checkpoint.best_model_path)


def fix_in_lightning(cell, folder, mode):
    from lightning.pytorch.callbacks import ModelCheckpoint

    checkpoint = ModelCheckpoint(str(folder / mode), monitor="val_score", save_top_k=1, mode=mode)
    w_in = train_in_lightning(cell, checkpoint)
    return w_in(checkpoint.best_model_path)


@behaviour(
    "callbacks.model-checkpoint-best-only",
    frameworks="lightning keras",
    precisions="float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="keras.checkpoint-compares-with-the-last-epoch "
    "keras.equal-score-counts-as-improvement lightning.checkpoint-keeps-the-first",
)
def test_model_checkpoint_best_only(mistake, fix, cell, expect, tmp_path):
    """The file holds the weights of the best epoch: of the lowest score, w = -3; the highest, -2.

    Epoch 5 is better than the epoch before it but not than the best so far, and epoch 6 equals the
    best: neither overwrites the file. Without save_best_only (Keras) or a monitor (Lightning) the
    file is that of the last epoch, w = -6.
    """
    expect.exactly(observed=mistake(cell, tmp_path), expected=-6.0, what="w in the last file")
    expect.exactly(observed=fix(cell, tmp_path, "min"), expected=-3.0, what="w, lowest score")
    expect.exactly(observed=fix(cell, tmp_path, "max"), expected=-2.0, what="w, highest score")


# ----------------------------------------------------------------------------------------------
# One file per epoch, where the name has room for it.


def every_epoch_in_keras(cell, folder):
    from keras.callbacks import ModelCheckpoint

    train_in_keras(cell, ModelCheckpoint(folder / "{epoch:02d}.keras"))
    return {file.name: bias_in(file) for file in folder.glob("*.keras")}


def improving_epochs_in_keras(cell, folder):
    """As weights alone, which a model of the same architecture reads."""
    import keras
    from keras.callbacks import ModelCheckpoint

    train_in_keras(
        cell,
        ModelCheckpoint(
            folder / "{epoch:02d}.weights.h5",
            "val_score",
            save_best_only=True,
            save_weights_only=True,
            mode="min",
        ),
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    weights = {}
    for file in folder.glob("*.weights.h5"):
        model.load_weights(file)
        weights[file.name] = model.layers[-1].bias.numpy()[0]
    return weights


@behaviour(
    "callbacks.model-checkpoint-every-epoch",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    depth="standard",
    catches="keras.checkpoint-numbers-epochs-from-zero "
    "keras.checkpoint-compares-with-the-last-epoch",
)
def test_model_checkpoint_every_epoch(every_epoch, improving_epochs, cell, expect, tmp_path):
    """With {epoch} in its name every epoch has a file; with save_best_only, those that improve.

    Of six epochs the first and the third improve on all before them. Files are numbered from 1.
    """
    expect.exactly(
        observed=every_epoch(cell, tmp_path / "all"),
        expected={f"0{epoch}.keras": -epoch for epoch in range(1, 7)},
        what="w, by file",
    )
    expect.exactly(
        observed=improving_epochs(cell, tmp_path / "best"),
        expected={"01.weights.h5": -1, "03.weights.h5": -3},
        what="w, by file, best only",
    )


# ----------------------------------------------------------------------------------------------
# Which way is better? The loss falls in every epoch; the accuracy is 1/2, 1, 1/2.


def kept_in_keras(cell, folder):
    """After epoch k the layer predicts x - k, which is 1 (or more than 1/2) where x > k.

    The sample x = 2, of class 0, is right from epoch 2 on, and x = 3, of class 1, up to epoch 2.
    """
    import keras
    import numpy as np
    from keras.callbacks import ModelCheckpoint

    def mean_prediction(target, prediction):
        return keras.ops.mean(prediction)

    layer = keras.layers.Dense(1, kernel_initializer="ones", dtype=cell.dtype)
    model = keras.Sequential([keras.Input((1,)), layer])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=mean_prediction,
        metrics=["accuracy"],
    )
    zero = np.zeros((1, 1))
    model.fit(
        zero,
        zero,
        validation_data=(np.array([[2.0], [3.0]]), np.array([[0.0], [1.0]])),
        epochs=3,
        callbacks=[
            ModelCheckpoint(folder / "loss.keras", save_best_only=True),
            ModelCheckpoint(folder / "untold.keras", "val_accuracy", save_best_only=True),
            ModelCheckpoint(folder / "max.keras", "val_accuracy", save_best_only=True, mode="max"),
        ],
        verbose=0,
    )
    return {name: -bias_in(folder / f"{name}.keras") for name in ("loss", "untold", "max")}


def kept_in_lightning(cell, folder):
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            x, y = batch
            prediction = x + self.w
            self.log("val_loss", prediction.mean())
            self.log("val_accuracy", ((prediction > 0.5) == (y > 0.5)).float().mean())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    one_batch = torch.utils.data.DataLoader([0])
    validation = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])),
        batch_size=2,
    )
    checkpoints = {
        "loss": ModelCheckpoint(str(folder / "loss"), monitor="val_loss"),
        "untold": ModelCheckpoint(str(folder / "untold"), monitor="val_accuracy"),
        "max": ModelCheckpoint(str(folder / "max"), monitor="val_accuracy", mode="max"),
    }
    options = {**cell.trainer_options, "enable_checkpointing": True}
    lightning.Trainer(
        max_epochs=3, num_sanity_val_steps=0, callbacks=list(checkpoints.values()), **options
    ).fit(Classifier(), one_batch, validation)
    return {
        name: -Classifier.load_from_checkpoint(checkpoint.best_model_path).w.item()
        for name, checkpoint in checkpoints.items()
    }


untold_in_keras = 2
untold_in_lightning = 1


@behaviour(
    "callbacks.model-checkpoint-auto-mode",
    frameworks="lightning keras",
    precisions="float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="keras.auto-mode-minimises-whatever lightning.monitor-mode-follows-the-name",
)
def test_model_checkpoint_auto_mode(kept, untold, cell, expect, tmp_path):
    """Keras's default mode "auto" maximises val_accuracy; Lightning's default "min" minimises it.

    An accuracy of 1/2, 1, 1/2 is highest after epoch 2 and lowest after epoch 1. Told nothing,
    Keras keeps epoch 2 and Lightning epoch 1, the worst. A falling loss is best after epoch 3 in
    both. Each of the three checkpoints writes its own file.
    """
    observed = kept(cell, tmp_path)
    expect.exactly(observed=observed["loss"], expected=3.0, what="epoch kept for val_loss")
    expect.exactly(observed=observed["max"], expected=2.0, what="epoch kept for mode='max'")
    expect.exactly(observed=observed["untold"], expected=untold, what="epoch kept for val_accuracy")


def unknown_direction_in_keras(cell, folder):
    from keras.callbacks import ModelCheckpoint

    train_in_keras(
        cell, ModelCheckpoint(folder / "best.keras", "val_scores", save_best_only=True, mode="auto")
    )


@behaviour(
    "callbacks.model-checkpoint-unknown-direction",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    needs={"keras": "keras>=3.11"},
    catches="keras.auto-mode-minimises-whatever",
)
def test_model_checkpoint_unknown_direction(unknown_direction, cell, expect, tmp_path):
    """Of a quantity that is no metric of the model, "auto" cannot tell which way is better.

    It says so at the end of the first epoch, and asks for mode="max" or "min".
    """
    with expect.raises(ValueError, match="automatically determine(.|\n)*mode='max'"):
        unknown_direction(cell, tmp_path)
