"""EarlyStopping: when training ends, and which weights remain.

The model is one weight w that starts at 0, and the loss is w itself: its gradient is 1, so with a
learning rate of 1 and one batch an epoch w is -1, -2, -3, ... after epochs 1, 2, 3, ... It tells
how many epochs ran, and whose weights they are. The validation score after each epoch is read from
a list, so every answer can be counted on the fingers:

    score after epoch   1  2  3  4  5  6  7  8
                        3  2  1  2  2  2  2  2   best: epoch 3
    patience 5                      1  2  3  4  5   stops after epoch 8

                      patience    mode                  afterwards w is that of
    Keras             0           from the metric       the last epoch, or the best one
    Lightning         3           min                   the last epoch

The course says that Keras's patience of 0 cuts in the first epoch: it cannot, since the first epoch
always improves.

Sources: class 101, definitions and exercise 5; class 104, definitions and common mistake 1;
class 122, homework 3; https://keras.io/api/callbacks/early_stopping/,
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.EarlyStopping.html
"""

import warnings

from fixtures.matrix import behaviour

FALLS_THEN_STAYS = (3.0, 2.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)
CREEPS_BACK = (2.0, 1.0, 4.0, 3.0, 2.0, 1.5)
UP_AND_DOWN = (5.0, 6.0, 4.0, 4.0, 5.0, 3.0, 3.0, 3.0, 3.0, 3.0)
FALLS_SLOWLY = (4.0, 3.875, 3.75, 3.625, 3.5, 3.375)
RISES_SLOWLY = tuple(-score for score in FALLS_SLOWLY)
RISES_THEN_STAYS = tuple(-score for score in FALLS_THEN_STAYS)
STAYS = (4.0,) * 6
FALLS_TO_FOUR = (5.0, 4.0, 4.0, 4.0, 4.0, 4.0)
DIPS_ONCE = (5.0, 1.0, 4.0, 4.0, 4.0, 4.0)
BEST_SECOND = (5.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0)
BEST_THIRD = (3.0, 2.0, 1.0, 2.0, 1.5)

# torch.compile takes tens of seconds over Keras's train step, and a callback is not part of it.
COSTLY = "keras_torch-*-compiled"

# ----------------------------------------------------------------------------------------------
# How many epochs run, for pairs of scores and the arguments of EarlyStopping.


def epochs_in_numpy(cell, cases):
    from reference.patience import train_with_patience

    return [train_with_patience(scores, **options)[0] for scores, options in cases]


def epochs_in_torch(cell, cases):
    """The counter that everybody writes into a loop of their own."""
    import torch

    epochs = []
    for scores, options in cases:
        w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=1.0)
        sign = -1 if options.get("mode") == "max" else 1
        best, without_improvement = float("inf"), 0
        for score in scores:
            optimizer.zero_grad()
            w.sum().backward()
            optimizer.step()
            if sign * score < best - options.get("min_delta", 0):
                best, without_improvement = sign * score, 0
            else:
                without_improvement += 1
                if without_improvement >= options["patience"]:
                    break
        epochs.append(-w.item())
    return epochs


