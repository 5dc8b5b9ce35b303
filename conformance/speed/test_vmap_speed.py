"""What vmap gains over a Python loop.

A loop over 200 samples calls a compiled function 200 times and pays for 200 dispatches.
`jit(vmap(f))` writes f for a whole batch: its product of a matrix with a vector becomes one product
of two matrices, in one dispatch. The samples are small, so dispatch is what the loop's time is.

Sources: class 173, exercise 4; catalogue: speed.jax-vmap-vs-loop;
https://docs.jax.dev/en/latest/automatic-vectorization.html
"""

import numpy as np

from fixtures.precision import rounded
from fixtures.speed import Variant, claim

SAMPLES, FEATURES = 200, 16
X = np.sin(np.arange(SAMPLES * FEATURES) ** 1.5).reshape(SAMPLES, FEATURES)
WEIGHTS = np.cos(np.arange(FEATURES * FEATURES) ** 1.5).reshape(FEATURES, FEATURES)


def variants_in_jax(cell):
    import jax
    import jax.numpy as jnp

    x, weights = jnp.asarray(X, cell.dtype), jnp.asarray(WEIGHTS, cell.dtype)
    samples = list(x)

    def layer(sample):
        return jnp.tanh(weights @ sample)

    one, all_at_once = cell.compile(layer), cell.compile(jax.vmap(layer))
    return (
        Variant("loop of jax.jit", lambda: [one(sample) for sample in samples]),
        Variant("jax.jit(jax.vmap)", lambda: all_at_once(x)),
    )


@claim(
    "speed.jax-vmap-vs-loop",
    claimed="at least 4 times faster",
    low=4.0,
    source="class 173, exercise 4",
    frameworks="jax",
    precisions="float32",
    modes="compiled",
)
def test_vmap_beats_a_loop(variants, cell, speed):
    """jit(vmap(f)) over 200 samples is at least 4 times faster than a Python loop over jit(f)."""
    # Sixteen products of at most 1; tanh enlarges no error and adds four roundings.
    within = rounded(FEATURES + 4, cell.precision, terms=np.ones(FEATURES))
    speed.compare(*variants(cell), within=within)
