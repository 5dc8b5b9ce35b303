"""Glorot and He: weights are drawn with the variance that keeps a signal's size through a layer.

A sum of fan_in products multiplies the variance of a signal by fan_in times that of the weights.
Glorot takes the variance 2 / (fan_in + fan_out), a compromise between 1 / fan_in (forward) and
1 / fan_out (backward); He takes 2 / fan_in, since a ReLU then throws half of the signal away.

                 uniform                         normal
    torch        +-sqrt(3 x variance)            without limits
    Keras, JAX   +-sqrt(3 x variance)            cut at 2 deviations, widened by 1 / 0.8796

The layer here has 300 inputs and 1,000 outputs: with unequal fans, taking one for the other shows.

Every test is statistical. The limits come from exact quantiles or exponential inequalities
(reference/statistics.py) and fail a correct library, whatever its random stream, with a probability
of 1e-9 for each test.

Sources: class 108, definitions of Glorot uniform and He normal, exercise 1, learning outcomes 2 and
3; Glorot and Bengio 2010; He et al. 2015 (arXiv:1502.01852);
https://docs.pytorch.org/docs/stable/nn.init.html, https://keras.io/api/layers/initializers/,
https://docs.jax.dev/en/latest/jax.nn.initializers.html
"""

import numpy as np
from scipy import stats

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from fixtures.precision.roundoff import storage_precision
from reference import statistics
from reference.initializers import TRUNCATED_DEVIATION

FAN_IN, FAN_OUT = 300, 1000
N = FAN_IN * FAN_OUT
FALSE_ALARM = 1e-9  # of a test; its assertions share it

# JAX draws t random bits for a format of t stored bits: of the limit, a uniform weight lies up to
# 2^(1 - t), four roundings, too low, and a truncated normal one by 2^(1 - t) / 0.88 deviations in
# the mean. (In bfloat16 that is 0.018, which the mean of 300,000 draws shows.) And scale and shift.
ROUNDINGS = 7


def weights_of(observed, cell, expect):
    """The weights in float64, once they are seen to have the cell's dtype and both fans."""
    precision = storage_precision(cell.precision)
    expect.exactly(observed=cell.precision_of(observed), expected=precision, what="dtype")
    weights = cell.to_numpy(observed)
    expect.exactly(observed=sorted(weights.shape), expected=[FAN_IN, FAN_OUT], what="shape")
    return weights


