"""A scale of one's own, in attention that is causal.

    softmax(scale * Q Kᵀ) V      scale = 1 / sqrt(d) unless given

Vectors of depth 4, whose scale would be 1/2. The query is log(3) / 2 in one place, the first key is
0 there and the second 1. With the scale 2 the scores are 0 and log(3), and the weights 1/4 and 3/4.
Of the values 4 and 8 the second position gets (4 + 3 * 8) / 4 = 7; with 1/2 for scale it would be
6.27. The first position sees itself alone, and gets 4.

Sources: class 142, definitions 5 and exercise 5;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html,
https://keras.io/api/ops/nn/#dot_product_attention-function
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded
from reference import attention

SCALE = 2.0

# One sequence of two positions: (length, depth), one head.
QUERY = np.log(3) / 2 * np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
KEY = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
VALUE = np.array([[4.0, 4.0, 4.0, 4.0], [8.0, 8.0, 8.0, 8.0]])
OUTPUT = np.array([[4.0, 4.0, 4.0, 4.0], [7.0, 7.0, 7.0, 7.0]])


def causal_in_numpy(cell):
    query, key, value = (array.astype(cell.dtype) for array in (QUERY, KEY, VALUE))
    return attention.attention(query, key, value, scale=SCALE, causal=True)


def causal_in_torch(cell):
    import torch

    query, key, value = (
        torch.tensor(array, dtype=cell.dtype, device=cell.device)[None, None]
        for array in (QUERY, KEY, VALUE)
    )
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(query, key, value, scale=SCALE, is_causal=True)[0, 0]


def causal_in_keras(cell):
    import keras

    query, key, value = (
        keras.ops.convert_to_tensor(array[None, :, None], dtype=cell.dtype)
        for array in (QUERY, KEY, VALUE)
    )
    attend = keras.ops.dot_product_attention
    return attend(query, key, value, scale=SCALE, is_causal=True)[0, :, 0]


def causal_in_jax(cell):
    import jax
    import jax.numpy as jnp

    @cell.compile
    def attend(query, key, value):
        return jax.nn.dot_product_attention(query, key, value, scale=SCALE, is_causal=True)

    arrays = (jnp.asarray(array[None, :, None], cell.dtype) for array in (QUERY, KEY, VALUE))
    return attend(*arrays)[0, :, 0]


@behaviour(
    "attention.scale-and-causal-mask",
    frameworks="numpy torch keras jax",
    precisions={"numpy": "float64 float32", "torch": "float64 float32", "others": "float32"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"keras": "keras>=3.7", "jax": "jax>=0.4.31"},
    catches="torch.causal-attention-ignores-its-scale jax.causal-attention-ignores-its-scale "
    "keras.causal-attention-ignores-its-scale",
)
def test_scale_and_causal_mask(causal, cell, expect):
    """The scale that is given multiplies the scores, and the future is hidden all the same.

    4 of the first position is exact, its weights being 1 and 0. 7 of the second passes through two
    roundings of the score log(3), 1.1 in size, which its exponential turns into relative ones, four
    of the exponential, a sum, a division, and two of the sum of values: 12 at most.
    """
    output = causal(cell)
    expect.exactly(observed=output[0], expected=OUTPUT[0], what="output of the first position")
    expect.within(
        rounded(12, cell.precision),
        observed=output[1],
        expected=OUTPUT[1],
        what="output of the second position",
    )
