"""One cycle: the rate rises to its maximum and falls far below where it began.

A high rate in the middle of the training acts as a regularizer, says Smith; the low one at the end
lets the weights settle. torch and optax describe a cycle by the same numbers, and count its steps
differently. With a maximum of 1, pct_start=1/2, div_factor=4 and final_div_factor=8:

                        first            maximum          last
                        1/4              1                1/4 / 8 = 1/32
    torch   in step     0                8 * 1/2 - 1 = 3  8 - 1 = 7          total_steps=8
    optax   in step     0                8 * 1/2 = 4      8                  transition_steps=8

torch's total_steps is the number of steps, so the last of them has the number 7; optax makes as
many transitions, and has one step more. In between the rate follows half a cosine up and another
one down. A cycle of straight lines has three parts: up, down as far, and on to the end. torch calls
that three_phase=True, anneal_strategy="linear"; optax has linear_onecycle_schedule.

torch also cycles the momentum, the other way round: high where the rate is low. After total_steps
its schedule is over, and one call more an error; optax stays at the last rate.

Sources: class 115, definitions (OneCycle), exercise 5, topics (one-cycle); Smith and Topin (2018),
arXiv:1708.07120;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.OneCycleLR.html,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.cosine_onecycle_schedule
"""

from conformance.schedules.read_off import rates_of_optax, rates_of_torch
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.schedules import between_corners

# (step, rate) where a phase ends and another one begins.
corners_in_torch = {
    "cosine": ((0, 1 / 4), (3, 1), (7, 1 / 32)),
    "linear": ((0, 1 / 4), (3, 1), (6, 1 / 4), (7, 1 / 32)),
}
corners_in_jax = {
    "cosine": ((0, 1 / 4), (4, 1), (8, 1 / 32)),
    "linear": ((0, 1 / 4), (4, 1), (6, 1 / 4), (8, 1 / 32)),
}

rate_precision_in_torch = "float64"
rate_precision_in_jax = "float32"


def bound_of(cell, rate_precision):
    """An angle of up to π is rounded five times, its cosine four, sums and products add five.

    That is 5 π + 9 < 25 units of the maximum, and fewer for a line. Rate and step are rounded once
    more each on their way to w.
    """
    return Bound(
        absolute=accumulated(25, rate_precision),
        relative=accumulated(2, cell.precision),
        because=f"25 roundings of the maximum in {rate_precision}, two in {cell.precision}",
    )


def one_cycle_in_torch(cell, strategy):
    from torch.optim.lr_scheduler import OneCycleLR

    def schedule(optimizer):
        return OneCycleLR(
            optimizer,
            max_lr=1.0,
            total_steps=8,
            pct_start=0.5,
            div_factor=4.0,
            final_div_factor=8.0,
            anneal_strategy="cos" if strategy == "cosine" else "linear",
            three_phase=strategy == "linear",
            cycle_momentum=False,
        )

    # The schedule sets the first rate itself: the one of the optimizer is no part of it.
    return rates_of_torch(cell, 8, 100.0, schedule)


def one_cycle_in_jax(cell, strategy):
    import optax

    options = {"peak_value": 1.0, "pct_start": 0.5, "div_factor": 4.0, "final_div_factor": 8.0}
    if strategy == "cosine":
        schedule = optax.cosine_onecycle_schedule(8, **options)
    else:
        schedule = optax.linear_onecycle_schedule(8, pct_final=0.75, **options)
    return rates_of_optax(cell, 9, schedule)


@behaviour(
    "schedules.onecycle",
    frameworks="torch jax",
    precisions={"torch": "float64 float32", "jax": "float32"},
    modes={"torch": "eager", "jax": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    catches="torch.one-cycle-ends-below-its-maximum optax.one-cycle-ends-below-its-maximum",
)
def test_onecycle(one_cycle, corners, rate_precision, cell, expect):
    """From max / div_factor up to max, and down to max / div_factor / final_div_factor.

    1/4, 1 and 1/32, along cosines; along lines by way of 1/4 again. torch is at its maximum in step
    3 of 0 to 7, optax in step 4 of 0 to 8.
    """
    for strategy in ("cosine", "linear"):
        points = corners[strategy]
        rates = [
            [between_corners(step, points, cosine=strategy == "cosine")]
            for step in range(points[-1][0] + 1)
        ]
        expect.within(
            bound_of(cell, rate_precision),
            observed=one_cycle(cell, strategy),
            expected=rates,
            what=f"learning rates, {strategy}",
        )


# ----------------------------------------------------------------------------------------------
# What is not said: the rise takes 30 % of the steps, from max / 25, and the end is max / 250 000.

default_corners_in_torch = ((0, 1 / 25), (2, 1), (9, 1 / 250_000))
default_corners_in_jax = ((0, 1 / 25), (3, 1), (10, 1 / 250_000))


def by_default_in_torch(cell):
    from torch.optim.lr_scheduler import OneCycleLR

    def schedule(optimizer):
        return OneCycleLR(optimizer, max_lr=1.0, total_steps=10, cycle_momentum=False)

    return rates_of_torch(cell, 10, 1.0, schedule)


def by_default_in_jax(cell):
    import optax

    return rates_of_optax(cell, 11, optax.cosine_onecycle_schedule(10, peak_value=1.0))


@behaviour(
    "schedules.onecycle-defaults",
    frameworks="torch jax",
    precisions={"torch": "float64 float32", "jax": "float32"},
    modes={"torch": "eager", "jax": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    catches="torch.one-cycle-ends-below-its-maximum optax.one-cycle-rises-for-half-its-steps",
)
def test_onecycle_defaults(by_default, default_corners, rate_precision, cell, expect):
    """One cycle rises during 30 % of the steps, from 1/25 of the maximum, and ends at 1/250 000.

    Not, as it is often told, during one half, nor down to a hundredth of the initial rate.
    """
    expect.within(
        bound_of(cell, rate_precision),
        observed=by_default(cell),
        expected=[
            [between_corners(step, default_corners, cosine=True)]
            for step in range(default_corners[-1][0] + 1)
        ],
        what="learning rates",
    )


# ----------------------------------------------------------------------------------------------
# The momentum, and the end.


def momenta_in_torch(cell, calls):
    """The momentum of each step, for a schedule that is called so many times."""
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=1.0, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=4,
        pct_start=0.5,
        anneal_strategy="linear",
        base_momentum=0.5,
        max_momentum=0.75,
    )
    momenta = []
    for _ in range(calls):
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    return momenta


@behaviour(
    "schedules.onecycle-momentum",
    frameworks="torch",
    precisions="float32",
    modes="eager",
    catches="torch.one-cycle-leaves-the-momentum",
)
def test_onecycle_momentum(momenta, cell, expect):
    """Momentum falls from 3/4 to 1/2, where the rate is highest, and is at 3/4 again at the end.

    Four steps, the second of them with the highest rate. A fifth call of step() is a ValueError.
    """
    expect.exactly(observed=momenta(cell, 4), expected=[0.75, 0.5, 0.625, 0.75], what="momenta")
    with expect.raises(ValueError, match="total steps is 4"):
        momenta(cell, 5)
