"""Lightning's checkpoints: how many files remain, of which epochs, and what is in them.

The score after each epoch is read from a list. The loss is the weight w, which is -1, -2, -3, ...
after epochs 1, 2, 3, ...: a file tells by its w which epoch wrote it.

    epoch   1  2  3  4  5  6
    score   5  1  4  2  3  6      the three lowest: epochs 2, 4, 5

Sources: class 123, exercise 2, learning outcome 3 and homework 2;
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.ModelCheckpoint.html,
https://lightning.ai/docs/pytorch/stable/common/checkpointing_basic.html
"""

from fixtures.matrix import behaviour

SCORES = (5.0, 1.0, 4.0, 2.0, 3.0, 6.0)


def kept_in_lightning(cell, folder, **options):
    """The epochs that have a file, and that of best_model_path, or None."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

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

    def epoch_of(file):
        return int(-Countdown.load_from_checkpoint(file).w.item())

    checkpoint = ModelCheckpoint(str(folder), **options)
    one_batch = torch.utils.data.DataLoader([0])
    trainer_options = {**cell.trainer_options, "enable_checkpointing": True}
    lightning.Trainer(
        max_epochs=len(SCORES), num_sanity_val_steps=0, callbacks=[checkpoint], **trainer_options
    ).fit(Countdown(), one_batch, one_batch)
    best = epoch_of(checkpoint.best_model_path) if checkpoint.best_model_path else None
    return {"kept": sorted(epoch_of(file) for file in folder.glob("*.ckpt")), "best": best}


@behaviour(
    "lightning.checkpoint-save-top-k",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.checkpoint-keeps-the-first lightning.best-path-is-the-latest",
)
def test_checkpoint_save_top_k(kept, cell, expect, tmp_path):
    """save_top_k=3 keeps the files of the three best epochs, and best_model_path is the best.

    The default keeps one: the best of what is monitored, or without a monitor the last. -1 keeps
    all, 0 none.
    """
    monitor = {"monitor": "val_score"}
    for what, epochs, best, options in (
        ("three lowest", [2, 4, 5], 2, {**monitor, "save_top_k": 3}),
        ("two highest", [1, 6], 6, {**monitor, "save_top_k": 2, "mode": "max"}),
        ("default", [2], 2, monitor),
        ("all", [1, 2, 3, 4, 5, 6], 2, {**monitor, "save_top_k": -1}),
        ("none", [], None, {**monitor, "save_top_k": 0}),
        ("without a monitor", [6], 6, {}),
    ):
        expect.exactly(
            observed=kept(cell, tmp_path / what, **options),
            expected={"kept": epochs, "best": best},
            what=f"epochs ({what})",
        )


# ----------------------------------------------------------------------------------------------
# The arguments of the constructor.


def mistake_in_lightning(cell, folder, expect):
    """Nobody saved the width, so nobody knows how to build the module again."""
    import lightning
    import torch

    class Forgetful(lightning.LightningModule):
        def __init__(self, width):
            super().__init__()
            self.layer = torch.nn.Linear(width, 1)

    trainer = lightning.Trainer(**cell.trainer_options)
    trainer.strategy.connect(Forgetful(3))
    trainer.save_checkpoint(folder / "forgetful.ckpt", weights_only=True)
    with expect.raises(TypeError, match="missing 1 required positional argument: 'width'"):
        Forgetful.load_from_checkpoint(folder / "forgetful.ckpt")


def fix_in_lightning(cell, folder):
    """(the weights saved, those loaded, the arguments of the constructor, as is and as loaded)."""
    import lightning
    import torch

    class Mindful(lightning.LightningModule):
        def __init__(self, width, rate=0.5):
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(width, 1)

    model = Mindful(3, rate=0.25)
    trainer = lightning.Trainer(**cell.trainer_options)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(folder / "mindful.ckpt", weights_only=True)
    loaded = Mindful.load_from_checkpoint(folder / "mindful.ckpt")
    other = Mindful.load_from_checkpoint(folder / "mindful.ckpt", rate=0.125)
    return (
        model.layer.weight,
        loaded.layer.weight,
        [dict(module.hparams) for module in (loaded, other)],
    )


@behaviour(
    "lightning.checkpoint-restore",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.saved-arguments-win",
)
def test_checkpoint_restore(mistake, fix, cell, expect, tmp_path):
    """load_from_checkpoint builds the module from the arguments that save_hyperparameters() saved.

    The weights are the saved ones, bit for bit; an argument given on loading wins over the saved
    one. Without save_hyperparameters() a required argument is missing.
    """
    mistake(cell, tmp_path, expect)
    saved, loaded, hyperparameters = fix(cell, tmp_path)
    expect.exactly(observed=loaded, expected=cell.to_numpy(saved), what="weights")
    expect.exactly(
        observed=hyperparameters,
        expected=[{"width": 3, "rate": 0.25}, {"width": 3, "rate": 0.125}],
        what="hyperparameters",
    )
