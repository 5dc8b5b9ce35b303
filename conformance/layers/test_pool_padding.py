"""What pooling puts around an image: nothing that could win a maximum, and sometimes zeros.

A window of 2 x 2 that moves by 2 does not fit 3 x 3 pixels. With padding="same" the output has
2 x 2 numbers, and some windows reach beyond the image. A maximum ignores what is outside: it is
padded with minus infinity, whatever else one reads, so an image of -1 stays -1. For a mean there
are two opinions about an image of ones:

    left out       TensorFlow, Keras; torch and Flax with count_include_pad=False     1    1
                                                                                      1    1
    counted as 0   Flax                                                               1   1/2
                                                                                     1/2  1/4
    counted as 0   torch, padding=1: the padding is on all sides                     1/4  1/2
                                                                                     1/2   1

Who moves weights from one to the other gets dark borders. The same befalls who pads with zeros by
hand before he pools: the means fade at the border, and the maxima of negative numbers become 0.

Sources: class 129, exercise 5, common mistake 4;
https://www.tensorflow.org/api_docs/python/tf/nn/avg_pool2d,
https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2,
https://keras.io/api/layers/pooling_layers/average_pooling2d/,
https://docs.pytorch.org/docs/stable/generated/torch.nn.AvgPool2d.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#pooling
"""

from fixtures.matrix import behaviour

ONES = [[1.0, 1.0], [1.0, 1.0]]
# Means of an image of ones where zeros count, by the sides that are padded.
BELOW_AND_RIGHT = [[1.0, 0.5], [0.5, 0.25]]
ALL_AROUND = [[0.25, 0.5], [0.5, 1.0]]

faded_in_torch = ALL_AROUND
faded_in_tensorflow = BELOW_AND_RIGHT
faded_in_keras = BELOW_AND_RIGHT
faded_in_jax = BELOW_AND_RIGHT


def _image_in_torch(cell, value):
    import torch

    return torch.full((1, 1, 3, 3), value, dtype=cell.dtype, device=cell.device)


def left_out_in_torch(cell):
    import torch

    layer = torch.nn.AvgPool2d(2, padding=1, count_include_pad=False)
    return layer(_image_in_torch(cell, 1.0))[0, 0]


def counted_in_torch(cell):
    """The default: count_include_pad=True."""
    import torch

    return torch.nn.AvgPool2d(2, padding=1)(_image_in_torch(cell, 1.0))[0, 0]


def left_out_in_tensorflow(cell):
    import tensorflow as tf

    image = tf.ones((1, 3, 3, 1), cell.dtype)
    return tf.nn.avg_pool2d(image, ksize=2, strides=2, padding="SAME")[0, :, :, 0]


def counted_in_tensorflow(cell):
    """Zeros put around the image by hand."""
    import tensorflow as tf

    image = tf.pad(tf.ones((1, 3, 3, 1), cell.dtype), [[0, 0], [0, 1], [0, 1], [0, 0]])
    return tf.nn.avg_pool2d(image, ksize=2, strides=2, padding="VALID")[0, :, :, 0]


def left_out_in_keras(cell):
    import keras

    image = keras.ops.ones((1, 3, 3, 1), cell.dtype)
    layer = keras.layers.AveragePooling2D(2, padding="same", dtype=cell.dtype)
    return layer(image)[0, :, :, 0]


def counted_in_keras(cell):
    """Zeros put around the image by a layer."""
    import keras

    image = keras.ops.ones((1, 3, 3, 1), cell.dtype)
    padding = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), dtype=cell.dtype)
    layer = keras.layers.AveragePooling2D(2, dtype=cell.dtype)
    return layer(padding(image))[0, :, :, 0]


def left_out_in_jax(cell):
    return _average_in_jax(cell, count_include_pad=False)


def counted_in_jax(cell):
    """The default: count_include_pad=True."""
    return _average_in_jax(cell)


