"""What a Lightning Trainer does that is told nothing.

Sources: class 123, topics 2 and learning outcome 2;
https://lightning.ai/docs/pytorch/stable/common/trainer.html#trainer-class-api
"""

from fixtures.matrix import behaviour

# The other options of the cell say where the suite runs and that nothing is printed or written.
LEFT_TO_THE_TRAINER = ("precision",)


def settings_in_lightning(cell):
    """Attributes of the Trainer, and max_epochs where training begins."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def on_train_start(self):
            self.epochs = self.trainer.max_epochs
            self.trainer.should_stop = True

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    told = {k: v for k, v in cell.trainer_options.items() if k not in LEFT_TO_THE_TRAINER}
    model, trainer = Line(), lightning.Trainer(**told)
    trainer.fit(model, torch.utils.data.DataLoader([0]))
    return {
        "max_epochs": model.epochs,
        "max_steps": trainer.max_steps,
        "precision": trainer.precision,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "log_every_n_steps": trainer.log_every_n_steps,
        "check_val_every_n_epoch": trainer.check_val_every_n_epoch,
        "num_sanity_val_steps": trainer.num_sanity_val_steps,
        "limits": [
            trainer.limit_train_batches,
            trainer.limit_val_batches,
            trainer.limit_test_batches,
            trainer.limit_predict_batches,
        ],
        "overfit_batches": trainer.overfit_batches,
    }


@behaviour(
    "defaults.trainer",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.trainer-trains-one-epoch",
)
def test_trainer(settings, cell, expect):
    """1000 epochs in float32, a step with every batch, no clipping, all batches, validation once.

    The logger gets every 50th step, and two batches of validation check the code beforehand.
    """
    expected = {
        "max_epochs": 1000,
        "max_steps": -1,
        "precision": "32-true",
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "log_every_n_steps": 50,
        "check_val_every_n_epoch": 1,
        "num_sanity_val_steps": 2,
        "limits": [1.0, 1.0, 1.0, 1.0],
        "overfit_batches": 0.0,
    }
    for name, value in settings(cell).items():
        expect.exactly(observed=value, expected=expected[name], what=name)
