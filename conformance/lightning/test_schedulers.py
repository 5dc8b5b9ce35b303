"""When the Trainer steps a schedule, and what it hands to it.

configure_optimizers tells for every schedule when it steps:

    interval     "epoch": at the end of an epoch; "step": after an update of the optimizer
    frequency    how many epochs or steps pass from one step of the schedule to the next
    monitor      the logged number that ReduceLROnPlateau watches

While gradients are accumulated there are fewer updates than batches, and a schedule that counts
batches would be at its end too soon: the warm-up of the recipe takes a fraction of the steps that
it should. All schedules here halve a rate that begins at 1, and the rate of every batch is noted.

Sources: class 123, resultados 3 and learning outcomes 1 and 3; class 104, definitions
(ReduceLROnPlateau);
https://lightning.ai/docs/pytorch/stable/common/lightning_module.html#configure-optimizers,
https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.LearningRateMonitor.html
"""

import csv

from fixtures.matrix import behaviour


def module_with(configure):
    """One weight and its own value as loss; `configure(self)` makes optimizers and schedules."""
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
            return configure(self)

    return Line


def halving(optimizer):
    import torch

    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


# ----------------------------------------------------------------------------------------------
# Interval and frequency.


def rates_in_lightning(cell, schedule, batches, **options):
    """The learning rate at each batch."""
    import lightning
    import torch

    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        return [optimizer], [{"scheduler": halving(optimizer), **schedule}]

    model = module_with(configure)()
    loader = torch.utils.data.DataLoader([0] * batches)
    lightning.Trainer(**options, **cell.trainer_options).fit(model, loader)
    return model.rates


@behaviour(
    "lightning.scheduler-steps-with-the-optimizer",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.scheduler-steps-while-accumulating",
)
def test_scheduler_steps_with_the_optimizer(rates, cell, expect):
    """interval="step" is an update of the optimizer, not a batch: with two batches for an update

        batch     1    2  |  3    4  |  5  ||  1    2  |  3     4   |  5
        rate      1    1    1/2  1/2   1/4    1/8  1/8   1/16  1/16   1/32

    The fifth batch of an epoch makes an update alone.
    """
    expect.exactly(
        observed=rates(cell, {"interval": "step"}, 5, max_epochs=2, accumulate_grad_batches=2),
        expected=[1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 8, 1 / 8, 1 / 16, 1 / 16, 1 / 32],
        what="rate at each batch",
    )


@behaviour(
    "lightning.scheduler-frequency",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.scheduler-frequency-is-ignored",
)
def test_scheduler_frequency(rates, cell, expect):
    """frequency=2 steps a schedule after every second epoch, or after every second update.

    Four epochs of two batches: 1 four times, 1/2 four times. One epoch of six: 1, 1, 1/2, ...
    """
    expect.exactly(
        observed=rates(cell, {"frequency": 2}, 2, max_epochs=4),
        expected=[1, 1, 1, 1, 1 / 2, 1 / 2, 1 / 2, 1 / 2],
        what="rate at each batch, every second epoch",
    )
    expect.exactly(
        observed=rates(cell, {"interval": "step", "frequency": 2}, 6, max_epochs=1),
        expected=[1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4],
        what="rate at each batch, every second update",
    )


@behaviour(
    "lightning.scheduler-frequency-across-epochs",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.scheduler-frequency-is-ignored",
)
def test_scheduler_frequency_across_epochs(rates, cell, expect):
    """The updates are counted through all epochs: every third of six halves the rate.

    Three epochs of two batches: 1, 1 | 1, 1/2 | 1/2, 1/2.
    https://github.com/Lightning-AI/pytorch-lightning/issues/17544
    """
    expect.exactly(
        observed=rates(cell, {"interval": "step", "frequency": 3}, 2, max_epochs=3),
        expected=[1, 1, 1, 1 / 2, 1 / 2, 1 / 2],
        what="rate at each batch, every third update",
    )


@behaviour(
    "lightning.scheduler-frequency-while-accumulating",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.scheduler-frequency-is-ignored",
)
def test_scheduler_frequency_while_accumulating(rates, cell, expect):
    """frequency=2 is every second update, and so every fourth batch where two make an update."""
    schedule = {"interval": "step", "frequency": 2}
    expect.exactly(
        observed=rates(cell, schedule, 8, max_epochs=1, accumulate_grad_batches=2),
        expected=[1, 1, 1, 1, 1 / 2, 1 / 2, 1 / 2, 1 / 2],
        what="rate at each batch, every second update of two batches",
    )


# ----------------------------------------------------------------------------------------------
# ReduceLROnPlateau.


def watched_in_lightning(cell):
    """The rate of each of five epochs. Validation logs 3, 2, 2, 1, 1; training logs 0 always."""
    import lightning
    import torch

    scores = (3.0, 2.0, 2.0, 1.0, 1.0)

    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val_score"},
        }

    class Scored(module_with(configure)):
        def training_step(self, batch, batch_index):
            self.log("loss", 0.0)
            return super().training_step(batch, batch_index)

        def validation_step(self, batch, batch_index):
            self.log("val_score", scores[self.current_epoch])

    model, one_batch = Scored(), torch.utils.data.DataLoader([0])
    lightning.Trainer(max_epochs=5, num_sanity_val_steps=0, **cell.trainer_options).fit(
        model, one_batch, one_batch
    )
    return model.rates


def unlogged_in_lightning(cell, expect, strict):
    """The rate of each of three epochs when nobody logs what the schedule watches."""
    import lightning
    import torch
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        schedule = {"scheduler": plateau, "monitor": "val_score", "strict": strict}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    model, one_batch = module_with(configure)(), torch.utils.data.DataLoader([0])
    trainer = lightning.Trainer(max_epochs=3, **cell.trainer_options)
    if strict:
        with expect.raises(MisconfigurationException, match="conditioned on metric val_score"):
            trainer.fit(model, one_batch)
    else:
        trainer.fit(model, one_batch)
    return model.rates


