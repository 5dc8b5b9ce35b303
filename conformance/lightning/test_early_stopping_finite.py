"""Lightning's EarlyStopping and scores that are no number: NaN and both infinities.

A loss that overflows does not come back, so the default check_finite=True "stops training when the
monitor becomes NaN or infinite", at once and whatever the patience. NaN alone does not show it:
-inf is the best of all scores to a callback that minimises, +inf to one that maximises, and with it
patience would begin anew.

The score after each epoch is read from a list, and w = -1, -2, -3, ... counts the epochs:

    epoch            1     2     3         4     5     6
    score            2     2   value       2     2     2
    check_finite              stops here
    not checked                                         patience 10: goes on

Sources: class 123, exercise 2;
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.EarlyStopping.html
"""

from conformance.lightning.scored import epochs_run
from fixtures.matrix import behaviour

NOT_FINITE = (float("nan"), float("inf"), float("-inf"))


def stopped_in_lightning(cell, value, **options):
    """(epochs run, the callback's stopped_epoch, its best score)."""
    from lightning.pytorch.callbacks import EarlyStopping

    stopping = EarlyStopping("score", patience=10, **options)
    epochs = epochs_run(cell, (2.0, 2.0, value, 2.0, 2.0, 2.0), "score", stopping)
    return epochs, stopping.stopped_epoch, float(stopping.best_score)


@behaviour(
    "lightning.early-stopping-check-finite",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.early-stopping-accepts-infinity lightning.early-stopping-accepts-nan",
)
def test_early_stopping_check_finite(stopped, cell, expect):
    """NaN, inf or -inf after epoch 3 ends training there, minimising and maximising.

    The value does not become the best score: that stays 2.
    """
    for mode in ("min", "max"):
        for value in NOT_FINITE:
            expect.exactly(
                observed=stopped(cell, value, mode=mode),
                expected=(3, 2, 2.0),
                what=f"(epochs, stopped_epoch, best score), {value} in mode {mode}",
            )


@behaviour(
    "lightning.early-stopping-finite-unchecked",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.early-stopping-always-checks-finite",
)
def test_early_stopping_finite_unchecked(stopped, cell, expect):
    """check_finite=False compares whatever comes: all six epochs run.

    The mistake that it invites: -inf is then the best score of all, and nothing improves on it.
    """
    for mode, value, best in (
        ("min", float("nan"), 2.0),
        ("max", float("nan"), 2.0),
        ("min", float("inf"), 2.0),
        ("max", float("-inf"), 2.0),
        ("min", float("-inf"), float("-inf")),
        ("max", float("inf"), float("inf")),
    ):
        expect.exactly(
            observed=stopped(cell, value, mode=mode, check_finite=False),
            expected=(6, 0, best),
            what=f"(epochs, stopped_epoch, best score), {value} in mode {mode}",
        )
