"""Callbacks that change the learning rate, and who wins when two of them do.

The model is one weight w that starts at 0, and the loss is w itself: with one batch an epoch every
epoch subtracts the learning rate it ran with, so w is minus the sum of the rates.

ReduceLROnPlateau multiplies the rate by `factor` when a score stops improving, down to `min_lr`.
With patience 3, for a score that never changes, the rates of the epochs are

    epoch         1   2   3   4     5   6   7     8    9    10    11    12    13    14
    Keras         1   1   1   1    1/2 1/2 1/2   1/4  1/4  1/4   3/16  3/16  3/16  3/16
    torch         1   1   1   1     1  1/2 1/2   1/2  1/2  1/4   1/4   1/4   1/4   3/16

Keras reduces after the third epoch in a row without improvement, torch (and so Lightning) only
after the fourth: its patience is the number of epochs it ignores.

Sources: class 104, definitions, exercise 3 and common mistake 5; class 115, exercises 4 and 5 and
common mistakes 2 and 3; https://keras.io/api/callbacks/reduce_lr_on_plateau/,
https://keras.io/api/callbacks/learning_rate_scheduler/,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html
"""

from fixtures.matrix import behaviour

STAYS = (4.0,) * 14
FALLS_ONCE = (4.0, 4.0, 3.0) + (3.0,) * 11

# torch.compile takes tens of seconds over Keras's train step, and a callback is not part of it.
COSTLY = "keras_torch-*-compiled"


def fit_in_keras(cell, epochs, callbacks, learning_rate=1.0, scores=STAYS):
    """(the rate in each epoch, the bias afterwards).

    A Dense layer that is fed with zeros returns its bias. A callback before the others writes the
    score of the epoch into the logs that all of them share.
    """
    import keras
    import numpy as np

    class Rates(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates = []

        def on_epoch_end(self, epoch, logs=None):
            rate = self.model.optimizer.learning_rate
            self.rates.append(float(keras.ops.convert_to_numpy(rate)))

    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_score"] = scores[epoch]

    rates = Rates()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate),
        loss=lambda target, bias: keras.ops.mean(bias),
    )
    zero = np.zeros((1, 1))
    model.fit(zero, zero, epochs=epochs, callbacks=[rates, Scores(), *callbacks], verbose=0)
    return rates.rates, float(keras.ops.convert_to_numpy(model.layers[-1].bias)[0])


# ----------------------------------------------------------------------------------------------
# ReduceLROnPlateau.


def rates_in_keras(cell, scores, cooldown=0):
    import keras

    plateau = keras.callbacks.ReduceLROnPlateau(
        "val_score", factor=0.5, patience=3, min_lr=0.1875, mode="min", cooldown=cooldown
    )
    return fit_in_keras(cell, len(scores), [plateau], scores=scores)


def rates_in_torch(cell, scores, cooldown=0):
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=3, min_lr=0.1875, cooldown=cooldown
    )
    rates = []
    for score in scores:
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(score)
    return rates, w.item()


