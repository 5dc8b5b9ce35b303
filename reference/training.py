"""Training a multilayer perceptron in NumPy, exactly or with simulated rounding errors."""

import math
from contextlib import nullcontext

import numpy as np

from reference.autodiff import Tensor, rounding
from reference.initializers import glorot_uniform
from reference.layers import dense
from reference.losses import softmax_cross_entropy
from reference.optimizers import SGD


def initial_mlp(sizes, seed):
    """Glorot-uniform weights and zero biases, the same for the same seed on every machine.

    sizes: units of each layer from input to output, e.g. (784, 256, 128, 10).
    Returns a list of (weight (inputs, outputs), bias (outputs,)), float64.
    Raises ValueError for fewer than two sizes or a size below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes {tuple(sizes)}: expected two or more, each at least 1")
    rng = np.random.Generator(np.random.PCG64(seed))
    return [
        (glorot_uniform(rng, fan_in, fan_out), np.zeros(fan_out))
        for fan_in, fan_out in zip(sizes[:-1], sizes[1:], strict=True)
    ]


def mlp(images, parameters):
    """The logits of a perceptron with ReLU between its dense layers.

    images: (batch, inputs) Tensor; parameters: pairs (weight, bias) of arrays or Tensors.
    Returns a Tensor (batch, classes).
    """
    *hidden, (weight, bias) = parameters
    for hidden_weight, hidden_bias in hidden:
        images = dense(images, hidden_weight, hidden_bias).relu()
    return dense(images, weight, bias)


def train_mlp(images, labels, parameters, *, learning_rate, momentum, batches, perturb=None):
    """Train by SGD with momentum on the mean cross-entropy, one step per batch.

    images: (n, inputs), of the dtype of the parameters, which is the precision of the training;
    labels: (n,) integers; parameters: as `initial_mlp` returns them, left unchanged;
    batches: sequence of index arrays, one per step, so that any framework can take the same steps;
    perturb: hook given the result of every operation of the forward pass, the backward pass and
    the update (see `reference.autodiff.rounding`), e.g. `monte_carlo_rounding(2**-24, seed=0)`.
    Returns (losses (steps,) float64, each before its update; the trained parameters).
    Raises TypeError for differing dtypes and ValueError for shapes or labels that do not fit.
    """
    layers = [tuple(Tensor(array, requires_grad=True) for array in pair) for pair in parameters]
    optimizer = SGD([tensor for pair in layers for tensor in pair], learning_rate, momentum)
    losses = np.empty(len(batches))
    with nullcontext() if perturb is None else rounding(perturb):
        for step, batch in enumerate(batches):
            optimizer.zero_grad()
            loss = softmax_cross_entropy(mlp(Tensor(images[batch]), layers), labels[batch])
            loss.backward()
            optimizer.step()
            losses[step] = loss.data
    return losses, [(weight.data, bias.data) for weight, bias in layers]


def accuracy(images, labels, parameters):
    """The share of images, from 0 to 1, whose largest logit is that of their label.

    images: (n, inputs); labels: (n,) integers; parameters: as `initial_mlp` returns them.
    """
    logits = mlp(Tensor(images), parameters).data
    return float(np.mean(logits.argmax(axis=1) == labels))


def monte_carlo_rounding(unit_roundoff, seed, accumulation_roundoff=None):
    """A hook that commits random rounding errors as large as those of a lower precision.

    An elementwise result x becomes x * (1 + u * xi), with a fresh xi uniform in [-1, 1] for every
    element: Parker, Monte Carlo Arithmetic (1997, UCLA CSD-970002). Running a computation in
    float64 under several seeds shows how far arithmetic of unit roundoff u may carry its result.

    A sum x of k numbers t rounds after each addition, by up to u times the partial sum. On its way
    from 0 to x, with the terms in no particular order, a partial sum strays from the straight line
    by about norm(t), so it stays near hypot(x, norm(t)), even where x itself cancels. Errors of
    either sign add up like sqrt(k), not k: Higham and Mary (2019), A new approach to probabilistic
    rounding error analysis, SIAM J. Sci. Comput. 41, A2815. Hence a sum or matrix product moves by
    (u * |x| + accumulation_roundoff * sqrt(k) * hypot(x, norm(t))) * xi: one rounding of the result
    and k of the accumulator.

    unit_roundoff: u, 2**-24 for float32, 2**-11 for float16, 2**-8 for bfloat16. Below about
    2**-45 the float64 arithmetic underneath is not exact enough; deviations of first order are
    proportional to u, so measure at a larger u and scale.
    accumulation_roundoff: of the accumulator of sums, u by default; 2**-24 for 16-bit precisions
    on hardware and in libraries that add up in float32.
    """
    accumulation = unit_roundoff if accumulation_roundoff is None else accumulation_roundoff
    # Errors need no good digits, only speed: the fastest generator, single precision.
    generator = np.random.Generator(np.random.SFC64(seed))

    def perturb(result, terms=1, norm=None):
        noise = generator.random(result.shape, dtype=np.float32)
        noise = (noise - np.float32(0.5)) * np.float32(2)
        scale = unit_roundoff * np.abs(result)
        if norm is not None:
            scale = scale + accumulation * math.sqrt(terms) * np.hypot(result, norm)
        return result + noise * scale

    return perturb
