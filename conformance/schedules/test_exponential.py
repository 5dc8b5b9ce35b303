"""Exponential decay: by a factor in every step, or by the whole factor once in a while.

The rate is halved every three steps. Continuous decay gets there a little in each step; a staircase
stays where it is for three steps, and then falls by half at once:

    step          0       1         2        3        4     5     6
    continuous    1    2^(-1/3)  2^(-2/3)   1/2      ...   ...   1/4
    staircase     1       1         1       1/2      1/2   1/2   1/4

                            continuous                      staircase
    torch                   ExponentialLR(gamma=2**(-1/3))  StepLR(step_size=3, gamma=1/2)
    Keras ExponentialDecay  decay_steps=3, decay_rate=1/2   the same, staircase=True
    optax exponential_decay transition_steps=3, decay_rate=1/2 the same, staircase=True

A staircase rounds the number of periods down. To the nearest it would fall a step too early.

Sources: class 115, topics (exponential, step decay), learning outcome 2;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html,
https://keras.io/api/optimizers/learning_rate_schedules/exponential_decay/,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.exponential_decay
"""

from conformance.schedules.read_off import (
    rates_of_keras,
    rates_of_optax,
    rates_of_tensorflow,
    rates_of_torch,
)
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated

STEPS = 8
PERIOD = 3
FACTOR = 1 / 2

rate_precision_in_torch = "float64"
rate_precision_in_tensorflow = "float32"
rate_precision_in_keras = "float32"
rate_precision_in_jax = "float32"


def decayed_in_torch(cell, staircase):
    from torch.optim import lr_scheduler

    def schedule(optimizer):
        if staircase:
            return lr_scheduler.StepLR(optimizer, step_size=PERIOD, gamma=FACTOR)
        return lr_scheduler.ExponentialLR(optimizer, gamma=FACTOR ** (1 / PERIOD))

    return rates_of_torch(cell, STEPS, 1.0, schedule)


def decayed_in_tensorflow(cell, staircase):
    from keras.optimizers.schedules import ExponentialDecay

    schedule = ExponentialDecay(1.0, decay_steps=PERIOD, decay_rate=FACTOR, staircase=staircase)
    return rates_of_tensorflow(cell, STEPS, schedule)


def decayed_in_keras(cell, staircase):
    from keras.optimizers.schedules import ExponentialDecay

    schedule = ExponentialDecay(1.0, decay_steps=PERIOD, decay_rate=FACTOR, staircase=staircase)
    return rates_of_keras(cell, STEPS, schedule)


def decayed_in_jax(cell, staircase):
    import optax

    schedule = optax.exponential_decay(
        1.0, transition_steps=PERIOD, decay_rate=FACTOR, staircase=staircase
    )
    return rates_of_optax(cell, STEPS, schedule)


@behaviour(
    "schedules.exponential-decay",
    frameworks="torch tensorflow keras jax",
    precisions={"torch": "float64 float32", "others": "float32"},
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="keras.staircase-to-the-nearest optax.staircase-to-the-nearest "
    "torch.stairs-a-step-early",
)
def test_exponential_decay(decayed, rate_precision, cell, expect):
    """Continuous, step t has the rate 2^(-t/3); as a staircase 1, 1, 1, 1/2, 1/2, 1/2, 1/4, 1/4.

    The exponent is rounded twice, at a size of 7/3 at most, the power four times: nine units. torch
    multiplies instead: four roundings in gamma, and one in each of seven products, come to 35. Rate
    and step are rounded once more each on their way to w.
    """
    bound = Bound(
        relative=accumulated(35, rate_precision) + accumulated(2, cell.precision),
        because=f"35 roundings in {rate_precision}, two in {cell.precision}",
    )
    for staircase, what in ((False, "continuous decay"), (True, "staircase")):
        periods = [step // PERIOD if staircase else step / PERIOD for step in range(STEPS)]
        expect.within(
            bound,
            observed=decayed(cell, staircase=staircase),
            expected=[[FACTOR**exponent] for exponent in periods],
            what=what,
        )
