"""Two masks at once: what is padding, and what lies in the future.

A decoder's position must see neither. A key counts where both masks let it through, whether the
masks come in one argument or in two:

                                         padding                            future
    torch.nn.MultiheadAttention          key_padding_mask, True = padding   attn_mask, True = hidden
    scaled_dot_product_attention         attn_mask, one for both, True = may be seen
    jax.nn.dot_product_attention         mask, True = may be seen           is_causal
    flax.nnx.MultiHeadAttention          mask, of nnx.combine_masks, True = may be seen
    keras.layers.MultiHeadAttention      value_mask or attention_mask,      use_causal_mask
                                         True = may be seen

Queries of zeros find all keys alike, so that each output is the mean of the values it may see. Two
sequences of the values 1, 2, 4, 8; the padding stands at positions 1 and 3 of the first and at 2
and 3 of the second:

    position              0      1                 2                 3
    first sequence        1      1                 (1 + 4) / 2       (1 + 4) / 2
    second sequence       1      (1 + 2) / 2       (1 + 2) / 2       (1 + 2) / 2

With the future hidden alone both are 1, 3/2, 7/3, 15/4; with the padding alone the first is 5/2 in
all positions, and the second 3/2.

Sources: class 142, common mistakes 2 and 3, exercise 5; class 144, common mistake 5; class 145,
exercise 3;
https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html,
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/attention.html,
https://keras.io/api/layers/attention_layers/multi_head_attention/,
https://keras.io/guides/understanding_masking_and_padding/
"""

import numpy as np

from fixtures.matrix import behaviour

BATCH, LENGTH, HEADS = 2, 4, 2
# (batch, length, features), one feature for each head: the second's are ten times as large.
VALUES = np.tile(np.array([1.0, 2.0, 4.0, 8.0])[:, None] * [1, 10], (BATCH, 1, 1))

IS_REAL = np.array([[True, False, True, False], [True, True, False, False]])
IS_PAST = np.tri(LENGTH, dtype=bool)

# Weights of the keys, by sequence, position and key; the same in both heads.
WEIGHTS = np.array(
    [
        [[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0]],
        [[1, 0, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0]],
    ]
)
OUTPUT = np.array([[1.0, 1.0, 2.5, 2.5], [1.0, 1.5, 1.5, 1.5]])[..., None] * [1, 10]

# JAX without jit compiles every operation by itself.
COSTLY = "jax-*-eager keras_jax-*float16-eager"


# ----------------------------------------------------------------------------------------------
# Each program returns the ways to say it: {what: (output, weights or None)}, the outputs as (batch,
# length, features), the weights as (batch, heads, length, keys). The layers project the queries to
# zeros, and keys and values to themselves.


def masked_in_numpy(cell):
    values = VALUES.astype(cell.dtype)
    is_seen = (IS_REAL[:, None, :] & IS_PAST).astype(cell.dtype)  # exp(0), or exp(-infinity)
    weights = is_seen / is_seen.sum(axis=-1, keepdims=True)
    return {"by hand": (weights @ values, np.stack([weights] * HEADS, axis=1))}


def masked_in_torch(cell):
    """Weights are computed on one path, outputs alone on a second, inference alone on a third."""
    import torch

    layer = torch.nn.MultiheadAttention(
        HEADS, HEADS, batch_first=True, dtype=cell.dtype, device=cell.device
    )
    eye = torch.eye(HEADS)
    with torch.no_grad():
        layer.in_proj_weight.copy_(torch.cat([0 * eye, eye, eye]))
        layer.out_proj.weight.copy_(eye)
    values = torch.tensor(VALUES, dtype=cell.dtype, device=cell.device)
    is_real = torch.tensor(IS_REAL, device=cell.device)
    is_past = torch.tensor(IS_PAST, device=cell.device)
    masks = {"key_padding_mask": ~is_real, "attn_mask": ~is_past}

    def with_weights():
        return layer(values, values, values, average_attn_weights=False, **masks)

    def functional(mask):
        heads = values.unflatten(-1, (HEADS, 1)).transpose(1, 2)
        attend = torch.nn.functional.scaled_dot_product_attention
        output = attend(torch.zeros_like(heads), heads, heads, attn_mask=mask)
        return output.transpose(1, 2).flatten(-2)

    without_weights, _ = layer(values, values, values, need_weights=False, is_causal=True, **masks)
    is_seen = is_real[:, None, None, :] & is_past
    added = torch.zeros_like(is_seen, dtype=cell.dtype).masked_fill(~is_seen, -torch.inf)
    found = {
        "MultiheadAttention": with_weights(),
        "MultiheadAttention(need_weights=False)": (without_weights, None),
        "scaled_dot_product_attention": (functional(is_seen), None),
        "scaled_dot_product_attention of -inf": (functional(added), None),
    }
    layer.eval()
    with torch.no_grad():
        found["MultiheadAttention in inference"] = with_weights()
    return found


