"""What a fused attention kernel gains over the formula, softmax(Q Kᵀ / sqrt(d)) V.

Written out, the formula stores a score for each pair of positions, N × N of them, passes over them
for the softmax several times, and reads them again for the product with V. A fused kernel (flash
attention) works in blocks: the scores of a block are used while they are in the cache and are never
stored. It does the same arithmetic, so the gain is memory traffic, and it grows with N. In JAX the
compiler fuses the formula already; on a CPU `dot_product_attention` is that formula too, and a
kernel of its own on GPUs only, where it is asked for (`implementation="cudnn"`).

Sources: class 144, exercise 1; class 143, result 4; catalogue: transformer.sdpa-speed; Dao et al.
2022 (arXiv:2205.14135);
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html,
https://docs.jax.dev/en/latest/_autosummary/jax.nn.dot_product_attention.html
"""

import numpy as np

from fixtures.precision import Bound, accumulated
from fixtures.speed import Variant, claim

HEADS, LENGTH, DEPTH = 2, 1024, 64
SCALE = DEPTH**-0.5

# Query, key and value: irrational numbers from -1 to 1, in the layout of torch.
QUERY, KEY, VALUE = (
    np.sin(start + np.arange(HEADS * LENGTH * DEPTH) ** 1.5).reshape(1, HEADS, LENGTH, DEPTH)
    for start in (1.0, 2.0, 3.0)
)


def attention_bound(cell):
    """Each variant is off by the error of its scores, twice, and by that of two sums over them.

    A score sums `DEPTH` products of at most 1, scaled: its absolute error is the relative one of
    its weight, and comes again through the softmax's own sum. The outputs are means of values of at
    most 1. See conformance/attention/test_dot_product.py.
    """
    scores = 2 * accumulated(DEPTH + 5, cell.precision) * SCALE * DEPTH
    each = scores + accumulated(2 * LENGTH + 8, cell.precision)
    return Bound(absolute=2 * each, because=f"a softmax over {LENGTH} scores, in two ways")


def variants_in_torch(cell):
    import torch

    query, key, value = (
        torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in (QUERY, KEY, VALUE)
    )

    def formula():
        return torch.softmax(query @ key.mT * SCALE, dim=-1) @ value

    def fused():
        return torch.nn.functional.scaled_dot_product_attention(query, key, value)

    return Variant("formula", formula), Variant("scaled_dot_product_attention", fused)


def variants_in_jax(cell):
    import jax
    import jax.numpy as jnp

    query, key, value = (  # batch, length, heads, depth
        jnp.asarray(array.swapaxes(1, 2), cell.dtype) for array in (QUERY, KEY, VALUE)
    )

    def formula(query, key, value):
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) * SCALE
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)

    written_out, fused = cell.compile(formula), cell.compile(jax.nn.dot_product_attention)
    return (
        Variant("formula", lambda: written_out(query, key, value)),
        Variant("dot_product_attention", lambda: fused(query, key, value)),
    )


@claim(
    "speed.sdpa-speed",
    claimed="2 to 3 times faster",
    low=2.0,
    high=3.0,
    source="class 144, exercise 1",
    frameworks="torch jax",
    precisions="float32",
    modes={"torch": "eager", "jax": "compiled"},
)
def test_sdpa_speed(variants, cell, speed):
    """Fused attention is 2 to 3 times faster than the formula, for 1024 positions."""
    speed.compare(*variants(cell), within=attention_bound(cell))
