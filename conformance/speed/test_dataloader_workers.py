"""DataLoader(num_workers=...): worker processes pay where a sample is costly, and only there.

A worker fetches and collates a batch in a process of its own and sends it back: the samples are
loaded while others are, and while the model trains. But sending a batch costs more than fetching it
from an array in memory, so for data such as Fashion-MNIST, all of it in memory, the advice to raise
num_workers makes an epoch slower, not faster.

The costly sample waits for 2 ms, as for a file on a network; a wait needs no core, so two workers
can halve the time and four quarter it on any machine. The workers are persistent: they start in the
first epoch, which is not timed. Without that, each epoch would pay for starting them, too.

Sources: class 122, common mistake 5; catalogue: speed.dataloader-workers-small-data;
https://docs.pytorch.org/docs/stable/data.html (Single- and Multi-process Data Loading),
https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
"""

import threading
import time

import numpy as np
import pytest

from fixtures.precision import Bound
from fixtures.speed import Variant, claim

pytestmark = [
    # Four workers on fewer cores are what the claim is about.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    # The workers fork from a process that may have run JAX, and do not touch it.
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]

EXACT = Bound(because="the same batches in the same order")

IN_MEMORY = np.sin(np.arange(2_000 * 784.0)).astype("float32").reshape(2_000, 784)
COSTLY = np.arange(16.0, dtype="float32")
WAIT = 0.002


class InMemory:
    """2,000 flattened images in an array, 64 a batch."""

    batch_size = 64

    def __len__(self):
        return len(IN_MEMORY)

    def __getitem__(self, index):
        return IN_MEMORY[index]


class Costly:
    """16 samples that take 2 ms each, two a batch."""

    batch_size = 2

    def __len__(self):
        return len(COSTLY)

    def __getitem__(self, index):
        time.sleep(WAIT)
        return COSTLY[index]


@pytest.fixture
def loaders():
    """The loaders of a test. Once out of this list they end their workers, and soon the threads.

    A loader joins its workers, but only tells the threads that fed their queues to stop.
    """
    made = []
    yield made
    made.clear()
    for thread in threading.enumerate():
        if thread.name.startswith("QueueFeederThread"):
            thread.join(timeout=10)


def epoch_in_torch(cell, loaders, dataset, workers):
    import torch

    number = len(loaders)
    loaders.append(
        torch.utils.data.DataLoader(
            dataset,
            batch_size=dataset.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
    )

    def epoch():
        return torch.stack([batch.sum() for batch in loaders[number]])

    return Variant(f"num_workers={workers}", epoch)


@claim(
    "speed.two-dataloader-workers-in-memory",
    claimed="faster",
    low=1.0,
    source="class 122, common mistake 5",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_two_dataloader_workers_in_memory(epoch, loaders, cell, speed):
    """Two workers deliver samples that are in memory faster than no workers do."""
    speed.compare(
        epoch(cell, loaders, InMemory(), 0),
        epoch(cell, loaders, InMemory(), 2),
        within=EXACT,
    )


@claim(
    "speed.dataloader-workers-small-data",
    claimed="faster",
    low=1.0,
    source="class 122, common mistake 5",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_dataloader_workers_small_data(epoch, loaders, cell, speed):
    """Four workers, as recommended, deliver samples that are in memory faster than none do."""
    speed.compare(
        epoch(cell, loaders, InMemory(), 0),
        epoch(cell, loaders, InMemory(), 4),
        within=EXACT,
    )


@claim(
    "speed.two-dataloader-workers-costly-samples",
    claimed="faster",
    low=1.0,
    source="class 122, common mistake 5",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_two_dataloader_workers_costly_samples(epoch, loaders, cell, speed):
    """Two workers deliver samples that must be waited for faster than none do: up to twice."""
    speed.compare(
        epoch(cell, loaders, Costly(), 0),
        epoch(cell, loaders, Costly(), 2),
        within=EXACT,
    )


@claim(
    "speed.four-dataloader-workers-costly-samples",
    claimed="faster",
    low=1.0,
    source="class 122, common mistake 5",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_four_dataloader_workers_costly_samples(epoch, loaders, cell, speed):
    """Four workers deliver samples that must be waited for faster than none: up to four times."""
    speed.compare(
        epoch(cell, loaders, Costly(), 0),
        epoch(cell, loaders, Costly(), 4),
        within=EXACT,
    )
