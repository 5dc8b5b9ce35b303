"""The losses of several outputs, each reported beside their sum.

The errors of one output are 0, 0, 0 in the first batch and 8 in the second, smaller one; those of
the other are twice as large:

                   mean over the four samples     mean of the two batch means
    single                     2                               4
    double                     4                               8
    loss                       6                              12

Every number that an epoch reports is a mean over its samples, so the losses of the outputs add up
to the loss. Averaged over batches they do not, and the smaller last batch weighs too much. (Before
3.5 Keras reported the sum alone.)

Sources: class 103, homework 4, exercise 2;
https://keras.io/guides/functional_api/#models-with-multiple-inputs-and-outputs,
https://keras.io/api/models/model_training_apis/
"""

import numpy as np

from fixtures.matrix import behaviour

ERRORS = [0.0, 0.0, 0.0, 8.0]
BATCH_SIZE = 3


def reported_in_keras(cell):
    """What evaluate and an epoch of fit say, by name; the learning rate is 0."""
    import keras

    def times(factor, name):
        return keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer=keras.initializers.Constant(factor),
            dtype=cell.dtype,
            name=name,
        )(inputs)

    inputs = keras.Input((1,))
    model = keras.Model(inputs, [times(1.0, "single"), times(2.0, "double")])
    optimizer = keras.optimizers.SGD(learning_rate=0.0)
    cell.compile_model(model, optimizer=optimizer, loss=["mae", "mae"])
    x = np.array(ERRORS)[:, None]
    targets = [np.zeros_like(x), np.zeros_like(x)]
    evaluated = model.evaluate(x, targets, batch_size=BATCH_SIZE, verbose=0, return_dict=True)
    fitted = model.fit(x, targets, batch_size=BATCH_SIZE, shuffle=False, verbose=0).history
    return evaluated, {name: value for name, (value,) in fitted.items()}


@behaviour(
    "metrics.losses-of-outputs",
    frameworks="keras",
    precisions="float32",
    modes="eager compiled",
    needs={"keras": "keras>=3.5"},
    costly="keras_torch-*-compiled",
    catches="keras.losses-of-outputs-weigh-batches-alike",
)
def test_losses_of_outputs(reported, cell, expect):
    """The loss of each output is a mean over samples, in evaluate and in fit; their sum is 6."""
    for what, values in zip(("evaluate", "fit"), reported(cell), strict=True):
        expect.exactly(observed=values["loss"], expected=6.0, what=f"loss of {what}")
        outputs = [values["single_loss"], values["double_loss"]]
        expect.exactly(observed=outputs, expected=[2.0, 4.0], what=f"losses of outputs of {what}")
