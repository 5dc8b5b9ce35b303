"""last_epoch: a schedule that is made anew goes on at the next epoch.

The optimizer's state brings the rate of the epoch that comes next, and `last_epoch` the number of
the last one that was trained. The schedule made from both has nothing to change yet:

    epoch                               0    1    2  |  3    4     5
    ExponentialLR(gamma=1/2)            1   1/2  1/4 | 1/8  1/16  1/32
    MultiplicativeLR(1/2)               1   1/2  1/4 | 1/8  1/16  1/32
    PolynomialLR(total_iters=4)         1   3/4  1/2 | 1/4   0     0
    LinearLR(1/4 to 1, total_iters=6)  1/4  3/8  1/2 | 5/8  3/4   7/8
    StepLR(step_size=2, gamma=1/2)      1    1   1/2 | 1/2  1/4   1/4
                            interrupted after epoch 2, last_epoch=2

A schedule that takes its first step while it is made skips epoch 3.

Sources: class 104, exercise 5; class 115, topics (exponential) and common mistake 5;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LRScheduler.html,
https://github.com/pytorch/pytorch/issues/102261
"""

from fixtures.matrix import behaviour
from fixtures.precision import rounded

RATES = {
    "StepLR": [1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4],
    "ExponentialLR": [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32],
    "MultiplicativeLR": [1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32],
    "PolynomialLR": [1, 3 / 4, 1 / 2, 1 / 4, 0, 0],
    "LinearLR": [1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8],
}


def rates_in_torch(cell, name, interrupted_after=None):
    """Read off the weight: a gradient of -1 adds the rate to it."""
    import torch
    from torch.optim import lr_scheduler

    options = {
        "StepLR": {"step_size": 2, "gamma": 0.5},
        "ExponentialLR": {"gamma": 0.5},
        "MultiplicativeLR": {"lr_lambda": lambda epoch: 0.5},
        "PolynomialLR": {"total_iters": 4},
        "LinearLR": {"start_factor": 0.25, "end_factor": 1.0, "total_iters": 6},
    }[name]
    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=1.0)
    scheduler = getattr(lr_scheduler, name)(optimizer, **options)
    rates = []
    for epoch in range(6):
        w.zero_()
        w.grad = torch.full_like(w, -1)
        optimizer.step()
        rates.append(w.item())
        scheduler.step()
        if epoch == interrupted_after:
            state = optimizer.state_dict()
            optimizer = torch.optim.SGD([w], lr=1.0)
            optimizer.load_state_dict(state)
            scheduler = getattr(lr_scheduler, name)(optimizer, **options, last_epoch=epoch)
    return rates


@behaviour(
    "schedules.resume-by-last-epoch",
    frameworks="torch",
    precisions="float64 float32",
    modes="eager",
    catches="torch.schedule-steps-when-resumed",
)
def test_resume_by_last_epoch(rates, cell, expect):
    """Rates after a resumption with last_epoch=2 are those of a training without interruption.

    Each rate is the last one times a factor of four operations at most, five times: 25 roundings.
    """
    bound = rounded(25, cell.precision)
    for name, expected in RATES.items():
        expect.within(bound, observed=rates(cell, name), expected=expected, what=f"{name}, whole")
        observed = rates(cell, name, interrupted_after=2)
        expect.within(bound, observed=observed, expected=expected, what=f"{name}, resumed")
