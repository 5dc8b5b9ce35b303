"""fit(ckpt_path=...): training goes on at the step after the checkpoint, and the file stays.

The loss is the weight w, and the rate halves with every step, so that w tells how many steps were
taken and at which rates:

    step   1    2     3      4
    rate   1   1/2   1/4    1/8
    w     -1  -3/2  -7/4  -15/8

Sources: class 123, exercise 2 and homework 2;
https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html,
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelCheckpoint.html,
https://github.com/Lightning-AI/pytorch-lightning/pull/20379,
https://github.com/Lightning-AI/pytorch-lightning/pull/18750
"""

from fixtures.matrix import behaviour


def halving_module():
    """Every step of the optimizer halves the rate; the numbers of its batches are kept."""
    import lightning
    import torch

    class Halving(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.batches = []

        def training_step(self, batch, batch_index):
            self.batches.append(batch_index)
            return self.w.sum()

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    return Halving()


def fit_in_lightning(cell, folder, epochs, ckpt_path=None, **options):
    """(batches seen, global_step, w) of a model trained on four batches, its checkpoints kept."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    model = halving_module()
    trainer = lightning.Trainer(
        max_epochs=epochs,
        callbacks=[ModelCheckpoint(str(folder), **options)],
        **{**cell.trainer_options, "enable_checkpointing": True},
    )
    trainer.fit(model, torch.utils.data.DataLoader([0, 0, 0, 0]), ckpt_path=ckpt_path)
    return {"batches": model.batches, "global step": trainer.global_step, "w": model.w.item()}


@behaviour(
    "lightning.resume-mid-epoch",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.resuming-repeats-a-batch",
)
def test_resume_mid_epoch(fit, cell, expect, tmp_path):
    """A checkpoint of the second of four batches: resuming runs the third and the fourth.

    Then w, the number of steps and the rates are those of an epoch without interruption.
    """
    expect.exactly(
        observed=fit(cell, tmp_path, 1, every_n_train_steps=2, save_top_k=-1, filename="{step}"),
        expected={"batches": [0, 1, 2, 3], "global step": 4, "w": -15 / 8},
        what="an epoch without interruption",
    )
    expect.exactly(
        observed=fit(cell, tmp_path / "more", 1, ckpt_path=str(tmp_path / "step=2.ckpt")),
        expected={"batches": [2, 3], "global step": 4, "w": -15 / 8},
        what="resumed after two steps",
    )


@behaviour(
    "lightning.resume-keeps-the-checkpoint",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.resumed-checkpoint-is-deleted",
)
def test_resume_keeps_the_checkpoint(fit, cell, expect, tmp_path):
    """save_top_k=1 replaces what it has written, but never the file that training resumed from.

    Neither in the folder that it writes to, nor in another.
    """
    first, other = tmp_path / "first", tmp_path / "other"
    fit(cell, first, 1, filename="one")
    for what, folder in (("another folder", other), ("the same folder", first)):
        fit(cell, folder, 2, ckpt_path=str(first / "one.ckpt"), filename="two")
        expect.exactly(
            observed=[(first / "one.ckpt").exists(), (folder / "two.ckpt").exists()],
            expected=[True, True],
            what=f"(resumed from, newly written) exist, {what}",
        )


# ----------------------------------------------------------------------------------------------
# What the callbacks remember. The loss is the weight, so w = -1, -2, -3, ... counts the epochs.

SCORES = (1.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0)


def scored_in_lightning(cell, callback, max_epochs, folder=None, ckpt_path=None):
    """Epochs run when training ended; the checkpoint of the last is `folder`/all.ckpt."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import Checkpoint

    class Scored(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("val_score", SCORES[self.current_epoch])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model, one_batch = Scored(), torch.utils.data.DataLoader([0])
    trainer = lightning.Trainer(
        max_epochs=max_epochs,
        num_sanity_val_steps=0,
        callbacks=[callback],
        **{**cell.trainer_options, "enable_checkpointing": isinstance(callback, Checkpoint)},
    )
    trainer.fit(model, one_batch, one_batch, ckpt_path=ckpt_path)
    if folder:
        trainer.save_checkpoint(folder / "all.ckpt")
    return int(-model.w.item())


def patience_in_lightning(cell, folder):
    """Epochs at the end of training without interruption, and of training resumed after three."""
    from lightning.pytorch.callbacks import EarlyStopping

    def stopping():
        return EarlyStopping("val_score", patience=3)

    straight = scored_in_lightning(cell, stopping(), len(SCORES))
    scored_in_lightning(cell, stopping(), 3, folder)
    resumed = scored_in_lightning(cell, stopping(), len(SCORES), ckpt_path=str(folder / "all.ckpt"))
    return straight, resumed


@behaviour(
    "lightning.resume-keeps-the-patience",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.resumed-early-stopping-waits-anew "
    "lightning.resumed-early-stopping-forgets-the-best",
)
def test_resume_keeps_the_patience(patience, cell, expect, tmp_path):
    """EarlyStopping's count of epochs in vain and its best score are in the checkpoint.

        epoch    1  2  3  |  4  5  6  7
        score    1  3  3  |  2  2  2  2        best at epoch 1: in vain since then

    With patience 3 training ends after epoch 4, whether or not it was interrupted after epoch 3.
    Who began to count anew would end after epoch 6; who forgot the best score, after epoch 7.
    """
    expect.exactly(
        observed=patience(cell, tmp_path), expected=(4, 4), what="epochs (straight, resumed)"
    )


def best_in_lightning(cell, folder):
    """(best score known, the epoch in the best file, all epochs that have one) after resuming."""
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    def epoch_in(file):
        return torch.load(file, weights_only=False)["epoch"] + 1

    def keeping():
        return ModelCheckpoint(str(folder / "kept"), monitor="val_score", filename="{epoch}")

    scored_in_lightning(cell, keeping(), 3, folder)
    checkpoint = keeping()
    scored_in_lightning(cell, checkpoint, 5, ckpt_path=str(folder / "all.ckpt"))
    kept = sorted(epoch_in(file) for file in (folder / "kept").glob("*.ckpt"))
    return checkpoint.best_model_score.item(), epoch_in(checkpoint.best_model_path), kept


@behaviour(
    "lightning.resume-keeps-the-best",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.resumed-checkpoint-forgets-the-best",
)
def test_resume_keeps_the_best(best, cell, expect, tmp_path):
    """ModelCheckpoint knows after resuming what was best before: worse epochs replace nothing.

    Scores 1, 3, 3 and, resumed, 2, 2: the best is the 1 of the first epoch, and its file the only
    one.
    """
    score, epoch, kept = best(cell, tmp_path)
    expect.exactly(observed=score, expected=1.0, what="best score")
    expect.exactly(observed=epoch, expected=1, what="epoch in the best file")
    expect.exactly(observed=kept, expected=[1], what="epochs that have a file")
