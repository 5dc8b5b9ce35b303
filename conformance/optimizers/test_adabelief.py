"""AdaBelief: Adam whose second average holds how far the gradients lie from what was expected.

    m = beta1 * m + (1 - beta1) * g       s = beta2 * s + (1 - beta2) * (g - m)**2 + epsilon_root
    w = w - rate * (m / (1 - beta1**t)) / (sqrt(s / (1 - beta2**t)) + epsilon)

The m in g - m is the new one, which has seen g already (algorithm 2 of the paper). With both betas
1/2, no epsilon, rate 1/8 and the gradients 1 and 2:

    t    m      g - m    s        m / (1 - 1/2**t)    s / (1 - 1/2**t)    step
    1    1/2    1/2      1/8      1                   1/4                 1/8 * 2
    2    5/4    3/4      11/32    5/3                 11/24               1/8 * 5/3 / sqrt(11/24)

The mistake takes the old m: 1 and 3/2, so that s doubles and quadruples.

Sources: class 113, topics 6 (the family of Adam); Zhuang et al. (2020), arXiv:2010.07468;
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.adabelief
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

RATE = 1 / 8
BETA = 1 / 2
GRADIENTS = (1.0, 2.0)
STEPS = (RATE * 2, RATE * 5 / 3 / np.sqrt(11 / 24))


def weights_in_numpy(cell):
    number = cell.dtype.type
    beta, one, rate = number(BETA), number(1), number(RATE)
    w = m = s = number(0)
    weights = []
    for t, gradient in enumerate(GRADIENTS, start=1):
        m = beta * m + (one - beta) * number(gradient)
        error = number(gradient) - m
        s = beta * s + (one - beta) * (error * error)
        correction = one - beta ** number(t)
        w = w - rate * (m / correction) / np.sqrt(s / correction)
        weights.append(w)
    return weights


def weights_in_jax(cell):
    import jax.numpy as jnp
    import optax

    optimizer = optax.adabelief(RATE, b1=BETA, b2=BETA, eps=0.0, eps_root=0.0)

    @cell.compile
    def train_step(w, state, gradient):
        updates, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, updates), state

    w = jnp.zeros((), cell.dtype)
    state = optimizer.init(w)
    weights = []
    for gradient in GRADIENTS:
        w, state = train_step(w, state, jnp.asarray(gradient, cell.dtype))
        weights.append(w)
    return weights


@behaviour(
    "optimizers.adabelief-update",
    frameworks="numpy jax",
    precisions={"numpy": "float64 float32 float16", "jax": "float64 float32 bfloat16 float16"},
    modes={"numpy": "eager", "jax": "eager compiled"},
    needs={"jax": "optax>=0.2"},
    catches="optax.adabelief-believes-the-old-mean",
)
def test_adabelief_update(weights, cell, expect):
    """Two steps of AdaBelief move a weight from 0 to -1/4 and to -1/4 - 5/24 / sqrt(11/24).

    m and s are exact in every format. Two roundings in each power, then the two quotients, the
    root, epsilon, the division, the rate and the weight: eleven.
    """
    expect.within(
        rounded(11, cell.precision, terms=STEPS),
        observed=weights(cell),
        expected=-np.cumsum(STEPS),
        what="weights",
    )
