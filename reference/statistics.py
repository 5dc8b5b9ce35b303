"""How far a statistic of random draws may stray: tail bounds with a stated false-alarm probability.

A statistical spec fails a correct library with a small probability, whatever it does. Each function
here is given that probability and returns the limits that go with it: exact quantiles where the
distribution is known, an exponential inequality where only its range and variance are.
"""

import numpy as np
from scipy import stats


def binomial_limits(draws, probability, false_alarm):
    """The least and the most successes in `draws` independent trials that a test should accept.

    Exact: fewer than the least, or more than the most, come with `false_alarm` at most in all.
    Returns two integers. Source: Clopper and Pearson (1934), Biometrika 26, for the two tails.
    """
    binomial = stats.binom(draws, probability)
    least = int(binomial.ppf(false_alarm / 2))  # P(fewer) < false_alarm / 2
    most = int(binomial.isf(false_alarm / 2))  # P(more) <= false_alarm / 2
    return least, most


def normal_second_moment_limits(draws, false_alarm):
    """Limits of the mean of the squares of `draws` standard normal variables.

    Exact: their sum is chi-square distributed with `draws` degrees of freedom. Returns two numbers
    around 1; each tail has half of `false_alarm`.
    """
    chi_square = stats.chi2(draws)
    return (
        float(chi_square.ppf(false_alarm / 2)) / draws,
        float(chi_square.isf(false_alarm / 2)) / draws,
    )


def normal_mean_tolerance(draws, false_alarm):
    """How far the mean of `draws` standard normal variables may lie from 0; exact."""
    return float(stats.norm.isf(false_alarm / 2) / np.sqrt(draws))


def mean_tolerance(draws, variance, largest_deviation, false_alarm):
    """How far the mean of `draws` independent variables may lie from its expectation.

    `variance`: of one variable; `largest_deviation`: no variable lies farther from its expectation.
    Bernstein's inequality: P(|mean - expectation| >= t) <= 2 exp(-n t^2 / (2 (v + m t / 3))); the
    t returned makes the right side `false_alarm`.
    Source: Boucheron, Lugosi and Massart, Concentration Inequalities (2013), equation 2.10.
    """
    log = np.log(2 / false_alarm)
    linear = log * largest_deviation / (3 * draws)
    return float(linear + np.sqrt(linear**2 + 2 * log * variance / draws))


def kolmogorov_distance(sample, distribution_function):
    """The largest distance between the share of the sample up to x and the probability of it.

    sample: array of any shape; distribution_function: x (array) -> P(X <= x), continuous.
    """
    ordered = np.sort(np.asarray(sample, np.float64), axis=None)
    probability = distribution_function(ordered)
    steps = np.arange(ordered.size + 1) / ordered.size
    return float(max(np.max(steps[1:] - probability), np.max(probability - steps[:-1])))


def kolmogorov_limit(draws, false_alarm):
    """The Kolmogorov distance that `draws` of the distribution exceed with `false_alarm`; exact."""
    return float(stats.kstwo(draws).isf(false_alarm))


def share_left_empty(draws, false_alarm):
    """The share of a range that all `draws` miss with probability `false_alarm`.

    Of n uniform draws from an interval none falls into the outer share d with probability
    (1 - d)^n; d = 1 - false_alarm^(1 / n).
    """
    return float(-np.expm1(np.log(false_alarm) / draws))
