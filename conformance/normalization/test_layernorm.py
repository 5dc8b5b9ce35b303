"""LayerNorm: every sample is normalised by itself.

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta

with the mean and the biased variance of the features of one sample. There are no running statistics
and no modes: training and inference agree, and a sample gives the same alone as in any batch. What
the frameworks do not agree on is epsilon: 1e-5 in torch, 1e-3 in Keras, 1e-6 in Flax.

Sources: class 110, definition of LayerNorm, learning outcome 3 and common mistake 4; class 107,
frequent question 3; Ba, Kiros and Hinton 2016 (arXiv:1607.06450);
https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html,
https://keras.io/api/layers/normalization_layers/layer_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated
from reference.autodiff import Tensor
from reference.normalization import (
    FLAX_EPSILON,
    KERAS_EPSILON,
    TORCH_EPSILON,
    layer_normalization,
)

epsilon_in_numpy = TORCH_EPSILON
epsilon_in_torch = TORCH_EPSILON
epsilon_in_tensorflow = KERAS_EPSILON
epsilon_in_keras = KERAS_EPSILON
epsilon_in_jax = FLAX_EPSILON

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

# Three samples of five features. The last has the variance 0.00048828125 = 2⁻¹¹: epsilon shows.
X = np.array(
    [
        [1.0, -2.0, 4.0, -3.0, 5.0],
        [-8.0, 6.0, 0.0, 2.0, 10.0],
        [0.015625, -0.03125, 0.0, 0.03125, -0.015625],
    ]
)
GAMMA = np.array([1.0, 2.0, -0.5, 3.0, 1.5])
BETA = np.array([0.5, -1.0, 2.0, 0.0, -3.0])
WEIGHTS = np.array(
    [[1.0, 0.5, -2.0, 1.0, 3.0], [-1.0, 2.0, 0.5, 1.0, -0.5], [0.5, -1.0, 1.0, 2.0, 0.25]]
)


def row_statistics(epsilon):
    """Deviation (with epsilon), mean of |x|, and how much E[x²] - mean² may lose, row by row."""
    variance = X.var(axis=1, keepdims=True)
    deviation = np.sqrt(variance + epsilon)
    spread = np.abs(X).mean(axis=1, keepdims=True)
    loss = (X**2).mean(axis=1, keepdims=True) / (variance + epsilon)
    return deviation, spread, np.maximum(loss, 1)


# ----------------------------------------------------------------------------------------------
# The batch, and each of its rows alone.


def outputs_in_numpy(cell):
    x, gamma, beta = (array.astype(cell.dtype) for array in (X, GAMMA, BETA))
    epsilon = cell.dtype.type(TORCH_EPSILON)
    rows = [layer_normalization(x[i : i + 1], gamma, beta, epsilon) for i in range(3)]
    return layer_normalization(x, gamma, beta, epsilon), np.concatenate(rows)


def torch_layer(cell):
    import torch

    layer = torch.nn.LayerNorm(5, device=cell.device, dtype=cell.dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(GAMMA))
        layer.bias.copy_(torch.tensor(BETA))
    return layer


def outputs_in_torch(cell):
    """Rows in inference mode, the batch in training mode: there is no difference."""
    import torch

    layer = torch_layer(cell)
    x = torch.tensor(X, device=cell.device, dtype=cell.dtype)
    with torch.no_grad():
        layer.eval()
        rows = [layer(x[i : i + 1]) for i in range(3)]
        layer.train()
        return cell.compile(layer)(x), torch.cat(rows)


def keras_layer(dtype):
    import keras

    layer = keras.layers.LayerNormalization(dtype=dtype)
    layer.build((None, 5))
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    return layer


def outputs_in_tensorflow(cell):
    import tensorflow as tf

    layer = keras_layer(cell.dtype.name)
    x = tf.constant(X, cell.dtype)
    rows = [layer(x[i : i + 1]) for i in range(3)]
    return cell.compile(lambda x: layer(x))(x), tf.concat(rows, axis=0)


def outputs_in_keras(cell):
    import keras

    layer = keras_layer(cell.dtype)
    x = keras.ops.convert_to_tensor(X, dtype=layer.compute_dtype)
    rows = [layer(x[i : i + 1]) for i in range(3)]
    return cell.compile(lambda x: layer(x))(x), keras.ops.concatenate(rows, axis=0)


def flax_layer(cell):
    import jax.numpy as jnp
    from flax import nnx

    return nnx.LayerNorm(
        5,
        scale_init=lambda key, shape, dtype: jnp.asarray(GAMMA, dtype),
        bias_init=lambda key, shape, dtype: jnp.asarray(BETA, dtype),
        dtype=cell.compute_dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )


def outputs_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = flax_layer(cell)
    x = jnp.asarray(X, cell.dtype)
    layer.eval()
    rows = [layer(x[i : i + 1]) for i in range(3)]
    layer.train()
    forward = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)
    return forward(layer, x), jnp.concatenate(rows)


@behaviour(
    "normalization.layernorm-formula",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "keras": "float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "numpy": "float64 float32 float16",
        "jax": "float64 float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes="eager compiled",
    needs=NEEDS,
    costly=(
        "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
        "keras_torch-*float16-compiled keras_jax-*-mixed_*"
    ),
    catches="keras.layernorm-unbiased-variance[tensorflow-*-float32-*|keras_jax-*-float32-eager] "
    "flax.statistics-in-bfloat16 torch.layernorm-epsilon-of-flax[*-eager]",
)
def test_layernorm_formula(outputs, epsilon, cell, expect):
    """(x - mean) / sqrt(biased variance + epsilon) * gamma + beta, for a row alone or in a batch.

    Twelve roundings: five in the sum, and one each in the division, the difference, the sum with
    epsilon, the root, the quotient, the product and the sum with beta; of the size of x, the mean
    of |x| and beta. Where the variance is E[x²] - mean², its error grows as E[x²] / variance.
    """
    batch, rows = outputs(cell)
    deviation, spread, loss = row_statistics(epsilon)
    size = np.abs(GAMMA) * (np.abs(X) + spread) / deviation + np.abs(BETA)
    bound = Bound(
        absolute=accumulated(12, cell.precision) * loss * size,
        because=f"12 roundings in {cell.precision}",
    )
    expected = layer_normalization(X, GAMMA, BETA, epsilon)
    expect.within(bound, observed=batch, expected=expected, what="output of the batch")
    expect.within(bound, observed=rows, expected=expected, what="outputs of single rows")


# ----------------------------------------------------------------------------------------------
# Gradients of sum(weights * y) with respect to x, gamma and beta.


def gradients_in_numpy(cell):
    arrays = (X, GAMMA, BETA)
    leaves = [Tensor(array.astype(cell.dtype), requires_grad=True) for array in arrays]
    output = layer_normalization(*leaves, TORCH_EPSILON)
    output.backward(WEIGHTS.astype(cell.dtype))
    return [leaf.grad for leaf in leaves]


def gradients_in_torch(cell):
    import torch

    layer = torch_layer(cell)
    x = torch.tensor(X, device=cell.device, dtype=cell.dtype, requires_grad=True)
    weights = torch.tensor(WEIGHTS, device=cell.device, dtype=cell.dtype)
    (cell.compile(layer)(x) * weights).sum().backward()
    return x.grad, layer.weight.grad, layer.bias.grad


def gradients_in_tensorflow(cell):
    import tensorflow as tf

    layer = keras_layer(cell.dtype.name)
    weights = tf.constant(WEIGHTS, cell.dtype)

    @cell.compile
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x) * weights
        return tape.gradient(y, [x, layer.gamma.value, layer.beta.value])

    return gradients(tf.constant(X, cell.dtype))


def gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    structure, parameters = nnx.split(flax_layer(cell))
    weights = jnp.asarray(WEIGHTS, cell.dtype)

    def loss(x, parameters):
        return (nnx.merge(structure, parameters)(x) * weights).sum()

    gradient, gradients = cell.compile(jax.grad(loss, argnums=(0, 1)))(
        jnp.asarray(X, cell.dtype), parameters
    )
    bias, scale = jax.tree.leaves(gradients)
    return gradient, scale, bias


@behaviour(
    "normalization.layernorm-gradient",
    frameworks="numpy torch tensorflow jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "compiled", "others": "eager compiled"},
    needs=NEEDS,
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.layernorm-gradient-wrong-if-compiled flax.statistics-in-bfloat16 "
    "keras.layernorm-unbiased-variance[*-float32-*]",
)
def test_layernorm_gradient(gradients, epsilon, cell, expect):
    """Gradients of sum(w * y), with g = w gamma, normal row z, n features and deviation s.

    dx = (n g - sum(g) - z sum(g z)) / (n s), dgamma = sum of w z over the batch, dbeta = sum of w.
    Thirty roundings in dx: twelve in z, as in the output, and eighteen in its own sums of five and
    products. Fifteen in dgamma, with three rows, and three in dbeta.
    """
    of_x, of_gamma, of_beta = gradients(cell)
    deviation, spread, loss = row_statistics(epsilon)
    normal = (X - X.mean(axis=1, keepdims=True)) / deviation
    size = (np.abs(X) + spread) / deviation
    g = WEIGHTS * GAMMA
    sums = g.sum(axis=1, keepdims=True) + normal * (g * normal).sum(axis=1, keepdims=True)
    magnitude = np.abs(g) + np.abs(g).mean(axis=1, keepdims=True)
    magnitude = magnitude + size * (np.abs(g) * size).mean(axis=1, keepdims=True)
    expect.within(
        Bound(
            absolute=accumulated(30, cell.precision) * loss * magnitude / deviation,
            because=f"30 roundings in {cell.precision}",
        ),
        observed=of_x,
        expected=(5 * g - sums) / (5 * deviation),
        what="gradient of x",
    )
    expect.within(
        Bound(
            absolute=accumulated(15, cell.precision) * (loss * np.abs(WEIGHTS) * size).sum(axis=0),
            because=f"15 roundings in {cell.precision}",
        ),
        observed=of_gamma,
        expected=(WEIGHTS * normal).sum(axis=0),
        what="gradient of gamma",
    )
    expect.within(
        Bound(
            absolute=accumulated(3, cell.precision) * np.abs(WEIGHTS).sum(axis=0),
            because=f"3 roundings in {cell.precision}",
        ),
        observed=of_beta,
        expected=WEIGHTS.sum(axis=0),
        what="gradient of beta",
    )
