"""The smallest norm in the denominator of a cosine.

    cos(a, b) = sum(a * b) / (max(|a|, epsilon) * max(|b|, epsilon))

keeps vectors near 0 from being divided by 0. With epsilon = 1/4 the vector a = (1/8, 0) counts as
one of length 1/4, and its cosine with b = (1, 0) is 1/2; without, it is 1.

Sources: class 119, topics 1 (losses of one's own);
https://optax.readthedocs.io/en/latest/api/losses.html#optax.losses.cosine_similarity,
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_similarity.html
"""

import numpy as np

from fixtures.matrix import behaviour

EPSILON = 1 / 4
SHORT = np.array([[1 / 8, 0.0]])
LONG = np.array([[1.0, 0.0]])


def cosine_in_numpy(cell, epsilon):
    a, b = SHORT.astype(cell.dtype), LONG.astype(cell.dtype)
    norms = [np.maximum(np.sqrt((x**2).sum(axis=-1)), cell.dtype.type(epsilon)) for x in (a, b)]
    return (a * b).sum(axis=-1) / (norms[0] * norms[1])


def cosine_in_torch(cell, epsilon):
    import torch

    a = torch.tensor(SHORT, dtype=cell.dtype, device=cell.device)
    b = torch.tensor(LONG, dtype=cell.dtype, device=cell.device)
    return torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=epsilon)


def cosine_in_jax(cell, epsilon):
    import jax.numpy as jnp
    import optax

    cosine = cell.compile(lambda a, b: optax.cosine_similarity(a, b, epsilon=epsilon))
    return cosine(jnp.asarray(SHORT, cell.dtype), jnp.asarray(LONG, cell.dtype))


@behaviour(
    "losses.cosine-smallest-norm",
    frameworks="numpy torch jax",
    precisions="float64 float32",
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2"},
    catches="torch.cosine-similarity-without-a-smallest-norm",
)
def test_cosine_smallest_norm(cosine, cell, expect):
    """epsilon is the smallest norm in the denominator: 1/8 / max(1/8, 1/4) = 1/2.

    With an epsilon below both norms the cosine is 1. All numbers are powers of two: exact.
    """
    expect.exactly(observed=cosine(cell, 2.0**-20), expected=[1.0], what="cosine")
    expect.exactly(observed=cosine(cell, EPSILON), expected=[0.5], what="cosine of a short vector")
