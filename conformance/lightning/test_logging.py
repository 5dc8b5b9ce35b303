"""self.log: what of it is kept, and what reaches the logger.

The ten numbers below come in batches of 4, 4 and 2, whose means are 2.5, 6.5 and 12:

    1 2 3 4 | 5 6 7 8 | 9 15        mean of all ten: 6, mean of the three means: 7

The value of an epoch is the mean of the batch values weighted by the sizes of the batches, so it is
the mean of all samples. Who averages the batch means himself counts the two samples of the last
batch twice as often as the others.

                          on_step   on_epoch    what is kept of an epoch
    training_step         True      False       the value of the last batch
    validation_step       False     True        the weighted mean
    test_step             False     True        the weighted mean

Sources: class 123, definitions 3, common mistake 1, homework 1 and 3 and topic 6;
https://lightning.ai/docs/pytorch/stable/extensions/logging.html
"""

import csv
import importlib.util

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to

SAMPLES = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 15.0])

NUMBER = 1.001

WIDE = "what is logged in 16 bits is kept in float32"
WIDE_PRECISION = {"bfloat16": "float32", "float16": "float32"}


def samples_in(precision):
    """A third more than each, so that every format has something to round."""
    return round_to(SAMPLES + 1 / 3, precision)


def mean_bound(roundings, precision):
    """`roundings` for the value of a batch, and seven for the mean of an epoch.

    Lightning keeps what is logged in float32, or in float64 where it is.
    """
    wide = "float64" if precision == "float64" else "float32"
    return Bound(
        relative=accumulated(roundings, precision) + accumulated(7, wide),
        because=f"{roundings} roundings in {precision} and 7 in {wide}",
    )


def batches(cell, batch_size=4):
    import torch

    samples = torch.tensor(samples_in(cell.precision), dtype=cell.dtype)
    return torch.utils.data.DataLoader(samples, batch_size=batch_size)


# ----------------------------------------------------------------------------------------------
# Means over unequal batches.


def mistake_in_lightning(cell):
    """Collects the batch means and averages them at the end of the epoch."""
    import lightning
    import torch

    class Mean(lightning.LightningModule):
        def on_validation_epoch_start(self):
            self.means = []

        def validation_step(self, batch, batch_index):
            self.means.append(batch.mean())

        def on_validation_epoch_end(self):
            self.log("mean", torch.stack(self.means).mean())

    [metrics] = lightning.Trainer(**cell.trainer_options).validate(
        Mean(), batches(cell), verbose=False
    )
    return metrics["mean"]


def fix_in_lightning(cell):
    import lightning

    class Mean(lightning.LightningModule):
        def validation_step(self, batch, batch_index):
            self.log("mean", batch.mean())

    [metrics] = lightning.Trainer(**cell.trainer_options).validate(
        Mean(), batches(cell), verbose=False
    )
    return metrics["mean"]


def returned_by_test_in_lightning(cell):
    """With the size of the batch told, where Lightning could not infer it."""
    import lightning

    class Mean(lightning.LightningModule):
        def test_step(self, batch, batch_index):
            self.log("mean", batch.mean(), batch_size=len(batch))

    [metrics] = lightning.Trainer(**cell.trainer_options).test(Mean(), batches(cell), verbose=False)
    return metrics["mean"]


@behaviour(
    "lightning.test-loop-weighted-mean",
    frameworks="lightning",
    precisions="float64 float32 bfloat16",
    modes="eager",
    catches="lightning.epoch-mean-weighs-batches-alike "
    "lightning.logged-float64-passes-through-float32",
)
def test_test_loop_weighted_mean(mistake, fix, returned_by_test, cell, expect):
    """validate and test return the mean weighted by batch size: 6 + 1/3, as over all ten samples.

    The mean of the three batch means is 7 + 1/3. Four roundings for the mean of a batch of at most
    four, and seven, in float32 or float64, for the products, sums and quotient of the epoch.
    """
    samples = samples_in(cell.precision)
    bound = mean_bound(4, cell.precision)
    means = [samples[:4].mean(), samples[4:8].mean(), samples[8:].mean()]
    expect.within(
        bound,
        observed=mistake(cell),
        expected=np.mean(means),
        what="mean of means",
        other_precision=WIDE,
    )
    expect.within(
        bound,
        observed=fix(cell),
        expected=samples.mean(),
        what="validation mean",
        other_precision=WIDE,
    )
    expect.within(
        bound,
        observed=returned_by_test(cell),
        expected=samples.mean(),
        what="test mean",
        other_precision=WIDE,
    )


