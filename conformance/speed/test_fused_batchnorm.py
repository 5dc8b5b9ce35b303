"""What fusing gains in BatchNorm: one kernel for its formula, and no BatchNorm at all.

In training the written-out formula passes over the batch again and again, for the mean, for the
variance, to subtract, to divide, to scale and to shift. A fused kernel passes over it twice. Keras
2 let one choose (`BatchNormalization(fused=True)`, said to be about 20 % faster); Keras 3 has
removed the argument, but the kernel is still there in TensorFlow, and torch has never offered
anything else.

In inference the statistics are constants, so BatchNorm is one product and one sum for each channel,
and these can be folded into the weights of the convolution before it:

    gamma (W x + b - mean) / s + beta = (gamma / s) W x + (gamma / s) (b - mean) + beta

Sources: class 110, question 4; catalogue: normalization.fused-argument-removed;
https://www.tensorflow.org/api_docs/python/tf/compat/v1/nn/fused_batch_norm,
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.fusion.fuse_conv_bn_eval.html,
https://docs.pytorch.org/tutorials/intermediate/fx_conv_bn_fuser.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

CHANNELS = 16
BATCH = np.sin(np.arange(32 * 14 * 14 * CHANNELS) ** 1.5).reshape(32, 14, 14, CHANNELS)
GAMMA = 1 + np.arange(CHANNELS) / CHANNELS
BETA = np.arange(CHANNELS) / CHANNELS
EPSILON = 1e-3


def training_bound(cell):
    """The mean of 6272 numbers, then that of their squares, and eight roundings more.

    Normalised numbers are at most 2, twice that scaled and shifted by one.
    """
    return rounded(2 * 32 * 14 * 14 + 8, cell.precision, terms=[4.0, 1.0])


def variants_in_tensorflow(cell):
    import tensorflow as tf

    x = tf.constant(BATCH, cell.dtype)
    gamma, beta = tf.constant(GAMMA, cell.dtype), tf.constant(BETA, cell.dtype)

    def written_out():
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, EPSILON)

    def fused():
        return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=EPSILON)[0]

    return Variant("written out", written_out), Variant("fused", fused)


def variants_in_torch(cell):
    import torch

    x = torch.tensor(BATCH, dtype=cell.dtype, device=cell.device)
    x = x.permute(0, 3, 1, 2).contiguous()
    gamma, beta = (
        torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in (GAMMA, BETA)
    )

    def written_out():
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
        normalised = (x - mean) * torch.rsqrt(variance + EPSILON)
        return normalised * gamma[:, None, None] + beta[:, None, None]

    def fused():
        return torch.nn.functional.batch_norm(
            x, None, None, gamma, beta, training=True, eps=EPSILON
        )

    return Variant("written out", written_out), Variant("fused", fused)


@claim(
    "speed.fused-batchnorm",
    claimed="about 20 % faster",
    low=1.15,
    high=1.25,
    source="class 110, question 4",
    frameworks="torch tensorflow",
    precisions="float32",
    modes="eager",
)
def test_fused_batchnorm(variants, cell, speed):
    """Fused BatchNorm is about 20 % faster in training than its formula, operation by operation."""
    speed.compare(*variants(cell), within=training_bound(cell))


def folded_variants_in_torch(cell):
    import torch
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    x = torch.tensor(BATCH, dtype=cell.dtype, device=cell.device)
    x = x.permute(0, 3, 1, 2).contiguous()
    convolution = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(cell.device).eval()
    norm = nn.BatchNorm2d(CHANNELS).to(cell.device).eval()
    with torch.no_grad():
        for parameter, array in ((norm.weight, GAMMA), (norm.bias, BETA)):
            parameter.copy_(torch.tensor(array))
        norm.running_mean.fill_(0.25)
        norm.running_var.fill_(0.5)
    folded = fuse_conv_bn_eval(convolution, norm)

    def unfolded():
        with torch.inference_mode():
            return norm(convolution(x))

    def folded_in():
        with torch.inference_mode():
            return folded(x)

    return Variant("Conv2d, BatchNorm2d", unfolded), Variant("fuse_conv_bn_eval", folded_in)


@claim(
    "speed.folded-batchnorm",
    claimed="faster",
    low=1.0,
    source="PyTorch tutorial, convolution and batch norm fuser",
    frameworks="torch",
    precisions="float32",
    modes="eager",
)
def test_folded_batchnorm(folded_variants, cell, speed):
    """In inference, BatchNorm folded into the convolution before it is faster than both layers."""
    # 144 products and a bias, each at most 1/12 (torch's initial weights), scaled by up to 2 / 0.7.
    terms = np.full(145, 2 / 0.7 / 12)
    within = rounded(145 + 10, cell.precision, terms=[*terms, 1.0])
    speed.compare(*folded_variants(cell), within=within)
