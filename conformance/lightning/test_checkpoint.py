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


def trained_in_lightning(cell, epochs, checkpoint):
    """Returns a function that tells the epoch in a file."""
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
        max_epochs=epochs, num_sanity_val_steps=0, callbacks=[checkpoint], **options
    ).fit(Countdown(), one_batch, one_batch)
    return lambda file: int(-Countdown.load_from_checkpoint(file).w.item())


def kept_in_lightning(cell, folder, **options):
    """The epochs that have a file, and that of best_model_path, or None."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    checkpoint = ModelCheckpoint(str(folder), **options)
    epoch_of = trained_in_lightning(cell, len(SCORES), checkpoint)
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


# ----------------------------------------------------------------------------------------------
# When a file is written, and what it is called.


def files_in_lightning(cell, folder, **options):
    """{name of a file: epoch in it} after five epochs."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    epoch_of = trained_in_lightning(cell, 5, ModelCheckpoint(str(folder), **options))
    return {file.name: epoch_of(file) for file in sorted(folder.iterdir())}


@behaviour(
    "lightning.checkpoint-interval",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.checkpoint-interval-begins-with-the-first "
    "lightning.checkpoint-names-count-from-one",
)
def test_checkpoint_interval(files, cell, expect, tmp_path):
    """every_n_epochs=2 saves after epochs 2 and 4; the names of the files count from 0.

    `filename` may hold what was logged: by default with its name before it. The scores of the first
    two epochs are 5 and 1.
    """
    for what, expected, options in (
        (
            "every second",
            {"epoch=1-step=2.ckpt": 2, "epoch=3-step=4.ckpt": 4},
            {"every_n_epochs": 2, "save_top_k": -1},
        ),
        (
            "the best",
            {"best-epoch=1-val_score=1.0.ckpt": 2},
            {"monitor": "val_score", "filename": "best-{epoch}-{val_score:.1f}"},
        ),
        (
            "the best, names left out",
            {"best-01-1.0.ckpt": 2},
            {
                "monitor": "val_score",
                "filename": "best-{epoch:02d}-{val_score:.1f}",
                "auto_insert_metric_name": False,
            },
        ),
    ):
        expect.exactly(
            observed=sorted(files(cell, tmp_path / what, **options).items()),
            expected=sorted(expected.items()),
            what=f"(file, epoch in it), {what}",
        )


@behaviour(
    "lightning.checkpoint-save-last",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.last-checkpoint-is-the-first",
)
def test_checkpoint_save_last(files, cell, expect, tmp_path):
    """save_last=True writes a copy, last.ckpt, whenever a file is saved: it is the latest of them.

    Five epochs, all saved: five files and last.ckpt, which is of the fifth.
    """
    kept = files(cell, tmp_path, save_last=True, save_top_k=-1)
    expect.exactly(observed=len(kept), expected=6, what="number of files")
    expect.exactly(observed=kept["last.ckpt"], expected=5, what="epoch in last.ckpt")


@behaviour(
    "lightning.checkpoint-save-last-in-every-epoch",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.last-checkpoint-is-the-first",
)
def test_checkpoint_save_last_in_every_epoch(files, cell, expect, tmp_path):
    """every_n_epochs does not impact what save_last=True saves: the fifth epoch, though 2 and 4.

    So whoever resumes from last.ckpt loses no epoch.
    https://github.com/Lightning-AI/pytorch-lightning/pull/12418
    """
    kept = files(cell, tmp_path, save_last=True, save_top_k=-1, every_n_epochs=2)
    expect.exactly(observed=len(kept), expected=3, what="number of files")
    expect.exactly(
        observed=kept["last.ckpt"], expected=5, what="epoch in last.ckpt, every second saved"
    )
