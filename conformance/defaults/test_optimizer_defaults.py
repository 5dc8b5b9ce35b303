"""Optimizers of the same name with different defaults.

What differs when a training is ported and nobody says so. Each value is read off the optimizer, and
off the steps it takes:

                             torch     Keras     optax
    SGD      learning rate   0.001     0.01      required
             momentum        0         0         none
    Adam     learning rate   0.001     0.001     required
             beta1, beta2    0.9, 0.999 in all of them
             epsilon         1e-8      1e-7      1e-8
    AdamW    weight decay    0.01      0.004     0.0001
    RMSprop  learning rate   0.01      0.001     required
             decay           0.99      0.9       0.9
             epsilon         1e-8      1e-7      1e-8
             epsilon inside  no        yes       yes

Where epsilon stands (inside the root or not, corrected or not) is the subject of
optimizers.rmsprop-update and defaults.adam-epsilon-placement.

Sources: class 113, definitions and exercise 1; class 101, frequent question 2; class 122, objective
(equivalences 1:1); https://docs.pytorch.org/docs/stable/optim.html,
https://keras.io/api/optimizers/, https://optax.readthedocs.io/en/latest/api/optimizers.html
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import Bound, rounded, unit_roundoff
from reference.optimizers import Computed, adam_update, rmsprop_update, sgd_update

REQUIRED = "required"


def weight_after_torch_steps(cell, optimizer_class, start, gradients, **options):
    """One weight after steps with the given gradients, and the optimizer."""
    import torch

    w = torch.full([1], start, dtype=cell.dtype, device=cell.device)
    optimizer = optimizer_class([w], **options)
    for gradient in gradients:
        w.grad = torch.full([1], gradient, dtype=cell.dtype, device=cell.device)
        optimizer.step()
    return w, optimizer


def weight_after_keras_steps(cell, optimizer_class, start, gradients, **options):
    """One weight after steps with the given gradients, and the optimizer."""
    import keras

    w = keras.Variable([start], dtype=cell.dtype)
    optimizer = optimizer_class(**options)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([gradient], cell.dtype)], [w])
    return w, optimizer


def weight_after_optax_steps(cell, optimizer, start, gradients):
    """One weight after steps with the given gradients."""
    import jax.numpy as jnp
    import optax

    w = jnp.full(1, start, cell.dtype)
    state = optimizer.init(w)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.full(1, gradient, cell.dtype), state, w)
        w = optax.apply_updates(w, updates)
    return w


def default_arguments(function):
    """The defaults a signature declares; `REQUIRED` for an argument without one."""
    import inspect

    return {
        name: REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
    }


def check_declared(expect, declared, documented):
    """Each documented value is declared; numbers may have been kept in float32."""
    for name, value in documented.items():
        if isinstance(value, float):
            expect.within(rounded(1, "float32"), observed=declared[name], expected=value, what=name)
        else:
            expect.exactly(observed=declared[name], expected=value, what=name)


def check_weight(expect, cell, observed, computed):
    """The weight after some steps, up to the roundings that led to it."""
    because = f"running error analysis in {cell.precision}"
    expect.within(
        Bound(absolute=computed.error, because=because),
        observed=observed,
        expected=computed.value,
        what="weight",
    )


# ----------------------------------------------------------------------------------------------
# SGD: a gradient of 1, then none. With momentum the second step would move, too.

SGD_GRADIENTS = (1.0, 0.0)

sgd_in_torch = {"lr": 0.001, "momentum": 0, "weight_decay": 0, "nesterov": False}
sgd_in_keras = {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False}
sgd_in_jax = {"learning_rate": REQUIRED, "momentum": None, "nesterov": False}

sgd_rate_in_torch = 0.001
sgd_rate_in_keras = 0.01
sgd_rate_in_jax = 0.125  # given, since none is declared


def sgd_steps_in_torch(cell):
    import torch

    w, optimizer = weight_after_torch_steps(cell, torch.optim.SGD, 0.0, SGD_GRADIENTS)
    return optimizer.defaults, w


def sgd_steps_in_keras(cell):
    import keras

    w, optimizer = weight_after_keras_steps(cell, keras.optimizers.SGD, 0.0, SGD_GRADIENTS)
    return optimizer.get_config(), w


def sgd_steps_in_jax(cell):
    import optax

    w = weight_after_optax_steps(cell, optax.sgd(0.125), 0.0, SGD_GRADIENTS)
    return default_arguments(optax.sgd), w


@behaviour(
    "defaults.sgd-learning-rate",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.sgd-rate-of-keras optax.sgd-has-momentum "
    "keras.learning-rate-off-by-a-thousandth[keras_tensorflow-*]",
)
def test_sgd_learning_rate(sgd_steps, sgd, sgd_rate, cell, expect):
    """SGD has a learning rate of 0.001 in torch and 0.01 in Keras; optax wants one. No momentum.

    From w = 0 a gradient of 1 and then one of 0 leave w at minus the learning rate.
    """
    declared, weight = sgd_steps(cell)
    check_declared(expect, declared, sgd)
    w = Computed(0.0, unit_roundoff(cell.precision))
    velocity = 0 * w
    for gradient in SGD_GRADIENTS:
        w, velocity = sgd_update(w, gradient, velocity, learning_rate=sgd_rate)
    check_weight(expect, cell, weight, w)


# ----------------------------------------------------------------------------------------------
# Adam: gradients so small that epsilon shows. After one step torch moves by lr / (1 + 1e-8 / g).

ADAM_GRADIENTS = (1e-7, -3e-7, 2e-7)

adam_in_torch = {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}
adam_in_keras = {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}
adam_in_jax = {"learning_rate": REQUIRED, "b1": 0.9, "b2": 0.999, "eps": 1e-8}

adam_epsilon_in_torch = 1e-8
adam_epsilon_in_keras = 1e-7
adam_epsilon_in_jax = 1e-8

epsilon_hat_in_torch = False
epsilon_hat_in_keras = True
epsilon_hat_in_jax = False


def adam_steps_in_torch(cell):
    import torch

    w, optimizer = weight_after_torch_steps(cell, torch.optim.Adam, 0.0, ADAM_GRADIENTS)
    return optimizer.defaults, w


def adam_steps_in_keras(cell):
    import keras

    w, optimizer = weight_after_keras_steps(cell, keras.optimizers.Adam, 0.0, ADAM_GRADIENTS)
    return optimizer.get_config(), w


def adam_steps_in_jax(cell):
    import optax

    w = weight_after_optax_steps(cell, optax.adam(0.001), 0.0, ADAM_GRADIENTS)
    return default_arguments(optax.adam), w


@behaviour(
    "defaults.adam-hyperparameters",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.adam-epsilon-beside-the-uncorrected-root optax.adam-without-bias-correction",
)
def test_adam_hyperparameters(adam_steps, adam, adam_epsilon, epsilon_hat, cell, expect):
    """Adam: rate 0.001, betas 0.9 and 0.999; epsilon 1e-8 in torch and optax, 1e-7 in Keras.

    Three steps with gradients of about 1e-7 follow the float64 update with these numbers. The power
    of 0.999 is rounded before it is subtracted from 1: a thousand times its rounding error.
    """
    declared, weight = adam_steps(cell)
    check_declared(expect, declared, adam)
    unit = unit_roundoff(cell.precision)
    w, *state = (Computed(value, unit) for value in (0.0, 0.0, 0.0, 1.0, 1.0))
    for gradient in np.float32(ADAM_GRADIENTS):
        w, *state = adam_update(
            w,
            np.float64(gradient),
            *state,
            learning_rate=0.001,
            beta1=0.9,
            beta2=0.999,
            epsilon=adam_epsilon,
            epsilon_hat=epsilon_hat,
        )
    check_weight(expect, cell, weight, w)


# ----------------------------------------------------------------------------------------------
# AdamW without a gradient and with learning rate 1: what is left of w = 1 is 1 - weight decay.

decay_in_torch = {"weight_decay": 0.01}
decay_in_keras = {"weight_decay": 0.004}
decay_in_jax = {"weight_decay": 0.0001}


def adamw_step_in_torch(cell):
    import torch

    w, optimizer = weight_after_torch_steps(cell, torch.optim.AdamW, 1.0, [0.0], lr=1.0)
    return optimizer.defaults, w


def adamw_step_in_keras(cell):
    import keras

    w, optimizer = weight_after_keras_steps(
        cell, keras.optimizers.AdamW, 1.0, [0.0], learning_rate=1.0
    )
    return optimizer.get_config(), w


def adamw_step_in_jax(cell):
    import optax

    return default_arguments(optax.adamw), weight_after_optax_steps(
        cell, optax.adamw(1.0), 1.0, [0.0]
    )


@behaviour(
    "defaults.adamw-weight-decay",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.adamw-decays-like-adam optax.adamw-spares-vectors",
)
def test_adamw_weight_decay(adamw_step, decay, cell, expect):
    """AdamW decays weights, unless told otherwise, by 0.01 in torch, 0.004 in Keras, 1e-4 in optax.

    A step with learning rate 1 and no gradient leaves 1 - decay of a weight of 1. Three roundings.
    """
    declared, weight = adamw_step(cell)
    check_declared(expect, declared, decay)
    expect.within(
        rounded(3, cell.precision),
        observed=weight,
        expected=[1 - decay["weight_decay"]],
        what="weight",
    )


# ----------------------------------------------------------------------------------------------
# RMSprop: gradients so small that epsilon shows under the root, and a little outside of it.

RMSPROP_GRADIENTS = (1e-4, -3e-4)

rmsprop_in_torch = {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "momentum": 0, "centered": False}
rmsprop_in_keras = {
    "learning_rate": 0.001,
    "rho": 0.9,
    "epsilon": 1e-7,
    "momentum": 0.0,
    "centered": False,
}
rmsprop_in_jax = {
    "learning_rate": REQUIRED,
    "decay": 0.9,
    "eps": 1e-8,
    "momentum": None,
    "centered": False,
}

rmsprop_numbers_in_torch = {
    "learning_rate": 0.01,
    "decay": 0.99,
    "epsilon": 1e-8,
    "epsilon_in_root": False,
}
rmsprop_numbers_in_keras = {
    "learning_rate": 0.001,
    "decay": 0.9,
    "epsilon": 1e-7,
    "epsilon_in_root": True,
}
rmsprop_numbers_in_jax = {
    "learning_rate": 0.125,  # given, since none is declared
    "decay": 0.9,
    "epsilon": 1e-8,
    "epsilon_in_root": True,
}


def rmsprop_steps_in_torch(cell):
    import torch

    w, optimizer = weight_after_torch_steps(cell, torch.optim.RMSprop, 0.0, RMSPROP_GRADIENTS)
    return optimizer.defaults, w


def rmsprop_steps_in_keras(cell):
    import keras

    w, optimizer = weight_after_keras_steps(cell, keras.optimizers.RMSprop, 0.0, RMSPROP_GRADIENTS)
    return optimizer.get_config(), w


def rmsprop_steps_in_jax(cell):
    import optax

    w = weight_after_optax_steps(cell, optax.rmsprop(0.125), 0.0, RMSPROP_GRADIENTS)
    return default_arguments(optax.rmsprop), w


@behaviour(
    "defaults.rmsprop",
    frameworks="torch keras jax",
    precisions="float32",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.rmsprop-epsilon-under-the-root optax.rmsprop-epsilon-outside-the-root",
)
def test_rmsprop(rmsprop_steps, rmsprop, rmsprop_numbers, cell, expect):
    """RMSprop: learning rate 0.01, decay 0.99, epsilon 1e-8 in torch; 0.001, 0.9, 1e-7 in Keras.

    optax declares decay 0.9 and epsilon 1e-8, inside the root as Keras does. Two steps with
    gradients of 1e-4 and -3e-4 follow the float64 update with these numbers.
    """
    declared, weight = rmsprop_steps(cell)
    check_declared(expect, declared, rmsprop)
    unit = unit_roundoff(cell.precision)
    w, *state = (Computed(0.0, unit) for _ in range(4))
    for gradient in np.float32(RMSPROP_GRADIENTS):
        w, *state = rmsprop_update(w, np.float64(gradient), *state, **rmsprop_numbers)
    check_weight(expect, cell, weight, w)
