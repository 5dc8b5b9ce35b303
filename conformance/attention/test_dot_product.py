"""Dot-product attention: the formula, its scale, and the causal mask.

    attention(Q, K, V) = softmax(Q Kᵀ / sqrt(d)) V

                                                   layout                     scale
    torch.nn.functional.scaled_dot_product_attention   batch, heads, length, d    1 / sqrt(d)
    jax.nn.dot_product_attention                       batch, length, heads, d    1 / sqrt(d)
    keras.layers.MultiHeadAttention                    batch, length, features    1 / sqrt(key_dim)
    keras.layers.Attention                             batch, length, d           none

With a causal mask a position attends to itself and what came before. A masked weight is not small
but exactly zero, so whatever stands in the future leaves earlier outputs as they are, to the bit.

Sources: class 142, results 1 and 4, exercises 1 and 5, common mistake 1; class 143, definition 5;
class 144, exercise 1 and result 4; Vaswani et al. 2017 (arXiv:1706.03762), equation 1;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html,
https://keras.io/api/layers/attention_layers/multi_head_attention/,
https://keras.io/api/layers/attention_layers/attention/
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, accumulated, round_to
from reference import attention

# One compiled precision of torch tells what the compiler does, and JAX without jit compiles every
# operation by itself. The rest waits for depth full.
COSTLY = (
    "torch-*-float64-compiled torch-*float16-compiled jax-*-float64-eager jax-*float16-eager "
    "keras_jax-*float16-eager"
)

BATCH, HEADS, QUERIES, KEYS, DEPTH = 2, 3, 4, 5, 8


def wave(precision, *shape, start):
    """Irrational numbers from -1 to 1, rounded to the precision."""
    return round_to(np.sin(start + np.arange(np.prod(shape)) ** 1.5).reshape(shape), precision)


def arrays(precision):
    """Query, key, value, and the weight of each output in the sum that is differentiated."""
    return (
        wave(precision, BATCH, HEADS, QUERIES, DEPTH, start=1.0),
        wave(precision, BATCH, HEADS, KEYS, DEPTH, start=2.0),
        wave(precision, BATCH, HEADS, KEYS, DEPTH, start=3.0),
        wave(precision, BATCH, HEADS, QUERIES, DEPTH, start=4.0),
    )


def bounds(precision, query, key, value, upstream, scale=None):
    """Of the output, and of the gradients by query, key and value.

    A score sums `depth` products and is scaled: depth + 5 roundings with the scale's own and the
    subtraction of the maximum. Its absolute error is the relative one of its exponential, and comes
    twice, through the softmax's own sum; the exponential (4), the sum over the keys, the division
    and the sum of the values follow. Backwards the same weights meet two more such sums.
    """
    scale = attention.default_scale(query, scale)
    weights = attention.attention_weights(query, key, scale)
    sizes = [np.abs(array) for array in (query, key, value, upstream)]
    query, key, value, upstream = sizes

    def transposed(array):
        return np.swapaxes(array, -1, -2)

    depth, keys = key.shape[-1], key.shape[-2]
    scores = scale * query @ transposed(key)
    of_weights = upstream @ transposed(value)
    of_scores = weights * (of_weights + (weights * of_weights).sum(-1, keepdims=True))
    unit = accumulated(depth + 5, precision)
    forward = 2 * unit * scores.max(-1, keepdims=True) + accumulated(2 * keys + 8, precision)
    backward = 2 * forward + accumulated(depth + 2 * keys + 10, precision)
    because = f"scores of {depth + 5} roundings in {precision}, and their softmax"
    return [
        Bound(absolute=absolute, because=because)
        for absolute in (
            forward * (weights @ value),
            scale * ((backward * of_scores) @ key),
            scale * (transposed(backward * of_scores) @ query),
            transposed(forward * weights) @ upstream,
        )
    ]


# ----------------------------------------------------------------------------------------------
# The formula. A program returns the output and the gradients by query, key and value, or None for a
# gradient it does not show, all as (batch, heads, length, depth).


def formula_in_numpy(cell):
    query, key, value, upstream = (array.astype(cell.dtype) for array in arrays(cell.precision))
    return (
        attention.attention(query, key, value),
        *attention.attention_gradients(query, key, value, upstream),
    )


def formula_in_torch(cell):
    import torch

    query, key, value, upstream = (
        torch.tensor(array, device=cell.device, dtype=cell.dtype)
        for array in arrays(cell.precision)
    )
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    output = cell.compile(torch.nn.functional.scaled_dot_product_attention)(*inputs)
    output.backward(upstream)
    return output, *(tensor.grad for tensor in inputs)


def identity_attention(dtype, heads):
    """A keras.layers.MultiHeadAttention whose four projections change nothing."""
    import keras

    layer = keras.layers.MultiHeadAttention(heads, key_dim=DEPTH, use_bias=False, dtype=dtype)
    width = heads * DEPTH
    layer.build((None, None, width), (None, None, width), (None, None, width))
    into = np.eye(width).reshape(width, heads, DEPTH)
    layer.set_weights([into, into, into, np.eye(width).reshape(heads, DEPTH, width)])
    return layer


def features(array):
    """(batch, heads, length, depth) as (batch, length, heads * depth)."""
    return array.transpose(0, 2, 1, 3).reshape(BATCH, -1, HEADS * DEPTH)


def formula_in_tensorflow(cell):
    import tensorflow as tf

    layer = identity_attention(cell.dtype.name, HEADS)

    @cell.compile
    def forward_and_backward(query, key, value, upstream):
        with tf.GradientTape() as tape:
            tape.watch((query, key, value))
            output = layer(query, value, key)
        return output, *tape.gradient(output, (query, key, value), output_gradients=upstream)

    def heads(tensor):
        return tf.transpose(tf.reshape(tensor, (BATCH, -1, HEADS, DEPTH)), (0, 2, 1, 3))

    given = (tf.constant(features(array), cell.dtype) for array in arrays(cell.precision))
    return [heads(tensor) for tensor in forward_and_backward(*given)]


def formula_in_keras(cell):
    """Keras has no call that returns a gradient."""
    import keras

    query, key, value = (
        keras.ops.convert_to_tensor(features(array), dtype=cell.dtype)
        for array in arrays(cell.precision)[:3]
    )
    output = identity_attention(cell.dtype, HEADS)(query, value, key)
    output = keras.ops.reshape(output, (BATCH, QUERIES, HEADS, DEPTH))
    return keras.ops.transpose(output, (0, 2, 1, 3)), None, None, None


def formula_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def transposed(array):
        return jnp.swapaxes(array, 1, 2)

    query, key, value, upstream = (
        transposed(jnp.asarray(array, cell.dtype)) for array in arrays(cell.precision)
    )

    @cell.compile
    def forward_and_backward(query, key, value, upstream):
        output, pullback = jax.vjp(jax.nn.dot_product_attention, query, key, value)
        return output, *pullback(upstream)

    return [transposed(array) for array in forward_and_backward(query, key, value, upstream)]


@behaviour(
    "attention.scaled-dot-product",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "jax>=0.4.31"},
    costly=COSTLY,
    catches="torch.attention-without-scale[*-eager] jax.attention-in-bfloat16 "
    "keras.attention-scales-by-all-heads[tensorflow-*-float32-*|keras_torch-*-float32-*]",
)
def test_scaled_dot_product(formula, cell, expect):
    """softmax(Q Kᵀ / sqrt(d)) V for d = 8, four queries and five keys, and its gradients."""
    query, key, value, upstream = arrays(cell.precision)
    expected = (
        attention.attention(query, key, value),
        *attention.attention_gradients(query, key, value, upstream),
    )
    for what, observed, wanted, bound in zip(
        ("output", "gradient of the query", "gradient of the key", "gradient of the value"),
        formula(cell),
        expected,
        bounds(cell.precision, query, key, value, upstream),
        strict=True,
    ):
        if observed is None:
            continue
        expect.within(bound, observed=observed, expected=wanted, what=what)


# ----------------------------------------------------------------------------------------------
# keras.layers.Attention has no scale unless given one, and then it is learnt, from 1.


def unscaled_in_numpy(cell):
    query, key, value, _ = (array.astype(cell.dtype) for array in arrays(cell.precision))
    return attention.attention(query[:, 0], key[:, 0], value[:, 0], scale=1.0), [1.0]


def unscaled_in_keras(cell):
    import keras

    query, key, value, _ = (
        keras.ops.convert_to_tensor(array[:, 0], dtype=cell.dtype)
        for array in arrays(cell.precision)
    )
    plain = keras.layers.Attention(dtype=cell.dtype)
    output = plain([query, value, key])
    scaled = keras.layers.Attention(use_scale=True, dtype=cell.dtype)
    scaled([query, value, key])
    return output, [float(cell.to_numpy(scale)) for scale in scaled.trainable_variables]


@behaviour(
    "attention.keras-attention-unscaled",
    frameworks="numpy keras",
    precisions={"numpy": "float64 float32", "keras": "float64 float32 bfloat16 float16"},
    modes="eager",
    catches="keras.attention-scaled[keras_tensorflow-*|*-float32-*]",
)
def test_keras_attention_unscaled(unscaled, cell, expect):
    """keras.layers.Attention is softmax(Q Kᵀ) V; use_scale=True adds one weight, at first 1.

    (The course offers it as the scaled formula; the scale is in MultiHeadAttention.)
    """
    output, scales = unscaled(cell)
    query, key, value, upstream = (array[:, 0] for array in arrays(cell.precision))
    expect.within(
        bounds(cell.precision, query, key, value, upstream, scale=1.0)[0],
        observed=output,
        expected=attention.attention(query, key, value, scale=1.0),
        what="output",
    )
    expect.exactly(observed=scales, expected=[1.0], what="learnt scale, at first")


# ----------------------------------------------------------------------------------------------
# The causal mask. Sequences of five; from position 2 on keys and values change, queries do not. A
# program returns both outputs as (batch, length, heads, depth) and the gradients of the first two
# outputs' sum by key and value, or None.

LENGTH, CHANGED = 5, 2


def sequences(precision):
    """Query, key, value, and the other key and value, in (batch, heads, length, depth)."""
    query, key, value = (
        wave(precision, BATCH, HEADS, LENGTH, DEPTH, start=start) for start in (5.0, 6.0, 7.0)
    )
    other_key, other_value = key.copy(), value.copy()
    other_key[:, :, CHANGED:] *= -4
    other_value[:, :, CHANGED:] *= 8
    return query, key, value, other_key, other_value


def masked_in_numpy(cell, causal):
    query, *pairs = (array.astype(cell.dtype) for array in sequences(cell.precision))
    first = attention.attention(query, *pairs[:2], causal=causal)
    second = attention.attention(query, *pairs[2:], causal=causal)
    return first, second, None


def masked_in_torch(cell, causal):
    import torch

    @cell.compile
    def attend(query, key, value):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    query, key, value, other_key, other_value = (
        torch.tensor(array, device=cell.device, dtype=cell.dtype)
        for array in sequences(cell.precision)
    )
    inputs = key.requires_grad_(), value.requires_grad_()
    first = attend(query, *inputs)
    first[:, :, :CHANGED].sum().backward()
    other_key.requires_grad_()
    other_value.requires_grad_()
    return first, attend(query, other_key, other_value), [tensor.grad for tensor in inputs]


def one_head(array):
    """Heads as so many more sequences of the batch."""
    return array.reshape(-1, LENGTH, DEPTH)


def masked_in_tensorflow(cell, causal):
    import tensorflow as tf

    layer = identity_attention(cell.dtype.name, heads=1)

    @cell.compile
    def attend(query, key, value):
        with tf.GradientTape() as tape:
            tape.watch((key, value))
            output = layer(query, value, key, use_causal_mask=causal)
            earlier = tf.reduce_sum(output[:, :CHANGED])
        return output, *tape.gradient(earlier, (key, value))

    query, key, value, other_key, other_value = (
        tf.constant(one_head(array), cell.dtype) for array in sequences(cell.precision)
    )
    shape = (BATCH, HEADS, LENGTH, DEPTH)
    first, *gradients = (tf.reshape(tensor, shape) for tensor in attend(query, key, value))
    return first, tf.reshape(attend(query, other_key, other_value)[0], shape), gradients


def masked_in_keras(cell, causal):
    import keras

    layer = identity_attention(cell.dtype, heads=1)
    query, key, value, other_key, other_value = (
        keras.ops.convert_to_tensor(one_head(array), dtype=cell.dtype)
        for array in sequences(cell.precision)
    )
    first = layer(query, value, key, use_causal_mask=causal)
    second = layer(query, other_value, other_key, use_causal_mask=causal)
    shape = (BATCH, HEADS, LENGTH, DEPTH)
    return keras.ops.reshape(first, shape), keras.ops.reshape(second, shape), None


def masked_in_jax(cell, causal):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def attend(query, key, value):
        def earlier(key, value):
            output = jax.nn.dot_product_attention(query, key, value, is_causal=causal)
            return output[:, :CHANGED].sum(), output

        gradients, output = jax.grad(earlier, argnums=(0, 1), has_aux=True)(key, value)
        return output, gradients

    query, key, value, other_key, other_value = (
        jnp.swapaxes(jnp.asarray(array, cell.dtype), 1, 2) for array in sequences(cell.precision)
    )
    first, gradients = attend(query, key, value)
    second, _ = attend(query, other_key, other_value)
    return [
        jnp.swapaxes(first, 1, 2),
        jnp.swapaxes(second, 1, 2),
        [jnp.swapaxes(gradient, 1, 2) for gradient in gradients],
    ]


@behaviour(
    "attention.causal-mask",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"numpy": "float64 float32", "others": "float64 float32 bfloat16 float16"},
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "jax>=0.4.31"},
    costly=f"{COSTLY} jax-*-eager",
    catches="torch.causal-mask-lets-the-next-through[*-eager] "
    "keras.causal-mask-leaks[*-float32-*|!keras_torch-*] jax.attention-ignores-is-causal",
)
def test_causal_mask(masked, cell, expect):
    """Other keys and values from position 2 on leave the outputs 0 and 1 as they are, to the bit.

    The first position attends to itself alone: its output is its value, exactly. The gradient of
    the earlier outputs by later keys and values is exactly zero. Without the mask, the common
    mistake, all outputs change, by more than 1/2 somewhere.
    """
    first, second, gradients = masked(cell, causal=True)
    _, _, value, _, _ = sequences(cell.precision)
    expect.exactly(observed=first[:, :, 0], expected=value[:, :, 0], what="first output")
    earlier = cell.to_numpy(first)[:, :, :CHANGED]
    expect.exactly(observed=second[:, :, :CHANGED], expected=earlier, what="earlier outputs")
    for name, gradient in zip(("key", "value"), gradients or (), strict=False):
        nothing = np.zeros((BATCH, HEADS, LENGTH - CHANGED, DEPTH))
        later = gradient[:, :, CHANGED:]
        expect.exactly(observed=later, expected=nothing, what=f"gradient of a later {name}")

    first, second, _ = masked(cell, causal=False)
    change = np.abs(cell.to_numpy(second) - cell.to_numpy(first))[:, :, :CHANGED].max()
    expect.at_least(observed=float(change), least=0.5, what="change without the mask")
