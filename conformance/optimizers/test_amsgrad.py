"""AMSGrad: Adam that never forgets its largest average square.

Adam's average of squares falls again after a large gradient, and the steps grow. AMSGrad divides by
the root of the largest average so far instead. Take no average of gradients (beta1 = 0), beta2 =
1/2, no epsilon, rate 1/8 and the gradients 4, 1, 1:

    step                               1      2        3
    average square v                   8      9/2      11/4
    corrected, v / (1 - 1/2**t)        16     6        22/7

    Adam       1/8 * g / sqrt of       16     6        22/7
    torch, Keras                       16     32/3     64/7     the largest v, 8, and corrects it
    optax                              16     16       16       the largest corrected one

Reddi, Kale and Kumar leave the correction out. torch and Keras keep the largest v and correct that,
so the steps go on growing a little; optax keeps the largest of what was corrected. Each step is
read off by itself, from w = 0.

                                          the largest average square is called
    torch   Adam(amsgrad=True)            max_exp_avg_sq
    Keras   Adam(amsgrad=True)            velocity_hat
    optax   optax.amsgrad                 nu_max

Sources: class 113, topics 6 (the family of Adam); Reddi et al. (2018), arXiv:1904.09237;
https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html,
https://keras.io/api/optimizers/adam/,
https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.amsgrad
"""

import numpy as np

from fixtures.matrix import behaviour
from fixtures.precision import rounded

RATE = 1 / 8
BETA1, BETA2 = 0.0, 1 / 2
GRADIENTS = (4.0, 1.0, 1.0)

# What each step divides by the root of.
divisors_in_numpy = (16, 32 / 3, 64 / 7)
divisors_in_torch = (16, 32 / 3, 64 / 7)
divisors_in_tensorflow = (16, 32 / 3, 64 / 7)
divisors_in_keras = (16, 32 / 3, 64 / 7)
divisors_in_jax = (16, 16, 16)


def steps_in_numpy(cell):
    number = cell.dtype.type
    beta, one, rate = number(BETA2), number(1), number(RATE)
    square = largest = number(0)
    steps = []
    for t, gradient in enumerate(map(number, GRADIENTS), start=1):
        square = beta * square + (one - beta) * gradient * gradient
        largest = max(largest, square)
        steps.append(-rate * gradient / np.sqrt(largest / (one - beta ** number(t))))
    return steps


def steps_in_torch(cell, **implementation):
    import torch

    w = torch.zeros((), dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.Adam(
        [w], lr=RATE, betas=(BETA1, BETA2), eps=0.0, amsgrad=True, **implementation
    )
    steps = []
    for gradient in GRADIENTS:
        w.zero_()
        w.grad = torch.full_like(w, gradient)
        optimizer.step()
        steps.append(w.clone())
    return steps


def steps_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.Adam(RATE, beta_1=BETA1, beta_2=BETA2, epsilon=0.0, amsgrad=True)
    optimizer.build([w])

    @cell.compile
    def step(gradient):
        w.assign(0.0)
        optimizer.apply_gradients([(gradient, w)])
        return tf.identity(w)

    return [step(tf.constant(gradient, cell.dtype)) for gradient in GRADIENTS]


def steps_in_keras(cell):
    import keras

    w = keras.Variable(0.0, dtype=cell.dtype)
    optimizer = keras.optimizers.Adam(RATE, beta_1=BETA1, beta_2=BETA2, epsilon=0.0, amsgrad=True)
    steps = []
    for gradient in GRADIENTS:
        w.assign(0.0)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, cell.dtype)], [w])
        steps.append(w + 0)
    return steps


def steps_in_jax(cell):
    import jax.numpy as jnp
    import optax

    optimizer = optax.amsgrad(RATE, b1=BETA1, b2=BETA2, eps=0.0)

    @cell.compile
    def step(gradient, state):
        return optimizer.update(gradient, state, jnp.zeros((), cell.dtype))

    state = optimizer.init(jnp.zeros((), cell.dtype))
    steps = []
    for gradient in GRADIENTS:
        change, state = step(jnp.asarray(gradient, cell.dtype), state)
        steps.append(change)
    return steps


@behaviour(
    "optimizers.amsgrad-update",
    frameworks="numpy torch tensorflow keras jax",
    precisions={
        "numpy": "float64 float32 float16",
        "others": "float64 float32 bfloat16 float16",
    },
    modes={"tensorflow": "eager compiled", "jax": "eager compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager keras_jax-*float16-eager",
    catches="torch.amsgrad-forgets-its-maximum keras.amsgrad-is-adam optax.amsgrad-is-adam",
)
def test_amsgrad_update(steps, divisors, cell, expect):
    """After a gradient of 4, two gradients of 1 are divided by the root of the largest average.

    In torch and Keras that is 8, corrected by 1 - 1/2**t: 32/3 and 64/7. In optax it is 16, already
    corrected. Adam would divide by the roots of 6 and 22/7.

    The averages are exact in every format. Two roundings in the power, two in the correction and
    its root, then the product with the rate, epsilon, the division and w: at most ten.
    """
    check(expect, cell, steps(cell), divisors)


def check(expect, cell, observed, divisors, what="steps"):
    expected = -RATE * np.array(GRADIENTS) / np.sqrt(divisors)
    expect.within(rounded(10, cell.precision), observed=observed, expected=expected, what=what)


@behaviour(
    "optimizers.amsgrad-implementations",
    frameworks="torch",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    catches="torch.foreach-amsgrad-is-adam",
)
def test_amsgrad_implementations(steps, divisors, cell, expect):
    """foreach=True, fused=True and neither are three implementations of one AMSGrad.

    Each of them must follow the steps of amsgrad-update.
    """
    for implementation in ({"foreach": False}, {"foreach": True}, {"fused": True}):
        check(expect, cell, steps(cell, **implementation), divisors, f"steps, {implementation}")