def logged_in_lightning(cell):
    """The callback metrics after each of two epochs; in the second all values are 16 more."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.seen = []

        def training_step(self, batch, batch_index):
            value = batch.mean() + 16 * self.current_epoch
            self.log("untold", value)
            self.log("both", value, on_step=True, on_epoch=True)
            self.log("epoch", value, on_step=False, on_epoch=True)
            self.log("largest", value, on_step=False, on_epoch=True, reduce_fx="max")
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("validation", batch.mean() + 16 * self.current_epoch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    class Recorder(lightning.Callback):
        def on_train_epoch_end(self, trainer, module):
            module.seen.append({k: v.item() for k, v in trainer.callback_metrics.items()})

    model = Model()
    lightning.Trainer(
        max_epochs=2, num_sanity_val_steps=0, callbacks=[Recorder()], **cell.trainer_options
    ).fit(model, batches(cell), batches(cell))
    return model.seen


@behaviour(
    "lightning.log-defaults",
    frameworks="lightning",
    precisions="float64 float32 bfloat16",
    modes="eager",
    catches="lightning.epoch-mean-weighs-batches-alike lightning.epoch-mean-carries-over "
    "lightning.logged-float64-passes-through-float32",
)
def test_log_defaults(logged, cell, expect):
    """Logged in training_step: the last batch's value; with on_epoch: the weighted mean, too.

    With both on_step and on_epoch the names end in _step and _epoch, and the bare name is the
    epoch's. In validation_step on_epoch is the default. Every epoch starts anew. Four roundings for
    the mean of a batch, one for the 16, and seven, in float32 or float64, for the epoch.
    """
    samples = samples_in(cell.precision)
    for epoch, seen in enumerate(logged(cell)):
        bound = mean_bound(5, cell.precision)
        last, mean = samples[8:].mean() + 16 * epoch, samples.mean() + 16 * epoch
        expected = {
            "untold": last,
            "both_step": last,
            "both_epoch": mean,
            "both": mean,
            "epoch": mean,
            "largest": last,
            "validation": mean,
        }
        expect.exactly(observed=sorted(seen), expected=sorted(expected), what="names")
        for name, value in expected.items():
            expect.within(
                bound, observed=seen[name], expected=value, what=f"{name} of epoch {epoch}"
            )


def number_in_lightning(cell):
    import lightning

    class Model(lightning.LightningModule):
        def validation_step(self, batch, batch_index):
            self.log("number", NUMBER)

    [metrics] = lightning.Trainer(**cell.trainer_options).validate(
        Model(), batches(cell), verbose=False
    )
    return metrics["number"]


@behaviour(
    "lightning.log-number",
    frameworks="lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="lightning.logged-number-is-rounded-to-the-module",
)
def test_log_number(number, cell, expect):
    """A Python number is logged in float32 at least, however narrow the module is.

    1.001 is 1 in bfloat16 and 1 + 2^-10 in float16. One rounding of the number and seven of the
    epoch's mean. https://github.com/Lightning-AI/pytorch-lightning/pull/19046
    """
    expect.within(
        Bound(
            relative=accumulated(8, WIDE_PRECISION.get(cell.precision, cell.precision)),
            because="8 roundings in float32, or in float64 where the module is",
        ),
        observed=number(cell),
        expected=NUMBER,
        what="number",
        other_precision=WIDE,
    )


# ----------------------------------------------------------------------------------------------
# What a logger writes down.


def rows_in_lightning(cell, folder):
    """(name, step, value) of the file that CSVLogger wrote, in two epochs of five batches."""
    import lightning
    import torch
    from lightning.pytorch.loggers import CSVLogger

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            self.log("w", self.w.detach().sum())
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            self.log("val_w", self.w.sum())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    options = {**cell.trainer_options, "logger": CSVLogger(folder, name="run", version="one")}
    lightning.Trainer(max_epochs=2, num_sanity_val_steps=0, log_every_n_steps=2, **options).fit(
        Model(), batches(cell, batch_size=2), batches(cell)
    )
    with open(folder / "run" / "one" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        for name in ("w", "val_w")
    }


@behaviour(
    "lightning.log-every-n-steps",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.logs-the-first-of-every-n-steps",
)
def test_log_every_n_steps(rows, cell, expect, tmp_path):
    """The logger gets every n-th step, counted from 0 over all epochs, and every epoch's value.

    Before step s the weight is -s. log_every_n_steps=2 writes steps 1, 3, 5, 7 and 9 of ten. What
    validation logs bears the step it came after: 4 and 9, where the weight is -5 and -10.
    """
    expect.exactly(
        observed=rows(cell, tmp_path),
        expected={
            "w": [(1, -1.0), (3, -3.0), (5, -5.0), (7, -7.0), (9, -9.0)],
            "val_w": [(4, -5.0), (9, -10.0)],
        },
        what="rows of metrics.csv",
    )


def written_again_in_lightning(cell, folder):
    """The rows of metrics.csv after each of two runs of the same name and version."""
    import lightning
    import torch
    from lightning.pytorch.loggers import CSVLogger

    class Model(lightning.LightningModule):
        def __init__(self, start):
            super().__init__()
            self.w = torch.nn.Parameter(torch.full((1,), start))

        def training_step(self, batch, batch_index):
            self.log("w", self.w.detach().sum())
            return self.w.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    written = []
    for start in (0.0, 8.0):
        options = {**cell.trainer_options, "logger": CSVLogger(folder, name="run", version="one")}
        lightning.Trainer(max_epochs=1, log_every_n_steps=1, **options).fit(
            Model(start), batches(cell)
        )
        with open(folder / "run" / "one" / "metrics.csv", newline="") as file:
            rows = csv.DictReader(file)
            written.append([(int(row["step"]), float(row["w"])) for row in rows])
    return written


@behaviour(
    "lightning.csv-logger-starts-anew",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.csv-logger-appends-to-another-run",
)
def test_csv_logger_starts_anew(written_again, cell, expect, tmp_path):
    """A run of the same name and version replaces the metrics.csv of the one before it.

    Three batches each: w is 0, -1, -2 in the first run and 8, 7, 6 in the second.
    https://github.com/Lightning-AI/pytorch-lightning/pull/19446
    """
    first, second = written_again(cell, tmp_path)
    expect.exactly(
        observed=first, expected=[(0, 0.0), (1, -1.0), (2, -2.0)], what="(step, w), first run"
    )
    expect.exactly(
        observed=second, expected=[(0, 8.0), (1, 7.0), (2, 6.0)], what="(step, w), second run"
    )


def default_logger_in_lightning(cell, folder):
    import lightning

    options = {k: v for k, v in cell.trainer_options.items() if k != "logger"}
    trainer = lightning.Trainer(default_root_dir=folder, **options)
    return type(trainer.logger).__name__


@behaviour(
    "lightning.default-logger",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.logs-nowhere-by-default",
)
def test_default_logger(default_logger, cell, expect, tmp_path):
    """A Trainer logs to TensorBoard where tensorboard or tensorboardX is installed, else to CSV."""
    installed = any(importlib.util.find_spec(name) for name in ("tensorboard", "tensorboardX"))
    expect.exactly(
        observed=default_logger(cell, tmp_path),
        expected="TensorBoardLogger" if installed else "CSVLogger",
        what="class of the default logger",
    )


# ----------------------------------------------------------------------------------------------
# Other reductions, several loaders, and what nobody logs. Batches of 4, 4 and 2 of the SAMPLES
# themselves: their means are 2.5, 6.5 and 12, and nothing is rounded.


def exact_batches(cell):
    import torch

    return torch.utils.data.DataLoader(torch.tensor(SAMPLES, dtype=cell.dtype), batch_size=4)


def reduced_in_lightning(cell):
    import lightning

    class Model(lightning.LightningModule):
        def validation_step(self, batch, batch_index):
            for reduce_fx in ("mean", "min", "max", "sum"):
                self.log(reduce_fx, batch.mean(), reduce_fx=reduce_fx)

    [metrics] = lightning.Trainer(**cell.trainer_options).validate(
        Model(), exact_batches(cell), verbose=False
    )
    return metrics


@behaviour(
    "lightning.log-reduce-fx",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.logged-sum-is-weighted lightning.logged-minimum-is-the-last",
)
def test_log_reduce_fx(reduced, cell, expect):
    """reduce_fx says what becomes of the values of an epoch: "mean", "min", "max" or "sum".

    Of 2.5, 6.5 and 12 the minimum is 2.5, the maximum 12 and the sum 21: none knows of the sizes of
    the batches. The mean does: (4·2.5 + 4·6.5 + 2·12) / 10 = 6.
    """
    expect.exactly(
        observed=reduced(cell),
        expected={"mean": 6.0, "min": 2.5, "max": 12.0, "sum": 21.0},
        what="logged",
    )


def two_loaders_in_lightning(cell, **options):
    """What validate returns for each of two loaders."""
    import lightning

    class Model(lightning.LightningModule):
        def validation_step(self, batch, batch_index, dataloader_idx=0):
            name = f"mean of {dataloader_idx}" if options else "mean"
            self.log(name, (dataloader_idx + 1) * batch.mean(), **options)

    return lightning.Trainer(**cell.trainer_options).validate(
        Model(), [exact_batches(cell), exact_batches(cell)], verbose=False
    )


@behaviour(
    "lightning.log-several-loaders",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.loaders-are-counted-from-one",
)
def test_log_several_loaders(two_loaders, cell, expect):
    """With several loaders a name is logged once for each, and its end says for which.

    "mean/dataloader_idx_0" is 6, and the doubled one of the second loader 12. With
    add_dataloader_idx=False names stay as they are, and must differ.
    """
    expect.exactly(
        observed=two_loaders(cell),
        expected=[{"mean/dataloader_idx_0": 6.0}, {"mean/dataloader_idx_1": 12.0}],
        what="logged, by loader",
    )
    expect.exactly(
        observed=two_loaders(cell, add_dataloader_idx=False),
        expected=[{"mean of 0": 6.0}, {"mean of 1": 12.0}],
        what="logged without the number of the loader",
    )


def names_in_lightning(cell, *callbacks, logged):
    """The names in callback_metrics after an epoch whose validation logs val_loss, or does not."""
    import lightning
    import torch

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch, batch_index):
            self.log("loss", 0.0)
            return self.w.sum()

        def validation_step(self, batch, batch_index):
            loss = batch.mean()
            if logged:
                self.log("val_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    trainer = lightning.Trainer(
        max_epochs=1, num_sanity_val_steps=0, callbacks=list(callbacks), **cell.trainer_options
    )
    trainer.fit(Model(), exact_batches(cell), exact_batches(cell))
    return sorted(trainer.callback_metrics)


def stopping_in_lightning(cell, expect):
    from lightning.pytorch.callbacks import EarlyStopping

    with expect.raises(RuntimeError, match="val_loss.*which is not available"):
        names_in_lightning(cell, EarlyStopping("val_loss"), logged=False)


@behaviour(
    "lightning.log-missing-metric",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.early-stopping-is-never-strict",
)
def test_log_missing_metric(names, stopping, cell, expect):
    """What is not passed to self.log is in no metric, even where validation_step returns it.

    EarlyStopping that watches it raises RuntimeError, and names the metrics that there are.
    """
    expect.exactly(observed=names(cell, logged=False), expected=["loss"], what="names")
    expect.exactly(observed=names(cell, logged=True), expected=["loss", "val_loss"], what="names")
    stopping(cell, expect)
