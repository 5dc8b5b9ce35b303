"""The Trainer's counters: when schedules step, when training ends, when validation runs.

Four batches an epoch, and one weight w whose loss is w itself: each step with learning rate r
subtracts r.

    scheduler                          steps once an epoch
    {"scheduler": ..., "interval":     steps once a batch
     "step"}
    max_steps=5                        ends after 5 changes of the weights, within an epoch or not
    check_val_every_n_epoch=2          validates after epochs 2, 4, ...
    val_check_interval=0.5             validates twice an epoch

Sources: class 123, topics 2, learning outcomes 1 and 3;
https://lightning.ai/docs/pytorch/stable/common/trainer.html,
https://lightning.ai/docs/pytorch/stable/common/lightning_module.html
"""

from fixtures.matrix import behaviour


def rates_in_lightning(cell, interval):
    """The learning rate of each step in two epochs of four batches, and w afterwards."""
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

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
            return [optimizer], [{"scheduler": scheduler, **interval}]

    model = Line()
    four_batches = torch.utils.data.DataLoader([0, 0, 0, 0])
    lightning.Trainer(max_epochs=2, **cell.trainer_options).fit(model, four_batches)
    return model.rates, model.w


@behaviour(
    "lightning.scheduler-interval",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.every-scheduler-steps-by-epoch",
)
def test_scheduler_interval(rates, cell, expect):
    """A schedule that halves the rate does so once an epoch, or with interval="step" once a batch.

    Two epochs of four batches: 1 four times and 1/2 four times, so w = -6; or 1, 1/2, ..., 1/128,
    so w = -(2 - 1/128).
    """
    by_epoch, w = rates(cell, {})
    expect.exactly(observed=by_epoch, expected=[1.0] * 4 + [0.5] * 4, what="rates, by epoch")
    expect.exactly(observed=w, expected=-6.0, what="w, by epoch")
    by_step, w = rates(cell, {"interval": "step"})
    expect.exactly(observed=by_step, expected=[0.5**i for i in range(8)], what="rates, by step")
    expect.exactly(observed=w, expected=-1.9921875, what="w, by step")


