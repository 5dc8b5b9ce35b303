"""Data parallelism in NumPy: what replicas that share a batch must agree on.

Every replica takes the mean gradient of its own part of the batch, and the replicas average their
gradients. Parts of equal size make that the gradient of the whole batch:

    1/k Σ_r mean_{i in part r} g_i  =  mean_i g_i        if all k parts have the same size

With parts of unequal size it is another number, in which the samples of the smaller part weigh more
(Li et al. 2020, PyTorch Distributed: Experiences on Accelerating Data Parallel Training, VLDB).
The model is the smallest one that shows it: y ≈ x·w with the mean squared error.
"""

import numpy as np


def gradient(x, y, w):
    """The gradient 2/n Xᵀ(Xw - y) of mean((Xw - y)²). x: (n, d), y: (n,), w: (d,) -> (d,)."""
    return 2 / len(x) * (x.T @ (x @ w - y))


def average_gradient(parts, w):
    """The average over replicas of each one's mean gradient. parts: pairs (x, y), one a replica."""
    return sum(gradient(x, y, w) for x, y in parts) / len(parts)


def average_magnitude(parts, w):
    """What `average_gradient` sums, without signs: the average of 2/n |X|ᵀ(|X||w| + |y|).

    A gradient errs by at most gamma times this (Higham 2002, section 3.1), where gamma bounds the
    relative error of its chain of roundings.
    """
    return average_gradient([(np.abs(x), -np.abs(y)) for x, y in parts], np.abs(w))


def train(steps, w, learning_rate):
    """SGD over data-parallel steps; w after each of them, (len(steps), d).

    steps: for every step the parts its replicas hold, as `average_gradient` takes them.
    """
    trajectory = []
    for parts in steps:
        w = w - learning_rate * average_gradient(parts, w)
        trajectory.append(w)
    return np.stack(trajectory)


def train_error(steps, w, learning_rate, gamma):
    """How far rounding may take `train` from the truth, step by step: (len(steps), d).

    Every step errs by gamma times the sum of its absolute terms, and hands on the error e it was
    given as (I + rate·2/n |X|ᵀ|X|) e, at most.
    """
    error, errors = np.zeros_like(w), []
    for parts in steps:
        handed_on = [(np.abs(x), np.zeros_like(y)) for x, y in parts]
        error = error + learning_rate * average_gradient(handed_on, error)
        error = error + gamma * (np.abs(w) + learning_rate * average_magnitude(parts, w))
        errors.append(error)
        w = w - learning_rate * average_gradient(parts, w)
    return np.stack(errors)
