"""Averaged weights: a moving average of the path, beside the weights that walk it.

A training that jumps to and fro around a minimum has its average near it. The average takes a
quarter of the weights after each step here, and keeps three quarters of itself; the weights pass
through 4, 8, 0:

    step                                  1     2      3
    torch AveragedModel, Keras use_ema    4     5     15/4     begin with the first weights
    begun at 0                            1    11/4   33/16    new * 1/4 + old * 3/4
    optax.ema                             4    44/7   132/37   the same, / (1 - (3/4)**t)
    torch AveragedModel without avg_fn    4     6      4       the mean of all so far

optax.ema begins at zero and divides by what is missing, as Adam does (debias=True).
optax.incremental_update is one step of either, from the old average that it is given.

                     the average takes            and what is given is
    torch            get_ema_multi_avg_fn(decay)  how much the average keeps, 3/4
    Keras            use_ema=True                 how much it keeps, ema_momentum=3/4
    optax            ema(decay)                   how much it keeps, 3/4
                     incremental_update           how much of the new it takes, step_size=1/4

Keras puts the average in the place of the weights when training ends, and before that every
ema_overwrite_frequency steps.

Sources: class 113, definitions (RMSProp: use_ema); Polyak and Juditsky (1992); Izmailov et al.
(2018), arXiv:1803.05407;
https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema,
https://keras.io/api/optimizers/sgd/,
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.ema,
https://optax.readthedocs.io/en/latest/api/apply_updates.html#optax.incremental_update
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

WEIGHTS = (4.0, 8.0, 0.0)
KEEPS = 3 / 4


def averages_in_numpy(cell):
    number = cell.dtype.type
    average = number(WEIGHTS[0])
    averages = [average]
    for weight in map(number, WEIGHTS[1:]):
        average = number(KEEPS) * average + number(1 - KEEPS) * weight
        averages.append(average)
    return averages


def walking(cell, **how):
    """What an AveragedModel holds after each step of a layer that passes through the weights."""
    import torch
    from torch.optim.swa_utils import AveragedModel

    layer = torch.nn.Linear(1, 1, bias=False, dtype=cell.dtype, device=cell.device)
    model = AveragedModel(layer, **how)
    averages = []
    for weight in WEIGHTS:
        with torch.no_grad():
            layer.weight.fill_(weight)
        model.update_parameters(layer)
        averages.append(model.module.weight.detach().clone().reshape(()))
    return averages


def averages_in_torch(cell):
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    return walking(cell, multi_avg_fn=get_ema_multi_avg_fn(KEEPS))


# From w = 0 these gradients, times a learning rate of 1, take w through the weights.
GRADIENTS = (-4.0, -4.0, 8.0)


def averages_in_tensorflow(cell):
    """finalize_variable_values puts the average in the place of the weight, as fit does last."""
    import keras
    import tensorflow as tf

    averages = []
    for steps in (1, 2, 3):
        w = tf.Variable(0.0, dtype=cell.dtype)
        optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=KEEPS)
        optimizer.build([w])

        @cell.compile
        def step(gradient, w=w, optimizer=optimizer):
            optimizer.apply_gradients([(gradient, w)])

        for gradient in GRADIENTS[:steps]:
            step(tf.constant(gradient, cell.dtype))
        optimizer.finalize_variable_values([w])
        averages.append(tf.identity(w))
    return averages


def averages_in_keras(cell):
    import keras

    averages = []
    for steps in (1, 2, 3):
        w = keras.Variable(0.0, dtype=cell.dtype)
        optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=KEEPS)
        for gradient in GRADIENTS[:steps]:
            optimizer.apply([keras.ops.convert_to_tensor(gradient, cell.dtype)], [w])
        optimizer.finalize_variable_values([w])
        averages.append(w)
    return averages


def averages_in_jax(cell):
    """From the first weights on, as torch and Keras do it."""
    import jax.numpy as jnp
    import optax

    @cell.compile
    def follow(new, old):
        return optax.incremental_update(new, old, step_size=1 - KEEPS)

    first, *others = (jnp.asarray(weight, cell.dtype) for weight in WEIGHTS)
    averages = [first]
    for weight in others:
        averages.append(follow(weight, averages[-1]))
    return averages


@behaviour(
    "optimizers.weight-average",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.weight-average-keeps-too-little keras.weight-average-starts-at-zero "
    "optax.incremental-update-keeps-the-step",
)
def test_weight_average(averages, cell, expect):
    """An average that keeps 3/4 of itself follows 4, 8, 0 as 4, 5, 15/4, exactly."""
    expect.exactly(observed=averages(cell), expected=[4.0, 5.0, 3.75], what="averages")


# ----------------------------------------------------------------------------------------------
# The other ways to begin: from zero and corrected for it, or with the mean of all.


def started_in_torch(cell):
    return walking(cell)


def started_in_jax(cell):
    import jax.numpy as jnp
    import optax

    average = optax.ema(KEEPS, debias=True)
    state = average.init(jnp.zeros((), cell.dtype))
    averages = []
    for weight in WEIGHTS:
        value, state = average.update(jnp.asarray(weight, cell.dtype), state)
        averages.append(value)
    return averages


expected_in_torch = (4.0, 6.0, 4.0)
expected_in_jax = (4.0, 44 / 7, 132 / 37)


@behaviour(
    "optimizers.weight-average-start",
    frameworks="torch jax",
    precisions="float64 float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.equal-average-counts-the-start optax.ema-without-debiasing",
)
def test_weight_average_start(started, expected, cell, expect):
    """AveragedModel takes the mean of all, 4, 6, 4; optax.ema corrects 1, 11/4, 33/16.

    Divided by 1/4, 7/16 and 37/64 these are 4, 44/7 and 132/37. The sums are exact; two roundings
    in the power, one in the difference and one in the quotient make four. The mean is updated by
    (w - mean) / n: three roundings, of terms no larger than 8.
    """
    expect.within(
        rounded(4, cell.precision, terms=8.0),
        observed=started(cell),
        expected=np.array(expected),
        what="averages",
    )


# ----------------------------------------------------------------------------------------------
# Overwriting in between. Every second step w becomes the average: after 4 and 8 that is 5, and the
# third gradient, 8, takes w on from there, to -3. The average: 3/4 * 5 - 3/4 = 3.


def overwritten_in_keras(cell):
    import keras

    w = keras.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(
        1.0, use_ema=True, ema_momentum=KEEPS, ema_overwrite_frequency=2
    )
    weights = []
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient, cell.dtype)], [w])
        weights.append(w + 0)
    optimizer.finalize_variable_values([w])
    return [*weights, w]


@behaviour(
    "optimizers.weight-average-overwrites",
    frameworks="keras",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    costly="keras_jax-*float16-eager",
    catches="keras.weight-average-overwrites-too-rarely",
)
def test_weight_average_overwrites(overwritten, cell, expect):
    """With ema_overwrite_frequency=2 the weight is 4, then the average 5, then 5 - 8 = -3.

    In the end it is the average of 5 and -3, that is, 3.
    """
    expect.exactly(observed=overwritten(cell), expected=[4.0, 5.0, -3.0, 3.0], what="weights")