def masked_in_keras(cell):
    import keras

    eye = np.eye(HEADS)
    into, out_of = eye.reshape(HEADS, HEADS, 1), eye.reshape(HEADS, 1, HEADS)
    layer = keras.layers.MultiHeadAttention(HEADS, key_dim=1, use_bias=False, dtype=cell.dtype)
    layer.build((None, None, HEADS), (None, None, HEADS), (None, None, HEADS))
    layer.set_weights([0 * into, into, into, out_of])
    values = keras.ops.convert_to_tensor(VALUES, dtype=cell.dtype)
    is_real = keras.ops.convert_to_tensor(IS_REAL)
    shape = (BATCH, LENGTH, LENGTH)
    real = keras.ops.convert_to_tensor(np.broadcast_to(IS_REAL[:, None, :], shape))
    past = keras.ops.convert_to_tensor(np.broadcast_to(IS_PAST, shape))
    both_masks = {"attention_mask": real, "use_causal_mask": True}
    plain = keras.layers.Attention(dtype=cell.dtype)
    return {
        "MultiHeadAttention(attention_mask, use_causal_mask)": (
            layer(values, values, **both_masks),
            None,
        ),
        "MultiHeadAttention(value_mask, use_causal_mask)": (
            layer(values, values, value_mask=is_real, use_causal_mask=True),
            None,
        ),
        "MultiHeadAttention(value_mask, attention_mask)": (
            layer(values, values, value_mask=is_real, attention_mask=past),
            None,
        ),
        "MultiHeadAttention(return_attention_scores)": layer(
            values, values, return_attention_scores=True, **both_masks
        ),
        "Attention(mask, use_causal_mask)": (
            plain([0 * values, values], mask=[None, is_real], use_causal_mask=True),
            None,
        ),
    }


def masked_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.MultiHeadAttention(
        HEADS,
        HEADS,
        use_bias=False,
        decode=False,
        dtype=cell.dtype,
        param_dtype=cell.dtype,
        rngs=nnx.Rngs(0),
    )
    eye = jnp.eye(HEADS, dtype=cell.dtype)
    layer.query.kernel.value = jnp.zeros((HEADS, HEADS, 1), cell.dtype)
    layer.key.kernel.value = layer.value.kernel.value = eye.reshape(HEADS, HEADS, 1)
    layer.out.kernel.value = eye.reshape(HEADS, 1, HEADS)

    @cell.compile
    def function(values, is_real):
        values = values[..., None]
        mask = is_real[:, None, None, :]
        queries = jnp.zeros_like(values)
        attend = jax.nn.dot_product_attention
        return attend(queries, values, values, mask=mask, is_causal=True)[..., 0]

    @cell.compile
    def module(values, is_real):
        padding = nnx.make_attention_mask(jnp.ones_like(is_real), is_real)
        future = nnx.make_causal_mask(is_real)
        return layer(values, values, values, mask=nnx.combine_masks(padding, future))

    values, is_real = jnp.asarray(VALUES, cell.dtype), jnp.asarray(IS_REAL)
    return {
        "jax.nn.dot_product_attention": (function(values, is_real), None),
        "flax.nnx.MultiHeadAttention": (module(values, is_real), None),
    }


@behaviour(
    "attention.padding-and-causal-mask",
    frameworks="numpy torch keras jax",
    precisions={
        "numpy": "float64 float32",
        "torch": "float64 float32 bfloat16 float16",
        "keras": "float32 bfloat16 float16",
        "jax": "float64 float32 bfloat16",
    },
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "flax>=0.10 jax>=0.4.31"},
    costly=COSTLY,
    catches="torch.padding-mask-gives-way-to-another "
    "keras.causal-mask-replaces-the-padding-mask "
    "jax.causal-mask-replaces-the-mask "
    "flax.combined-masks-are-the-last",
)
def test_padding_and_causal_mask(masked, cell, expect):
    """With both masks an output is the mean of the values that neither of them hides.

    Each position sees one or two keys: the weights 0, 1/2 and 1 and the outputs 1, 3/2 and 5/2 (10,
    15 and 25 of the second head) are exact in every precision.
    """
    for what, (output, weights) in masked(cell).items():
        expect.exactly(observed=output, expected=OUTPUT, what=f"output of {what}")
        if weights is not None:
            expected = np.stack([WEIGHTS] * HEADS, axis=1)
            expect.exactly(observed=weights, expected=expected, what=f"weights of {what}")
