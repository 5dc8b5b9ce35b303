"""What Lightning's Trainer costs: against the same loop by hand, and when it accumulates.

The Trainer does what the loop does and calls hooks and callbacks around it, which takes a fraction
of a millisecond a step whatever the model. So its share depends on the step: much of a step of a
small MLP on a CPU, nothing of a step of 100 ms. Lightning's own benchmark, a CNN on MNIST, found an
epoch 0.06 s slower than without it.

Gradient accumulation reaches the update of a large batch with the memory of a small one, and the
large batch, where it fits, in less time: the same images, but more and less efficient steps.

Both sides of each claim use the same model, the same batches and the same optimizer.

Sources: class 121, exercise 3; class 172, definition 6 and exercise 3;
catalogue: training-loop.lightning-equals-manual-loop, distributed.lightning-accumulation;
https://lightning.ai/docs/pytorch/stable/benchmarking/benchmarks.html,
https://lightning.ai/docs/pytorch/stable/common/trainer.html#accumulate-grad-batches
"""

import copy
import time

import numpy as np

from fixtures.precision import Bound, rounded
from fixtures.speed import Variant, claim

EXACT = Bound(because="the same operations in the same order")
DOCUMENTED_OVERHEAD = 0.06  # seconds, each epoch


def classifier(cell, layers):
    """A LightningModule of these layers, trained by SGD on (inputs, labels)."""
    import lightning
    import torch

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = layers.to(cell.device)

        def training_step(self, batch, batch_index):
            inputs, labels = batch
            return torch.nn.functional.cross_entropy(self.layers(inputs), labels)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    return Classifier()


def homework_mlp():
    from torch import nn

    return nn.Sequential(
        nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def batches(cell, count, size, features):
    """`count` batches of `size` samples on the cell's device, sines with labels 0 to 9 in turn."""
    import torch

    inputs = np.sin(np.arange(count * size * features)).reshape(count, size, features)
    labels = torch.arange(count * size).reshape(count, size) % 10
    inputs = torch.tensor(inputs, dtype=cell.dtype)
    return [
        (one.to(cell.device), its.to(cell.device)) for one, its in zip(inputs, labels, strict=True)
    ]


def loader_of(batches):
    import torch

    return torch.utils.data.DataLoader(batches, batch_size=None)


def outputs_of(model, batches):
    """What the trained model says of the first ten samples: it shows all that was learned."""
    import torch

    inputs = batches[0][0][:10]
    model.to(inputs.device)  # a Trainer leaves it on the CPU
    with torch.no_grad():
        return model.layers(inputs)


def epoch_of_trainer(cell, name, layers, batches, **options):
    """Each call fits one epoch more, with a Trainer of its own."""
    import lightning

    model, loader = classifier(cell, layers), loader_of(batches)

    def epoch():
        trainer = lightning.Trainer(max_epochs=1, **cell.trainer_options, **options)
        trainer.fit(model, loader)
        return outputs_of(model, batches)

    return Variant(name, epoch)


def epoch_of_loop(cell, name, layers, batches, pause=0.0):
    """The same epoch by hand, and then `pause` seconds of nothing."""
    model, loader = classifier(cell, layers), loader_of(batches)

    def epoch():
        optimizer = model.configure_optimizers()
        for number, batch in enumerate(loader):
            loss = model.training_step(batch, number)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        time.sleep(pause)
        return outputs_of(model, batches)

    return Variant(name, epoch)


# ----------------------------------------------------------------------------------------------
# In seconds: an epoch of MNIST in batches of 256 is 235 steps. The model is next to nothing, so
# that the difference is what the Trainer takes.


def smallest_in_lightning(cell):
    import torch

    layers, data = torch.nn.Linear(1, 10), batches(cell, 235, 1, 1)
    return (
        epoch_of_loop(cell, "loop + 0.06 s", copy.deepcopy(layers), data, DOCUMENTED_OVERHEAD),
        epoch_of_trainer(cell, "Trainer", layers, data),
    )


@claim(
    "speed.lightning-seconds",
    claimed="at most 0.06 s slower per epoch",
    low=1.0,
    source="Lightning, benchmarking",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
)
def test_lightning_seconds(smallest, cell, speed):
    """An epoch of MNIST takes Lightning only about 0.06 s longer than a plain loop.

    The loop is given these 0.06 s: where the ratio is below 1, the Trainer takes more than that.
    """
    speed.compare(*smallest(cell), within=EXACT)


# ----------------------------------------------------------------------------------------------
# As a share: the MLP of the homework, 24 batches of 128.


def share_in_lightning(cell):
    layers, data = homework_mlp(), batches(cell, 24, 128, 784)
    return (
        epoch_of_loop(cell, "loop", copy.deepcopy(layers), data),
        epoch_of_trainer(cell, "Trainer", layers, data),
    )


@claim(
    "speed.lightning-overhead",
    claimed="as fast as the loop, within 10 %",
    low=0.9,
    source="Lightning, benchmarking",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
)
def test_lightning_overhead(share, cell, speed):
    """The Trainer takes hardly longer than the same loop by hand; 10 % are allowed here.

    The MLP of the homework has short steps, and setting up `fit` counts as part of the epoch.
    """
    speed.compare(*share(cell), within=EXACT)


# ----------------------------------------------------------------------------------------------
# Eight batches of 128, each at once or in four parts.


def accumulation_in_lightning(cell):
    layers, whole = homework_mlp(), batches(cell, 8, 128, 784)
    parts = [
        part
        for inputs, labels in whole
        for part in zip(inputs.split(32), labels.split(32), strict=True)
    ]
    return (
        epoch_of_trainer(
            cell,
            "accumulate_grad_batches=4",
            copy.deepcopy(layers),
            parts,
            accumulate_grad_batches=4,
        ),
        epoch_of_trainer(cell, "batch of 128", layers, whole),
    )


@claim(
    "speed.accumulation-time",
    claimed="slower than the large batch",
    low=1.0,
    source="class 172, exercise 3",
    frameworks="lightning",
    precisions="float32",
    modes="eager",
)
def test_accumulation_time(accumulation, cell, speed):
    """accumulate_grad_batches=4 makes the updates of a batch four times as large, but slower."""
    # Eight steps; in each, sums of 784, 256, 128 and 128 terms, forwards and back.
    speed.compare(*accumulation(cell), within=rounded(8 * 2_600, cell.precision, terms=1.0))
