"""Training by the autodiff against hand-written backpropagation, and simulated rounding."""

import numpy as np
import pytest

from reference.autodiff import Tensor
from reference.training import accuracy, initial_mlp, mlp, monte_carlo_rounding, train_mlp

RNG = np.random.Generator(np.random.PCG64(1))
IMAGES = RNG.random((96, 20))
LABELS = (IMAGES @ RNG.normal(size=(20, 4))).argmax(axis=1)
BATCHES = np.arange(96).reshape(6, 16)[np.arange(30) % 6]
SIZES = (20, 12, 8, 4)
OPTIONS = {"learning_rate": 0.1, "momentum": 0.9, "batches": BATCHES}


def train(perturb=None, dtype=np.float64, **changes):
    parameters = [(w.astype(dtype), b.astype(dtype)) for w, b in initial_mlp(SIZES, seed=0)]
    options = {**OPTIONS, **changes}
    return train_mlp(IMAGES.astype(dtype), LABELS, parameters, perturb=perturb, **options)


def flat(parameters):
    return [array for pair in parameters for array in pair]


def backpropagation(parameters, learning_rate, momentum, batches):
    """Rumelhart, Hinton and Williams (1986) for two hidden layers, written out by hand."""
    (w1, b1), (w2, b2), (w3, b3) = parameters
    weights = [w1, b1, w2, b2, w3, b3]
    velocities = [0 * weight for weight in weights]
    losses = []
    for batch in batches:
        w1, b1, w2, b2, w3, b3 = weights
        x = IMAGES[batch]
        h1 = np.maximum(x @ w1 + b1, 0)
        h2 = np.maximum(h1 @ w2 + b2, 0)
        p = np.exp(h2 @ w3 + b3)
        p /= p.sum(axis=1, keepdims=True)
        rows = np.arange(len(batch)), LABELS[batch]
        losses.append(-np.log(p[rows]).mean())
        p[rows] -= 1
        d3 = p / len(batch)
        d2 = d3 @ w3.T * (h2 > 0)
        d1 = d2 @ w2.T * (h1 > 0)
        gradients = [x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)]
        velocities = [momentum * v + g for v, g in zip(velocities, gradients, strict=True)]
        weights = [w - learning_rate * v for w, v in zip(weights, velocities, strict=True)]
    return np.array(losses), weights


def test_training_equals_backpropagation_by_hand():
    """They differ in rounding alone, so by no more than a simulation with four times the roundoff:
    deviation(2**-51) = 2**-21 * deviation(2**-30), being proportional (below)."""
    losses, trained = train()
    expected_losses, expected_weights = backpropagation(initial_mlp(SIZES, seed=0), **OPTIONS)
    of_losses, of_weights = deviation(2.0**-30)
    np.testing.assert_allclose(losses, expected_losses, rtol=0, atol=of_losses * 2.0**-21)
    for weight, expected in zip(flat(trained), expected_weights, strict=True):
        np.testing.assert_allclose(weight, expected, rtol=0, atol=of_weights * 2.0**-21)
    assert losses[-6:].mean() < np.log(4) / 2  # guessing among the four classes costs log 4


def test_training_leaves_its_arguments_unchanged():
    parameters = initial_mlp(SIZES, seed=0)
    first, _ = train_mlp(IMAGES, LABELS, parameters, **OPTIONS)
    again, _ = train_mlp(IMAGES, LABELS, parameters, **OPTIONS)
    np.testing.assert_array_equal(first, again, strict=True)


def test_initial_parameters():
    parameters = initial_mlp((3, 2, 5), seed=0)
    assert [(w.shape, b.shape) for w, b in parameters] == [((3, 2), (2,)), ((2, 5), (5,))]
    assert all(array.dtype == np.float64 for array in flat(parameters))
    assert not any(bias.any() for _, bias in parameters)
    # 0.636961687 is the first number of PCG64(0), sqrt(6 / 5) Glorot's limit.
    first = (2 * 0.636961687 - 1) * np.sqrt(6 / 5)
    assert parameters[0][0][0, 0] == pytest.approx(first, abs=1e-8)
    assert not np.array_equal(parameters[0][0], initial_mlp((3, 2, 5), seed=1)[0][0])


@pytest.mark.parametrize("sizes", [(784,), (784, 0, 10)])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="expected two or more, each at least 1"):
        initial_mlp(sizes, seed=0)


