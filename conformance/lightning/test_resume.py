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