def _average_in_jax(cell, **options):
    import jax.numpy as jnp
    from flax import nnx

    image = jnp.ones((1, 3, 3, 1), cell.dtype)
    return nnx.avg_pool(image, (2, 2), strides=(2, 2), padding="SAME", **options)[0, :, :, 0]


@behaviour(
    "pooling.same-average-excludes-padding",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    costly="jax-*float16-eager",
    catches="torch.average-counts-padding-whatever-is-said keras.average-pool-counts-padding "
    "flax.average-leaves-padding-out",
)
def test_same_average_excludes_padding(left_out, counted, faded, cell, expect):
    """Ones stay ones where padding is left out of the mean; counted, they fade to 1/2 and 1/4.

    TensorFlow and Keras leave it out with padding="same"; torch and Flax count it by default.
    """
    expect.exactly(observed=left_out(cell), expected=ONES, what="means, padding left out")
    expect.exactly(observed=counted(cell), expected=faded, what="means, zeros counted")


# ----------------------------------------------------------------------------------------------
# Maxima of an image of -1.

MINUS_ONES = [[-1.0, -1.0], [-1.0, -1.0]]


def padded_in_torch(cell):
    """padding=1, and ceil_mode=True, which is "same" here."""
    import torch

    image = _image_in_torch(cell, -1.0)
    layers = torch.nn.MaxPool2d(2, padding=1), torch.nn.MaxPool2d(2, ceil_mode=True)
    return [layer(image)[0, 0] for layer in layers]


def zeros_in_torch(cell):
    """The mistake: zeros around the image."""
    import torch

    image = torch.nn.functional.pad(_image_in_torch(cell, -1.0), (0, 1, 0, 1))
    return torch.nn.MaxPool2d(2)(image)[0, 0]


def padded_in_tensorflow(cell):
    import tensorflow as tf

    image = -tf.ones((1, 3, 3, 1), cell.dtype)
    return [tf.nn.max_pool2d(image, ksize=2, strides=2, padding="SAME")[0, :, :, 0]]


def zeros_in_tensorflow(cell):
    import tensorflow as tf

    image = tf.pad(-tf.ones((1, 3, 3, 1), cell.dtype), [[0, 0], [0, 1], [0, 1], [0, 0]])
    return tf.nn.max_pool2d(image, ksize=2, strides=2, padding="VALID")[0, :, :, 0]


def padded_in_keras(cell):
    import keras

    image = -keras.ops.ones((1, 3, 3, 1), cell.dtype)
    layer = keras.layers.MaxPooling2D(2, padding="same", dtype=cell.dtype)
    return [layer(image)[0, :, :, 0]]


def zeros_in_keras(cell):
    import keras

    image = -keras.ops.ones((1, 3, 3, 1), cell.dtype)
    padding = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), dtype=cell.dtype)
    layer = keras.layers.MaxPooling2D(2, dtype=cell.dtype)
    return layer(padding(image))[0, :, :, 0]


def padded_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    image = -jnp.ones((1, 3, 3, 1), cell.dtype)
    return [nnx.max_pool(image, (2, 2), strides=(2, 2), padding="SAME")[0, :, :, 0]]


def zeros_in_jax(cell):
    import jax.numpy as jnp
    from flax import nnx

    image = jnp.pad(-jnp.ones((1, 3, 3, 1), cell.dtype), [(0, 0), (0, 1), (0, 1), (0, 0)])
    return nnx.max_pool(image, (2, 2), strides=(2, 2))[0, :, :, 0]


@behaviour(
    "pooling.same-max-ignores-padding",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    costly="jax-*float16-eager",
    catches="torch.max-pool-pads-zeros flax.max-pool-begins-at-zero",
)
def test_same_max_ignores_padding(padded, zeros, cell, expect):
    """An image of -1 stays -1 at the border: padding is minus infinity to a maximum.

    With zeros put around it by hand its border becomes 0.
    """
    for observed in padded(cell):
        expect.exactly(observed=observed, expected=MINUS_ONES, what="maxima")
    expect.exactly(
        observed=zeros(cell), expected=[[-1.0, 0.0], [0.0, 0.0]], what="maxima, zeros around"
    )
