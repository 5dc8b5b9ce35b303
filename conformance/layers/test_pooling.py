"""Pooling: one number for each window, the largest or the mean, for each channel by itself.

A window of 2 x 2 that moves by its own size halves the sides of an image, and drops what is left
over: the last column here. The mean of a window passes over all of its four numbers:

    1  2 | 3  4 | 9                       maximum       mean
    5  6 | 7  8 | 9                        6   8      7/2  11/2
    -----+------+                          9   7     13/2   9/2
    9  8 | 7  6 | 9
    5  4 | 3  2 | 9

A second channel holds the negative numbers. Nothing of it may reach the first, and its maxima are
negative: a maximum that began at 0 would hide them. How far the window moves if nobody says so:

                window                                 stride        padding
    torch       must be given                          the window    0
    Keras       2 x 2, of an average: must be given    the window    "valid"
    Flax NNX    must be given                          1             "VALID"

The common mistake is to take nnx.max_pool(x, (2, 2)) for a halving: it takes one row and column
away. strides=(2, 2) cures it.

Sources: class 129, topics 1 and 2, definitions 1 and 2, results 2, exercise 5;
PyTorch vs TensorFlow (003), code;
https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html,
https://keras.io/api/layers/pooling_layers/max_pooling2d/,
https://keras.io/api/layers/pooling_layers/average_pooling2d/,
https://www.tensorflow.org/api_docs/python/tf/nn/max_pool2d,
https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#pooling
"""

import numpy as np

from fixtures.matrix import behaviour

ROWS = np.array([[1, 2, 3, 4, 9], [5, 6, 7, 8, 9], [9, 8, 7, 6, 9], [5, 4, 3, 2, 9]], float)
IMAGE = np.stack([ROWS, -ROWS], axis=-1)  # height, width, channels
MAXIMA = [[[6, -1], [8, -3]], [[9, -4], [7, -2]]]
MEANS = [[[3.5, -3.5], [5.5, -5.5]], [[6.5, -6.5], [4.5, -4.5]]]


def pooled_in_torch(cell):
    """(maxima, means), height first and channels last."""
    import torch

    image = torch.tensor(IMAGE, dtype=cell.dtype, device=cell.device).permute(2, 0, 1)[None]
    layers = torch.nn.MaxPool2d(2), torch.nn.AvgPool2d(2)
    return [layer(image)[0].permute(1, 2, 0) for layer in layers]


def pooled_in_tensorflow(cell):
    import tensorflow as tf

    @cell.compile
    def pool(image):
        return [
            tf.nn.max_pool2d(image, ksize=2, strides=2, padding="VALID")[0],
            tf.nn.avg_pool2d(image, ksize=2, strides=2, padding="VALID")[0],
        ]

    return pool(tf.constant(IMAGE[None], cell.dtype))


def pooled_in_keras(cell):
    import keras

    image = keras.ops.convert_to_tensor(IMAGE[None], cell.dtype)
    layers = keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
    return [layer(pool_size=2, dtype=cell.dtype)(image)[0] for layer in layers]


def pooled_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    @cell.compile
    def pool(image):
        return [pool(image, (2, 2), strides=(2, 2))[0] for pool in (nnx.max_pool, nnx.avg_pool)]

    return pool(jnp.asarray(IMAGE[None], cell.dtype))


@behaviour(
    "pooling.window-values",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"jax": "flax>=0.10"},
    costly="jax-*float16-eager",
    catches="torch.pooling-moves-by-one flax.max-pool-begins-at-zero "
    "keras.average-pool-is-a-sum tensorflow.max-pool-over-channels",
)
def test_window_values(pooled, cell, expect):
    """2 x 2 windows of the image above have the maxima 6, 8, 9, 7 and the means 7/2 to 13/2.

    No arithmetic, or four small numbers and a division by 4: exact in every precision. The fifth
    column is in no window.
    """
    maxima, means = pooled(cell)
    expect.exactly(observed=maxima, expected=MAXIMA, what="maxima")
    expect.exactly(observed=means, expected=MEANS, what="means")


# ----------------------------------------------------------------------------------------------
# What the arguments are that nobody gives. The image of 4 x 5 again.

sides_in_torch = (2, 2)
sides_in_keras = (2, 2)
sides_in_jax = (3, 4)


def found_in_torch(cell):
    """Height and width after pooling: with a window of 2, and with a stride of 2 besides."""
    import torch

    image = torch.tensor(IMAGE, dtype=cell.dtype, device=cell.device).permute(2, 0, 1)[None]
    pooled = torch.nn.MaxPool2d(2)(image), torch.nn.MaxPool2d(2, stride=2)(image)
    return [tuple(result.shape[2:]) for result in pooled]


def found_in_keras(cell):
    import keras

    image = keras.ops.convert_to_tensor(IMAGE[None], cell.dtype)
    layers = keras.layers.MaxPooling2D(), keras.layers.MaxPooling2D(2, strides=2)
    return [tuple(layer(image).shape[1:3]) for layer in layers]


def found_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    image = jnp.asarray(IMAGE[None], cell.dtype)
    pooled = nnx.max_pool(image, (2, 2)), nnx.max_pool(image, (2, 2), strides=(2, 2))
    return [tuple(result.shape[1:3]) for result in pooled]


@behaviour(
    "pooling.default-arguments",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.pooling-moves-by-one flax.pooling-moves-by-its-window",
)
def test_default_arguments(found, sides, cell, expect):
    """A window of 2 takes 4 x 5 to 2 x 2, where the stride is the window: in torch and Keras.

    In Flax the stride is 1 unless it is given: 3 x 4.
    """
    untold, told = found(cell)
    expect.exactly(observed=untold, expected=sides, what="height and width, stride untold")
    expect.exactly(observed=told, expected=(2, 2), what="height and width, stride 2")