def expect_uniform(weights, cell, expect):
    """Weights divided by their limit are uniform in +-1 and new: largest, variance 1/3, shape.

    New: the second half of them is not the first again, nor its negative.
    """
    rounding = accumulated(ROUNDINGS, cell.precision)
    share = FALSE_ALARM / 4

    largest = float(np.abs(weights).max())
    empty = statistics.share_left_empty(N, share)
    expect.at_least(observed=1 + rounding - largest, least=0.0, what="room to the limit")
    expect.at_least(observed=largest, least=1 - empty - rounding, what="largest weight / limit")

    tolerance = statistics.mean_tolerance(N, 4 / 45, 2 / 3, share)
    expect.within(
        Bound(absolute=tolerance + rounding, because="Bernstein, false alarm 2.5e-10"),
        observed=float(np.mean(weights**2)),
        expected=1 / 3,
        what="variance / limit^2",
    )
    distance = statistics.kolmogorov_distance(weights, lambda x: np.clip((x + 1) / 2, 0, 1))
    expect.within(
        Bound(
            absolute=statistics.kolmogorov_limit(N, share) + rounding,
            because="Kolmogorov's distance, false alarm 2.5e-10",
        ),
        observed=distance,
        expected=0.0,
        what="distance from the uniform distribution",
    )
    first, second = np.split(weights.ravel(), 2)
    tolerance = statistics.mean_tolerance(N // 2, 1 / 9, 1.0, share)
    expect.within(
        Bound(absolute=tolerance + rounding, because="Bernstein, false alarm 2.5e-10"),
        observed=float(np.mean(first * second)),
        expected=0.0,
        what="covariance of the two halves / limit^2",
    )


def expect_mean_and_variance(weights, shape, cell, expect):
    """Weights divided by their documented deviation have mean 0, mean square 1, and are new.

    New: the second half of them is not the first again, nor its negative.
    """
    n = weights.size
    share = FALSE_ALARM / 3
    rounding = accumulated(ROUNDINGS, cell.precision)
    if shape is stats.norm:
        low, high = statistics.normal_second_moment_limits(n, share)
        of_square = max(1 - low, high - 1)
        of_mean = statistics.normal_mean_tolerance(n, share)
        # 2 a b is the square of (a + b) / sqrt(2) less that of (a - b) / sqrt(2), both normal.
        low, high = statistics.normal_second_moment_limits(n // 2, share / 2)
        of_product = (high - low) / 2
        because = "chi-square and normal tails, false alarm 3e-10 each"
    else:
        cut = 2 / TRUNCATED_DEVIATION
        variance_of_square = shape.moment(4) - 1
        of_square = statistics.mean_tolerance(n, variance_of_square, cut**2 - 1, share)
        of_mean = statistics.mean_tolerance(n, 1.0, cut, share)
        of_product = statistics.mean_tolerance(n // 2, 1.0, cut**2, share)
        because = "Bernstein, false alarm 3e-10 each"
    expect.within(
        Bound(absolute=of_square + 2 * rounding, because=because),
        observed=float(np.mean(weights**2)),
        expected=1.0,
        what="variance / documented variance",
    )
    expect.within(
        Bound(absolute=of_mean + rounding, because=because),
        observed=float(np.mean(weights)),
        expected=0.0,
        what="mean / deviation",
    )
    first, second = np.split(weights.ravel(), 2)
    expect.within(
        Bound(absolute=of_product + 2 * rounding, because=because),
        observed=float(np.mean(first * second)),
        expected=0.0,
        what="covariance of the two halves / variance",
    )


# ----------------------------------------------------------------------------------------------
# Glorot uniform: +-sqrt(6 / 1300) = +-0.067937, variance 2 / 1300.


def glorot_uniform_in_numpy(cell):
    import numpy as np

    from reference.initializers import glorot_uniform

    return glorot_uniform(np.random.default_rng(cell.seed), FAN_IN, FAN_OUT)


def glorot_uniform_in_torch(cell):
    """torch keeps weights as (outputs, inputs)."""
    import torch

    weight = torch.empty(FAN_OUT, FAN_IN, dtype=cell.dtype, device=cell.device)
    return torch.nn.init.xavier_uniform_(weight)


def glorot_uniform_in_keras(cell):
    import keras

    initializer = keras.initializers.GlorotUniform(seed=cell.seed)
    return initializer((FAN_IN, FAN_OUT), dtype=cell.dtype)


def glorot_uniform_in_jax(cell):
    import jax

    initializer = jax.nn.initializers.glorot_uniform()
    return initializer(jax.random.key(cell.seed), (FAN_IN, FAN_OUT), cell.dtype)


@behaviour(
    "initialization.glorot-uniform",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64", "others": "float64 float32 bfloat16 float16"},
    modes="eager",
    catches="torch.xavier-off-by-a-thousandth "
    "keras.glorot-uniform-forgets-the-outputs[*-float32-*|!*_tensorflow-*] "
    "jax.initializers-draw-in-bfloat16 torch.initializers-repeat-their-draws",
)
def test_glorot_uniform(glorot_uniform, cell, expect):
    """Glorot uniform fills +-sqrt(6 / (fan_in + fan_out)): variance 2 / (fan_in + fan_out).

    With fans of 300 and 1,000 no weight exceeds 0.067937, the largest comes within 0.007 % of it,
    the shares up to every x are those of the uniform distribution within 0.6 %, the variance is
    2 / 1300 within 1.1 % (Bernstein), and the halves of the weights are uncorrelated. In 16 bits
    the spacing of the numbers is added.
    """
    weights = weights_of(glorot_uniform(cell), cell, expect)
    expect_uniform(weights / np.sqrt(6 / (FAN_IN + FAN_OUT)), cell, expect)


# ----------------------------------------------------------------------------------------------
# He uniform: +-sqrt(6 / 300) = +-0.141421, variance 2 / 300.


def he_uniform_in_numpy(cell):
    import numpy as np

    from reference.initializers import he_uniform

    return he_uniform(np.random.default_rng(cell.seed), FAN_IN, FAN_OUT)


def he_uniform_in_torch(cell):
    """The default is the gain of leaky ReLU with slope 0: that of ReLU."""
    import torch

    weight = torch.empty(FAN_OUT, FAN_IN, dtype=cell.dtype, device=cell.device)
    return torch.nn.init.kaiming_uniform_(weight)


def he_uniform_in_keras(cell):
    import keras

    initializer = keras.initializers.HeUniform(seed=cell.seed)
    return initializer((FAN_IN, FAN_OUT), dtype=cell.dtype)


def he_uniform_in_jax(cell):
    import jax

    initializer = jax.nn.initializers.he_uniform()
    return initializer(jax.random.key(cell.seed), (FAN_IN, FAN_OUT), cell.dtype)


@behaviour(
    "initialization.he-uniform-bounds",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64", "others": "float64 float32 bfloat16 float16"},
    modes="eager",
    catches="torch.kaiming-counts-the-outputs jax.initializers-draw-in-bfloat16 "
    "torch.initializers-repeat-their-draws[*-float32-*]",
)
def test_he_uniform_bounds(he_uniform, cell, expect):
    """He uniform fills +-sqrt(6 / fan_in): variance 2 / fan_in, as He normal.

    With a fan_in of 300 no weight exceeds 0.141421, and the largest comes within 0.007 % of it.
    """
    weights = weights_of(he_uniform(cell), cell, expect)
    expect_uniform(weights / np.sqrt(6 / FAN_IN), cell, expect)


# ----------------------------------------------------------------------------------------------
# He normal: variance 2 / 300.


def he_normal_in_numpy(cell, fan_out=FAN_OUT):
    import numpy as np

    from reference.initializers import he_normal

    return he_normal(np.random.default_rng(cell.seed), FAN_IN, fan_out)


def he_normal_in_torch(cell, fan_out=FAN_OUT):
    import torch

    weight = torch.empty(fan_out, FAN_IN, dtype=cell.dtype, device=cell.device)
    return torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")


def he_normal_in_keras(cell, fan_out=FAN_OUT):
    import keras

    initializer = keras.initializers.HeNormal(seed=cell.seed)
    return initializer((FAN_IN, fan_out), dtype=cell.dtype)


def he_normal_in_jax(cell, fan_out=FAN_OUT):
    import jax

    initializer = jax.nn.initializers.he_normal()
    return initializer(jax.random.key(cell.seed), (FAN_IN, fan_out), cell.dtype)


# What each library calls normal, brought to variance 1.
he_shape_in_numpy = stats.norm
he_shape_in_torch = stats.norm
he_shape_in_keras = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)
he_shape_in_jax = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)


@behaviour(
    "initialization.he-normal-variance",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64", "others": "float64 float32 bfloat16 float16"},
    modes="eager",
    catches="torch.kaiming-counts-the-outputs keras.truncated-normal-not-widened[*-float32-*] "
    "torch.initializers-repeat-their-draws",
)
def test_he_normal_variance(he_normal, he_shape, cell, expect):
    """He normal weights have the mean 0 and the variance 2 / fan_in, whether they are cut or not.

    300,000 weights of fan_in 300 have a mean square of 2 / 300 within 1.6 % and a mean within 0.012
    deviations. A normal cut at two deviations and not widened again would have 77 % of it.
    """
    weights = weights_of(he_normal(cell), cell, expect)
    expect_mean_and_variance(weights / np.sqrt(2 / FAN_IN), he_shape, cell, expect)


@behaviour(
    "defaults.he-normal-truncation",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64", "others": "float64 float32"},
    modes="eager",
    catches="torch.kaiming-normal-cut-at-three-deviations "
    "keras.truncated-normal-not-widened[keras_tensorflow-*-float32-*] "
    "jax.initializers-draw-in-bfloat16",
)
def test_he_normal_truncation(he_normal, he_shape, cell, expect):
    """he_normal of Keras and JAX is cut at 2.2738 deviations; torch's kaiming_normal_ is not.

    Cut at twice the deviation of a normal that is 1 / 0.8796 times wider: of 5,100,000 weights none
    is beyond 2.2738 times sqrt(2 / fan_in), and the largest of 300,000 within 0.03 % of it. (One
    missed cut in 230,000, what four tries for each weight would leave, escapes with 3e-10.) Of
    300,000 uncut weights none beyond 3.5 has a probability of 1e-60. The share of weights up to
    every x is that of the named distribution within 0.6 % (Kolmogorov).
    """
    weights = weights_of(he_normal(cell), cell, expect) / np.sqrt(2 / FAN_IN)
    rounding = accumulated(ROUNDINGS, cell.precision)
    largest = float(np.abs(weights).max())
    if he_shape is stats.norm:
        expect.at_least(observed=largest, least=3.5, what="largest weight in deviations")
    else:
        cut = 2 / TRUNCATED_DEVIATION
        # The outer share of probability that all draws miss, in both tails together.
        nearly = he_shape.isf(statistics.share_left_empty(N, FALSE_ALARM / 2) / 2)
        expect.at_least(
            observed=largest, least=nearly - cut * rounding, what="largest weight in deviations"
        )
        many = np.abs(cell.to_numpy(he_normal(cell, fan_out=17_000))) / np.sqrt(2 / FAN_IN)
        room = cut * (1 + rounding) - float(many.max())
        expect.at_least(observed=room, least=0.0, what="room to the limit")
    expect.within(
        Bound(
            absolute=statistics.kolmogorov_limit(N, FALSE_ALARM / 2) + rounding,
            because="Kolmogorov's distance, false alarm 5e-10",
        ),
        observed=statistics.kolmogorov_distance(weights, he_shape.cdf),
        expected=0.0,
        what="distance from the documented distribution",
    )


# ----------------------------------------------------------------------------------------------
# LeCun normal: variance 1 / 300.


def lecun_normal_in_numpy(cell):
    import numpy as np

    from reference.initializers import lecun_normal

    return lecun_normal(np.random.default_rng(cell.seed), FAN_IN, FAN_OUT)


def lecun_normal_in_torch(cell):
    """torch has no function of that name; the gain of a linear unit is 1."""
    import torch

    weight = torch.empty(FAN_OUT, FAN_IN, dtype=cell.dtype, device=cell.device)
    return torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")


def lecun_normal_in_keras(cell):
    import keras

    initializer = keras.initializers.LecunNormal(seed=cell.seed)
    return initializer((FAN_IN, FAN_OUT), dtype=cell.dtype)


def lecun_normal_in_jax(cell):
    import jax

    initializer = jax.nn.initializers.lecun_normal()
    return initializer(jax.random.key(cell.seed), (FAN_IN, FAN_OUT), cell.dtype)


normal_in_numpy = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)
normal_in_torch = stats.norm
normal_in_keras = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)
normal_in_jax = stats.truncnorm(-2, 2, scale=1 / TRUNCATED_DEVIATION)


