"""ELU: x above zero, and below it alpha (e^x - 1), which ends at -alpha.

    elu(x) = x for x > 0, alpha * (exp(x) - 1) otherwise       slope 1, or alpha * exp(x)

alpha scales, and stands outside the exponential; it is 1 unless given, in every library. At
x = -log(2) the exponential is 1/2:

    alpha        elu(-log 2)     slope       elu(-200)
    1            -1/2            1/2         -1
    2            -1              1           -2
    1/2          -1/4            1/4         -1/2

Sources: class 109, topics (ELU); Clevert, Unterthiner and Hochreiter 2015 (arXiv:1511.07289);
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.elu.html,
https://keras.io/api/layers/activations/#elu-function,
https://www.tensorflow.org/api_docs/python/tf/nn/elu,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.elu.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to

X = np.array([-200.0, -np.log(2), 0.5, 3.0])
ALPHAS = (None, 1.0, 2.0, 0.5)

# One compiled precision of torch tells what the compiler does, and JAX without jit compiles every
# operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_jax-*float16-eager"
)


# Each program returns {alpha: (values at X, slopes or None)}; the alpha None is the default.


def elu_in_numpy(cell):
    x = X.astype(cell.dtype)
    below = np.minimum(x, 0)
    found = {}
    for alpha in ALPHAS:
        scale = cell.dtype.type(alpha or 1)
        values = np.where(x > 0, x, scale * np.expm1(below))
        found[alpha] = values, np.where(x > 0, cell.dtype.type(1), scale * np.exp(below))
    return found


def elu_in_torch(cell):
    import torch

    @cell.compile
    def values(x):
        elu = torch.nn.functional.elu
        return [elu(x) if alpha is None else elu(x, alpha=alpha) for alpha in ALPHAS]

    x = torch.tensor(X, dtype=cell.dtype, device=cell.device, requires_grad=True)
    found = {}
    for alpha, y in zip(ALPHAS, values(x), strict=True):
        x.grad = None
        y.sum().backward(retain_graph=True)
        found[alpha] = y, x.grad
    return found


def elu_in_tensorflow(cell):
    """tf.nn.elu has no alpha."""
    import tensorflow as tf

    @cell.compile
    def values_and_slopes(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.nn.elu(x)
        return y, tape.gradient(y, x)

    return {None: values_and_slopes(tf.constant(X, cell.dtype))}


def elu_in_keras(cell):
    """Keras has no call that returns a gradient."""
    import keras

    x = keras.ops.convert_to_tensor(X, dtype=cell.dtype)
    found = {None: (keras.layers.ELU(dtype=cell.dtype)(x), None)}
    for alpha in ALPHAS[1:]:
        found[alpha] = keras.layers.ELU(alpha=alpha, dtype=cell.dtype)(x), None
    return found


def elu_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def values_and_slopes(x):
        found = []
        for alpha in ALPHAS:
            options = {} if alpha is None else {"alpha": alpha}
            y, pullback = jax.vjp(lambda x, how=options: jax.nn.elu(x, **how), x)
            found.append((y, pullback(jnp.ones_like(y))[0]))
        return found

    found = values_and_slopes(jnp.asarray(X, cell.dtype))
    return dict(zip(ALPHAS, found, strict=True))


@behaviour(
    "activations.elu-formula",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"keras": "eager", "others": "eager compiled"},
    costly=COSTLY,
    catches="torch.elu-alpha-inside-the-exponential[*-eager] "
    "jax.elu-alpha-inside-the-exponential keras.elu-layer-ignores-its-alpha "
    "tensorflow.elu-slope-of-its-value",
)
def test_elu_formula(elu, cell, expect):
    """alpha (exp(x) - 1) below zero, x above it; alpha 1 unless given.

    An exponential of four roundings, the subtraction of 1, where terms up to 1 cancel, and the
    product with alpha. Above zero nothing is rounded.
    """
    x = round_to(X, cell.precision)
    is_below, below = x <= 0, np.minimum(x, 0)
    roundings = 2 * accumulated(6, cell.precision) * is_below
    for alpha, (values, slopes) in elu(cell).items():
        scale = alpha or 1.0
        bound = Bound(absolute=scale * roundings, because=f"6 roundings of terms up to 2 * {scale}")
        expected = np.where(is_below, scale * np.expm1(below), x)
        expect.within(bound, observed=values, expected=expected, what=f"values, alpha {alpha}")
        if slopes is not None:
            expected = np.where(is_below, scale * np.exp(below), 1.0)
            expect.within(bound, observed=slopes, expected=expected, what=f"slopes, alpha {alpha}")
