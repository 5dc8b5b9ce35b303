"""Attention whose values are wider than its queries.

The scores compare queries with keys, so these two share their depth d. The values take no part in
that: theirs is a depth of its own, and the output's.

    softmax(Q Kᵀ / sqrt(d)) V      Q: queries x d   K: keys x d   V: keys x v   out: queries x v

A query of zeros finds all keys alike, and its output is the mean of the values:

    mean of (1, 2, 3) and (3, 4, 5) = (2, 3, 4)

Sources: class 142, definitions 5 and 6 (d_k and d_v); Vaswani et al. 2017 (arXiv:1706.03762),
section 3.2.1;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/attention.html
"""

import numpy as np

from fixtures.matrix import behaviour

# batch, heads, length, depth
QUERY = np.zeros((1, 1, 1, 2))
KEY = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
VALUE = np.array([[[[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]]]])
OUTPUT = np.array([[[[2.0, 3.0, 4.0]]]])


def output_in_numpy(cell):
    query, key, value = (array.astype(cell.dtype) for array in (QUERY, KEY, VALUE))
    scores = query @ key.swapaxes(-1, -2) / cell.dtype.type(np.sqrt(2))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ value


def output_in_torch(cell):
    import torch

    arrays = (QUERY, KEY, VALUE)
    tensors = [torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in arrays]
    return torch.nn.functional.scaled_dot_product_attention(*tensors)


def output_in_jax(cell):
    """Flax, with heads after length."""
    import jax.numpy as jnp
    from flax import nnx

    attend = cell.compile(nnx.dot_product_attention)
    arrays = [
        jnp.asarray(array.swapaxes(1, 2), cell.compute_dtype) for array in (QUERY, KEY, VALUE)
    ]
    return attend(*arrays).swapaxes(1, 2)


@behaviour(
    "attention.value-depth",
    frameworks="numpy torch jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "flax>=0.10"},
    catches="torch.attention-returns-the-depth-of-the-query",
)
def test_value_depth(output, cell, expect):
    """Values of depth 3 under queries and keys of depth 2 give outputs of depth 3: (2, 3, 4)."""
    expect.exactly(observed=output(cell), expected=OUTPUT, what="output")
