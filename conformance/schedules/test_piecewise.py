"""Step decay at the boundary: which rate does the step have that is named?

"Lower the rate at step 2 and at step 5" is understood in two ways. To torch and optax a boundary is
the first step with the new rate, to Keras the last one with the old:

    step                        0     1     2     3     4     5     6     7
    torch MultiStepLR           1     1    1/2   1/2   1/2   1/8   1/8   1/8
    optax                       1     1    1/2   1/2   1/2   1/8   1/8   1/8
    Keras                       1     1     1    1/2   1/2   1/2   1/8   1/8

                the rates are given as
    torch       one factor for all boundaries, gamma; MultiplicativeLR takes one for each step
    Keras       values, one more than boundaries
    optax       factors, one for each boundary

Sources: class 115, topics (step decay), learning outcome 2;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html,
https://keras.io/api/optimizers/learning_rate_schedules/piecewise_constant_decay/,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.piecewise_constant_schedule,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.join_schedules
"""

from conformance.schedules.read_off import (
    rates_of_keras,
    rates_of_optax,
    rates_of_tensorflow,
    rates_of_torch,
)
from fixtures.matrix import behaviour

STEPS = 8

new_from_in_torch = (2, 5)
new_from_in_tensorflow = (3, 6)
new_from_in_keras = (3, 6)
new_from_in_jax = (2, 5)


def lowered_in_torch(cell):
    """MultiStepLR has one factor, 1/2; it acts twice where a milestone is named twice."""
    from torch.optim.lr_scheduler import MultiStepLR

    def schedule(optimizer):
        return MultiStepLR(optimizer, milestones=[2, 5, 5], gamma=0.5)

    return rates_of_torch(cell, STEPS, 1.0, schedule)


def lowered_in_tensorflow(cell):
    from keras.optimizers.schedules import PiecewiseConstantDecay

    schedule = PiecewiseConstantDecay(boundaries=[2, 5], values=[1.0, 0.5, 0.125])
    return rates_of_tensorflow(cell, STEPS, schedule)


def lowered_in_keras(cell):
    from keras.optimizers.schedules import PiecewiseConstantDecay

    schedule = PiecewiseConstantDecay(boundaries=[2, 5], values=[1.0, 0.5, 0.125])
    return rates_of_keras(cell, STEPS, schedule)


def lowered_in_jax(cell):
    import optax

    return rates_of_optax(cell, STEPS, optax.piecewise_constant_schedule(1.0, {2: 0.5, 5: 0.25}))


@behaviour(
    "schedules.piecewise-boundaries",
    frameworks="torch tensorflow keras jax",
    precisions={"torch": "float64 float32", "others": "float32"},
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.milestones-a-step-late keras.inner-boundaries-a-step-early "
    "optax.boundaries-a-step-late",
)
def test_piecewise_boundaries(lowered, new_from, cell, expect):
    """Boundaries 2 and 5 lower the rate to 1/2 and 1/8, in these very steps or, in Keras, after."""
    second, third = new_from
    expected = [[1.0]] * second + [[0.5]] * (third - second) + [[0.125]] * (STEPS - third)
    expect.exactly(observed=lowered(cell), expected=expected, what="learning rates")


# ----------------------------------------------------------------------------------------------
# Whole schedules, one after the other: a low constant rate, then a line, then a constant rate.
#
#     step    0     1     2     3     4     5
#     rate   1/8   1/8    1    3/4   1/4   1/4
#
# Each begins at its boundary, and counts its own steps from there.

JOINED = [[1 / 8], [1 / 8], [1.0], [3 / 4], [1 / 4], [1 / 4]]


def joined_in_torch(cell):
    from torch.optim.lr_scheduler import ConstantLR, LinearLR, SequentialLR

    def schedule(optimizer):
        low = ConstantLR(optimizer, factor=0.125, total_iters=100)
        line = LinearLR(optimizer, start_factor=1.0, end_factor=0.5, total_iters=2)
        high = ConstantLR(optimizer, factor=0.25, total_iters=100)
        return SequentialLR(optimizer, [low, line, high], milestones=[2, 4])

    return rates_of_torch(cell, len(JOINED), 1.0, schedule)


def joined_in_jax(cell):
    import optax

    low, high = optax.constant_schedule(0.125), optax.constant_schedule(0.25)
    line = optax.linear_schedule(1.0, 0.5, transition_steps=2)
    return rates_of_optax(cell, len(JOINED), optax.join_schedules([low, line, high], [2, 4]))


@behaviour(
    "schedules.joined-schedules",
    frameworks="torch jax",
    precisions={"torch": "float64 float32", "jax": "float32"},
    modes={"torch": "eager", "jax": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    catches="optax.periods-begin-a-step-late torch.sequential-schedules-all-begin-at-once",
)
def test_joined_schedules(joined, cell, expect):
    """The line begins at step 2, which is its own step 0; the last schedule begins at step 4."""
    expect.exactly(observed=joined(cell), expected=JOINED, what="learning rates")
