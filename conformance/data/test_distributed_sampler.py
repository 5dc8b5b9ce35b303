"""DistributedSampler: each process reads its own part, and every epoch another one.

All processes draw the same permutation, from the seed and the number of the epoch, and each takes
every n-th sample of it. The sampler cannot count epochs by itself: set_epoch(epoch) tells it. Who
forgets the call trains every epoch in the order of the first, and each process sees the same part
of the data for ever. The Trainer of Lightning makes the call.

Sources: class 172, definitions 2 and homework 3 (DistributedSampler); class 122, exercise 5;
https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler
"""

from fixtures.matrix import behaviour

SAMPLES, EPOCHS = 63, 3

# ----------------------------------------------------------------------------------------------
# The parts of two processes in three epochs: [epoch][process] -> samples.


def parts_in_torch(cell, tell_epochs):
    from torch.utils.data import DistributedSampler

    samplers = [
        DistributedSampler(range(SAMPLES), num_replicas=2, rank=rank, seed=cell.seed)
        for rank in range(2)
    ]
    epochs = []
    for epoch in range(EPOCHS):
        if tell_epochs:
            for sampler in samplers:
                sampler.set_epoch(epoch)
        epochs.append([list(sampler) for sampler in samplers])
    return epochs


def parts_in_lightning(cell, tell_epochs):
    """A Trainer for each process. Where epochs are not told, the loader hides its sampler."""
    import lightning
    import torch
    from torch.utils.data import DataLoader, DistributedSampler

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.epochs = [[] for _ in range(EPOCHS)]

        def training_step(self, batch, batch_index):
            self.epochs[self.current_epoch] += batch.tolist()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1.0)

    parts = []
    for rank in range(2):
        sampler = DistributedSampler(range(SAMPLES), num_replicas=2, rank=rank, seed=cell.seed)
        loader = DataLoader(range(SAMPLES), batch_size=16, sampler=sampler)
        model = Watch()
        trainer = lightning.Trainer(max_epochs=EPOCHS, **cell.trainer_options)
        trainer.fit(model, loader if tell_epochs else Batches(loader))
        parts.append(model.epochs)
    return [list(of_epoch) for of_epoch in zip(*parts, strict=True)]


class Batches:
    """The batches of a loader and nothing else of it."""

    def __init__(self, loader):
        self._loader = loader

    def __iter__(self):
        return iter(self._loader)


@behaviour(
    "data.distributed-sampler-epochs",
    frameworks="torch lightning",
    precisions="float32",
    modes="eager",
    catches="torch.distributed-sampler-ignores-its-epoch lightning.sampler-is-not-told-the-epoch",
)
def test_distributed_sampler_epochs(parts, cell, expect):
    """63 samples for two processes: 32 each, one of them read twice, in a new order every epoch.

    Without set_epoch all three epochs are the first again. Two permutations of 63 agree by chance
    once in 63! = 2e87 times.
    """
    told = parts(cell, tell_epochs=True)
    for epoch, (first, second) in enumerate(told):
        expect.exactly(observed=[len(first), len(second)], expected=[32, 32], what="samples each")
        expect.exactly(
            observed=sorted({*first, *second}),
            expected=list(range(SAMPLES)),
            what=f"samples of both processes in epoch {epoch}",
        )
    orders = {str(epoch) for epoch in told}
    expect.exactly(observed=len(orders), expected=EPOCHS, what="different epochs")
    expect.exactly(
        observed=parts(cell, tell_epochs=False),
        expected=[told[0]] * EPOCHS,
        what="epochs that nobody told",
    )
