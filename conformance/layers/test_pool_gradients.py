"""Where the gradient of a pooling layer goes: to the winner, or to all alike.

A maximum is one of its inputs, so that one gets all of the gradient and the others nothing. A mean
of four gives each a quarter. With windows of 2 x 2 and the gradients 1, 2, 3, 4 of their maxima:

    image              gradient, maximum      gradient, mean
    4 1 | 1 4          1 0 | 0 2              1/4 1/4 | 1/2 1/2
    2 3 | 3 2          0 0 | 0 0              1/4 1/4 | 1/2 1/2
    ----+----          ----+----              --------+--------
    1 2 | 3 1          0 0 | 0 0              3/4 3/4 |  1   1
    4 3 | 2 4          3 0 | 0 4              3/4 3/4 |  1   1

Where windows overlap, an element that wins several of them gets the sum. Of equal maxima one alone
is the winner: half a gradient for each of two, as the maximum of an axis gives, would be another
layer (torch.amax "evenly distributes gradient between equal values").

Sources: class 129, question 5; Goodfellow, Bengio and Courville 2016, section 9.3;
https://docs.pytorch.org/docs/stable/generated/torch.nn.MaxPool2d.html,
https://docs.pytorch.org/docs/stable/generated/torch.amax.html,
https://www.tensorflow.org/api_docs/python/tf/nn/max_pool2d,
https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html#pooling
"""

import numpy as np

from fixtures.matrix import behaviour

IMAGE = np.array([[4, 1, 1, 4], [2, 3, 3, 2], [1, 2, 3, 1], [4, 3, 2, 4]], float)
UPSTREAM = np.array([[1, 2], [3, 4]], float)

TO_THE_MAXIMA = [[1, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0], [3, 0, 0, 4]]
TO_ALL = [
    [0.25, 0.25, 0.5, 0.5],
    [0.25, 0.25, 0.5, 0.5],
    [0.75, 0.75, 1, 1],
    [0.75, 0.75, 1, 1],
]

# The centre is the largest of all four windows of 2 x 2 that move by 1.
PEAK = np.array([[1, 2, 3], [4, 9, 5], [6, 7, 8]], float)
PEAK_GRADIENT = [[0, 0, 0], [0, 10, 0], [0, 0, 0]]


def gradient_in_torch(cell, kind, image, stride=2):
    """The gradient of the image: of its pooled values times 1, 2, 3, 4."""
    import torch

    layer_class = torch.nn.MaxPool2d if kind == "max" else torch.nn.AvgPool2d
    layer = layer_class(2, stride=stride)
    image = torch.tensor(image, dtype=cell.dtype, device=cell.device)[None, None].requires_grad_()
    upstream = torch.tensor(UPSTREAM, dtype=cell.dtype, device=cell.device)
    (layer(image)[0, 0] * upstream).sum().backward()
    return image.grad[0, 0]


def gradient_in_tensorflow(cell, kind, image, stride=2):
    import tensorflow as tf

    pool = tf.nn.max_pool2d if kind == "max" else tf.nn.avg_pool2d

    @cell.compile
    def gradient(image, upstream):
        with tf.GradientTape() as tape:
            tape.watch(image)
            pooled = pool(image[None, :, :, None], ksize=2, strides=stride, padding="VALID")
            loss = tf.reduce_sum(pooled[0, :, :, 0] * upstream)
        return tape.gradient(loss, image)

    return gradient(tf.constant(image, cell.dtype), tf.constant(UPSTREAM, cell.dtype))


def gradient_in_jax(cell, kind, image, stride=2):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    pool = nnx.max_pool if kind == "max" else nnx.avg_pool

    @cell.compile
    @jax.grad
    def gradient(image, upstream):
        pooled = pool(image[None, :, :, None], (2, 2), strides=(stride, stride))
        return (pooled[0, :, :, 0] * upstream).sum()

    return gradient(jnp.asarray(image, cell.dtype), jnp.asarray(UPSTREAM, cell.dtype))


@behaviour(
    "pooling.gradient-routing",
    frameworks="torch tensorflow jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"torch": "eager", "others": "eager compiled"},
    needs={"jax": "flax>=0.10"},
    costly="jax-*float16-eager jax-*-float64-eager",
    catches="torch.max-pool-keeps-one-gradient-an-element "
    "tensorflow.average-pool-hands-on-the-whole-gradient",
)
def test_gradient_routing(gradient, cell, expect):
    """The largest of each window gets its gradient, 1, 2, 3 or 4; of a mean each gets a quarter.

    The centre of 3 x 3 that wins all four windows which move by 1 gets 1 + 2 + 3 + 4 = 10.
    """
    for what, expected, arguments in (
        ("maximum", TO_THE_MAXIMA, ("max", IMAGE)),
        ("mean", TO_ALL, ("mean", IMAGE)),
        ("maximum of overlapping windows", PEAK_GRADIENT, ("max", PEAK, 1)),
    ):
        expect.exactly(
            observed=gradient(cell, *arguments), expected=expected, what=f"gradient, {what}"
        )


@behaviour(
    "pooling.max-gradient-ties",
    frameworks="torch tensorflow jax",
    precisions="float64 float32",
    modes="eager",
    needs={"jax": "flax>=0.10"},
    catches="torch.max-pool-spreads-ties",
)
def test_max_gradient_ties(gradient, cell, expect):
    """Of four equal numbers in a window one gets all of the gradient, and three get nothing."""
    observed = expect.numeric(gradient(cell, "max", np.ones((4, 4))))
    windows = observed.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)
    expect.exactly(
        observed=np.sort(windows, axis=1),
        expected=[[0, 0, 0, winner] for winner in (1, 2, 3, 4)],
        what="gradients in each window, sorted",
        other_precision="sorted by NumPy in float64",
    )
