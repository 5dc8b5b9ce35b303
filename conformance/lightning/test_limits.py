"""How much of the data a Trainer uses: a number of batches, or a share of them.

A limit is a number of batches where it is an int, and a share of the loader where it is a float. So
1 is a single batch, and 1.0 is all of them. A share is rounded down.

    of 8 batches     3    1    1.0    0.5    0.3
    run              3    1    8      4      2

Sources: class 123, definitions 2 and topics 2;
https://lightning.ai/docs/pytorch/stable/common/trainer.html#limit-train-batches,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#overfit-batches,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#val-check-interval
"""

from fixtures.matrix import behaviour


def noting_module():
    """Notes the number in each batch, by the loop that it came in."""
    import lightning
    import torch

    class Noting(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.seen = {"train": [], "validate": [], "test": [], "predict": []}
            self.validated_after = []

        def training_step(self, batch, batch_index):
            self.seen["train"].append(int(batch))
            return self.w.sum()

        def on_validation_start(self):
            self.validated_after.append(len(self.seen["train"]))

        def validation_step(self, batch, batch_index):
            self.seen["validate"].append(int(batch))

        def test_step(self, batch, batch_index):
            self.seen["test"].append(int(batch))

        def predict_step(self, batch, batch_index):
            self.seen["predict"].append(int(batch))
            return batch

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    return Noting()


def loader(batches, **options):
    import torch

    return torch.utils.data.DataLoader(range(batches), **options)


# ----------------------------------------------------------------------------------------------
# Limits of each loop.


def run_in_lightning(cell, limit):
    """The batches that each loop ran, of eight."""
    import lightning

    model = noting_module()
    loops = ("train", "val", "test", "predict")
    limits = {f"limit_{loop}_batches": limit for loop in loops}
    trainer = lightning.Trainer(
        max_epochs=1, num_sanity_val_steps=0, **limits, **cell.trainer_options
    )
    trainer.fit(model, loader(8), loader(8))
    trainer.test(model, loader(8), verbose=False)
    trainer.predict(model, loader(8))
    return model.seen


@behaviour(
    "lightning.limit-batches",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.one-batch-is-the-whole-loader lightning.share-of-batches-is-rounded-up",
)
def test_limit_batches(run, cell, expect):
    """limit_train_batches and its like for validation, test and predict run the first batches."""
    for limit, batches in ((3, 3), (1, 1), (1.0, 8), (0.5, 4), (0.3, 2)):
        for loop, seen in run(cell, limit).items():
            expect.exactly(
                observed=seen, expected=list(range(batches)), what=f"batches of {loop}, {limit}"
            )


# ----------------------------------------------------------------------------------------------
# The same few batches in every epoch.


def overfitted_in_lightning(cell, overfit_batches):
    import lightning

    model = noting_module()
    lightning.Trainer(max_epochs=3, overfit_batches=overfit_batches, **cell.trainer_options).fit(
        model, loader(8, shuffle=True)
    )
    return model.seen["train"]


@behaviour(
    "lightning.overfit-batches",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.overfitting-shuffles",
)
def test_overfit_batches(overfitted, cell, expect):
    """overfit_batches=2, or 0.25 of eight, trains on the first two batches in every epoch.

    Though the loader shuffles: a loss that cannot be brought to 0 on two batches shows an error in
    the model, which two others in the next epoch would hide.
    """
    for overfit_batches in (2, 0.25):
        expect.exactly(
            observed=overfitted(cell, overfit_batches),
            expected=[0, 1, 0, 1, 0, 1],
            what=f"batches, {overfit_batches}",
        )


# ----------------------------------------------------------------------------------------------
# Validation by batches.


def validated_in_lightning(cell, **options):
    """The number of training batches before each validation, in three epochs of four."""
    import lightning

    model = noting_module()
    lightning.Trainer(max_epochs=3, num_sanity_val_steps=0, **options, **cell.trainer_options).fit(
        model, loader(4), loader(1)
    )
    return model.validated_after


@behaviour(
    "lightning.validation-interval",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.interval-begins-anew-with-the-epoch",
)
def test_validation_interval(validated, cell, expect):
    """val_check_interval=3 validates after the third batch of each epoch of four: 3, 7, 11.

    With check_val_every_n_epoch=None the batches are counted through the epochs: 3, 6, 9, 12, and
    an interval of 6 may be longer than an epoch: 6, 12.
    """
    for what, expected, options in (
        ("3 of an epoch", [3, 7, 11], {"val_check_interval": 3}),
        (
            "3 of all",
            [3, 6, 9, 12],
            {"val_check_interval": 3, "check_val_every_n_epoch": None},
        ),
        ("6 of all", [6, 12], {"val_check_interval": 6, "check_val_every_n_epoch": None}),
    ):
        expect.exactly(
            observed=validated(cell, **options), expected=expected, what=f"validated after, {what}"
        )
