"""ReduceLROnPlateau and parameters that join later.

Who fine-tunes trains the head first, and then adds the unfrozen layers to the same optimizer, with
a rate of their own. The schedule that watches the loss lowers the rates of all groups, and none
below `min_lr`. Here the loss stays 1, patience is 0, the factor 1/2, min_lr 1/8; the layers join
after epoch 0:

    epoch       0     1     2     3     4
    head        1     1    1/2   1/4   1/8
    layers            1    1/2   1/4   1/8

The first loss is the best so far, so the rates fall from the second on.

Sources: class 104, definitions (ReduceLROnPlateau); class 115, exercise 4;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.add_param_group.html,
https://github.com/pytorch/pytorch/issues/104361
"""

from fixtures.matrix import behaviour


def rates_in_torch(cell):
    """The rates of both groups, read off their weights: a gradient of -1 adds the rate to each."""
    import torch

    head, layers = (torch.zeros(1, dtype=cell.dtype, device=cell.device) for _ in range(2))
    optimizer = torch.optim.SGD([head], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=0, min_lr=0.125
    )
    rates = []
    for epoch in range(5):
        for weight in (head, layers):
            weight.zero_()
            weight.grad = torch.full_like(weight, -1)
        optimizer.step()
        rates.append([head.item(), layers.item()])
        scheduler.step(1.0)
        if epoch == 0:
            optimizer.add_param_group({"params": [layers], "lr": 1.0})
    return rates


@behaviour(
    "schedules.plateau-of-a-new-group",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.plateau-lowers-the-first-group-alone",
)
def test_plateau_of_a_new_group(rates, cell, expect):
    """A group that joins after epoch 0 with rate 1 is halved with the first."""
    expect.exactly(
        observed=rates(cell),
        expected=[[1, 0], [1, 1], [1 / 2, 1 / 2], [1 / 4, 1 / 4], [1 / 8, 1 / 8]],
        what="rates of both groups",
    )
