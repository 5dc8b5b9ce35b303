"""When training stops early, and which epoch was the best."""


def train_with_patience(scores, patience, min_delta=0.0, mode="min", baseline=None, start=0):
    """(epochs run, best epoch), both counted from 1, for the score after each epoch.

    scores: one finite number per epoch of the whole training. An epoch improves when its score is
    better than the best so far by more than `min_delta` (>= 0): lower for mode "min", higher for
    "max". The first epoch looked at always improves. Training ends with the first epoch that does
    not improve and makes at least `patience` in a row, so a patience of 0 stops where 1 does.

    `baseline`: until an epoch is better than it by more than `min_delta`, an epoch that improves
    does not restart the count. `start`: so many epochs pass before the scores are looked at.
    Raises ValueError for an empty list, an unknown mode, or a negative patience or min_delta.
    Sources: Prechelt (1998), Early stopping - but when?;
    https://keras.io/api/callbacks/early_stopping/;
    https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.EarlyStopping.html
    """
    if not scores or mode not in ("min", "max") or patience < 0 or min_delta < 0:
        raise ValueError(
            f"{len(scores)} scores, mode {mode!r}, patience {patience}, min_delta {min_delta}; "
            "expected one or more, 'min' or 'max', 0 or more, 0 or more"
        )
    sign = 1 if mode == "max" else -1

    def improves(score, on):
        return on is None or sign * (score - on) > min_delta

    best, best_epoch, without_improvement = None, 0, 0
    for epoch, score in enumerate(scores, start=1):
        if epoch <= start:
            continue
        without_improvement += 1
        if improves(score, best):
            best, best_epoch = score, epoch
            if improves(score, baseline):
                without_improvement = 0
        elif without_improvement >= patience:
            return epoch, best_epoch
    return len(scores), best_epoch
