"""Layers as functions of arrays. Every one also takes a `Tensor`, and is then differentiable."""

from dataclasses import dataclass

import numpy as np


def dense(x, weight, bias):
    """x @ weight + bias.

    x: (..., inputs), two axes or more; weight: (inputs, outputs), the layout of Keras and Flax
    (torch.nn.Linear stores its transpose); bias: (outputs,). Returns (..., outputs).
    Raises ValueError when the shapes do not fit.
    """
    fits = len(x.shape) >= 2 and len(weight.shape) == 2 and x.shape[-1] == weight.shape[0]
    if not fits or tuple(bias.shape) != (weight.shape[1],):
        raise ValueError(
            f"dense: x {x.shape}, weight {weight.shape}, bias {bias.shape}; expected "
            "(..., inputs), (inputs, outputs), (outputs,)"
        )
    return x @ weight + bias


@dataclass(frozen=True)
class BatchNormConvention:
    """How one library updates running statistics in training, by default.

    running = (1 - weight_of_batch) * running + weight_of_batch * statistic of the batch, where the
    batch variance is divided by n - 1 if `unbiased`, by n if not. (The variance that normalizes
    the batch itself is divided by n everywhere.) `epsilon` is added to the variance. What torch
    calls momentum is weight_of_batch; what Keras and Flax call momentum is 1 - weight_of_batch.
    """

    name: str
    weight_of_batch: float
    unbiased: bool
    epsilon: float


# https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html
TORCH = BatchNormConvention("torch.nn.BatchNorm1d", 0.1, unbiased=True, epsilon=1e-5)
# https://keras.io/api/layers/normalization_layers/batch_normalization/
KERAS = BatchNormConvention("keras.layers.BatchNormalization", 0.01, unbiased=False, epsilon=1e-3)
# https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
FLAX = BatchNormConvention("flax.nnx.BatchNorm", 0.01, unbiased=False, epsilon=1e-5)


def batch_normalization_training(x, gamma, beta, epsilon):
    """Normalize each feature by the statistics of the batch.

    x: (batch, features); gamma (scale), beta (shift): (features,); epsilon: in units of x squared.
    Returns (output of the shape of x, batch mean, batch variance divided by n), the last two of
    shape (features,). Raises ValueError unless x has two axes and a row.
    Source: Ioffe and Szegedy, Batch Normalization (2015), arXiv:1502.03167, algorithm 1.
    """
    if len(x.shape) != 2 or x.shape[0] == 0:
        raise ValueError(f"x of shape {x.shape}; expected (batch, features) with batch >= 1")
    mean = x.mean(axis=0)
    variance = ((x - mean) ** 2).mean(axis=0)
    output = batch_normalization_inference(x, gamma, beta, mean, variance, epsilon)
    return output, mean, variance


def batch_normalization_inference(x, gamma, beta, running_mean, running_variance, epsilon):
    """gamma * (x - running_mean) / sqrt(running_variance + epsilon) + beta, per feature.

    x: (batch, features), all others (features,). Each row's output depends on that row alone.
    Source: Ioffe and Szegedy (2015), arXiv:1502.03167, algorithm 2.
    """
    return gamma * (x - running_mean) / (running_variance + epsilon) ** 0.5 + beta


def update_running_statistics(running_mean, running_variance, batch, momentum_of_new, unbiased):
    """The running mean and variance after one training batch.

    running_mean, running_variance: (features,); batch: (batch, features) array.
    momentum_of_new: weight of the batch in [0, 1]; unbiased: divide the variance by n - 1, not n.
    The three conventions in use (see `BatchNormConvention`):
      torch.nn.BatchNorm1d            0.9  * old + 0.1  * batch, variance divided by n - 1
      keras.layers.BatchNormalization 0.99 * old + 0.01 * batch, variance divided by n
      flax.nnx.BatchNorm              0.99 * old + 0.01 * batch, variance divided by n
    Returns (mean, variance), each (features,). Raises ValueError for a weight outside [0, 1] or
    too few rows (one for n, two for n - 1).
    """
    if not 0 <= momentum_of_new <= 1:
        raise ValueError(f"momentum_of_new is {momentum_of_new}; expected a weight in [0, 1]")
    if len(batch) < 1 + unbiased:
        raise ValueError(f"{len(batch)} rows in the batch; expected at least {1 + unbiased}")
    keep = 1 - momentum_of_new
    variance = np.var(batch, axis=0, ddof=int(unbiased))
    return (
        keep * running_mean + momentum_of_new * np.mean(batch, axis=0),
        keep * running_variance + momentum_of_new * variance,
    )
