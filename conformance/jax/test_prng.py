"""Random numbers in JAX: a function of the key, and of nothing else.

There is no hidden state. The same key gives the same numbers, today and tomorrow, compiled or not,
alone or in a batch; so fresh numbers need a fresh key, made by `split` or `fold_in`. Forgetting to
split does not make a program non-deterministic, as is often said: it makes it repeat itself.

                    stateless, by key or seed            stateful
    JAX             jax.random.normal(key)               -
    TensorFlow      tf.random.stateless_normal(seed=)    tf.random.Generator
    torch           -                                    torch.Generator

Sources: class 173, topic 4, definition 6 and common mistake 4 (which says the opposite);
https://docs.jax.dev/en/latest/random-numbers.html,
https://docs.jax.dev/en/latest/jax.random.html,
https://www.tensorflow.org/guide/random_numbers,
https://docs.pytorch.org/docs/stable/generated/torch.Generator.html
"""

import numpy as np
from scipy import stats

from fixtures.matrix import behaviour
from fixtures.precision import Bound, rounded

DRAWS = 4096

# ----------------------------------------------------------------------------------------------
# The mistake draws three times from one key (in torch: one seed), the fix from three different.


def mistake_in_jax(cell):
    import jax

    normal = cell.compile(lambda key: jax.random.normal(key, (DRAWS,), cell.dtype))
    key = jax.random.key(cell.seed)
    return normal(key), normal(key), normal(jax.random.key(cell.seed))


def fix_in_jax(cell):
    import jax

    normal = cell.compile(lambda key: jax.random.normal(key, (DRAWS,), cell.dtype))
    key, first, second = jax.random.split(jax.random.key(cell.seed), 3)
    return normal(key), normal(first), normal(second)


def mistake_in_tensorflow(cell):
    import tensorflow as tf

    normal = cell.compile(lambda seed: tf.random.stateless_normal([DRAWS], seed, dtype=cell.dtype))
    seed = tf.constant([cell.seed, 0])
    return normal(seed), normal(seed), normal(tf.constant([cell.seed, 0]))


def fix_in_tensorflow(cell):
    import tensorflow as tf

    normal = cell.compile(lambda seed: tf.random.stateless_normal([DRAWS], seed, dtype=cell.dtype))
    seeds = tf.random.experimental.stateless_split([cell.seed, 0], 3)
    return tuple(normal(seed) for seed in seeds)


def mistake_in_torch(cell):
    import torch

    draws = []
    for _ in range(3):
        generator = torch.Generator(cell.device).manual_seed(cell.seed)
        draws.append(torch.randn(DRAWS, generator=generator, dtype=cell.dtype, device=cell.device))
    return tuple(draws)


def fix_in_torch(cell):
    import torch

    generator = torch.Generator(cell.device).manual_seed(cell.seed)
    return tuple(
        torch.randn(DRAWS, generator=generator, dtype=cell.dtype, device=cell.device)
        for _ in range(3)
    )


@behaviour(
    "jax.prng-key-reuse",
    frameworks="torch tensorflow jax",
    precisions="float64 float32",
    modes={"torch": "eager", "others": "eager compiled"},
    catches="torch.randn-does-not-advance-its-generator torch.randn-draws-are-correlated "
    "tensorflow.stateless-normal-ignores-its-seed jax.normal-draws-are-correlated",
)
def test_prng_key_reuse(mistake, fix, cell, expect):
    """One key used three times gives the same 4096 numbers three times; split keys give others.

    And independent ones: the correlation r of two independent normal samples of size n has
    r·√((n - 2)/(1 - r²)) distributed as Student's t with n - 2 degrees of freedom, exactly. The
    bound, about 0.1, is exceeded by one of the three pairs once in 10⁹ runs.
    """
    first, *again = mistake(cell)
    numbers = cell.to_numpy(first)
    expect.exactly(observed=again, expected=np.stack([numbers, numbers]), what="draws of one key")

    draws = [cell.to_numpy(draw) for draw in fix(cell)]
    student = stats.t.isf(1e-9 / 6, DRAWS - 2)
    expect.within(
        Bound(
            absolute=student / np.sqrt(DRAWS - 2 + student**2),
            because="exact tail of Student's t, 1e-9 for three pairs",
        ),
        observed=np.corrcoef(draws)[[0, 0, 1], [1, 2, 2]],
        expected=np.zeros(3),
        what="correlations of the draws of different keys",
        other_precision="a statistic, computed in float64",
    )


