"""What a dense layer's weights are before training, when nothing is said.

                       weight                               bias
    keras Dense        U(+-sqrt(6 / (in + out)))  (Glorot)   0
    torch.nn.Linear    U(+-1 / sqrt(in))                     U(+-1 / sqrt(in))
    flax.nnx.Linear    truncated normal, variance 1 / in     0

For 300 inputs and 1,000 outputs the deviations are 0.0392, 0.0333 and 0.0577: who rebuilds a model
in another framework and leaves the defaults alone starts from another place. (torch asks for
kaiming_uniform_ with a = sqrt(5), which comes to 1 / sqrt(in); it is not He's variance.)

The limits of this statistical test fail a correct library with a probability of 1e-9, whatever its
random stream (reference/statistics.py).

Sources: class 108, definition of Glorot uniform, common mistake 4 and exercise 1; class 122,
objective (equivalences 1:1); https://keras.io/api/layers/core_layers/dense/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from fixtures.precision.roundoff import storage_precision
from reference import statistics
from reference.initializers import TRUNCATED_DEVIATION

FAN_IN, FAN_OUT = 300, 1000
FALSE_ALARM = 1e-9  # of the test: eight assertions at most share it

# JAX draws t random bits for a format of t stored bits: a uniform weight lies up to 2^(1 - t), four
# roundings, of the limit too low. Two more: scale, shift.
ROUNDINGS = 6


@dataclass(frozen=True)
class Start:
    """A documented distribution: `limit` that no value exceeds, and its standard deviation.

    `shape`: distribution of value / limit, None for constant zero.
    """

    limit: float
    deviation: float
    shape: object = None


def uniform(limit):
    return Start(limit, limit / np.sqrt(3), stats.uniform(-1, 2))


def truncated_normal(deviation):
    limit = 2 * deviation / TRUNCATED_DEVIATION
    return Start(limit, deviation, stats.truncnorm(-2, 2, scale=0.5))


ZEROS = Start(0.0, 0.0)

defaults_in_numpy = uniform(1 / np.sqrt(FAN_IN)), uniform(1 / np.sqrt(FAN_IN))
defaults_in_torch = uniform(1 / np.sqrt(FAN_IN)), uniform(1 / np.sqrt(FAN_IN))
defaults_in_keras = uniform(np.sqrt(6 / (FAN_IN + FAN_OUT))), ZEROS
defaults_in_jax = truncated_normal(1 / np.sqrt(FAN_IN)), ZEROS


def dense_in_numpy(cell):
    """torch's rule for both: a bias has the fan_in of its layer."""
    import numpy as np

    from reference.initializers import torch_linear_uniform

    rng = np.random.default_rng(cell.seed)
    weight = torch_linear_uniform(rng, FAN_IN, FAN_OUT)
    return weight, torch_linear_uniform(rng, FAN_IN, FAN_OUT)[0]


def dense_in_torch(cell):
    import torch

    layer = torch.nn.Linear(FAN_IN, FAN_OUT, dtype=cell.dtype, device=cell.device)
    return layer.weight.T, layer.bias


def dense_in_keras(cell):
    import keras

    layer = keras.layers.Dense(FAN_OUT, dtype=cell.dtype)
    layer.build((None, FAN_IN))
    return layer.kernel, layer.bias


def dense_in_jax(cell):
    from flax import nnx

    layer = nnx.Linear(
        FAN_IN, FAN_OUT, dtype=cell.compute_dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed)
    )
    return layer.kernel[...], layer.bias[...]


@behaviour(
    "defaults.dense-initializer",
    frameworks="numpy torch keras jax",
    precisions={
        "numpy": "float64",
        "torch": "float64 float32 bfloat16 float16",
        "keras": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "jax": "float64 float32 bfloat16 float16 mixed_bfloat16",
    },
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.linear-bias-starts-at-zero "
    "keras.glorot-uniform-forgets-the-outputs[keras_jax-*-float32-*|keras_jax-*-bfloat16-*] "
    "jax.initializers-draw-in-bfloat16[*-float32-*]",
)
def test_dense_initializer(dense, defaults, cell, expect):
    """Keras Dense starts Glorot uniform, torch Linear uniform in +-1/sqrt(in), Flax LeCun normal.

    With 300 inputs and 1,000 outputs: limits 0.0679, 0.0577 and 0.1313, which the largest weight
    reaches within 0.01 %; the variance within 1.2 %; shares up to every x within 0.6 %. The bias is
    zero in Keras and Flax; in torch it is drawn like the weight (1,000 values: 10 % and 11 %).
    """
    precision = storage_precision(cell.precision)
    rounding = accumulated(ROUNDINGS, precision)
    for name, observed, start, shape in zip(
        ("weight", "bias"), dense(cell), defaults, ((FAN_IN, FAN_OUT), (FAN_OUT,)), strict=True
    ):
        expect.exactly(
            observed=cell.precision_of(observed), expected=precision, what=f"dtype of {name}"
        )
        if start is ZEROS:
            expect.exactly(observed=observed, expected=np.zeros(shape), what=name)
            continue
        values = cell.to_numpy(observed) / start.limit  # in +-1
        expect.exactly(observed=values.shape, expected=shape, what=f"shape of {name}")
        share = FALSE_ALARM / 6
        n = values.size

        largest = float(np.abs(values).max())
        nearly = float(start.shape.isf(statistics.share_left_empty(n, share) / 2))
        expect.at_least(observed=1 + rounding - largest, least=0.0, what=f"room of {name}")
        expect.at_least(observed=largest, least=nearly - rounding, what=f"largest {name} / limit")

        variance = (start.deviation / start.limit) ** 2
        tolerance = statistics.mean_tolerance(
            n, float(start.shape.moment(4)) - variance**2, max(variance, 1 - variance), share
        )
        expect.within(
            Bound(absolute=tolerance + rounding, because="Bernstein, false alarm 1.7e-10"),
            observed=float(np.mean(values**2)),
            expected=variance,
            what=f"variance of {name} / limit^2",
        )
        expect.within(
            Bound(
                absolute=statistics.kolmogorov_limit(n, share) + rounding,
                because="Kolmogorov's distance, false alarm 1.7e-10",
            ),
            observed=statistics.kolmogorov_distance(values, start.shape.cdf),
            expected=0.0,
            what=f"distance of {name} from its distribution",
        )