@behaviour(
    "initialization.lecun-normal-variance",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64", "others": "float64 float32"},
    modes="eager",
    catches="torch.kaiming-counts-the-outputs "
    "keras.truncated-normal-not-widened[keras_tensorflow-*-float32-*] "
    "torch.initializers-repeat-their-draws[*-float32-*]",
)
def test_lecun_normal_variance(lecun_normal, normal, cell, expect):
    """LeCun normal weights have the mean 0 and the variance 1 / fan_in, half of He's.

    300,000 weights of fan_in 300 have a mean square of 1 / 300 within 1.6 %.
    """
    weights = weights_of(lecun_normal(cell), cell, expect)
    expect_mean_and_variance(weights / np.sqrt(1 / FAN_IN), normal, cell, expect)


# ----------------------------------------------------------------------------------------------
# A convolution of 3 x 3 over 20 channels: fan_in 180. Keras and JAX keep (3, 3, in, out), torch
# (out, in, 3, 3).


def convolution_in_torch(cell):
    import torch

    weight = torch.empty(1000, 20, 3, 3, dtype=cell.dtype, device=cell.device)
    return torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")


def convolution_in_keras(cell):
    import keras

    initializer = keras.initializers.HeNormal(seed=cell.seed)
    return initializer((3, 3, 20, 1000), dtype=cell.dtype)


