"""RMSNorm against LayerNorm: half the statistics, and not always less time.

RMSNorm divides by the root mean square and neither computes a mean nor subtracts it nor adds a
bias. That is less arithmetic, but both are bound by memory: a kernel that reads its input once and
writes its output once takes about the same time for either. So it depends on who wrote the kernel.
Where both are composed of operations, the one with fewer is faster; where LayerNorm is one kernel
and RMSNorm is composed (torch on a CPU), the simpler layer is the slower one.

Sources: class 143, question 3; catalogue: transformer.rmsnorm-faster; Zhang and Sennrich 2019
(arXiv:1910.07467): 7 to 64 % less time;
https://docs.pytorch.org/docs/stable/generated/torch.nn.RMSNorm.html,
https://keras.io/api/layers/normalization_layers/rms_normalization/
"""

import numpy as np

from fixtures.speed import Variant, claim

ROWS, FEATURES = 1024, 512
X = np.sin(np.arange(ROWS * FEATURES) ** 1.5).reshape(ROWS, FEATURES)
UPSTREAM = np.cos(np.arange(ROWS * FEATURES) ** 1.5).reshape(ROWS, FEATURES)
EPSILON = 1e-6


def variants_in_torch(cell):
    """Forwards and backwards."""
    import torch
    from torch import nn

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    upstream = torch.tensor(UPSTREAM, dtype=cell.dtype, device=cell.device)

    def variant(norm):
        norm = norm(FEATURES, eps=EPSILON, device=cell.device, dtype=cell.dtype)
        inputs, forward = [x, *norm.parameters()], cell.compile(norm)
        return lambda: torch.autograd.grad(forward(x), inputs, upstream)

    suffix = ", compiled" if cell.is_compiled else ""  # both cells stand in one table
    return (
        Variant(f"LayerNorm{suffix}", variant(nn.LayerNorm)),
        Variant(f"RMSNorm{suffix}", variant(nn.RMSNorm)),
    )


def variants_in_jax(cell):
    """Forwards and backwards."""
    import jax
    import jax.numpy as jnp

    x, upstream = jnp.asarray(X, cell.dtype), jnp.asarray(UPSTREAM, cell.dtype)
    scale, bias = jnp.ones(FEATURES, cell.dtype), jnp.zeros(FEATURES, cell.dtype)

    def layer_norm(x, scale, bias):
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPSILON) * scale + bias

    def rms_norm(x, scale):
        mean_square = jnp.mean(x**2, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(mean_square + EPSILON) * scale

    def variant(norm, *arguments):
        @cell.compile
        def output_and_gradients(upstream, *arguments):
            output, pull_back = jax.vjp(norm, *arguments)
            return output, pull_back(upstream)

        return lambda: output_and_gradients(upstream, *arguments)

    return (
        Variant("LayerNorm", variant(layer_norm, x, scale, bias)),
        Variant("RMSNorm", variant(rms_norm, x, scale)),
    )


def variants_in_keras(cell):
    """Forwards."""
    import keras

    x = keras.ops.convert_to_tensor(X, cell.dtype)
    layer_norm = keras.layers.LayerNormalization(epsilon=EPSILON, dtype=cell.dtype)
    rms_norm = keras.layers.RMSNormalization(epsilon=EPSILON, dtype=cell.dtype)
    return Variant("LayerNorm", lambda: layer_norm(x)), Variant("RMSNorm", lambda: rms_norm(x))


@claim(
    "speed.rmsnorm-faster",
    claimed="faster",
    low=1.0,
    source="class 143, question 3",
    frameworks="torch keras jax",
    precisions="float32",
    modes={"torch": "eager compiled", "keras": "eager", "jax": "compiled"},
    needs={"keras": "keras>=3.9"},
)
def test_rmsnorm_faster(variants, cell, speed):
    """RMSNorm is faster than LayerNorm, here over 1024 rows of 512 features."""
    speed.compare_unlike(*variants(cell))
