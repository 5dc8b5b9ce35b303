"""Layers of the same name with different defaults.

What differs when a model is ported and nobody says so. Each value is read off the layer, and off
what the layer does:

                                  torch           Keras            Flax / JAX
    BatchNorm  momentum           0.1             0.99             0.99
               epsilon            1e-5            1e-3             1e-5
    LayerNorm  epsilon            1e-5            1e-3             1e-6
    leaky ReLU slope              0.01            layer 0.3,       0.01
                                                  function 0.2
    Dense      biases within      1/√inputs       0                0

torch's momentum is the weight of the new batch, the others' that of the old average: 0.1 there is
0.9 here. tf.nn.leaky_relu has Keras's 0.2. The kernels of Dense are initialization's subject.

Sources: class 122, objective (equivalences 1:1); class 110, definitions of moving averages and
LayerNorm; class 109, topics (leaky ReLU); class 108, common mistake 4;
https://docs.pytorch.org/docs/stable/nn.html, https://keras.io/api/layers/,
https://www.tensorflow.org/api_docs/python/tf/nn/leaky_relu,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/index.html,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.leaky_relu.html
"""

import math

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded

# ----------------------------------------------------------------------------------------------
# BatchNorm in training on two samples, 1 - 1/32 and 1 + 1/32: mean 1, variance 1/1024.

batchnorm_in_torch = {"momentum": 0.1, "epsilon": 1e-5, "weight of a batch": 0.1}
batchnorm_in_keras = {"momentum": 0.99, "epsilon": 1e-3, "weight of a batch": 1 - 0.99}
batchnorm_in_jax = {"momentum": 0.99, "epsilon": 1e-5, "weight of a batch": 1 - 0.99}


def normalized_batch_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(1, device=cell.device, dtype=cell.dtype)
    x = torch.tensor([[1 - 1 / 32], [1 + 1 / 32]], device=cell.device, dtype=cell.dtype)
    return layer.momentum, layer.eps, layer(x), layer.running_mean


def normalized_batch_in_keras(cell):
    import keras

    layer = keras.layers.BatchNormalization(dtype=cell.dtype)
    x = keras.ops.convert_to_tensor([[1 - 1 / 32], [1 + 1 / 32]], dtype=cell.dtype)
    output = layer(x, training=True)
    config = layer.get_config()
    return config["momentum"], config["epsilon"], output, layer.moving_mean


def normalized_batch_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(1, rngs=nnx.Rngs(cell.seed))
    output = layer(jnp.asarray([[1 - 1 / 32], [1 + 1 / 32]], cell.dtype))
    return layer.momentum, layer.epsilon, output, jnp.array(layer.mean)


@behaviour(
    "defaults.batchnorm-momentum-epsilon",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="flax.batchnorm-momentum-of-torch",
)
def test_batchnorm_momentum_epsilon(normalized_batch, batchnorm, cell, expect):
    """BatchNorm: momentum 0.1, epsilon 1e-5 in torch; 0.99, 1e-3 in Keras; 0.99, 1e-5 in Flax.

    A batch of mean 1 and variance 1/1024 moves the running mean from 0 to 0.1 in torch and to 0.01
    in the others, and its samples become ±(1/32) / √(1/1024 + epsilon): 0.9949 with 1e-5, 0.7028
    with 1e-3. Eight roundings at most lead to an output; in x * scale - mean * scale four of them
    are of numbers as large as scale. The weight 0.01 has the rounding of 0.99.
    """
    momentum, epsilon, output, running_mean = normalized_batch(cell)
    expect.exactly(observed=momentum, expected=batchnorm["momentum"], what="momentum")
    expect.exactly(observed=epsilon, expected=batchnorm["epsilon"], what="epsilon")

    scale = 1 / math.sqrt(1 / 1024 + batchnorm["epsilon"])
    expect.within(
        Bound(
            relative=accumulated(8, cell.precision),
            absolute=accumulated(4, cell.precision) * scale,
            because=f"8 roundings in {cell.precision}, four of them of {scale:.3g}",
        ),
        observed=output,
        expected=[[-scale / 32], [scale / 32]],
        what="output in training",
    )
    expect.within(
        rounded(1, cell.precision, terms=[0.99]),
        observed=running_mean,
        expected=[batchnorm["weight of a batch"]],
        what="running mean",
    )


# ----------------------------------------------------------------------------------------------
# LayerNorm of the row (-1/32, 1/32).

layernorm_epsilon_in_torch = 1e-5
layernorm_epsilon_in_keras = 1e-3
layernorm_epsilon_in_jax = 1e-6


def normalized_row_in_torch(cell):
    import torch

    layer = torch.nn.LayerNorm(2, device=cell.device, dtype=cell.dtype)
    row = torch.tensor([[-1 / 32, 1 / 32]], device=cell.device, dtype=cell.dtype)
    return layer.eps, layer(row)


