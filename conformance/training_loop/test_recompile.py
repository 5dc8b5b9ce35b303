"""compile, again: the second call says all that holds.

compile configures a model for training, and is called again after layers were frozen or thawed.
What the second call does not name is the default, not what the first call said: metrics are those
of the last compile.

Sources: class 131, common mistake 4; https://keras.io/api/models/model_training_apis/,
https://keras.io/guides/transfer_learning/
"""

import numpy as np

from fixtures.matrix import behaviour


def reported_in_keras(cell, *compilations):
    """What evaluate reports after these compilations, each with an evaluation of its own."""
    import keras

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, dtype=cell.dtype)])
    zeros = np.zeros((2, 1))
    for arguments in compilations:
        cell.compile_model(model, optimizer="sgd", loss="mse", **arguments)
        reported = model.evaluate(zeros, zeros, verbose=0, return_dict=True)
    return sorted(reported)


FIRST = {"metrics": ["mae"]}


@behaviour(
    "training-loop.compile-with-other-metrics",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.first-metrics-stay",
)
def test_compile_with_other_metrics(reported, cell, expect):
    """The metrics of the first compile are gone after one with others."""
    observed = reported(cell, FIRST, {"metrics": ["cosine_similarity"]})
    expect.exactly(
        observed=observed, expected=["cosine_similarity", "loss"], what="metrics reported"
    )


@behaviour(
    "training-loop.compile-again",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.first-metrics-stay",
)
def test_compile_again(reported, cell, expect):
    """The metrics of the first compile are gone after one without any."""
    observed = reported(cell, FIRST, {})
    expect.exactly(observed=observed, expected=["loss"], what="no metrics reported")
