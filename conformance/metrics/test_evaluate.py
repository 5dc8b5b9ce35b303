"""What evaluate and validation report: means over the samples, weighted where weights are given.

The model returns what it is fed with, and the targets are 0, so that a sample is its own absolute
error. Samples 1, 2, 3, 4 and 10 come in batches of 2, 2 and 1:

    mean over the samples     (1 + 2 + 3 + 4 + 10) / 5        = 4
    mean of the batch means   (1.5 + 3.5 + 10) / 3            = 5

Who counts batches alike lets the last sample weigh twice as much as the others.

Samples 1, 2, 9 and 4 with the weights 3, 1, 0 and 4 come in batches of 2 and 2:

    loss               sum(weight * error) / samples          = (3 + 2 + 0 + 16) / 4 = 21/4
    metrics            sum(error) / samples                   = (1 + 2 + 9 + 4) / 4  = 4
    weighted_metrics   sum(weight * error) / sum(weight)      = 21 / (3 + 1 + 0 + 4) = 21/8

Sources: class 119, question 2 and topics 2; class 101, learning outcome 3;
https://keras.io/api/models/model_training_apis/#evaluate-method,
https://keras.io/api/models/model_training_apis/#compile-method (metrics, weighted_metrics),
https://keras.io/api/metrics/base_metric/, https://github.com/keras-team/keras/pull/19363
"""

import numpy as np

from fixtures.matrix import behaviour

# torch.compile takes tens of seconds over Keras's train step, and JAX compiles each precision anew.
COSTLY = "keras_torch-*-compiled keras_*-float64-compiled keras_jax-*-float64-eager"


def identity_in_keras(cell, **arguments):
    """A compiled model of one weight, 1, that no step changes."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype=cell.dtype),
        ]
    )
    optimizer = keras.optimizers.SGD(learning_rate=0.0)
    cell.compile_model(model, optimizer=optimizer, loss="mae", **arguments)
    return model


# ----------------------------------------------------------------------------------------------
# A last batch that is smaller than the others.

SAMPLES = np.array([[1.0], [2.0], [3.0], [4.0], [10.0]])
ZEROS = np.zeros_like(SAMPLES)


def loader_in_torch(cell):
    import torch

    samples = torch.tensor(SAMPLES, dtype=cell.dtype, device=cell.device)
    targets = torch.zeros_like(samples)
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(samples, targets), batch_size=2
    )


def reported_in_torch(cell):
    """The loop by hand: each batch mean counts as often as it has samples."""
    import torch

    total, samples = 0.0, 0
    for prediction, target in loader_in_torch(cell):
        total += torch.nn.functional.l1_loss(prediction, target).item() * len(prediction)
        samples += len(prediction)
    return {"loop": total / samples}


def mistake_in_torch(cell):
    import torch

    loader = loader_in_torch(cell)
    batches = [torch.nn.functional.l1_loss(*batch).item() for batch in loader]
    return sum(batches) / len(loader)


def reported_in_keras(cell):
    import keras

    model = identity_in_keras(cell, metrics=[keras.metrics.MeanAbsoluteError(name="metric")])
    validation = model.fit(
        SAMPLES,
        ZEROS,
        batch_size=2,
        shuffle=False,
        validation_data=(SAMPLES, ZEROS),
        validation_batch_size=2,
        verbose=0,
    ).history
    evaluated = model.evaluate(SAMPLES, ZEROS, batch_size=2, verbose=0, return_dict=True)
    return {
        "validation loss": validation["val_loss"][0],
        "validation metric": validation["val_metric"][0],
        "evaluated loss": evaluated["loss"],
        "evaluated metric": evaluated["metric"],
    }


def mistake_in_keras(cell):
    """Each batch evaluated by itself, and the mean of what was reported."""
    model = identity_in_keras(cell)
    batches = [slice(0, 2), slice(2, 4), slice(4, 5)]
    losses = [model.evaluate(SAMPLES[batch], ZEROS[batch], verbose=0) for batch in batches]
    return sum(losses) / len(losses)


@behaviour(
    "metrics.evaluate-mean-of-samples",
    frameworks="torch keras",
    precisions="float64 float32",
    modes={"keras": "eager compiled", "others": "eager"},
    costly=COSTLY,
    catches="torch.dataloader-drops-the-rest keras.metrics-weigh-batches-alike "
    "keras.test-step-weighs-batches-alike",
)
def test_evaluate_mean_of_samples(reported, mistake, cell, expect):
    """Loss and metrics of evaluate, and of fit's validation, are means over all samples: 4.

    The mean of the batch means is 5. In float32 every number on the way is exact.
    """
    for what, value in reported(cell).items():
        expect.exactly(observed=value, expected=4.0, what=what)
    expect.exactly(observed=mistake(cell), expected=5.0, what="mean of the batch means")


# ----------------------------------------------------------------------------------------------
# Weights of samples.

WEIGHED = np.array([[1.0], [2.0], [9.0], [4.0]])
WEIGHTS = np.array([3.0, 1.0, 0.0, 4.0])


def weighted_in_keras(cell):
    import keras

    model = identity_in_keras(
        cell,
        metrics=[keras.metrics.MeanAbsoluteError(name="plain")],
        weighted_metrics=[keras.metrics.MeanAbsoluteError(name="weighted")],
    )
    zeros = np.zeros_like(WEIGHED)
    history = model.fit(
        WEIGHED,
        zeros,
        sample_weight=WEIGHTS,
        batch_size=2,
        shuffle=False,
        validation_data=(WEIGHED, zeros, WEIGHTS),
        validation_batch_size=2,
        verbose=0,
    ).history
    evaluated = model.evaluate(
        WEIGHED, zeros, sample_weight=WEIGHTS, batch_size=2, verbose=0, return_dict=True
    )
    names = ("loss", "plain", "weighted")
    return {
        "fit": [history[name][0] for name in names],
        "validation": [history[f"val_{name}"][0] for name in names],
        "evaluate": [evaluated[name] for name in names],
    }


@behaviour(
    "metrics.weighted-metrics",
    frameworks="keras",
    precisions="float64 float32",
    modes="eager compiled",
    costly=COSTLY,
    catches="keras.weighted-metrics-without-weights",
)
def test_weighted_metrics(weighted, cell, expect):
    """weighted_metrics use the sample weights and metrics do not, in fit, validation, evaluate.

    Loss 21/4, metric 4 and weighted metric 21/8. In float32 every number on the way is exact.
    """
    for what, reported in weighted(cell).items():
        expect.exactly(
            observed=reported,
            expected=[21 / 4, 4.0, 21 / 8],
            what=f"loss, metric and weighted metric of {what}",
        )