def epochs_in_lightning(cell, cases):
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping

    class Countdown(lightning.LightningModule):
        def __init__(self, scores):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.scores = scores

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            epoch = int(-self.w.item())
            self.log("val_score", self.scores[epoch - 1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    epochs = []
    for scores, options in cases:
        model = Countdown(scores)
        one_batch = torch.utils.data.DataLoader([0])
        lightning.Trainer(
            max_epochs=len(scores),
            num_sanity_val_steps=0,
            callbacks=[EarlyStopping("val_score", **options)],
            **cell.trainer_options,
        ).fit(model, one_batch, one_batch)
        epochs.append(-model.w.item())
    return epochs


def countdown_in_keras(cell):
    """A Dense layer that is fed with zeros returns its bias.

    The target of the validation is the row of all scores: the metric picks that of the epoch.
    """
    import keras
    import numpy as np

    def score(scores, bias):  # (1, epochs), (1, 1)
        epochs = np.arange(1, 1 + scores.shape[-1], dtype="float32")
        of_epoch = keras.ops.equal(epochs, -bias)
        of_epoch = keras.ops.cast(of_epoch, scores.dtype)
        return keras.ops.sum(keras.ops.multiply(scores, of_epoch), axis=-1)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda target, bias: keras.ops.mean(bias),
        metrics=[score],
    )
    return model


def train_in_keras(model, scores, **options):
    """The bias after a `fit` from 0 with EarlyStopping."""
    import keras
    import numpy as np

    zero = np.zeros((1, 1))
    bias = model.layers[-1].bias
    bias.assign([0.0])
    model.fit(
        zero,
        zero,
        validation_data=(zero, np.array([scores])),
        epochs=len(scores),
        callbacks=[keras.callbacks.EarlyStopping("val_score", **{"mode": "min", **options})],
        verbose=0,
    )
    return float(keras.ops.convert_to_numpy(bias)[0])


def epochs_in_keras(cell, cases):
    model = countdown_in_keras(cell)
    return [-train_in_keras(model, scores, **options) for scores, options in cases]


@behaviour(
    "callbacks.early-stopping-patience",
    frameworks="numpy torch lightning keras",
    precisions="float32",
    modes="eager",
    catches="keras.early-stopping-waits-one-epoch-more keras.equal-score-counts-as-improvement "
    "lightning.early-stopping-waits-one-check-more "
    "lightning.early-stopping-compares-with-the-last-check "
    "torch.zero-grad-does-nothing[torch-*]",
)
def test_early_stopping_patience(epochs, cell, expect):
    """Training stops after `patience` epochs in a row that did not improve on the best score.

    Best at epoch 3 and then worse: patience 1 stops after epoch 4, 2 after 5, 5 after 8. So does
    0 after 4, since it takes one epoch without improvement to notice. An equal score is no
    improvement, nor is one that is better than the last but not than the best; a new best restarts
    the count.
    """
    cases = [
        (FALLS_THEN_STAYS, {"patience": 0}),
        (FALLS_THEN_STAYS, {"patience": 1}),
        (FALLS_THEN_STAYS, {"patience": 2}),
        (FALLS_THEN_STAYS, {"patience": 5}),
        (RISES_THEN_STAYS, {"patience": 2, "mode": "max"}),
        (UP_AND_DOWN, {"patience": 1}),
        (UP_AND_DOWN, {"patience": 2}),
        (UP_AND_DOWN, {"patience": 3}),
        (CREEPS_BACK, {"patience": 2}),
    ]
    expect.exactly(
        observed=epochs(cell, cases), expected=[4, 4, 5, 8, 5, 2, 5, 9, 4], what="epochs run"
    )


default_patience_in_lightning = 3
default_patience_in_keras = 0


@behaviour(
    "callbacks.early-stopping-default-patience",
    frameworks="lightning keras",
    precisions="float32",
    modes="eager",
    depth="standard",
    catches="keras.equal-score-counts-as-improvement lightning.early-stopping-waits-one-check-more",
)
def test_early_stopping_default_patience(epochs, default_patience, cell, expect):
    """By default Keras waits for 0 epochs, which stops after the second, and Lightning for 3.

    Neither stops while the score keeps improving.
    """
    cases = [(STAYS, {}), (FALLS_SLOWLY, {})]
    expected = [1 + max(1, default_patience), 6]
    expect.exactly(observed=epochs(cell, cases), expected=expected, what="epochs run")


@behaviour(
    "callbacks.early-stopping-min-delta",
    frameworks="numpy torch lightning keras",
    precisions="float32",
    modes="eager",
    catches="keras.min-delta-ignored-when-maximising "
    "lightning.early-stopping-compares-with-the-last-check "
    "torch.zero-grad-does-nothing[torch-*]",
)
def test_early_stopping_min_delta(epochs, cell, expect):
    """An improvement is a change from the best score of more than min_delta.

    A score that falls by 1/8 an epoch never stops without min_delta. With 0.3 it takes three epochs
    to improve on the first: patience 2 stops after epoch 3, and patience 3 never.
    """
    cases = [
        (FALLS_SLOWLY, {"patience": 2, "min_delta": 0.0}),
        (FALLS_SLOWLY, {"patience": 2, "min_delta": 0.3}),
        (FALLS_SLOWLY, {"patience": 3, "min_delta": 0.3}),
        (RISES_SLOWLY, {"patience": 2, "min_delta": 0.0, "mode": "max"}),
        (RISES_SLOWLY, {"patience": 2, "min_delta": 0.3, "mode": "max"}),
    ]
    expect.exactly(observed=epochs(cell, cases), expected=[6, 3, 6, 6, 3], what="epochs run")


@behaviour(
    "callbacks.early-stopping-start-from-epoch",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    depth="standard",
    catches="keras.early-stopping-warms-up-one-epoch-more",
)
def test_early_stopping_start_from_epoch(epochs, cell, expect):
    """The first `start_from_epoch` epochs are not looked at, however good they were.

    Scores 5, 1, 2, 3, 3, ... with patience 2 stop after epoch 4. From the third epoch on the best
    is 2, at epoch 3, and training stops after epoch 5; from the fourth on it would be epoch 6.
    """
    cases = [
        (BEST_SECOND, {"patience": 2}),
        (BEST_SECOND, {"patience": 2, "start_from_epoch": 2}),
    ]
    expect.exactly(observed=epochs(cell, cases), expected=[4, 5], what="epochs run")


# ----------------------------------------------------------------------------------------------
# A baseline to beat.


def weights_with_baseline_in_numpy(cell, cases):
    from reference.patience import train_with_patience

    runs = [train_with_patience(scores, patience=3, baseline=2.0) for scores in cases]
    return [(-epochs, -best) for epochs, best in runs]


def weights_with_baseline_in_keras(cell, cases):
    model = countdown_in_keras(cell)
    return [
        tuple(
            train_in_keras(model, scores, patience=3, baseline=2.0, restore_best_weights=restore)
            for restore in (False, True)
        )
        for scores in cases
    ]


@behaviour(
    "callbacks.early-stopping-baseline",
    frameworks="numpy keras",
    precisions="float32",
    modes="eager",
    depth="standard",
    catches="keras.any-improvement-satisfies-the-baseline "
    "keras.early-stopping-keeps-the-epoch-after-the-best",
)
def test_early_stopping_baseline(weights_with_baseline, cell, expect):
    """If no epoch improves on the baseline, training runs for `patience` epochs.

    Baseline 2 and patience 3: scores 5, 4, 4, ... stop after epoch 3, and restore the best of them,
    epoch 2. Scores 5, 1, 4, 4, 4 beat it at epoch 2, and stop three epochs later.
    """
    observed = weights_with_baseline(cell, [FALLS_TO_FOUR, DIPS_ONCE])
    expect.exactly(
        observed=observed, expected=[(-3, -2), (-5, -2)], what="weights (last, restored)"
    )


# ----------------------------------------------------------------------------------------------
# The common mistake: to expect the best weights without asking for them.


def mistake_in_keras(cell, folder):
    return train_in_keras(countdown_in_keras(cell), FALLS_THEN_STAYS, patience=5)


def fix_in_keras(cell, folder):
    return train_in_keras(
        countdown_in_keras(cell), FALLS_THEN_STAYS, patience=5, restore_best_weights=True
    )


def mistake_in_lightning(cell, folder):
    [epochs] = epochs_in_lightning(cell, [(FALLS_THEN_STAYS, {"patience": 5})])
    return -epochs


def fix_in_lightning(cell, folder):
    """A checkpoint beside EarlyStopping, and its weights loaded after training."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    class Countdown(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("val_score", FALLS_THEN_STAYS[int(-self.w.item()) - 1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    checkpoint = ModelCheckpoint(str(folder), monitor="val_score")
    one_batch = torch.utils.data.DataLoader([0])
    options = {**cell.trainer_options, "enable_checkpointing": True}
    lightning.Trainer(
        max_epochs=10,
        num_sanity_val_steps=0,
        callbacks=[EarlyStopping("val_score", patience=5), checkpoint],
        **options,
    ).fit(Countdown(), one_batch, one_batch)
    return Countdown.load_from_checkpoint(checkpoint.best_model_path).w.item()


@behaviour(
    "callbacks.early-stopping-restore-best",
    frameworks="lightning keras",
    precisions="float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="keras.early-stopping-keeps-the-epoch-after-the-best "
    "lightning.checkpoint-keeps-the-first",
)
def test_early_stopping_restore_best(mistake, fix, cell, expect, tmp_path):
    """The best epoch is the third and training stops after the eighth: w is -8.

    Keras's restore_best_weights=True puts back the weights of epoch 3, w = -3; its default is
    False. Lightning's EarlyStopping never restores: that is for the checkpoint beside it.
    """
    expect.exactly(observed=mistake(cell, tmp_path), expected=-8.0, what="w after EarlyStopping")
    expect.exactly(observed=fix(cell, tmp_path), expected=-3.0, what="w of the best epoch")


def without_stop_in_keras(cell, **options):
    return train_in_keras(countdown_in_keras(cell), BEST_THIRD, **options)


@behaviour(
    "callbacks.early-stopping-restore-without-stop",
    frameworks="keras",
    precisions="float32",
    modes="eager compiled",
    depth="standard",
    costly=COSTLY,
    catches="keras.early-stopping-restores-only-when-it-stops",
)
def test_early_stopping_restore_without_stop(without_stop, cell, expect):
    """restore_best_weights=True restores when the epochs run out, too: w = -3 after five."""
    last = without_stop(cell, patience=20)
    best = without_stop(cell, patience=20, restore_best_weights=True)
    expect.exactly(observed=last, expected=-5.0, what="w without restoring")
    expect.exactly(observed=best, expected=-3.0, what="w restored")


# ----------------------------------------------------------------------------------------------
# A quantity that nobody measured.


def unmeasured_in_keras(cell, expect):
    """A warning in every epoch, and no early stopping."""
    import keras
    import numpy as np

    zero = np.zeros((1, 1))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(model, optimizer="sgd", loss="mse")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(
            zero, zero, epochs=3, callbacks=[keras.callbacks.EarlyStopping()], verbose=0
        )
    told = any("val_loss" in str(w.message) and "not available" in str(w.message) for w in caught)
    return len(history.epoch), told


def unmeasured_in_lightning(cell, expect):
    """An error that ends the first epoch."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import EarlyStopping

    class Countdown(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            self.log("train_loss", self.w.sum())
            return self.w.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Countdown()
    trainer = lightning.Trainer(
        max_epochs=3, callbacks=[EarlyStopping("val_loss")], **cell.trainer_options
    )
    with expect.raises(RuntimeError, match="val_loss.*not available(.|\n)*train_loss"):
        trainer.fit(model, torch.utils.data.DataLoader([0]))
    return -model.w.item(), True


epochs_unmeasured_in_keras = 3
epochs_unmeasured_in_lightning = 1


@behaviour(
    "callbacks.early-stopping-missing-monitor",
    frameworks="lightning keras",
    precisions="float32",
    modes="eager",
    catches="keras.early-stopping-passes-over-a-missing-monitor "
    "lightning.early-stopping-is-never-strict",
)
def test_early_stopping_missing_monitor(unmeasured, epochs_unmeasured, cell, expect):
    """Without validation data there is no val_loss: Keras warns and trains on, Lightning raises.

    All three epochs run in Keras. Lightning ends after the first, and names what is available.
    """
    epochs, told = unmeasured(cell, expect)
    expect.exactly(observed=epochs, expected=epochs_unmeasured, what="epochs run")
    expect.exactly(observed=told, expected=True, what="whether the missing quantity was named")