@behaviour(
    "lightning.scheduler-monitor",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.plateau-sees-the-epoch-before lightning.plateau-is-never-strict",
)
def test_scheduler_monitor(watched, unlogged, cell, expect):
    """ReduceLROnPlateau sees the value of its `monitor` after each epoch's validation.

    Scores 3, 2, 2, 1, 1 with patience 0: epochs 3 and 5 bring nothing, so the rate is 1 in the
    first three, 1/2 in the fourth and fifth. A monitor that nobody logs ends training with an error
    after the first epoch; with strict=False the schedule just does not step.
    """
    expect.exactly(observed=watched(cell), expected=[1, 1, 1, 1 / 2, 1 / 2], what="rates")
    expect.exactly(observed=unlogged(cell, expect, True), expected=[1], what="rates, strict")
    expect.exactly(
        observed=unlogged(cell, expect, False), expected=[1, 1, 1], what="rates, not strict"
    )


# ----------------------------------------------------------------------------------------------
# Two optimizers with a schedule each, stepped by hand.


def stepped_in_lightning(cell):
    """The rates of both optimizers at four batches, in one epoch."""
    import lightning
    import torch

    def configure(module):
        first = torch.optim.SGD(module.parameters(), lr=1.0)
        second = torch.optim.SGD(module.parameters(), lr=8.0)
        return [first, second], [
            {"scheduler": halving(first), "interval": "step"},
            {"scheduler": halving(second), "interval": "step"},
        ]

    class Manual(module_with(configure)):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_index):
            optimizers, schedules = self.optimizers(), self.lr_schedulers()
            self.rates.append([o.param_groups[0]["lr"] for o in optimizers])
            for optimizer in optimizers:
                optimizer.zero_grad()
                self.manual_backward(self.w.sum())
                optimizer.step()
            schedules[1].step()

    model = Manual()
    loader = torch.utils.data.DataLoader([0] * 4)
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader)
    return model.rates


@behaviour(
    "lightning.scheduler-manual",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.manual-schedules-step-by-themselves",
)
def test_scheduler_manual(stepped, cell, expect):
    """In manual optimization a schedule steps when it is told to, whatever its interval says.

    The first is never told and stays at 1; the second is told after every batch: 8, 4, 2, 1.
    https://lightning.ai/docs/pytorch/stable/model/manual_optimization.html#learning-rate-scheduling
    """
    expect.exactly(
        observed=stepped(cell), expected=[[1, 8], [1, 4], [1, 2], [1, 1]], what="rates of both"
    )


# ----------------------------------------------------------------------------------------------
# LearningRateMonitor.


def monitored_in_lightning(cell, folder, configure, **options):
    """{name: [(step, value), ...]} of metrics.csv, of two epochs of four batches."""
    import lightning
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(folder, name="run", version="one")
    lightning.Trainer(
        max_epochs=2,
        log_every_n_steps=1,
        callbacks=[LearningRateMonitor(**options)],
        **{**cell.trainer_options, "logger": logger},
    ).fit(module_with(configure)(), torch.utils.data.DataLoader([0] * 4))
    with open(folder / "run" / "one" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({name for row in rows for name in row} - {"step", "epoch"})
    return {
        name: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        for name in names
    }


def by_step_in_lightning(cell, folder):
    """A schedule by step."""
    import torch

    def configure(module):
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        return [optimizer], [{"scheduler": halving(optimizer), "interval": "step"}]

    return monitored_in_lightning(cell, folder, configure)


def by_epoch_in_lightning(cell, folder):
    """A schedule by epoch that has a name, and two groups."""
    import torch

    def configure(module):
        groups = [{"params": [module.w], "lr": 1.0}, {"params": [], "lr": 8.0}]
        groups[1]["params"] = [torch.nn.Parameter(torch.zeros(1))]
        optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.5)
        return [optimizer], [{"scheduler": halving(optimizer), "name": "rate"}]

    return monitored_in_lightning(
        cell, folder, configure, logging_interval="epoch", log_momentum=True
    )


def without_logger_in_lightning(cell, expect):
    import lightning
    import torch
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    def configure(module):
        return torch.optim.SGD(module.parameters(), lr=1.0)

    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[LearningRateMonitor()], **cell.trainer_options
    )
    with expect.raises(MisconfigurationException, match="no logger"):
        trainer.fit(module_with(configure)(), torch.utils.data.DataLoader([0]))


@behaviour(
    "lightning.learning-rate-monitor",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.rate-is-monitored-after-the-schedule",
)
def test_learning_rate_monitor(by_step, by_epoch, without_logger, cell, expect, tmp_path):
    """LearningRateMonitor logs the rate that each batch, or each epoch, begins with.

    Its name is "lr-" and the optimizer's class, or what the schedule is called, and with several
    groups "/pg1", "/pg2" behind it. Without a logger it is an error.
    """
    expect.exactly(
        observed=by_step(cell, tmp_path / "step"),
        expected={"lr-SGD": [(step, 0.5**step) for step in range(8)]},
        what="logged with every batch",
    )
    expect.exactly(
        observed=by_epoch(cell, tmp_path / "epoch"),
        expected={
            "rate/pg1": [(0, 1.0), (4, 0.5)],
            "rate/pg1-momentum": [(0, 0.5), (4, 0.5)],
            "rate/pg2": [(0, 8.0), (4, 4.0)],
            "rate/pg2-momentum": [(0, 0.5), (4, 0.5)],
        },
        what="logged with every epoch",
    )
    without_logger(cell, expect)
