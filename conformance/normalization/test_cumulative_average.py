"""momentum=None: torch's BatchNorm as the plain average of all batches so far.

Running statistics are an exponential average: the last batches weigh most, and the start (mean 0,
variance 1) fades slowly. torch offers the other average too, in which batch k moves the statistics
by 1/k. The first batch replaces the start, and after n batches each weighs 1/n; that is how the
statistics of averaged weights (SWA) are found anew, `torch.optim.swa_utils.update_bn`.

Sources: class 110, definitions (BatchNorm);
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html,
https://docs.pytorch.org/docs/stable/optim.html (update_bn)
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded
from reference import layers

# Means 2, 4 and 9; unbiased variances 2, 8 and 8.
BATCHES = np.array([[[1.0], [3.0]], [[2.0], [6.0]], [[7.0], [11.0]]])


def statistics_in_numpy(cell):
    mean, variance = np.zeros(1, cell.dtype), np.ones(1, cell.dtype)
    found = []
    for k, batch in enumerate(BATCHES.astype(cell.dtype), 1):
        weight = cell.dtype.type(1 / k)
        mean, variance = layers.update_running_statistics(
            mean, variance, batch, weight, unbiased=True
        )
        found.append((mean[0], variance[0]))
    return found, found[0]


def statistics_in_torch(cell):
    """The statistics after each batch, and after the first once they have been reset."""
    import torch

    layer = torch.nn.BatchNorm1d(1, momentum=None, device=cell.device, dtype=cell.dtype)
    batches = torch.tensor(BATCHES, device=cell.device, dtype=cell.dtype)

    def after(batch):
        with torch.no_grad():
            layer(batch)
        return torch.cat([layer.running_mean, layer.running_var])

    found = [after(batch) for batch in batches]
    layer.reset_running_stats()
    return found, after(batches[0])


@behaviour(
    "normalization.batchnorm-cumulative-average",
    frameworks="numpy torch",
    precisions={"numpy": "float64 float32", "torch": "float64 float32 bfloat16"},
    modes="eager",
    catches="torch.cumulative-average-counts-a-batch-too-many "
    "torch.batchnorm-keeps-biased-variance",
)
def test_batchnorm_cumulative_average(statistics, cell, expect):
    """Means 2, 4, 9 average to 2, 3, 5; variances 2, 8, 8 to 2, 5, 6: no trace of the start.

    At weight 1/3 the weight, its complement, two products and the sum round. After
    reset_running_stats() the first batch counts alone again.
    """
    found, anew = statistics(cell)
    for k, expected in enumerate([[2.0, 2.0], [3.0, 5.0], [5.0, 6.0]]):
        expect.within(
            rounded(5, cell.precision),
            observed=found[k],
            expected=expected,
            what=f"mean and variance after {k + 1} batches",
        )
    expect.exactly(observed=anew, expected=[2.0, 2.0], what="mean and variance after a reset")
