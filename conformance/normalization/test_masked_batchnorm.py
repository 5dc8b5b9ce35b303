"""BatchNorm over padded sequences: masked steps are no part of the statistics.

A batch of sequences is filled up to one length, and the filling would shift mean and variance of
every feature. Keras takes a mask (its own, or one that Masking and Embedding send along) and leaves
those steps out; so does Flax. In torch, which has none, the real steps are selected first: x[mask].
Keras 3.0.0 and 3.0.1 accepted a mask and did not look at it.

Four real steps here: one feature is 1, 5, 5 and 5, the other 7, 3, 3 and 3. The mean of both is 4,
the variance 3 (unbiased: 4).

Sources: class 110, definitions (BatchNorm) and common mistake 3; class 137, common mistake 2;
https://keras.io/api/layers/normalization_layers/batch_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html,
https://github.com/keras-team/keras/issues/18759
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded
from reference import layers

FIRST = np.array([[1.0, 5.0, 64.0, 64.0], [5.0, 5.0, 64.0, 64.0]])
PADDED = np.stack([FIRST, np.where(FIRST < 64, 8 - FIRST, 64)], axis=-1)
MASK = np.array([[True, True, False, False], [True, True, False, False]])

# Flax keeps its statistics in float32: a finding of normalization.batchnorm-moving-average-update.
PRECISIONS = {"jax": "float32", "keras": "float64 float32 mixed_bfloat16"}
NEEDS = {"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "flax>=0.10"}

# ----------------------------------------------------------------------------------------------
# Each program returns the running mean and variance after one batch of weight 1/2, and the output
# at the real steps, with epsilon = 1.


def normalized_in_numpy(cell):
    real = PADDED[MASK].astype(cell.dtype)
    zero, one = np.zeros(2, cell.dtype), np.ones(2, cell.dtype)
    output, _, _ = layers.batch_normalization_training(real, one, zero, 1)
    return *layers.update_running_statistics(zero, one, real, 0.5, unbiased=True), output


def normalized_in_torch(cell):
    import torch

    layer = torch.nn.BatchNorm1d(2, momentum=0.5, eps=1.0, device=cell.device, dtype=cell.dtype)
    x = torch.tensor(PADDED, device=cell.device, dtype=cell.dtype)
    with torch.no_grad():
        output = layer(x[torch.tensor(MASK)])
    return layer.running_mean, layer.running_var, output


def normalized_in_tensorflow(cell):
    """In a tf.function."""
    import keras
    import tensorflow as tf

    layer = keras.layers.BatchNormalization(momentum=0.5, epsilon=1.0, dtype=cell.dtype.name)
    layer.build((None, None, 2))
    train = cell.compile(lambda x, mask: layer(x, training=True, mask=mask))
    output = train(tf.constant(PADDED, cell.dtype), tf.constant(MASK))
    mean, variance = tf.identity(layer.moving_mean), tf.identity(layer.moving_variance)
    return mean, variance, output[:, :2]


def normalized_in_keras(cell, features=2):
    """The mask comes from a Masking layer."""
    import keras

    layer = keras.layers.BatchNormalization(momentum=0.5, epsilon=1.0, dtype=cell.dtype)
    masking = keras.layers.Masking(64.0, dtype=cell.dtype)
    x = keras.ops.convert_to_tensor(PADDED[..., :features], dtype=layer.compute_dtype)
    output = layer(masking(x), training=True)
    return layer.moving_mean, layer.moving_variance, output[:, :2]


def normalized_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.BatchNorm(
        2,
        momentum=0.5,
        epsilon=1.0,
        dtype=cell.compute_dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(cell.seed),
    )
    train = cell.compile(lambda layer, x, mask: layer(x, mask=mask), jit=nnx.jit)
    output = train(layer, jnp.asarray(PADDED, cell.dtype), jnp.asarray(MASK[..., None]))
    return jnp.array(layer.mean), jnp.array(layer.var), output[:, :2]


variance_in_numpy = 4.0
variance_in_torch = 4.0
variance_in_tensorflow = 3.0
variance_in_keras = 3.0
variance_in_jax = 3.0


@behaviour(
    "normalization.batchnorm-mask",
    frameworks="numpy torch tensorflow keras jax",
    precisions={**PRECISIONS, "others": "float64 float32"},
    modes={"numpy": "eager", "torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs=NEEDS,
    catches="keras.batchnorm-forgets-its-mask[!*-float64-*] flax.batchnorm-forgets-its-mask "
    "torch.batchnorm-keeps-biased-variance",
)
def test_batchnorm_mask(normalized, variance, cell, expect):
    """The statistics are those of the four real steps: mean 4, variance 3 (torch keeps 4).

    From 0 and 1 half a step leads to a running mean of 2 and a variance of 2 (2.5). With epsilon 1
    the output is (x - 4) / sqrt(3 + 1): -1.5, 0.5, 0.5, 0.5 and 1.5, -0.5, -0.5, -0.5, up to the
    roundings of the root, the quotient and two products. All else is exact. With the padding the
    mean would be 34.
    """
    running_mean, running_variance, output = normalized(cell)
    expect.exactly(observed=running_mean, expected=[2.0, 2.0], what="running mean")
    expect.exactly(
        observed=running_variance, expected=2 * [(1 + variance) / 2], what="running variance"
    )
    expected = (PADDED[MASK] - 4) / 2
    expect.within(
        rounded(4, cell.precision),
        observed=output,
        expected=expected.reshape(cell.to_numpy(output).shape),
        what="output at the real steps",
    )


single_in_keras = normalized_in_keras


@behaviour(
    "normalization.batchnorm-mask-of-one-feature",
    frameworks="keras",
    precisions="float32",
    modes="eager",
    catches="keras.batchnorm-forgets-its-mask",
)
def test_batchnorm_mask_of_one_feature(single, cell, expect):
    """A mask does the same for a layer of one feature, with a running mean of shape (1,)."""
    running_mean, running_variance, output = single(cell, features=1)
    expect.exactly(observed=running_mean, expected=[2.0], what="running mean")
    expect.exactly(observed=running_variance, expected=[2.0], what="running variance")
    expect.within(
        rounded(4, cell.precision),
        observed=output,
        expected=[[[-1.5], [0.5]], [[0.5], [0.5]]],
        what="output at the real steps",
    )
