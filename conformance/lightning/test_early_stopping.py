"""Lightning's EarlyStopping: minimises unless told, waits for 3 checks, and does not accept NaN.

What both Keras and Lightning do is in conformance/callbacks/test_early_stopping.py. Here the score
after each epoch is read from a list, and w = -1, -2, -3, ... counts the epochs.

Sources: class 123, exercise 2 and learning outcome 3;
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.EarlyStopping.html
"""

from conformance.lightning.scored import epochs_run
from fixtures.matrix import behaviour

FALLS_THEN_STAYS = (3.0, 2.0, 1.0) + (1.0,) * 7
RISES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
NAN_AT_THIRD = (3.0, 2.0, float("nan"), 1.0, 1.0, 1.0)


def stopped_in_lightning(cell, scores, monitor="val_score", **options):
    """(epochs run, the callback's stopped_epoch)."""
    from lightning.pytorch.callbacks import EarlyStopping

    stopping = EarlyStopping(monitor, **options)
    return epochs_run(cell, scores, monitor, stopping), stopping.stopped_epoch


@behaviour(
    "lightning.early-stopping-patience",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.early-stopping-waits-one-check-more lightning.early-stopping-accepts-nan",
)
def test_early_stopping_patience(stopped, cell, expect):
    """Best at epoch 3: patience 5 stops after epoch 8, the default of 3 after epoch 6.

    `stopped_epoch` is counted from 0, and 0 where nothing stopped. A score that is not finite stops
    training at once, unless check_finite=False: then NaN is one more epoch without improvement.
    """
    for what, expected, scores, options in (
        ("patience 5", (8, 7), FALLS_THEN_STAYS, {"patience": 5}),
        ("default patience", (6, 5), FALLS_THEN_STAYS, {}),
        ("NaN", (3, 2), NAN_AT_THIRD, {}),
        ("NaN, not checked", (6, 0), NAN_AT_THIRD, {"check_finite": False}),
    ):
        expect.exactly(
            observed=stopped(cell, scores, **options),
            expected=expected,
            what=f"(epochs, stopped_epoch), {what}",
        )


@behaviour(
    "lightning.early-stopping-mode-default",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.monitor-mode-follows-the-name lightning.early-stopping-waits-one-check-more",
)
def test_early_stopping_mode_default(stopped, cell, expect):
    """The mode is "min" whatever the name: a rising accuracy stops after 1 + patience epochs.

    With mode="max" all eight epochs run.
    """
    for what, expected, options in (("untold", 3, {}), ("max", 8, {"mode": "max"})):
        epochs, _ = stopped(cell, RISES, monitor="val_accuracy", patience=2, **options)
        expect.exactly(observed=epochs, expected=expected, what=f"epochs, {what}")