def convolution_in_jax(cell):
    import jax

    initializer = jax.nn.initializers.he_normal()
    return initializer(jax.random.key(cell.seed), (3, 3, 20, 1000), cell.dtype)


@behaviour(
    "initialization.conv-fan-in",
    frameworks="torch keras jax",
    precisions="float64 float32",
    modes="eager",
    catches="jax.initializers-forget-the-receptive-field torch.kaiming-counts-the-outputs "
    "keras.fans-forget-the-receptive-field[keras_tensorflow-*-float32-*] "
    "torch.initializers-repeat-their-draws[*-float32-*]",
)
def test_conv_fan_in(convolution, normal, cell, expect):
    """The fan_in of a convolution is kernel height x width x input channels.

    A 3 x 3 kernel over 20 channels has He's variance 2 / 180 = 0.0111, not 2 / 20. The mean square
    of 180,000 weights is that within 2 %.
    """
    weights = cell.to_numpy(convolution(cell))
    expect.exactly(observed=weights.size, expected=180_000, what="number of weights")
    expect_mean_and_variance(weights / np.sqrt(2 / 180), normal, cell, expect)


# ----------------------------------------------------------------------------------------------
# The other fans of a convolution, 3 x 3 from 500 channels to 40: fan_out 9 · 40 = 360, and their
# average 9 · (500 + 40) / 2 = 2430.


