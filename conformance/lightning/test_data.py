"""Where a Trainer's batches come from, and where predictions go.

A LightningDataModule says once how data are fetched (prepare_data), made ready (setup) and batched;
training with it is the same as training with its loaders. predict returns a list with one output
for each batch, in order, the smaller last batch included.

Sources: class 121, learning outcome 2; class 123, definitions 2 and homework 1;
https://lightning.ai/docs/pytorch/stable/data/datamodule.html,
https://lightning.ai/docs/pytorch/stable/common/trainer.html
"""

from fixtures.matrix import behaviour

GRADIENTS = (1.0, 2.0, 4.0, 8.0, 16.0)


def linear_module():
    """Loss: the mean of the batch times w. Prediction: each sample times 3."""
    import lightning
    import torch

    class Linear(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.predicted_with = []

        def training_step(self, batch, batch_index):
            return (batch.mean() * self.w).sum()

        def validation_step(self, batch, batch_index):
            self.log("val_mean", batch.mean())

        def predict_step(self, batch, batch_index):
            self.predicted_with.append((self.training, torch.is_grad_enabled()))
            return 3 * batch

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    return Linear()


def loader(cell, samples, batch_size=2):
    import torch

    return torch.utils.data.DataLoader(
        torch.tensor(samples, dtype=cell.dtype), batch_size=batch_size
    )


# ----------------------------------------------------------------------------------------------
# A LightningDataModule.


def trained_in_lightning(cell):
    """(what was called, w with the data module, w with its loaders)."""
    import lightning

    class Data(lightning.LightningDataModule):
        def __init__(self):
            super().__init__()
            self.called = []

        def prepare_data(self):
            self.called.append("prepare_data")

        def setup(self, stage):
            self.called.append("setup " + stage)
            self.samples = GRADIENTS

        def train_dataloader(self):
            self.called.append("train_dataloader")
            return loader(cell, self.samples)

        def val_dataloader(self):
            self.called.append("val_dataloader")
            return loader(cell, self.samples)

        def teardown(self, stage):
            self.called.append("teardown " + stage)

    data, with_data, with_loaders = Data(), linear_module(), linear_module()
    options = {"max_epochs": 2, "num_sanity_val_steps": 0, **cell.trainer_options}
    lightning.Trainer(**options).fit(with_data, datamodule=data)
    lightning.Trainer(**options).fit(with_loaders, loader(cell, GRADIENTS), loader(cell, GRADIENTS))
    return data.called, with_data.w, with_loaders.w


@behaviour(
    "lightning.datamodule",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
    catches="lightning.loader-is-made-anew-in-every-epoch",
)
def test_datamodule(trained, cell, expect):
    """prepare_data, setup("fit"), the loaders, each once in two epochs, and teardown("fit").

    Batches (1, 2), (4, 8) and 16 have the gradients 1.5, 6 and 16: w is -47 after two epochs, with
    the data module and with its loaders alike.
    """
    called, with_data, with_loaders = trained(cell)
    expect.exactly(
        observed=sorted(called),
        expected=[
            "prepare_data",
            "setup fit",
            "teardown fit",
            "train_dataloader",
            "val_dataloader",
        ],
        what="what was called",
    )
    expect.exactly(observed=called[:2], expected=["prepare_data", "setup fit"], what="the first")
    expect.exactly(observed=called[-1], expected="teardown fit", what="the last")
    expect.exactly(observed=with_data, expected=-47.0, what="w with the data module")
    expect.exactly(observed=with_loaders, expected=-47.0, what="w with its loaders")


# ----------------------------------------------------------------------------------------------
# trainer.predict.


def predictions_in_lightning(cell):
    """(sizes of the outputs, all of them in one tensor, in which mode they were made)."""
    import lightning
    import torch

    model = linear_module()
    outputs = lightning.Trainer(**cell.trainer_options).predict(model, loader(cell, GRADIENTS))
    return [len(output) for output in outputs], torch.cat(outputs), set(model.predicted_with)


@behaviour(
    "lightning.predict-per-batch",
    frameworks="lightning",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="lightning.predict-drops-a-smaller-last-batch",
)
def test_predict_per_batch(predictions, cell, expect):
    """predict returns one output per batch, in order: of five samples in twos 2, 2 and 1.

    In eval mode and without gradients.
    """
    sizes, joined, modes = predictions(cell)
    expect.exactly(observed=sizes, expected=[2, 2, 1], what="sizes of the outputs")
    expect.exactly(observed=joined, expected=[3.0, 6.0, 12.0, 24.0, 48.0], what="outputs, joined")
    expect.exactly(observed=modes, expected={(False, False)}, what="(training, gradients)")