def normalized_row_in_keras(cell):
    import keras

    layer = keras.layers.LayerNormalization(dtype=cell.dtype)
    row = keras.ops.convert_to_tensor([[-1 / 32, 1 / 32]], dtype=cell.dtype)
    return layer.get_config()["epsilon"], layer(row)


def normalized_row_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.LayerNorm(2, rngs=nnx.Rngs(cell.seed))
    return layer.epsilon, layer(jnp.asarray([[-1 / 32, 1 / 32]], cell.dtype))


@behaviour(
    "defaults.layernorm-epsilon",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.layernorm-epsilon-beside-the-root flax.layernorm-epsilon-of-torch",
)
def test_layernorm_epsilon(normalized_row, layernorm_epsilon, cell, expect):
    """LayerNorm adds 1e-5 to the variance in torch, 1e-3 in Keras, 1e-6 in Flax.

    A row of mean 0 and variance 1/1024 becomes ±(1/32) / √(1/1024 + epsilon): 0.9949, 0.7028 and
    0.9995. Eight roundings at most: epsilon, a sum, four of a root and a reciprocal, two products.
    """
    epsilon, output = normalized_row(cell)
    expect.exactly(observed=epsilon, expected=layernorm_epsilon, what="epsilon")
    size = 1 / 32 / math.sqrt(1 / 1024 + layernorm_epsilon)
    expect.within(
        rounded(8, cell.precision), observed=output, expected=[[-size, size]], what="output"
    )


# ----------------------------------------------------------------------------------------------
# Leaky ReLU of -1 and 2: layer and function.

slopes_in_torch = (0.01, 0.01)
slopes_in_tensorflow = (0.2,)
slopes_in_keras = (0.3, 0.2)
slopes_in_jax = (0.01, 0.01)


def leaky_in_torch(cell):
    import torch

    x = torch.tensor([-1.0, 2.0], device=cell.device, dtype=cell.dtype)
    return torch.nn.LeakyReLU()(x), torch.nn.functional.leaky_relu(x)


def leaky_in_tensorflow(cell):
    import tensorflow as tf

    return (tf.nn.leaky_relu(tf.constant([-1.0, 2.0], cell.dtype)),)


def leaky_in_keras(cell):
    import keras

    x = keras.ops.convert_to_tensor([-1.0, 2.0], dtype=cell.dtype)
    return keras.layers.LeakyReLU(dtype=cell.dtype)(x), keras.activations.leaky_relu(x)


def leaky_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    x = jnp.asarray([-1.0, 2.0], cell.dtype)
    return jax.nn.leaky_relu(x), nnx.leaky_relu(x)


@behaviour(
    "defaults.leaky-relu-slope",
    frameworks="torch tensorflow keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="tensorflow.leaky-relu-slope-of-torch "
    "keras.leaky-relu-layer-has-the-slope-of-the-function[keras_torch-*]",
)
def test_leaky_relu_slope(leaky, slopes, cell, expect):
    """Leaky ReLU of -1: -0.01 in torch, JAX and Flax, -0.2 in tf.nn and keras.activations.

    The layer keras.layers.LeakyReLU has 0.3. A positive 2 stays 2. The slope is rounded once.
    """
    for observed, slope in zip(leaky(cell), slopes, strict=True):
        expect.within(
            rounded(1, cell.precision), observed=observed, expected=[-slope, 2.0], what="leaky ReLU"
        )


# ----------------------------------------------------------------------------------------------
# The biases of a Dense layer from 100 inputs to 300 units.

INPUTS, UNITS = 100, 300

largest_bias_in_torch = 1 / math.sqrt(INPUTS)
largest_bias_in_keras = 0.0
largest_bias_in_jax = 0.0


def bias_in_torch(cell):
    import torch

    return torch.nn.Linear(INPUTS, UNITS, device=cell.device, dtype=cell.dtype).bias


def bias_in_keras(cell):
    import keras

    layer = keras.layers.Dense(UNITS, dtype=cell.dtype)
    layer.build((None, INPUTS))
    return layer.bias


def bias_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    return jnp.array(nnx.Linear(INPUTS, UNITS, rngs=nnx.Rngs(cell.seed)).bias)


@behaviour(
    "defaults.bias-initializer",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.linear-bias-starts-at-zero",
)
def test_bias_initializer(bias, largest_bias, cell, expect):
    """Biases start at 0 in Keras and Flax, and uniformly within 1/√100 = 0.1 in torch.

    The largest of torch's 300 exceeds 0.09 but for a probability of 0.9^300 = 2e-14.
    """
    largest = abs(cell.to_numpy(bias(cell))).max()
    expect.at_least(observed=largest, least=0.9 * largest_bias, what="largest bias")
    expect.at_most(observed=largest, most=largest_bias * (1 + 1e-6), what="largest bias")