def scaled_in_torch(cell, mode):
    """Xavier's variance, 2 / (fan_in + fan_out), is 1 / their average."""
    import torch

    weight = torch.empty(40, 500, 3, 3, dtype=cell.dtype, device=cell.device)
    if mode == "fan_avg":
        return torch.nn.init.xavier_normal_(weight)
    return torch.nn.init.kaiming_normal_(weight, mode=mode, nonlinearity="linear")


def scaled_in_keras(cell, mode):
    import keras

    initializer = keras.initializers.VarianceScaling(
        scale=1.0, mode=mode, distribution="truncated_normal", seed=cell.seed
    )
    return initializer((3, 3, 500, 40), dtype=cell.dtype)


def scaled_in_jax(cell, mode):
    import jax

    initializer = jax.nn.initializers.variance_scaling(1.0, mode, "truncated_normal")
    return initializer(jax.random.key(cell.seed), (3, 3, 500, 40), cell.dtype)


@behaviour(
    "initialization.conv-fan-out",
    frameworks="torch keras jax",
    precisions="float64 float32",
    modes="eager",
    catches="jax.initializers-forget-the-receptive-field "
    "keras.fan-out-forgets-the-receptive-field[keras_tensorflow-*-float32-*] "
    "torch.fan-out-forgets-the-receptive-field",
)
def test_conv_fan_out(scaled, normal, cell, expect):
    """The fan_out of a convolution is kernel height x width x output channels; so in the average.

    mode="fan_out" gives the variance 1 / 360, which keeps that of the gradients going back, and
    "fan_avg", as Glorot wanted it, 1 / 2430. The mean square of 180,000 weights is that within 2 %.
    """
    for mode, fan in (("fan_out", 360), ("fan_avg", 2430)):
        weights = cell.to_numpy(scaled(cell, mode))
        expect.exactly(observed=weights.size, expected=180_000, what=f"number of weights, {mode}")
        expect_mean_and_variance(weights * np.sqrt(fan), normal, cell, expect)
