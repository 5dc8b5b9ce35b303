"""Streams for the specs of DataLoader's workers, where a worker process can import them."""

import torch


class Numbers(torch.utils.data.IterableDataset):
    """0, 1, ..., 7 as a stream that does not know of workers: every worker reads all of it."""

    def __iter__(self):
        return iter(range(8))


class ShardedNumbers(torch.utils.data.IterableDataset):
    """0, 1, ..., 7 as a stream of which every worker reads its own part."""

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        if worker is None:
            return iter(range(8))
        return iter(range(worker.id, 8, worker.num_workers))
