"""The Trainer's loop: accumulated gradients, skipped batches, two optimizers, and a dry run.

Each model is one weight that starts at 0 and whose loss is linear in it, so that every step with
learning rate 1 subtracts a gradient that stands in the batch.

Sources: class 121, exercise 5 and learning outcomes 3 and 4; class 123, definitions 2 and topic 2;
https://lightning.ai/docs/pytorch/stable/common/trainer.html,
https://lightning.ai/docs/pytorch/stable/common/optimization.html
"""

from fixtures.matrix import behaviour

GRADIENTS = (1.0, 2.0, 4.0, 8.0, 16.0)


def linear_module(cell):
    """The loss of a batch is the number in it times w, which is recorded after every step."""
    import lightning
    import torch

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.after_step = []

        def training_step(self, batch, batch_index):
            return (batch * self.w).sum()

        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            self.after_step.append(self.w.item())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    return Linear


def loader(cell):
    import torch

    return torch.utils.data.DataLoader(torch.tensor(GRADIENTS, dtype=cell.dtype), batch_size=1)


# ----------------------------------------------------------------------------------------------
# Five batches, two at a time.


def accumulated_in_lightning(cell):
    import lightning

    model = linear_module(cell)()
    trainer = lightning.Trainer(max_epochs=2, accumulate_grad_batches=2, **cell.trainer_options)
    trainer.fit(model, loader(cell))
    return model.after_step, trainer.global_step


@behaviour(
    "lightning.accumulation-incomplete-window",
    frameworks="lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="lightning.incomplete-window-is-dropped "
    "lightning.incomplete-window-divides-by-its-size",
)
def test_accumulation_incomplete_window(accumulated, cell, expect):
    """With accumulate_grad_batches=2 the fifth batch of an epoch steps alone, its loss halved, too.

    Gradients 1, 2 | 4, 8 | 16 make steps of 3/2, 12/2 and 16/2. No window reaches into the next
    epoch: two epochs are six steps, not five.
    """
    after_step, steps = accumulated(cell)
    expect.exactly(observed=after_step, expected=[-1.5, -7.5, -15.5, -17.0, -23.0, -31.0], what="w")
    expect.exactly(observed=steps, expected=6, what="global_step")


def interrupted_in_lightning(cell):
    """A validation after every second batch, in the middle of a window of four."""
    import lightning

    class Validated(linear_module(cell)):
        def validation_step(self, batch, batch_index):
            pass

    model = Validated()
    lightning.Trainer(
        max_epochs=1,
        accumulate_grad_batches=4,
        val_check_interval=2,
        num_sanity_val_steps=0,
        **cell.trainer_options,
    ).fit(model, loader(cell), loader(cell))
    return model.after_step


@behaviour(
    "lightning.accumulation-across-validation",
    frameworks="lightning",
    precisions="float64 float32",
    modes="eager",
    catches="lightning.validation-erases-gradients",
)
def test_accumulation_across_validation(interrupted, cell, expect):
    """A validation in the middle of a window leaves the gradients as they are.

    Gradients 1, 2 | validation | 4, 8 | validation | 16 make steps of 15/4 and 16/4.
    https://github.com/Lightning-AI/pytorch-lightning/pull/18710
    """
    expect.exactly(observed=interrupted(cell), expected=[-3.75, -7.75], what="w")


def unnumbered_in_lightning(cell):
    import lightning

    class Unnumbered(linear_module(cell)):
        def training_step(self, batch):
            return (batch * self.w).sum()

    model = Unnumbered()
    trainer = lightning.Trainer(max_epochs=1, accumulate_grad_batches=2, **cell.trainer_options)
    trainer.fit(model, loader(cell))
    return model.after_step


@behaviour(
    "lightning.accumulation-without-batch-index",
    frameworks="lightning",
    precisions="float64 float32",
    modes="eager",
    catches="lightning.accumulation-needs-the-batch-index",
)
def test_accumulation_without_batch_index(unnumbered, cell, expect):
    """The argument batch_idx of training_step is optional, and accumulation does not depend on it.

    Gradients 1, 2 | 4, 8 | 16 make steps of 3/2, 12/2 and 16/2.
    https://github.com/Lightning-AI/pytorch-lightning/pull/18619
    """
    expect.exactly(observed=unnumbered(cell), expected=[-1.5, -7.5, -15.5], what="w")


# ----------------------------------------------------------------------------------------------
# A training_step that returns nothing.


def mistake_in_lightning(cell):
    """Whoever forgets to return the loss trains nothing."""
    import lightning

    class Forgetful(linear_module(cell)):
        def training_step(self, batch, batch_index):
            super().training_step(batch, batch_index)

    model = Forgetful()
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader(cell))
    return model.w


