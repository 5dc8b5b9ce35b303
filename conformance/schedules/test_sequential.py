"""Schedules one after the other, for a learning rate that is a tensor.

torch.compile wants the learning rate as a tensor: a number would be compiled into the step, and
every new rate compiled anew. A schedule then writes into the tensor. SequentialLR runs schedules in
turn, each from its own beginning, and all of them from the rate the optimizer was made with:

    ConstantLR(factor=1/2, total_iters=2), then ExponentialLR(gamma=1/2), milestone 2, rate 1

    step    0    1    2    3    4
    rate   1/2  1/2   1   1/2  1/4

The mistake writes the first rate, 1/2, into the tensor that remembers the initial one: then the
second schedule begins at 1/2 too.

Sources: class 115, definitions of warm-up, learning outcome 3;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.SequentialLR.html,
https://docs.pytorch.org/tutorials/recipes/compiling_optimizer_lr_scheduler.html
"""

from fixtures.matrix import behaviour

RATES = [0.5, 0.5, 1.0, 0.5, 0.25]


def rates_in_torch(cell, as_tensor):
    """Read off the weight: a gradient of -1 adds the rate to it."""
    import torch
    from torch.optim import lr_scheduler

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    rate = torch.ones((), dtype=cell.dtype, device=cell.device) if as_tensor else 1.0
    optimizer = torch.optim.SGD([w], lr=rate)
    half = lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    halving = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    scheduler = lr_scheduler.SequentialLR(optimizer, [half, halving], milestones=[2])
    rates = []
    for _ in RATES:
        before = w.item()
        w.grad = torch.full_like(w, -1)
        optimizer.step()
        scheduler.step()
        rates.append(w.item() - before)
    return rates


@behaviour(
    "schedules.sequential-with-tensor-rate",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.sequential-schedules-all-begin-at-once",
)
def test_sequential_with_tensor_rate(rates, cell, expect):
    """A number and a tensor as learning rate pass through the same five rates, exactly."""
    expect.exactly(observed=rates(cell, as_tensor=False), expected=RATES, what="rates, a number")
    expect.exactly(observed=rates(cell, as_tensor=True), expected=RATES, what="rates, a tensor")