def test_mlp_and_accuracy_by_hand():
    """Hidden relu(x) and relu(-x) add up to |x|; the logits |x| and 2 say 0 where |x| > 2."""
    parameters = [
        (np.array([[1.0, -1.0]]), np.zeros(2)),
        (np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.0, 2.0])),
    ]
    images = np.array([[-3.0], [-1.0], [1.0], [3.0]])
    logits = mlp(Tensor(images), parameters)
    np.testing.assert_array_equal(logits.data, [[3, 2], [1, 2], [1, 2], [3, 2]])
    assert accuracy(images, np.array([0, 1, 1, 1]), parameters) == 0.75


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_training_runs_in_the_dtype_of_its_parameters(precision):
    if precision == "bfloat16":
        from ml_dtypes import bfloat16 as precision
    losses, trained = train(dtype=precision)
    assert losses.dtype == np.float64
    assert all(array.dtype == np.dtype(precision) for array in flat(trained))
    assert losses[-6:].mean() < np.log(4) / 2


def test_images_of_another_dtype_are_refused():
    with pytest.raises(TypeError, match="float32 and float64 in one operation"):
        train_mlp(IMAGES.astype(np.float32), LABELS, initial_mlp(SIZES, seed=0), **OPTIONS)


# Simulated rounding ------------------------------------------------------------------------------


def deviation(unit_roundoff):
    """The largest change of any loss, and of any trained weight, under simulated rounding."""
    runs = [train(monte_carlo_rounding(unit_roundoff, seed)) for seed in range(4)]
    losses, trained = train()
    return (
        max(np.abs(run[0] - losses).max() for run in runs),
        max(
            np.abs(moved - weight).max()
            for run in runs
            for moved, weight in zip(flat(run[1]), flat(trained), strict=True)
        ),
    )


def test_simulated_deviation_is_proportional_to_the_unit_roundoff():
    """As long as no ReLU changes sides: the errors are the same random numbers, times u."""
    large, small = deviation(2.0**-30), deviation(2.0**-40)
    np.testing.assert_allclose(large, np.multiply(small, 1024), rtol=1e-3)
    assert min(small) > 2.0**-40


def test_a_float32_run_stays_within_the_simulated_deviation():
    """Reference of a float32 run: float64 from the rounded inputs."""

    def as_float32(array):
        return array.astype(np.float32).astype(np.float64)

    parameters = [(as_float32(w), as_float32(b)) for w, b in initial_mlp(SIZES, seed=0)]
    exact, _ = train_mlp(as_float32(IMAGES), LABELS, parameters, **OPTIONS)
    losses, _ = train(dtype=np.float32)
    simulated, _ = deviation(2.0**-24)
    assert simulated / 20 < np.abs(losses - exact).max() < simulated


def test_the_simulated_error_of_a_number():
    """x (1 + u xi): within u, uniform, so of mean square u**2 / 3. By Hoeffding the mean square
    of 100,000 strays by more than 0.0107 u**2 with probability 1e-9 at most."""
    x = np.full(100_000, 3.0)
    error = (monte_carlo_rounding(2.0**-20, seed=0)(x) - x) / (3 * 2.0**-20)
    assert 0.999 < np.abs(error).max() <= 1 + 1e-9
    t = np.sqrt(np.log(2e9) / (2 * x.size))
    assert abs(np.mean(error**2) - 1 / 3) <= t
    assert abs(error.mean()) <= 2 * t


def test_the_simulated_error_of_a_sum_grows_with_its_terms_even_where_it_cancels():
    """1 - 1 + 1 - ...: x = 0, norm 4 for 16 terms, so scale v * sqrt(16) * 4 = 16 v."""
    zeros, norm, v = np.zeros(10_000), np.full(10_000, 4.0), 2.0**-20
    moved = monte_carlo_rounding(2.0**-8, seed=0, accumulation_roundoff=v)(zeros, 16, norm)
    assert 0.99 * 16 * v < np.abs(moved).max() <= 16 * v
    moved = monte_carlo_rounding(v, seed=0)(zeros, 16, norm)  # the same roundoff by default
    assert 0.99 * 16 * v < np.abs(moved).max() <= 16 * v


def test_simulated_rounding_is_reproducible():
    first, again, other = (train(monte_carlo_rounding(2.0**-24, seed))[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again, strict=True)
    assert not np.array_equal(first, other)