def fix_in_lightning(cell):
    import lightning

    model = linear_module(cell)()
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader(cell))
    return model.w


def skipped_in_lightning(cell):
    """On purpose: the second and the fourth batch are left out."""
    import lightning

    class Chooser(linear_module(cell)):
        def training_step(self, batch, batch_index):
            if batch_index in (1, 3):
                return None
            return super().training_step(batch, batch_index)

    model = Chooser()
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader(cell))
    return model.w


@behaviour(
    "training-loop.lightning-loss-none",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.skipped-batch-repeats-the-last-step",
)
def test_lightning_loss_none(mistake, fix, skipped, cell, expect):
    """A training_step that returns None skips the backward pass and the change of that batch.

    Of the gradients 1, 2, 4, 8, 16 all come to -31, those of batches 0, 2 and 4 to -21, none to 0.
    """
    expect.exactly(observed=mistake(cell), expected=0.0, what="w when nothing is returned")
    expect.exactly(observed=fix(cell), expected=-31.0, what="w when the loss is returned")
    expect.exactly(observed=skipped(cell), expected=-21.0, what="w when two batches return None")


# ----------------------------------------------------------------------------------------------
# Two optimizers.


def two_optimizers_module(cell):
    import lightning
    import torch

    class Two(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.fast = torch.nn.Parameter(torch.zeros(1))
            self.slow = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            return (batch * (self.fast + self.slow)).sum()

        def configure_optimizers(self):
            return torch.optim.SGD([self.fast], lr=1.0), torch.optim.SGD([self.slow], lr=0.125)

    return Two


def automatic_in_lightning(cell, expect):
    import lightning

    trainer = lightning.Trainer(max_epochs=1, **cell.trainer_options)
    with expect.raises(RuntimeError, match="multiple optimizers.*manual optimization"):
        trainer.fit(two_optimizers_module(cell)(), loader(cell))


def manual_in_lightning(cell):
    """The second optimizer steps for every other batch."""
    import lightning

    class Manual(two_optimizers_module(cell)):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_index):
            fast, slow = self.optimizers()
            fast.zero_grad()
            slow.zero_grad()
            self.manual_backward(super().training_step(batch, batch_index))
            fast.step()
            if batch_index % 2:
                slow.step()

    model = Manual()
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, loader(cell))
    return [model.fast, model.slow]


@behaviour(
    "training-loop.multi-optimizer-lightning-manual",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.first-of-two-optimizers-trains-alone",
)
def test_multi_optimizer_lightning_manual(automatic, manual, cell, expect):
    """Two optimizers need automatic_optimization=False, and then step when they are told to.

    Learning rate 1 on all gradients 1, 2, 4, 8, 16: -31. Learning rate 1/8 on those of batches 1
    and 3: -(2 + 8) / 8 = -1.25. Automatic optimization raises.
    """
    automatic(cell, expect)
    expect.exactly(observed=manual(cell), expected=[[-31.0], [-1.25]], what="the two weights")


# ----------------------------------------------------------------------------------------------
# A dry run.


def dry_run_in_lightning(cell, folder, fast_dev_run):
    """(training batches, validation batches, files written)."""
    import lightning
    from lightning.pytorch.callbacks import ModelCheckpoint
    from lightning.pytorch.loggers import CSVLogger

    class Counting(linear_module(cell)):
        training_batches = validation_batches = 0

        def training_step(self, batch, batch_index):
            self.training_batches += 1
            self.log("loss", self.w.detach().sum())
            return super().training_step(batch, batch_index)

        def validation_step(self, batch, batch_index):
            self.validation_batches += 1

    model = Counting()
    options = {
        **cell.trainer_options,
        "logger": CSVLogger(folder),
        "enable_checkpointing": True,
    }
    lightning.Trainer(
        max_epochs=4,
        fast_dev_run=fast_dev_run,
        log_every_n_steps=1,
        callbacks=[ModelCheckpoint(folder / "checkpoints")],
        **options,
    ).fit(model, loader(cell), loader(cell))
    files = sum(path.is_file() for path in folder.rglob("*"))
    return model.training_batches, model.validation_batches, files


@behaviour(
    "lightning.fast-dev-run",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.fast-dev-run-saves-checkpoints",
)
def test_fast_dev_run(dry_run, cell, expect, tmp_path):
    """fast_dev_run=True runs one training and one validation batch, 3 runs three of each.

    One epoch of four is run, and nothing is saved: neither by the logger nor by the checkpoint.
    """
    expect.exactly(
        observed=dry_run(cell, tmp_path, True),
        expected=(1, 1, 0),
        what="(training batches, validation batches, files), True",
    )
    expect.exactly(
        observed=dry_run(cell, tmp_path, 3),
        expected=(3, 3, 0),
        what="(training batches, validation batches, files), 3",
    )
