"""Nadam: Adam with Nesterov's momentum.

Adam steps along its average of gradients m, corrected for having started at zero. Nadam looks one
step ahead: it takes the average that the next step would have, with this gradient in it already.

    m = beta1 * m + (1 - beta1) * g            v = beta2 * v + (1 - beta2) * g**2
    ahead = mu(t+1) * m / (1 - mu(1) ... mu(t+1)) + (1 - mu(t)) * g / (1 - mu(1) ... mu(t))
    w = w - rate * ahead / (sqrt(v / (1 - beta2**t)) + epsilon)

The momentum mu(t) is beta1, or it warms up to beta1 from about one half of it, as Dozat found best:

    Dozat     mu(t) = beta1 * (1 - 0.96**(t / 250) / 2)
    torch     mu(t) = beta1 * (1 - 0.96**(t * momentum_decay) / 2), momentum_decay = 0.004
    Keras     mu(t) = beta1 * (1 - 0.96**t / 2), 250 times as fast
    optax     mu(t) = beta1

With momentum_decay=1 torch computes what Keras does.

Sources: class 113, topics 6 (the family of Adam); class 122, objective (equivalences 1:1); Dozat
(2016), Incorporating Nesterov Momentum into Adam, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ;
https://docs.pytorch.org/docs/stable/generated/torch.optim.NAdam.html,
https://keras.io/api/optimizers/Nadam/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.nadam
"""

import numpy as np

from conformance.optimizers.ten_steps import START, ten_gradients, thirds
from fixtures.matrix import behaviour
from fixtures.precision import Bound, unit_roundoff
from reference.optimizers import Computed, nadam_update

# Every format holds these exactly.
OPTIONS = {"learning_rate": 1 / 8, "beta1": 7 / 8, "beta2": 3 / 4, "epsilon": 1 / 64}

momentum_decays_in_numpy = (1.0,)
momentum_decays_in_torch = (0.004, 1.0)
momentum_decays_in_tensorflow = (1.0,)
momentum_decays_in_keras = (1.0,)
momentum_decays_in_jax = (None,)


def trained_in_numpy(cell, start, steps, momentum_decay):
    weights = [array.astype(cell.dtype) for array in start]
    zeros, ones = [[np.full_like(w, value) for w in weights] for value in (0, 1)]
    states = [[zero, zero, one, one, one] for zero, one in zip(zeros, ones, strict=True)]
    for gradients in steps:
        for i, gradient in enumerate(gradients):
            weights[i], *states[i] = nadam_update(
                weights[i],
                gradient.astype(cell.dtype),
                *states[i],
                momentum_decay=momentum_decay,
                **OPTIONS,
            )
    return weights


def trained_in_torch(cell, start, steps, momentum_decay):
    import torch

    parameters = [torch.tensor(array, dtype=cell.dtype, device=cell.device) for array in start]
    optimizer = torch.optim.NAdam(
        parameters,
        lr=OPTIONS["learning_rate"],
        betas=(OPTIONS["beta1"], OPTIONS["beta2"]),
        eps=OPTIONS["epsilon"],
        momentum_decay=momentum_decay,
    )
    for gradients in steps:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient, dtype=cell.dtype, device=cell.device)
        optimizer.step()
    return parameters


def keras_optimizer():
    import keras

    return keras.optimizers.Nadam(
        OPTIONS["learning_rate"],
        beta_1=OPTIONS["beta1"],
        beta_2=OPTIONS["beta2"],
        epsilon=OPTIONS["epsilon"],
    )


def trained_in_tensorflow(cell, start, steps, momentum_decay):
    import tensorflow as tf

    variables = [tf.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras_optimizer()
    optimizer.build(variables)

    @cell.compile
    def step(gradients):
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    for gradients in steps:
        step([tf.constant(gradient, cell.dtype) for gradient in gradients])
    return [tf.identity(variable) for variable in variables]


def trained_in_keras(cell, start, steps, momentum_decay):
    import keras

    variables = [keras.Variable(array, dtype=cell.dtype) for array in start]
    optimizer = keras_optimizer()
    for gradients in steps:
        optimizer.apply(
            [keras.ops.convert_to_tensor(gradient, cell.dtype) for gradient in gradients], variables
        )
    return variables


def trained_in_jax(cell, start, steps, momentum_decay):
    import jax.numpy as jnp
    import optax

    weights = [jnp.asarray(array, cell.dtype) for array in start]
    optimizer = optax.nadam(
        OPTIONS["learning_rate"],
        b1=OPTIONS["beta1"],
        b2=OPTIONS["beta2"],
        eps=OPTIONS["epsilon"],
    )
    state = optimizer.init(weights)

    @cell.compile
    def step(weights, state, gradients):
        updates, state = optimizer.update(gradients, state, weights)
        return optax.apply_updates(weights, updates), state

    for gradients in steps:
        gradients = [jnp.asarray(gradient, cell.dtype) for gradient in gradients]
        weights, state = step(weights, state, gradients)
    return weights


@behaviour(
    "optimizers.nadam-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.nadam-corrects-for-the-last-momentum "
    "keras.nadam-counts-its-steps-from-two[!*-bfloat16-*] "
    "optax.nadam-corrects-a-step-late[!*-bfloat16-*]",
)
def test_nadam_update(trained, momentum_decays, cell, expect):
    """Nadam steps along the average that the next step would have, each correction in its place.

    Ten steps with learning rate 1/8, beta1 7/8, beta2 3/4 and epsilon 1/64. The weights may differ
    from the float64 update by the rounding errors that a running error analysis adds up, two for
    each operation of a step.
    """
    start, steps = thirds(START, cell.precision), ten_gradients(cell.precision)
    unit = unit_roundoff(cell.precision)
    for momentum_decay in momentum_decays:
        weights = trained(cell, start, steps, momentum_decay)
        for i, parameter in enumerate(("matrix", "vector")):
            zero, one = np.zeros_like(start[i]), np.ones_like(start[i])
            weight, *state = (
                Computed(array, unit) for array in (start[i], zero, zero, one, one, one)
            )
            for gradients in steps:
                weight, *state = nadam_update(
                    weight, gradients[i], *state, momentum_decay=momentum_decay, **OPTIONS
                )
            expect.within(
                Bound(
                    absolute=weight.error,
                    because=f"running error analysis of ten steps in {cell.precision}",
                ),
                observed=weights[i],
                expected=weight.value,
                what=f"weights of the {parameter}, momentum_decay {momentum_decay}",
            )
