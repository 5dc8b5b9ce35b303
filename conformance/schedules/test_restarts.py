"""Warm restarts: cosine after cosine, each longer than the last.

The rate falls along half a cosine, and then jumps back up: a kick out of a narrow minimum. Periods
may grow by a factor. With a first period of 2 steps and the factor 2:

    step     0   1  |  2    3     4     5   |  6    7    8   ...   13  |  14   15
    period   1: 2 steps   2: 4 steps           3: 8 steps                 4: 16 steps
    angle    0  1/2    0   1/4   1/2   3/4     0   1/8  1/4  ...   7/8    0    1/16   of half a turn

Step n of a period of T has the rate end + (peak - end) * (1 + cos(pi * n / T)) / 2. The end itself
is never reached: at n = T the next period begins, at the peak.

                first period        factor              lowest rate
    torch       T_0                 T_mult = 1          eta_min, a rate
    Keras       first_decay_steps   t_mul = 2.0         alpha, a fraction of the initial rate
    optax       one dictionary for each period, with decay_steps, peak_value and end_value

Who leaves the factor out gets periods of equal length in torch, and in Keras periods that double.
Keras and optax can lower the peaks as well, by m_mul or the peak_value of each period.

Sources: class 115, definitions (restarts), question 4, learning outcome 2; Loshchilov and Hutter
(2017), arXiv:1608.03983;
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.html,
https://keras.io/api/optimizers/learning_rate_schedules/cosine_decay_restarts/,
https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html#optax.sgdr_schedule
"""

from conformance.schedules.read_off import (
    rates_of_keras,
    rates_of_optax,
    rates_of_tensorflow,
    rates_of_torch,
)
from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.schedules import cosine_with_restarts

PEAK, END = 1.0, 1 / 4
FIRST = 2
STEPS = 16

rate_precision_in_torch = "float64"
rate_precision_in_tensorflow = "float32"
rate_precision_in_keras = "float32"
rate_precision_in_jax = "float32"

PRECISIONS = {"torch": "float64 float32", "others": "float32"}
MODES = {"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"}
NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"}


def bound_of(cell, rate_precision):
    """An angle of up to π is rounded five times, its cosine four, sums and products add five.

    That is 5 π + 9 < 25 units of the peak. Rate and step are rounded once more each on their way
    to w.
    """
    return Bound(
        absolute=accumulated(25, rate_precision) * PEAK,
        relative=accumulated(2, cell.precision),
        because=f"25 roundings of the peak in {rate_precision}, two in {cell.precision}",
    )


def expected_rates(**options):
    options = {"peak": PEAK, "end": END, "first": FIRST, **options}
    return [[cosine_with_restarts(step, **options)] for step in range(STEPS)]


def doubling_in_torch(cell):
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    return rates_of_torch(
        cell,
        STEPS,
        PEAK,
        lambda optimizer: CosineAnnealingWarmRestarts(optimizer, T_0=FIRST, T_mult=2, eta_min=END),
    )


def doubling_in_tensorflow(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    schedule = CosineDecayRestarts(PEAK, FIRST, t_mul=2.0, alpha=END / PEAK)
    return rates_of_tensorflow(cell, STEPS, schedule)


def doubling_in_keras(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    schedule = CosineDecayRestarts(PEAK, FIRST, t_mul=2.0, alpha=END / PEAK)
    return rates_of_keras(cell, STEPS, schedule)


def sgdr(lengths, peaks, end):
    """A schedule of optax: each period is a dictionary, its warm-up zero steps long."""
    import optax

    return optax.sgdr_schedule(
        [
            {
                "init_value": peak,
                "peak_value": peak,
                "warmup_steps": 0,
                "decay_steps": length,
                "end_value": end,
            }
            for length, peak in zip(lengths, peaks, strict=True)
        ]
    )


def doubling_in_jax(cell):
    return rates_of_optax(cell, STEPS, sgdr((2, 4, 8, 16), [PEAK] * 4, END))


@behaviour(
    "schedules.cosine-restarts",
    frameworks="torch tensorflow keras jax",
    precisions=PRECISIONS,
    modes=MODES,
    needs=NEEDS,
    catches="torch.restarts-double-once keras.restarts-end-at-zero optax.periods-begin-a-step-late",
)
def test_cosine_restarts(doubling, rate_precision, cell, expect):
    """Periods of 2, 4, 8 and 16 steps: the rate is back at 1 in steps 2, 6 and 14.

    Half-way, in steps 1, 4 and 10, it is 5/8, the middle between 1 and 1/4.
    """
    expect.within(
        bound_of(cell, rate_precision),
        observed=doubling(cell),
        expected=expected_rates(factor=2),
        what="learning rates",
    )


# ----------------------------------------------------------------------------------------------
# Nothing said about the factor.


def unsaid_in_torch(cell):
    from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

    def schedule(optimizer):
        return CosineAnnealingWarmRestarts(optimizer, FIRST, eta_min=END)

    return rates_of_torch(cell, STEPS, PEAK, schedule)


def unsaid_in_tensorflow(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    return rates_of_tensorflow(cell, STEPS, CosineDecayRestarts(PEAK, FIRST, alpha=END / PEAK))


def unsaid_in_keras(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    return rates_of_keras(cell, STEPS, CosineDecayRestarts(PEAK, FIRST, alpha=END / PEAK))


factor_in_torch = 1
factor_in_tensorflow = 2
factor_in_keras = 2


@behaviour(
    "schedules.restarts-by-default",
    frameworks="torch tensorflow keras",
    precisions=PRECISIONS,
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow"},
    catches="keras.restarts-of-equal-length torch.restarts-double-unasked",
)
def test_restarts_by_default(unsaid, factor, rate_precision, cell, expect):
    """Unless told otherwise torch restarts every 2 steps, Keras after 2, 6 and 14 steps."""
    expect.within(
        bound_of(cell, rate_precision),
        observed=unsaid(cell),
        expected=expected_rates(factor=factor),
        what="learning rates",
    )


# ----------------------------------------------------------------------------------------------
# Peaks that fall by half from period to period, down to zero, in periods of equal length.


def falling_in_tensorflow(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    schedule = CosineDecayRestarts(PEAK, 4, t_mul=1.0, m_mul=0.5)
    return rates_of_tensorflow(cell, STEPS, schedule)


def falling_in_keras(cell):
    from keras.optimizers.schedules import CosineDecayRestarts

    return rates_of_keras(cell, STEPS, CosineDecayRestarts(PEAK, 4, t_mul=1.0, m_mul=0.5))


def falling_in_jax(cell):
    return rates_of_optax(cell, STEPS, sgdr([4] * 4, (1.0, 0.5, 0.25, 0.125), 0.0))


@behaviour(
    "schedules.restarts-that-fall",
    frameworks="tensorflow keras jax",
    precisions="float32",
    modes=MODES,
    needs=NEEDS,
    catches="keras.every-restart-at-the-first-peak optax.periods-begin-a-step-late",
)
def test_restarts_that_fall(falling, rate_precision, cell, expect):
    """Four periods of four steps begin at 1, 1/2, 1/4, 1/8; half-way they are at half of that."""
    expect.within(
        bound_of(cell, rate_precision),
        observed=falling(cell),
        expected=expected_rates(first=4, factor=1, peak_factor=0.5, end=0.0),
        what="learning rates",
    )
