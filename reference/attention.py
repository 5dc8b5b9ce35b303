"""Dot-product attention and its gradients, in the layout (..., length, depth)."""

import numpy as np


def attention_weights(query, key, scale, causal=False):
    """softmax(scale * query key^T) over the keys: (..., queries, keys), rows that sum to 1.

    query: (..., queries, depth), key: (..., keys, depth). With `causal` query i sees the keys 0 to
    i alone. Raises ValueError when the depths differ.
    """
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query {query.shape} and key {key.shape}; expected one depth")
    scores = query.dtype.type(scale) * (query @ np.swapaxes(key, -1, -2))
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def attention(query, key, value, scale=None, causal=False):
    """softmax(scale * query key^T) value: (..., queries, depth of value).

    value: (..., keys, depth of value). `scale` is 1 / sqrt(depth) unless given. Everything else as
    in `attention_weights`.
    Source: Vaswani et al., Attention Is All You Need (2017), arXiv:1706.03762, equation 1.
    """
    return attention_weights(query, key, default_scale(query, scale), causal) @ value


def attention_gradients(query, key, value, upstream, scale=None):
    """d(sum(upstream * attention)) by query, key and value, in the shapes of these three."""
    scale = default_scale(query, scale)
    weights = attention_weights(query, key, scale)
    of_weights = upstream @ np.swapaxes(value, -1, -2)
    mean = (weights * of_weights).sum(axis=-1, keepdims=True)
    of_scores = query.dtype.type(scale) * weights * (of_weights - mean)
    return (
        of_scores @ key,
        np.swapaxes(of_scores, -1, -2) @ query,
        np.swapaxes(weights, -1, -2) @ upstream,
    )


def default_scale(query, scale=None):
    return 1 / np.sqrt(query.shape[-1]) if scale is None else scale
