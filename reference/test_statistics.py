"""Tail bounds against closed forms, sums over all outcomes, and each other."""

import math

import numpy as np
import pytest

from reference.statistics import (
    binomial_limits,
    kolmogorov_distance,
    kolmogorov_limit,
    mean_tolerance,
    normal_mean_tolerance,
    normal_second_moment_limits,
    share_left_empty,
)


def binomial_probability(successes, draws, probability):
    """P(X in successes), summed over the outcomes."""
    return math.fsum(
        math.comb(draws, k) * probability**k * (1 - probability) ** (draws - k) for k in successes
    )


@pytest.mark.parametrize("draws, probability", [(20, 0.25), (200, 0.75), (50, 0.5)])
@pytest.mark.parametrize("false_alarm", [0.1, 1e-3, 1e-9])
def test_binomial_limits_are_exact(draws, probability, false_alarm):
    """Outside the limits lies at most `false_alarm`; one success tighter, more in either tail."""
    least, most = binomial_limits(draws, probability, false_alarm)

    def below(k):
        return binomial_probability(range(k), draws, probability)

    def above(k):
        return binomial_probability(range(k + 1, draws + 1), draws, probability)

    assert below(least) <= false_alarm / 2 * (1 + 1e-9)
    assert above(most) <= false_alarm / 2 * (1 + 1e-9)
    assert below(least + 1) > false_alarm / 2
    assert above(most - 1) > false_alarm / 2


@pytest.mark.parametrize("false_alarm", [0.5, 1e-4, 1e-10])
def test_two_normal_squares_are_exponential(false_alarm):
    """Half the sum of two squares is exponential: P(mean of squares > x) = exp(-x)."""
    low, high = normal_second_moment_limits(2, false_alarm)
    assert low == pytest.approx(-math.log1p(-false_alarm / 2), rel=1e-9)
    assert high == pytest.approx(-math.log(false_alarm / 2), rel=1e-9)


def test_normal_second_moment_of_many_draws():
    """The standard deviation of the mean square is sqrt(2 / n); 6.1 of them have tails of 1e-9."""
    low, high = normal_second_moment_limits(1_000_000, 1e-9)
    assert (1 - low) / math.sqrt(2e-6) == pytest.approx(6.11, abs=0.05)
    assert (high - 1) / math.sqrt(2e-6) == pytest.approx(6.11, abs=0.05)


def test_normal_mean_tolerance():
    """2 Phi(-1.959964) = 5 %; the mean of n draws has the deviation 1 / sqrt(n)."""
    assert normal_mean_tolerance(1, 0.05) == pytest.approx(1.959964, abs=1e-6)
    assert math.erfc(10 * normal_mean_tolerance(100, 1e-9) / math.sqrt(2)) == pytest.approx(1e-9)


def test_mean_tolerance_solves_bernsteins_inequality():
    n, variance, largest, false_alarm = 1000, 0.2, 0.7, 1e-9
    t = mean_tolerance(n, variance, largest, false_alarm)
    exponent = n * t**2 / (2 * (variance + largest * t / 3))
    assert 2 * math.exp(-exponent) == pytest.approx(false_alarm, rel=1e-9)


@pytest.mark.parametrize("probability", [0.5, 0.1])
def test_mean_tolerance_covers_coins(probability):
    """For coins the exact tail is known. The bound must cover it, and be no wider than 1.4 times
    the tolerance of a normal variable of the same variance."""
    n, false_alarm = 400, 1e-6
    variance = probability * (1 - probability)
    t = mean_tolerance(n, variance, max(probability, 1 - probability), false_alarm)
    outside = [k for k in range(n + 1) if abs(k / n - probability) >= t]
    assert binomial_probability(outside, n, probability) <= false_alarm
    assert t <= 1.4 * math.sqrt(2 * math.log(2 / false_alarm) * variance / n)


def test_kolmogorov_distance_of_a_sample_by_hand():
    """Uniform; sample 0.5, 0.6: before 0.5 the share is 0 (0.5 too little), after 0.6 it is 1 (0.4
    too much). Sample 0.1, 0.2: after 0.2 it is 1 (0.8 too much)."""

    def uniform(x):
        return np.clip(x, 0, 1)

    assert kolmogorov_distance([[0.6], [0.5]], uniform) == pytest.approx(0.5)
    assert kolmogorov_distance([0.1, 0.2], uniform) == pytest.approx(0.8)


def test_kolmogorov_limit_of_one_draw():
    """One uniform draw has the distance max(U, 1 - U), which exceeds t >= 1/2 with 2 (1 - t)."""
    assert kolmogorov_limit(1, 0.3) == pytest.approx(1 - 0.3 / 2)


@pytest.mark.parametrize("draws", [1000, 300_000])
def test_kolmogorov_limit_obeys_massart(draws):
    """Massart (1990): P(D > t) <= 2 exp(-2 n t^2), and for many draws that is nearly exact."""
    massart = math.sqrt(math.log(2 / 1e-9) / (2 * draws))
    assert 0.98 * massart <= kolmogorov_limit(draws, 1e-9) <= massart


@pytest.mark.parametrize("draws", [1, 100, 300_000])
def test_share_left_empty(draws):
    share = share_left_empty(draws, 1e-9)
    assert draws * math.log1p(-share) == pytest.approx(math.log(1e-9))
