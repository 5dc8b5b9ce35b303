"""Two settings of Keras's optimizers: a rate that is called, and averages that are only kept.

learning_rate may be "a callable that takes no arguments and returns the actual value to use": it is
called anew for each step. Rates 1/2 and 1/4 with gradients of 1 move a weight from 1 to 1/2, then
to 1/4.

use_ema=True keeps a moving average of the weights beside them. ema_overwrite_frequency=None, the
default, leaves the weights alone until training ends. Here the average stays where it was after the
first step, at 0, since ema_momentum=1; the weight is set to 1, and a hundred steps with gradient 0
leave it there.

Sources: class 113, definitions (RMSProp); class 115, question 3;
https://keras.io/api/optimizers/rmsprop/, https://keras.io/api/optimizers/sgd/,
https://github.com/keras-team/keras/issues/19411
"""

from fixtures.matrix import behaviour


def called_rates_in_keras(cell):
    import keras

    rates = [0.25, 0.5]
    variable = keras.Variable([1.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(learning_rate=lambda: rates.pop())
    optimizer.build([variable])
    weights = []
    for _ in range(2):
        optimizer.apply([keras.ops.ones((1,), cell.dtype)], [variable])
        weights.append(float(keras.ops.convert_to_numpy(variable)[0]))
    return weights


@behaviour(
    "optimizers.callable-learning-rate",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.callable-rate-is-called-once",
)
def test_callable_learning_rate(called_rates, cell, expect):
    """A callable without arguments gives each step its rate: 1 - 1/2, then 1/2 - 1/4."""
    expect.exactly(observed=called_rates(cell), expected=[0.5, 0.25], what="weights")


def averaged_in_keras(cell):
    """The weight after 101 steps without a gradient, for each optimizer."""
    import keras

    weights = {}
    for name in ("SGD", "Adam", "RMSprop"):
        variable = keras.Variable([0.0], dtype=cell.dtype)
        optimizer = getattr(keras.optimizers, name)(use_ema=True, ema_momentum=1.0)
        optimizer.build([variable])
        zero = keras.ops.zeros((1,), cell.dtype)
        optimizer.apply([zero], [variable])
        variable.assign([1.0])
        for _ in range(100):
            optimizer.apply([zero], [variable])
        weights[name] = float(keras.ops.convert_to_numpy(variable)[0])
    return weights


@behaviour(
    "optimizers.average-does-not-overwrite",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.rmsprop-overwrites-with-averages",
)
def test_average_does_not_overwrite(averaged, cell, expect):
    """Without an ema_overwrite_frequency the average never replaces the weight in training."""
    for name, weight in averaged(cell).items():
        expect.exactly(observed=weight, expected=1.0, what=f"weight of {name}")
