"""Worker processes: DataLoader(num_workers=2) loads in parallel and delivers the same.

Of a map-style dataset (one with an index) the loader's own process decides which sample belongs to
which batch; the workers only fetch, and the batches are put back in order. An iterable dataset (a
stream) has no index to divide: every worker gets a copy and reads all of it, unless the stream asks
`get_worker_info()` which part is its own.

Sources: class 122, exercise 5 and common mistake 5 (num_workers); class 124, frequent question 4;
https://docs.pytorch.org/docs/stable/data.html (Single- and Multi-process Data Loading)
"""

import os
import time

from fixtures.matrix import behaviour

ORDER = [5, 3, 8, 1, 9, 0, 7, 2, 10, 4, 6]  # eleven samples: batches of 2, and one of 1
SQUARES = [[25, 9], [64, 1], [81, 0], [49, 4], [100, 16], [36]]


class Squares:
    """i -> (i², the process that fetched it). The first sample of ORDER takes its time."""

    def __len__(self):
        return len(ORDER)

    def __getitem__(self, index):
        if index == ORDER[0]:
            time.sleep(0.1)  # with two workers the second batch is ready before the first
        return index**2, os.getpid()


# ----------------------------------------------------------------------------------------------
# Each program returns the batches of two epochs, and the processes that fetched them.


def batches_in_torch(cell, workers):
    import torch

    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=2, sampler=ORDER, num_workers=workers
    )
    epochs, processes = [], set()
    for _ in range(2):
        batches = list(loader)
        epochs.append([squares.tolist() for squares, _ in batches])
        processes.update(process for _, fetched in batches for process in fetched.tolist())
    return epochs, processes


def batches_in_lightning(cell, workers):
    import lightning
    import torch

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.w = torch.nn.Parameter(torch.zeros(1))
            self.epochs, self.processes = [[], []], set()

        def training_step(self, batch, batch_index):
            squares, processes = batch
            self.epochs[self.current_epoch].append(squares.tolist())
            self.processes.update(processes.tolist())

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    loader = torch.utils.data.DataLoader(
        Squares(), batch_size=2, sampler=ORDER, num_workers=workers
    )
    model = Watch()
    lightning.Trainer(max_epochs=2, **cell.trainer_options).fit(model, loader)
    return model.epochs, model.processes


@behaviour(
    "data.dataloader-workers-same-data",
    frameworks="torch lightning",
    precisions="float32",
    modes="eager",
    catches="torch.workers-deliver-as-they-finish torch.workers-lose-the-last-partial-batch",
)
def test_dataloader_workers_same_data(batches, cell, expect):
    """num_workers=2 delivers the batches of num_workers=0: each sample once, in the same order.

    Also where the first batch is slow, and in the second epoch. Without workers the process itself
    fetches; with two, two others do in each epoch.
    """
    epochs, processes = batches(cell, 0)
    expect.exactly(observed=dict(enumerate(epochs)), expected={0: SQUARES, 1: SQUARES})
    expect.exactly(observed=processes == {os.getpid()}, expected=True, what="fetched right here")

    epochs, processes = batches(cell, 2)
    expect.exactly(
        observed=dict(enumerate(epochs)), expected={0: SQUARES, 1: SQUARES}, what="with workers"
    )
    expect.exactly(observed=os.getpid() in processes, expected=False, what="fetched right here")
    expect.at_least(observed=len(processes), least=2, what="number of worker processes")


# ----------------------------------------------------------------------------------------------
# Streams.


def mistake_in_torch(cell, workers):
    import torch

    from conformance.data.streams import Numbers

    loader = torch.utils.data.DataLoader(Numbers(), batch_size=4, num_workers=workers)
    return sorted(torch.cat(list(loader)).tolist())


def fix_in_torch(cell, workers):
    import torch

    from conformance.data.streams import ShardedNumbers

    loader = torch.utils.data.DataLoader(ShardedNumbers(), batch_size=4, num_workers=workers)
    return sorted(torch.cat(list(loader)).tolist())


@behaviour(
    "data.iterable-dataset-workers",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.worker-info-is-missing torch.stream-is-read-by-the-first-worker-alone",
)
def test_iterable_dataset_workers(mistake, fix, cell, expect):
    """Two workers deliver every element of an unsharded stream twice: 0, 0, 1, 1, ..., 7, 7.

    Divided by get_worker_info() each comes once; without workers the mistake does not show.
    """
    once = list(range(8))
    expect.exactly(observed=mistake(cell, 0), expected=once, what="stream without workers")
    expect.exactly(observed=mistake(cell, 2), expected=sorted(2 * once), what="two copies")
    expect.exactly(observed=fix(cell, 0), expected=once, what="sharded, without workers")
    expect.exactly(observed=fix(cell, 2), expected=once, what="sharded between two workers")
