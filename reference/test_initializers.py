"""Initial weights: bounds, variance and reproducibility."""

import math

import numpy as np
import pytest
from scipy import stats

from reference.initializers import (
    TRUNCATED_DEVIATION,
    glorot_uniform,
    he_normal,
    he_normal_truncated,
    he_uniform,
    lecun_normal,
    torch_linear_uniform,
)
from reference.statistics import (
    kolmogorov_distance,
    kolmogorov_limit,
    normal_second_moment_limits,
)

FAN_IN, FAN_OUT = 500, 300
N = FAN_IN * FAN_OUT
UNIFORM = pytest.mark.parametrize(
    "initializer, variance",
    [
        (glorot_uniform, 2 / (FAN_IN + FAN_OUT)),
        (he_uniform, 2 / FAN_IN),
        (torch_linear_uniform, 1 / (3 * FAN_IN)),
    ],
    ids=["glorot-uniform", "he-uniform", "torch-linear-uniform"],
)
TRUNCATED = pytest.mark.parametrize(
    "initializer, variance",
    [(he_normal_truncated, 2 / FAN_IN), (lecun_normal, 1 / FAN_IN)],
    ids=["he-normal-truncated", "lecun-normal"],
)
ALL = pytest.mark.parametrize(
    "initializer",
    [
        glorot_uniform,
        he_uniform,
        he_normal,
        he_normal_truncated,
        lecun_normal,
        torch_linear_uniform,
    ],
    ids=lambda initializer: initializer.__name__.replace("_", "-"),
)


def draw(initializer):
    return initializer(np.random.Generator(np.random.PCG64(0)), FAN_IN, FAN_OUT)


@UNIFORM
def test_weights_fill_the_documented_interval(initializer, variance):
    """A uniform variable of that variance lies in +-L, L = sqrt(3 * variance), and all n miss the
    outer share d of it with probability (1 - d)**n; d = 1 - 1e-10**(1 / n) makes that 1e-10."""
    weights = draw(initializer)
    limit = math.sqrt(3 * variance)
    share = 1 - 1e-10 ** (1 / N)
    assert weights.shape == (FAN_IN, FAN_OUT)
    assert limit * (1 - share) <= np.abs(weights).max() <= limit


@UNIFORM
def test_mean_and_variance(initializer, variance):
    """Hoeffding: the mean of n values in [a, b] strays by t with probability at most
    2 exp(-2 n t**2 / (b - a)**2); t makes that 5e-10 for each of the two, 1e-9 in all.
    At n = 150,000 the variance is known to within 2.6 %."""
    weights = draw(initializer) / math.sqrt(3 * variance)  # in [-1, 1], squares in [0, 1]
    t = math.sqrt(math.log(2 / 5e-10) / (2 * N))
    assert abs(weights.mean()) <= 2 * t
    assert abs(np.mean(weights**2) - 1 / 3) <= t


def test_he_normal_has_its_variance_and_no_limits():
    """The variance by the chi-square distribution (2.3 % at n = 150,000), the shape by Kolmogorov's
    distance, the missing limits by the largest weight: none beyond 3.5 deviations has probability
    (1 - 4.7e-4)**n = 1e-30. False alarms 1e-9 in all."""
    weights = draw(he_normal) / math.sqrt(2 / FAN_IN)
    low, high = normal_second_moment_limits(N, 5e-10)
    assert low <= np.mean(weights**2) <= high
    assert kolmogorov_distance(weights, stats.norm.cdf) <= kolmogorov_limit(N, 4e-10)
    assert np.abs(weights).max() > 3.5


@TRUNCATED
def test_truncated_normal_has_the_variance_it_had_before_it_was_cut(initializer, variance):
    """Cut at two deviations of the wider normal; squares in [0, 5.17], so Hoeffding: 4.5 %."""
    weights = draw(initializer) / math.sqrt(variance)
    cut = 2 / TRUNCATED_DEVIATION
    assert weights.shape == (FAN_IN, FAN_OUT)
    assert 0.999 * cut <= np.abs(weights).max() <= cut
    t = cut**2 * math.sqrt(math.log(2 / 5e-10) / (2 * N))
    assert abs(np.mean(weights**2) - 1) <= t
    shape = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)
    assert kolmogorov_distance(weights, shape.cdf) <= kolmogorov_limit(N, 4e-10)


def test_the_deviation_of_a_truncated_normal():
    """Var = 1 - 4 phi(2) / (Phi(2) - Phi(-2)): what cutting at +-2 leaves of variance 1."""
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    inside = math.erf(math.sqrt(2))
    deviation = math.sqrt(1 - 4 * density / inside)
    assert deviation == pytest.approx(TRUNCATED_DEVIATION, rel=1e-15)


@ALL
def test_the_generator_decides(initializer):
    np.testing.assert_array_equal(draw(initializer), draw(initializer), strict=True)
    rng = np.random.Generator(np.random.PCG64(0))
    first, second = initializer(rng, 4, 5), initializer(rng, 4, 5)
    assert first.dtype == np.float64
    assert not np.array_equal(first, second)
