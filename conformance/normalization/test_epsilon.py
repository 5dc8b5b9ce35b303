"""Epsilon as it was given: the smallest value that counts is the user's choice.

    y = (x - mean) / sqrt(variance + epsilon)

The defaults differ (1e-5 in torch, 1e-3 in Keras, 1e-6 and 1e-5 in Flax), and models are published
with other ones: 1e-12 in BERT, 1e-6 in many Transformers. Who ports their weights needs the same
epsilon; an implementation that has a least one of its own (cuDNN's BatchNorm: 1e-5) must step
aside. Here x is ±2^-15, its variance 2^-30 and epsilon 3·2^-30 = 2.8e-9, so that y is
2^-15 / sqrt(4·2^-30) = 1/2.

Sources: class 110, definitions of BatchNorm and LayerNorm; class 122, objective (equivalences 1:1);
https://docs.pytorch.org/docs/stable/generated/torch.nn.LayerNorm.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html,
https://keras.io/api/layers/normalization_layers/layer_normalization/,
https://keras.io/api/layers/normalization_layers/group_normalization/,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/normalization.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded
from reference import layers
from reference.normalization import layer_normalization

SMALL = 2.0**-15
EPSILON = 3 * SMALL**2
ROW = np.array([[-SMALL, SMALL]])  # one sample of two features
COLUMN = ROW.T  # two samples of one feature

# ----------------------------------------------------------------------------------------------
# What each layer makes of the row, BatchNorm in training of the column, and in inference of 2^-15
# by a running variance of 2^-30.


def normalized_in_numpy(cell):
    row, column = ROW.astype(cell.dtype), COLUMN.astype(cell.dtype)
    zero, one, epsilon = (cell.dtype.type(number) for number in (0, 1, EPSILON))
    in_training, _, _ = layers.batch_normalization_training(column, one, zero, epsilon)
    variance = cell.dtype.type(SMALL**2)
    return {
        "LayerNorm": layer_normalization(row, one, zero, epsilon)[0],
        "BatchNorm": in_training[:, 0],
        "BatchNorm in inference": layers.batch_normalization_inference(
            column, one, zero, zero, variance, epsilon
        )[:, 0],
    }


def normalized_in_torch(cell):
    import torch

    row, column = (
        torch.tensor(array, device=cell.device, dtype=cell.dtype) for array in (ROW, COLUMN)
    )
    options = {"eps": EPSILON, "device": cell.device, "dtype": cell.dtype}
    batch_norm = torch.nn.BatchNorm1d(1, **options)
    with torch.no_grad():
        found = {
            "LayerNorm": torch.nn.LayerNorm(2, **options)(row)[0],
            "GroupNorm": torch.nn.GroupNorm(1, 2, **options)(row)[0],
            "BatchNorm": batch_norm(column)[:, 0],
        }
        batch_norm.eval()
        batch_norm.running_mean.zero_()
        batch_norm.running_var.fill_(SMALL**2)
        found["BatchNorm in inference"] = batch_norm(column)[:, 0]
    return found


def normalized_in_keras(cell):
    import keras

    row, column = (keras.ops.convert_to_tensor(array, dtype=cell.dtype) for array in (ROW, COLUMN))
    options = {"epsilon": EPSILON, "dtype": cell.dtype}
    batch_norm = keras.layers.BatchNormalization(**options)
    found = {
        "LayerNorm": keras.layers.LayerNormalization(**options)(row)[0],
        "GroupNorm": keras.layers.GroupNormalization(1, **options)(row)[0],
        "BatchNorm": batch_norm(column, training=True)[:, 0],
    }
    batch_norm.moving_mean.assign([0.0])
    batch_norm.moving_variance.assign([SMALL**2])
    found["BatchNorm in inference"] = batch_norm(column)[:, 0]
    return found


def normalized_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    row, column = (jnp.asarray(array, cell.dtype) for array in (ROW, COLUMN))
    options = {
        "epsilon": EPSILON,
        "dtype": cell.dtype,
        "param_dtype": cell.dtype,
        "rngs": nnx.Rngs(cell.seed),
    }
    batch_norm = nnx.BatchNorm(1, momentum=0.0, **options)
    found = {
        "LayerNorm": nnx.LayerNorm(2, **options)(row)[0],
        "GroupNorm": nnx.GroupNorm(2, num_groups=1, **options)(row)[0],
        "BatchNorm": batch_norm(column)[:, 0],
    }
    batch_norm.eval()  # its running variance is now the batch's: 2^-30
    found["BatchNorm in inference"] = batch_norm(column)[:, 0]
    return found


@behaviour(
    "normalization.epsilon-as-given",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16"},
    modes="eager",
    needs={"jax": "flax>=0.10"},
    costly="jax-*-float64-*",
    catches="torch.layernorm-epsilon-at-least-1e-5 torch.batchnorm-epsilon-at-least-1e-5 "
    "keras.normalization-epsilon-at-least-1e-5 flax.normalization-epsilon-at-least-1e-6",
)
def test_epsilon_as_given(normalized, cell, expect):
    """(±2^-15) / sqrt(2^-30 + 3·2^-30) = ±1/2; with an epsilon of 1e-5 it would be ±0.0097.

    Mean and variance are exact. The root, its reciprocal, the product and one with gamma round; so
    does epsilon where it is stored in another format on its way.
    """
    for what, observed in normalized(cell).items():
        expect.within(
            rounded(5, cell.precision), observed=observed, expected=[-0.5, 0.5], what=what
        )