# ----------------------------------------------------------------------------------------------
# New keys from old ones.


def keys_in_jax(cell):
    import jax

    def numbers(key):
        return tuple(jax.random.key_data(key).ravel().tolist())

    key = jax.random.key(cell.seed)
    backwards = {data: numbers(jax.random.fold_in(key, data)) for data in (3, 2, 1, 0)}
    return {
        "parent": numbers(key),
        "of the same seed": numbers(jax.random.key(cell.seed)),
        "legacy": numbers(jax.random.PRNGKey(cell.seed)),
        "split": [numbers(child) for child in jax.random.split(key, 5)],
        "split again": [numbers(child) for child in jax.random.split(key, 5)],
        "folded in": [numbers(jax.random.fold_in(key, data)) for data in range(4)],
        "folded in backwards": [backwards[data] for data in range(4)],
    }


@behaviour(
    "jax.prng-key-layout",
    frameworks="jax",
    precisions="float32",
    modes="eager",
    catches="jax.fold-in-of-zero-returns-the-key jax.split-returns-the-parent-first",
)
def test_prng_key_layout(keys, cell, expect):
    """split and fold_in are pure: the parent stays, equal calls give equal keys, in any order.

    The five keys of split(key, 5) differ from each other and from the parent, and so do those of
    fold_in(key, 0..3). A legacy PRNGKey(seed) holds the same numbers as key(seed).
    """
    found = keys(cell)
    for one, other in (
        ("of the same seed", "parent"),
        ("legacy", "parent"),
        ("split again", "split"),
        ("folded in backwards", "folded in"),
    ):
        same = found[one] == found[other]
        expect.exactly(observed=same, expected=True, what=f"keys {one} as {other}")
    for children, count in (("split", 5), ("folded in", 4)):
        family = {found["parent"], *found[children]}
        expect.exactly(observed=len(family), expected=1 + count, what=f"different keys, {children}")


# ----------------------------------------------------------------------------------------------
# Whatever transforms the function, the numbers are those of the key.


def draws_in_jax(cell):
    import jax
    import jax.numpy as jnp

    def draw(key):
        return (
            jax.random.uniform(key, (3,), cell.dtype),
            jax.random.normal(key, (3,), cell.dtype),
        )

    def stacked(draw):
        return tuple(map(jnp.stack, zip(*map(draw, keys), strict=True)))

    keys = jax.random.split(jax.random.key(cell.seed), 4)
    return stacked(draw), {
        "compiled": stacked(cell.compile(draw)),
        "vmap": jax.vmap(draw)(keys),
        "vmap, compiled": cell.compile(jax.vmap(draw))(keys),
    }


def draws_in_tensorflow(cell):
    import tensorflow as tf

    def draw(seed):
        return (
            tf.random.stateless_uniform([3], seed, dtype=cell.dtype),
            tf.random.stateless_normal([3], seed, dtype=cell.dtype),
        )

    def mapped(seeds):
        return tf.map_fn(draw, seeds, (cell.dtype, cell.dtype))

    def stacked(draw):
        return tuple(map(tf.stack, zip(*map(draw, seeds), strict=True)))

    seeds = tf.random.experimental.stateless_split([cell.seed, 0], 4)
    return stacked(draw), {
        "compiled": stacked(cell.compile(draw)),
        "map_fn": mapped(seeds),
        "map_fn, compiled": cell.compile(mapped)(seeds),
    }


@behaviour(
    "jax.prng-transform-invariance",
    frameworks="tensorflow jax",
    precisions="float64 float32",
    modes="compiled",
    costly="jax-*-float64-*",
    catches="tensorflow.compiled-draws-have-another-seed jax.draws-of-a-batch-use-its-first-key "
    "jax.compiled-draws-have-another-key",
)
def test_prng_transform_invariance(draws, cell, expect):
    """A key gives the same numbers alone, compiled, and as one of a batch of keys.

    Uniform numbers are made of bits: exactly equal. Normal ones pass through an elementary function
    (for JAX the inverse of erf), which a compiler may round differently: eight roundings on either
    side.
    """
    (uniform, normal), transformed = draws(cell)
    for what, (found_uniform, found_normal) in transformed.items():
        expect.exactly(
            observed=found_uniform, expected=cell.to_numpy(uniform), what=f"uniform, {what}"
        )
        expect.within(
            rounded(16, cell.precision),
            observed=found_normal,
            expected=cell.to_numpy(normal),
            what=f"normal, {what}",
        )