def rates_in_lightning(cell, scores, cooldown=0):
    """The Trainer hands the monitored score to the scheduler, once an epoch."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.rates = []

        def training_step(self, batch, batch_index):
            self.rates.append(self.optimizers().param_groups[0]["lr"])
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("val_score", scores[self.current_epoch])

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, factor=0.5, patience=3, min_lr=0.1875, cooldown=cooldown
            )
            return [optimizer], [{"scheduler": scheduler, "monitor": "val_score"}]

    model = Line()
    one_batch = torch.utils.data.DataLoader([0])
    lightning.Trainer(max_epochs=len(scores), num_sanity_val_steps=0, **cell.trainer_options).fit(
        model, one_batch, one_batch
    )
    return model.rates, model.w.item()


KERAS = (
    [1.0] * 4 + [0.5] * 3 + [0.25] * 3 + [0.1875] * 4,
    [1.0] * 6 + [0.5] * 3 + [0.25] * 3 + [0.1875] * 2,
)
TORCH = (
    [1.0] * 5 + [0.5] * 4 + [0.25] * 4 + [0.1875],
    [1.0] * 7 + [0.5] * 4 + [0.25] * 3,
)
expected_rates_in_keras = KERAS
expected_rates_in_torch = TORCH
expected_rates_in_lightning = TORCH


@behaviour(
    "callbacks.reduce-lr-on-plateau",
    frameworks="torch lightning keras",
    precisions="float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="keras.plateau-waits-as-long-as-torch keras.compiled-step-keeps-the-first-rate "
    "torch.plateau-waits-as-long-as-keras",
)
def test_reduce_lr_on_plateau(rates, expected_rates, cell, expect):
    """With patience 3 Keras halves the rate after 3 epochs without improvement, torch after 4.

    Never below min_lr = 3/16. A score that improves once, at epoch 3, delays all of it by two
    epochs.
    """
    for scores, expected in zip((STAYS, FALLS_ONCE), expected_rates, strict=True):
        observed, w = rates(cell, scores)
        expect.exactly(observed=observed, expected=expected, what="rates")
        expect.exactly(observed=w, expected=-sum(expected), what="w")


# ----------------------------------------------------------------------------------------------
# A cooldown: some epochs after each reduction in which nobody counts. With a cooldown of 2 and a
# score that never changes,
#
#     epoch    1   2   3   4    5   6   7   8     9   10  11   12     13   14
#     Keras    1   1   1   1   1/2 1/2 1/2 1/2   1/4  1/4 1/4  1/4   3/16 3/16
#     torch    1   1   1   1    1  1/2 1/2 1/2   1/2  1/2 1/2  1/4    1/4  1/4
#
# a reduced rate lasts two epochs longer than without in torch, and one epoch longer in Keras: there
# the last epoch of the cooldown counts again, and a cooldown of 1 changes nothing. A score that
# improves meanwhile is the best one all the same: 3 in epoch 6 is, and 3 1/2 is no improvement.

FALLS_IN_COOLDOWN = (4.0,) * 5 + (3.0,) + (3.5,) * 8

KERAS_COOLS = (
    [1.0] * 4 + [0.5] * 4 + [0.25] * 4 + [0.1875] * 2,
    [1.0] * 4 + [0.5] * 5 + [0.25] * 4 + [0.1875],
)
TORCH_COOLS = ([1.0] * 5 + [0.5] * 6 + [0.25] * 3,) * 2
cooled_rates_in_keras = KERAS_COOLS
cooled_rates_in_torch = TORCH_COOLS
cooled_rates_in_lightning = TORCH_COOLS


@behaviour(
    "callbacks.plateau-cooldown",
    frameworks="torch lightning keras",
    precisions="float32",
    modes="eager",
    catches="keras.plateau-without-cooldown torch.plateau-counts-in-its-cooldown",
)
def test_plateau_cooldown(rates, cooled_rates, cell, expect):
    """With patience 3 and cooldown 2 torch halves the rate every 6 epochs, Keras every 4.

    Without a cooldown every 4 and every 3. What improves in a cooldown improves the best score, and
    in Keras, when its last epoch does, delays the next reduction by one epoch.
    """
    for scores, expected in zip((STAYS, FALLS_IN_COOLDOWN), cooled_rates, strict=True):
        observed, w = rates(cell, scores, cooldown=2)
        expect.exactly(observed=observed, expected=expected, what="rates")
        expect.exactly(observed=w, expected=-sum(expected), what="w")


# ----------------------------------------------------------------------------------------------
# LearningRateScheduler.


def scheduled_in_keras(cell):
    """(the arguments of the schedule, the rates, the bias)."""
    import keras

    asked = []

    def schedule(epoch, rate):
        asked.append([float(epoch), float(rate)])
        return 0.125 * (epoch + 1)

    rates, bias = fit_in_keras(cell, 4, [keras.callbacks.LearningRateScheduler(schedule)])
    return asked, rates, bias


@behaviour(
    "callbacks.learning-rate-scheduler",
    frameworks="keras",
    precisions="float32",
    modes="eager compiled",
    costly=COSTLY,
    catches="keras.scheduler-acts-after-the-epoch keras.compiled-step-keeps-the-first-rate",
)
def test_learning_rate_scheduler(scheduled, cell, expect):
    """LearningRateScheduler(f) sets the rate f(epoch, rate) before each epoch, counted from 0.

    1/8, 2/8, 3/8, 4/8 in four epochs: w = -10/8.
    """
    asked, rates, bias = scheduled(cell)
    expect.exactly(
        observed=asked,
        expected=[[0.0, 1.0], [1.0, 0.125], [2.0, 0.25], [3.0, 0.375]],
        what="(epoch, rate) given to the schedule",
    )
    expect.exactly(observed=rates, expected=[0.125, 0.25, 0.375, 0.5], what="rates")
    expect.exactly(observed=bias, expected=-1.25, what="w")


# ----------------------------------------------------------------------------------------------
# The common mistakes: two callbacks that set the rate, and an optimizer that has none to set.


def mistake_in_keras(cell):
    """The scheduler sets 1 before every epoch, and so undoes each reduction."""
    import keras

    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1.0)
    plateau = keras.callbacks.ReduceLROnPlateau("val_score", factor=0.5, patience=1, mode="min")
    return fit_in_keras(cell, 5, [scheduler, plateau])[1]


def fix_in_keras(cell):
    """The scheduler takes the current rate for granted where it has nothing to say."""
    import keras

    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate)
    plateau = keras.callbacks.ReduceLROnPlateau("val_score", factor=0.5, patience=1, mode="min")
    return fit_in_keras(cell, 5, [scheduler, plateau])[1]


@behaviour(
    "callbacks.plateau-and-scheduler-conflict",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.scheduler-acts-after-the-epoch",
)
def test_plateau_and_scheduler_conflict(mistake, fix, cell, expect):
    """A schedule that ignores the current rate undoes every reduction: five epochs take w to -5.

    One that returns the rate it is given leaves them: 1, 1, 1/2, 1/4, 1/8 sum to 2.875.
    """
    expect.exactly(observed=mistake(cell), expected=-5.0, what="w, reductions undone")
    expect.exactly(observed=fix(cell), expected=-2.875, what="w, reductions kept")


def conflict_in_keras(cell, callbacks):
    import keras

    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    return fit_in_keras(cell, 3, callbacks, learning_rate=schedule)


@behaviour(
    "callbacks.schedule-conflicts-with-plateau",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.schedule-lets-a-rate-be-set",
)
def test_schedule_conflicts_with_plateau(conflict, cell, expect):
    """An optimizer that was given a schedule has no rate to set: both callbacks raise TypeError.

    LearningRateScheduler before the first epoch, ReduceLROnPlateau when it wants to reduce.
    """
    import keras

    expect.exactly(observed=conflict(cell, [])[1], expected=-1.75, what="w, the schedule alone")
    with expect.raises(TypeError, match="LearningRateSchedule"):
        conflict(cell, [keras.callbacks.LearningRateScheduler(lambda epoch, rate: 1.0)])
    with expect.raises(TypeError, match="LearningRateSchedule"):
        conflict(cell, [keras.callbacks.ReduceLROnPlateau("val_score", patience=1, mode="min")])