def counts_in_lightning(cell, **options):
    """(batches seen, global_step, w, the batches seen before each validation)."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.batches = 0
            self.validated = []

        def training_step(self, batch, batch_index):
            self.batches += 1
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.validated.append(self.batches)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Line()
    four_batches = torch.utils.data.DataLoader([0, 0, 0, 0])
    one_batch = torch.utils.data.DataLoader([0])
    trainer = lightning.Trainer(num_sanity_val_steps=0, **options, **cell.trainer_options)
    trainer.fit(model, four_batches, one_batch)
    return {
        "batches": model.batches,
        "global step": trainer.global_step,
        "w": model.w.item(),
        "validated after": model.validated,
    }


@behaviour(
    "lightning.max-steps",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.global-step-counts-batches",
)
def test_max_steps(counts, cell, expect):
    """max_steps=5 ends training after five steps of the optimizer, whatever max_epochs says.

    With accumulate_grad_batches=2 that is ten batches, each of half the gradient.
    """
    observed = counts(cell, max_epochs=100, max_steps=5, limit_val_batches=0)
    expected = {"batches": 5, "global step": 5, "w": -5.0, "validated after": []}
    expect.exactly(observed=observed, expected=expected, what="counts")
    observed = counts(
        cell, max_epochs=100, max_steps=5, accumulate_grad_batches=2, limit_val_batches=0
    )
    expected = {"batches": 10, "global step": 5, "w": -5.0, "validated after": []}
    expect.exactly(observed=observed, expected=expected, what="counts, two batches a step")


@behaviour(
    "lightning.validation-frequency",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.validates-from-the-first-epoch",
)
def test_validation_frequency(counts, cell, expect):
    """In four epochs of four batches: four validations; two every second epoch; eight at halves."""
    for what, expected, options in (
        ("by default", [4, 8, 12, 16], {}),
        ("check_val_every_n_epoch=2", [8, 16], {"check_val_every_n_epoch": 2}),
        ("val_check_interval=0.5", [2, 4, 6, 8, 10, 12, 14, 16], {"val_check_interval": 0.5}),
    ):
        observed = counts(cell, max_epochs=4, **options)
        expect.exactly(
            observed=observed["validated after"],
            expected=expected,
            what=f"batches before each validation, {what}",
        )
        expect.exactly(observed=observed["w"], expected=-16.0, what=f"w, {what}")


@behaviour(
    "lightning.validation-disabled",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.interval-matters-without-validation",
)
def test_validation_disabled(counts, cell, expect):
    """limit_val_batches=0 runs no validation, whatever the interval, even one beyond the epoch.

    https://github.com/Lightning-AI/pytorch-lightning/pull/21560
    """
    expected = {"batches": 8, "global step": 8, "w": -8.0, "validated after": []}
    for what, options in (
        ("by default", {}),
        ("every second batch", {"val_check_interval": 2}),
        ("every hundredth batch of four", {"val_check_interval": 100}),
    ):
        observed = counts(cell, max_epochs=2, limit_val_batches=0, **options)
        expect.exactly(observed=observed, expected=expected, what=f"counts, {what}")


def stopped_in_lightning(cell):
    """Batches seen when should_stop was set after the second of five epochs, and after more."""
    import lightning
    import torch

    class Line(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return self.w.sum()

        def on_train_epoch_end(self):
            if self.current_epoch == 1:
                self.trainer.should_stop = True

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model, four_batches = Line(), torch.utils.data.DataLoader([0, 0, 0, 0])
    trainer = lightning.Trainer(max_epochs=5, **cell.trainer_options)
    seen = []
    for _ in range(2):
        trainer.fit(model, four_batches)
        seen.append(-model.w.item())
    return seen


@behaviour(
    "lightning.fit-goes-on-after-a-stop",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.stop-outlives-fit",
)
def test_fit_goes_on_after_a_stop(stopped, cell, expect):
    """trainer.should_stop = True ends this fit; another fit goes on to max_epochs.

    Stopped after two of five epochs of four batches: 8 steps, and 20 after the second call.
    https://github.com/Lightning-AI/pytorch-lightning/pull/19177
    """
    expect.exactly(observed=stopped(cell), expected=[8.0, 20.0], what="steps after each fit")


# ----------------------------------------------------------------------------------------------
# In which order, and in which mode.


def hooks_in_lightning(cell):
    """(what ran, whether in training mode, whether gradients were on)."""
    import lightning
    import torch

    class Recorder(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.seen = []

        def note(self, what):
            self.seen.append((what, self.training, torch.is_grad_enabled()))

        def training_step(self, batch, batch_index):
            self.note("training_step")
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.note("validation_step")

        def on_train_epoch_start(self):
            self.note("on_train_epoch_start")

        def on_train_epoch_end(self):
            self.note("on_train_epoch_end")

        def configure_optimizers(self):
            self.seen.append("configure_optimizers")
            return torch.optim.SGD(self.parameters(), lr=1.0)

    model = Recorder()
    lightning.Trainer(max_epochs=2, num_sanity_val_steps=1, **cell.trainer_options).fit(
        model, torch.utils.data.DataLoader([0, 0]), torch.utils.data.DataLoader([0])
    )
    return model.seen


@behaviour(
    "lightning.hook-order",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.validation-leaves-eval-mode",
)
def test_hook_order(hooks, cell, expect):
    """The optimizer, a sanity check of validation, and then each epoch: training, validation, end.

    Training runs in train mode with gradients, validation in eval mode without, and after it the
    module is in train mode again.
    """
    epoch = [
        ("on_train_epoch_start", True, True),
        ("training_step", True, True),
        ("training_step", True, True),
        ("validation_step", False, False),
        ("on_train_epoch_end", True, True),
    ]
    expected = ["configure_optimizers", ("validation_step", False, False), *epoch, *epoch]
    expect.exactly(observed=hooks(cell), expected=expected, what="hooks")
