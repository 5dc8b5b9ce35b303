"""Several outputs: each has its loss, its target and its weight, by name or by position.

The model returns constants, `small` = 2 and `big` = 10, in that order, which is not the alphabet's.
Against targets of 0:

    big by its absolute error, small by its square         10 + 4         = 14
    half of big's absolute error, and all of small's       10 / 2 + 2     = 7
    absolute errors against big = 10 and small = 2          0 + 0         = 0
    losses [None, absolute error]: only big has one                         10

The total loss is the sum over the outputs that have a loss, each times its weight (1 unless given).

Sources: class 103, homework 4, exercise 2, common mistake 4;
https://keras.io/api/models/model_training_apis/,
https://keras.io/guides/functional_api/#models-with-multiple-inputs-and-outputs,
https://github.com/keras-team/keras/issues/20596
"""

import numpy as np

from fixtures.matrix import behaviour

SMALL, BIG = 2.0, 10.0


def total_in_keras(cell, targets, **arguments):
    """What evaluate reports as the loss, of a model that returns [small, big]."""
    import keras

    def constant(name, value):
        return keras.layers.Dense(
            1,
            kernel_initializer="zeros",
            bias_initializer=keras.initializers.Constant(value),
            dtype=cell.dtype,
            name=name,
        )(inputs)

    inputs = keras.Input((1,))
    model = keras.Model(inputs, [constant("small", SMALL), constant("big", BIG)])
    cell.compile_model(model, optimizer="sgd", **arguments)
    x = np.zeros((2, 1))
    if isinstance(targets, dict):
        y = {name: x + value for name, value in targets.items()}
    else:
        y = [x + value for value in targets]
    return float(model.evaluate(x, y, verbose=0, return_dict=True)["loss"])


@behaviour(
    "losses.multiple-outputs-by-name",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.losses-in-the-order-of-the-alphabet",
)
def test_multiple_outputs_by_name(total, cell, expect):
    """A dict of losses, weights or targets goes by the outputs' names, whatever their order."""
    zeros = {"small": 0.0, "big": 0.0}
    losses = total(cell, zeros, loss={"big": "mae", "small": "mse"})
    expect.exactly(observed=losses, expected=14.0, what="loss with losses by name")
    weights = {"small": 1.0, "big": 0.5}
    weighted = total(cell, zeros, loss={"big": "mae", "small": "mae"}, loss_weights=weights)
    expect.exactly(observed=weighted, expected=7.0, what="loss with weights by name")
    targets = total(cell, {"big": BIG, "small": SMALL}, loss="mae")
    expect.exactly(observed=targets, expected=0.0, what="loss with targets by name")


@behaviour(
    "losses.output-without-a-loss",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.losses-skip-the-outputs-without-one",
)
def test_output_without_a_loss(total, cell, expect):
    """A list of losses goes by position, and None is an output without one: big's error remains."""
    observed = total(cell, [0.0, 0.0], loss=[None, "mae"])
    expect.exactly(observed=observed, expected=10.0, what="loss of the second output alone")
