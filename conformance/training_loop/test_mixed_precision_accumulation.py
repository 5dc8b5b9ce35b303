"""Gradients that are wider than the weights they are accumulated for.

Mixed precision may keep weights in 16 bits and hand over gradients in float32, unscaled or summed
there. Accumulating them is the same as ever: with rate 1 the gradients 1 and 3 of two micro-batches
move a weight from 0 to 0 and to -2, and the weight stays in its 16 bits.

    torch    total = total + gradient / 2, in float32; the optimizer's step at the end
    Optax    optax.MultiSteps(optimizer, every_k_schedule=2), apply_updates casts to the weight

Sources: class 121, learning outcome 2;
https://optax.readthedocs.io/en/latest/api/optimizer_wrappers.html#optax.MultiSteps,
https://optax.readthedocs.io/en/latest/api/apply_updates.html
"""

from fixtures.matrix import behaviour

GRADIENTS = (1.0, 3.0)


def weights_in_torch(cell):
    """The wide total is cast once, when the optimizer takes it."""
    import torch

    weight = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    total, weights = torch.zeros(1, device=cell.device), []
    for micro_batch, gradient in enumerate(GRADIENTS, start=1):
        total += torch.full_like(total, gradient) / len(GRADIENTS)
        if micro_batch == len(GRADIENTS):
            weight.grad = total.to(weight.dtype)
            optimizer.step()
        weights.append(weight.clone())
    return weights


def weights_in_jax(cell):
    import jax.numpy as jnp
    import optax

    optimizer = optax.MultiSteps(optax.sgd(1.0), every_k_schedule=len(GRADIENTS))

    @cell.compile
    def train_step(weight, state, gradient):
        updates, state = optimizer.update(gradient, state, weight)
        return optax.apply_updates(weight, updates), state

    weight = jnp.zeros(1, cell.dtype)
    state = optimizer.init(weight)
    weights = []
    for gradient in GRADIENTS:
        weight, state = train_step(weight, state, jnp.full(1, gradient, jnp.float32))
        weights.append(weight)
    return weights


@behaviour(
    "training-loop.accumulate-wide-gradients",
    frameworks="torch jax",
    precisions="bfloat16 float16",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="optax.multi-steps-wants-gradients-as-narrow-as-weights",
)
def test_accumulate_wide_gradients(weights, cell, expect):
    """float32 gradients 1 and 3 move a 16-bit weight by their mean, at the second: 0, then -2."""
    expect.exactly(observed=weights(cell), expected=[[0.0], [-2.0]], what="weights")
