"""Weight decay that changes with the step, as learning rates do.

Decoupled decay multiplies the weights by 1 - rate * decay in every step. With a gradient of 0, rate
1/2 and the decays 1/2, 1/4, 0:

    step             1        2              3
    decay           1/2      1/4             0
    weight   1  ->  3/4  ->  3/4 * 7/8  ->  21/32

    torch    optimizer.param_groups[0]["weight_decay"] = ..., before each step
    Optax    a schedule, a function of the step counted from 0, in place of the number

The mistake is a schedule that is asked for step 0 again and again: 3/4, 9/16, 27/64.

Sources: class 113, definitions of AdamW; class 114, schedules;
https://optax.readthedocs.io/en/latest/api/transformations.html#optax.add_decayed_weights,
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html
"""

from fixtures.matrix import behaviour

RATE = 1 / 2
DECAYS = (1 / 2, 1 / 4, 0.0)


def weights_in_numpy(cell):
    import numpy as np

    weight, weights = np.ones(1, cell.dtype), []
    for decay in DECAYS:
        weight = weight - cell.dtype.type(RATE) * (cell.dtype.type(decay) * weight)
        weights.append(weight)
    return weights


def weights_in_torch(cell):
    import torch

    weight = torch.ones(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([weight], lr=RATE)
    weights = []
    for decay in DECAYS:
        optimizer.param_groups[0]["weight_decay"] = decay
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
        weights.append(weight.clone())
    return weights


def weights_in_jax(cell):
    import jax.numpy as jnp
    import optax

    def schedule(step):
        return jnp.asarray(DECAYS)[step]

    optimizer = optax.chain(optax.add_decayed_weights(schedule), optax.sgd(RATE))

    @cell.compile
    def train_step(weight, state):
        updates, state = optimizer.update(jnp.zeros_like(weight), state, weight)
        return optax.apply_updates(weight, updates), state

    weight = jnp.ones(1, cell.dtype)
    state = optimizer.init(weight)
    weights = []
    for _ in DECAYS:
        weight, state = train_step(weight, state)
        weights.append(weight)
    return weights


@behaviour(
    "optimizers.weight-decay-schedule",
    frameworks="numpy torch jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes={"jax": "eager compiled", "others": "eager"},
    needs={"jax": "optax>=0.2.6"},
    catches="optax.weight-decay-schedule-stands-still",
)
def test_weight_decay_schedule(weights, cell, expect):
    """Every step decays the weights by its own factor: 1, 3/4, 21/32, 21/32, in every precision."""
    expect.exactly(observed=weights(cell), expected=[[0.75], [0.65625], [0.65625]], what="weights")
