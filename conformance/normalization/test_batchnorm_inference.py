"""BatchNorm in inference: a fixed affine map of each row, whatever else is in the batch.

    y = gamma (x - running mean) / sqrt(running variance + epsilon) + beta

A row alone gives what it gives in company, a skewed batch is not pulled back to mean 0, and the
gradient with respect to x is gamma / sqrt(running variance + epsilon), element by element. The same
batch in training mode gives other numbers: there it is its own yardstick.

The layer is trained on two batches, of four and of two rows, with weight 1/4 for each (momentum
0.25 in torch, 0.75 in Keras and Flax) and epsilon 1/8; gamma and beta are not the default either.

Sources: class 110, learning outcome 2 and exercise 3; class 122, common mistake 4 and definition
of train/eval; Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm1d.html,
https://keras.io/api/layers/normalization_layers/batch_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, rounded
from fixtures.precision.roundoff import storage_precision
from reference import layers

unbiased_in_numpy = False
unbiased_in_torch = True
unbiased_in_tensorflow = False
unbiased_in_keras = False
unbiased_in_jax = False

NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

WEIGHT, EPSILON = 1 / 4, 1 / 8
GAMMA = np.array([2.0, -1.0, 0.5])
BETA = np.array([1.0, 0.0, -3.0])
BATCHES = (
    np.array([[1.0, 2.0, 8.0], [3.0, 4.0, 2.0], [5.0, 2.0, 4.0], [7.0, 4.0, 2.0]]),
    np.array([[2.0, 1.0, 5.0], [4.0, 3.0, 1.0]]),
)
SKEWED = np.array([[10.0, 0.0, -4.0], [12.0, 1.0, -8.0], [11.0, -2.0, -6.0]])
WEIGHTS = np.array([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0], [0.5, 2.0, 4.0]])

OTHER_PRECISION = "Flax keeps running statistics in float32"


def affine_bound(x, roundings, precision, mean, variance):
    """`roundings` of x * scale, mean * scale and beta, which may cancel."""
    scale = np.abs(GAMMA) / np.sqrt(variance + EPSILON)
    size = (np.abs(x) + np.abs(mean)) * scale + np.abs(BETA)
    return Bound(
        absolute=accumulated(roundings, precision) * size,
        because=f"{roundings} roundings in {precision}",
    )


# ----------------------------------------------------------------------------------------------
# Running statistics, the output of the skewed batch, of its first row alone, and in training mode.


def outputs_in_numpy(cell):
    gamma, beta, skewed = (array.astype(cell.dtype) for array in (GAMMA, BETA, SKEWED))
    mean, variance = np.zeros(3, cell.dtype), np.ones(3, cell.dtype)
    epsilon = cell.dtype.type(EPSILON)
    for batch in BATCHES:
        mean, variance = layers.update_running_statistics(
            mean, variance, batch.astype(cell.dtype), WEIGHT, unbiased=False
        )
    inference = layers.batch_normalization_inference(skewed, gamma, beta, mean, variance, epsilon)
    alone = layers.batch_normalization_inference(skewed[:1], gamma, beta, mean, variance, epsilon)
    training, _, _ = layers.batch_normalization_training(skewed, gamma, beta, epsilon)
    return mean, variance, inference, alone, training


def torch_layer(cell):
    import torch

    layer = torch.nn.BatchNorm1d(
        3, eps=EPSILON, momentum=WEIGHT, device=cell.device, dtype=cell.dtype
    )
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(GAMMA))
        layer.bias.copy_(torch.tensor(BETA))
        for batch in BATCHES:
            layer(torch.tensor(batch, device=cell.device, dtype=cell.dtype))
    return layer


def outputs_in_torch(cell):
    import torch

    layer = torch_layer(cell)
    skewed = torch.tensor(SKEWED, device=cell.device, dtype=cell.dtype)
    mean, variance = layer.running_mean.clone(), layer.running_var.clone()
    layer.eval()
    with torch.no_grad():
        inference = cell.compile(layer)(skewed)
        alone = layer(skewed[:1])
        training = layer.train()(skewed)
        layer.eval()
    return mean, variance, inference, alone, training


def keras_layer(dtype):
    import keras

    layer = keras.layers.BatchNormalization(momentum=1 - WEIGHT, epsilon=EPSILON, dtype=dtype)
    layer.build((None, 3))
    layer.gamma.assign(GAMMA)
    layer.beta.assign(BETA)
    for batch in BATCHES:
        layer(keras.ops.convert_to_tensor(batch, dtype=layer.compute_dtype), training=True)
    return layer


def outputs_in_tensorflow(cell):
    import tensorflow as tf

    layer = keras_layer(cell.dtype.name)
    mean, variance = tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)
    skewed = tf.constant(SKEWED, cell.dtype)
    inference = cell.compile(lambda x: layer(x, training=False))
    return mean, variance, inference(skewed), layer(skewed[:1]), layer(skewed, training=True)


def outputs_in_keras(cell):
    import keras

    layer = keras_layer(cell.dtype)
    mean, variance = [keras.ops.copy(array) for array in (layer.moving_mean, layer.moving_variance)]
    skewed = keras.ops.convert_to_tensor(SKEWED, dtype=layer.compute_dtype)
    inference = cell.compile(lambda x: layer(x, training=False))
    return mean, variance, inference(skewed), layer(skewed[:1]), layer(skewed, training=True)


def flax_layer(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        3,
        momentum=1 - WEIGHT,
        epsilon=EPSILON,
        scale_init=lambda key, shape, dtype: jnp.asarray(GAMMA, dtype),
        bias_init=lambda key, shape, dtype: jnp.asarray(BETA, dtype),
        dtype=cell.compute_dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )
    for batch in BATCHES:
        layer(jnp.asarray(batch, cell.dtype))
    return layer


def outputs_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = flax_layer(cell)
    mean, variance = jnp.array(layer.mean), jnp.array(layer.var)
    skewed = jnp.asarray(SKEWED, cell.dtype)
    layer.eval()
    inference = cell.compile(lambda layer, x: layer(x), jit=nnx.jit)(layer, skewed)
    alone = layer(skewed[:1])
    layer.train()
    training = layer(skewed)
    layer.eval()
    return mean, variance, inference, alone, training


@behaviour(
    "normalization.batchnorm-eval-uses-moving-stats",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "keras": "float32 bfloat16 float16 mixed_bfloat16 mixed_float16",
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes="eager compiled",
    needs=NEEDS,
    costly=(
        "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
        "keras_torch-*float16-compiled keras_jax-*-mixed_*"
    ),
    catches="torch.batchnorm-in-eval-uses-the-batch[*-eager] "
    "keras.batchnorm-epsilon-beside-the-root[*-float32-eager] "
    "flax.eval-does-not-reach-batchnorm[*-float32-*]",
)
def test_batchnorm_eval_uses_moving_stats(outputs, unbiased, cell, expect):
    """Inference is (x - running mean) * gamma / sqrt(running variance + epsilon) + beta.

    The statistics: from 0 and 1, a quarter of each batch's mean and variance (with n - 1 in torch,
    n elsewhere); ten roundings. The outputs are judged by the statistics the layer really has:
    nine roundings of x * scale, mean * scale and beta, which may cancel. A training pass over the
    same rows has mean beta instead: two more roundings in the mean and six in the variance.
    """
    mean, variance, inference, alone, training = outputs(cell)
    expected_mean, expected_variance = np.zeros(3), np.ones(3)
    for batch in BATCHES:
        expected_mean, expected_variance = layers.update_running_statistics(
            expected_mean, expected_variance, batch, WEIGHT, unbiased
        )
    bound = rounded(10, storage_precision(cell.precision))
    expect.within(
        bound,
        observed=mean,
        expected=expected_mean,
        what="running mean",
        other_precision=OTHER_PRECISION,
    )
    expect.within(
        bound,
        observed=variance,
        expected=expected_variance,
        what="running variance",
        other_precision=OTHER_PRECISION,
    )

    mean, variance = cell.to_numpy(mean), cell.to_numpy(variance)
    bound = affine_bound(SKEWED, 9, cell.precision, mean, variance)
    expected = layers.batch_normalization_inference(SKEWED, GAMMA, BETA, mean, variance, EPSILON)
    expect.within(bound, observed=inference, expected=expected, what="output in inference")
    bound = affine_bound(SKEWED[:1], 9, cell.precision, mean, variance)
    expect.within(bound, observed=alone, expected=expected[:1], what="output of one row alone")

    expected, mean, variance = layers.batch_normalization_training(SKEWED, GAMMA, BETA, EPSILON)
    bound = affine_bound(SKEWED, 17, cell.precision, mean, variance)
    expect.within(bound, observed=training, expected=expected, what="output in training")


# ----------------------------------------------------------------------------------------------
# The gradient of sum(weights * y) with respect to x, with a running variance of 4 - epsilon.

# scale = gamma / 2: every product below is exact.
VARIANCE = 4 - EPSILON


def gradients_in_numpy(cell):
    from reference.autodiff import Tensor

    x = Tensor(SKEWED.astype(cell.dtype), requires_grad=True)
    gamma, beta, weights = (array.astype(cell.dtype) for array in (GAMMA, BETA, WEIGHTS))
    one, variance = np.ones(3, cell.dtype), np.full(3, VARIANCE, cell.dtype)
    output = layers.batch_normalization_inference(
        x, Tensor(gamma), beta, one, variance, cell.dtype.type(EPSILON)
    )
    (output * weights).sum().backward()
    return x.grad


def gradients_in_torch(cell):
    import torch

    layer = torch_layer(cell)
    with torch.no_grad():
        layer.running_mean.fill_(1.0)
        layer.running_var.fill_(VARIANCE)
    layer.eval()
    x = torch.tensor(SKEWED, device=cell.device, dtype=cell.dtype, requires_grad=True)
    weights = torch.tensor(WEIGHTS, device=cell.device, dtype=cell.dtype)
    (cell.compile(layer)(x) * weights).sum().backward()
    return x.grad


def gradients_in_tensorflow(cell):
    import tensorflow as tf

    layer = keras_layer(cell.dtype.name)
    layer.moving_mean.assign([1.0] * 3)
    layer.moving_variance.assign([VARIANCE] * 3)
    weights = tf.constant(WEIGHTS, cell.dtype)

    @cell.compile
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=False) * weights
        return tape.gradient(y, x)

    return gradient(tf.constant(SKEWED, cell.dtype))


def gradients_in_jax(cell):
    """Mean and variance are set to the same number: the mean has no part in the gradient."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    layer = flax_layer(cell)
    statistics = nnx.state(layer, nnx.BatchStat)
    nnx.update(layer, jax.tree.map(lambda array: jnp.full_like(array, VARIANCE), statistics))
    layer.eval()
    weights = jnp.asarray(WEIGHTS, cell.dtype)
    gradient = cell.compile(jax.grad(lambda x: (layer(x) * weights).sum()))
    return gradient(jnp.asarray(SKEWED, cell.dtype))


@behaviour(
    "normalization.batchnorm-inference-gradient",
    frameworks="numpy torch tensorflow jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "compiled", "others": "eager compiled"},
    needs=NEEDS,
    costly="torch-*-float64-compiled torch-*float16-compiled",
    catches="torch.batchnorm-in-eval-uses-the-batch[*-eager] "
    "keras.batchnorm-epsilon-beside-the-root[*-float32-*]",
)
def test_batchnorm_inference_gradient(gradients, cell, expect):
    """In inference rows and features are independent: dx = weights * gamma / 2 for variance 4.

    Six roundings: the sum with epsilon, the root, the reciprocal, and three products.
    """
    expect.within(
        rounded(6, cell.precision),
        observed=gradients(cell),
        expected=WEIGHTS * GAMMA / 2,
        what="gradient of x",
    )
