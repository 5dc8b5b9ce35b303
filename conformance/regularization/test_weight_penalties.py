"""L1 and L2 penalties: what is added to the loss, and what one step makes of the weights.

    L1    lambda * sum |w|     gradient  lambda * sign(w)
    L2    lambda * sum w^2     gradient  2 * lambda * w

L1 moves every weight by the same amount, L2 by a share of itself. There is no factor of one half in
Keras's L2: the weight_decay of torch.optim.SGD or optax that does the same is 2 * lambda.

Here lambda is 1/8 and SGD has the learning rate 1/2; the data give no gradient (the input is zero).
All numbers have few bits, and nothing is rounded.

Sources: class 116, definitions of L1 and L2, exercise 2, learning outcome 1;
https://keras.io/api/layers/regularizers/,
https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html,
https://optax.readthedocs.io/en/latest/api/transformations.html
"""

import numpy as np

from fixtures.matrix import behaviour

LAMBDA = 0.125
LEARNING_RATE = 0.5

# Three inputs, two units; sum |w| = 9.5 and sum w^2 = 23.75. No weight is zero: there |w| has no
# derivative, and libraries choose differently.
WEIGHT = np.array([[1.0, -2.0], [0.5, 1.5], [-0.5, 4.0]])


# ----------------------------------------------------------------------------------------------
# L1


def l1_step_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(WEIGHT.astype(cell.dtype), requires_grad=True)
    penalty = (w.relu() + (-w).relu()).sum() * LAMBDA
    penalty.backward()
    SGD([w], learning_rate=LEARNING_RATE).step()
    return penalty, w


def l1_step_in_torch(cell):
    import torch

    w = torch.tensor(WEIGHT, dtype=cell.dtype, device=cell.device, requires_grad=True)
    penalty = LAMBDA * w.abs().sum()
    penalty.backward()
    torch.optim.SGD([w], lr=LEARNING_RATE).step()
    return penalty, w


def l1_step_in_tensorflow(cell):
    """In a loop of one's own the penalties wait in `layer.losses`."""
    import keras
    import tensorflow as tf

    layer = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=keras.regularizers.L1(LAMBDA), dtype=cell.dtype.name
    )
    layer.build((None, 3))
    layer.set_weights([WEIGHT])
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    optimizer.build(layer.trainable_variables)

    with tf.GradientTape() as tape:
        penalty = tf.add_n(layer.losses)
    gradient = tape.gradient(penalty, layer.trainable_variables)
    optimizer.apply(gradient, layer.trainable_variables)
    return penalty, tf.identity(layer.kernel)


def l1_step_in_keras(cell):
    """`fit` adds the penalties to the loss it reports."""
    import keras

    layer = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=keras.regularizers.L1(LAMBDA), dtype=cell.dtype
    )
    model = keras.Sequential([keras.Input((3,)), layer])
    model.set_weights([WEIGHT])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(LEARNING_RATE), loss="mse")
    zeros = np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32")
    history = model.fit(*zeros, batch_size=4, epochs=1, verbose=0)
    return history.history["loss"][0], layer.kernel


def l1_step_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    w = jnp.asarray(WEIGHT, cell.dtype)
    optimizer = optax.sgd(LEARNING_RATE)

    @cell.compile
    def train_step(w, state):
        penalty, gradient = jax.value_and_grad(lambda w: LAMBDA * jnp.abs(w).sum())(w)
        updates, state = optimizer.update(gradient, state, w)
        return penalty, optax.apply_updates(w, updates)

    return train_step(w, optimizer.init(w))


@behaviour(
    "regularization.l1-penalty",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"jax": "compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="keras.l1-smooth-at-zero[tensorflow-*|keras_tensorflow-*] "
    "torch.gradient-off-by-a-thousandth[torch-*-float32-*]",
)
def test_l1_penalty(l1_step, cell, expect):
    """L1 adds lambda * sum|w|, 1/8 * 9.5 = 1.1875, and moves each weight by 1/16 towards 0.

    One step of SGD with learning rate 1/2: w - 1/2 * 1/8 * sign(w).
    """
    penalty, weight = l1_step(cell)
    expected = WEIGHT - LEARNING_RATE * LAMBDA * np.sign(WEIGHT)
    expect.exactly(observed=penalty, expected=1.1875, what="penalty")
    expect.exactly(observed=weight, expected=expected, what="weight after a step")


# ----------------------------------------------------------------------------------------------
# L2, and the weight decay that equals it.


def l2_step_in_numpy(cell):
    from reference.autodiff import Tensor
    from reference.optimizers import SGD

    w = Tensor(WEIGHT.astype(cell.dtype), requires_grad=True)
    penalty = (w**2).sum() * LAMBDA
    penalty.backward()
    SGD([w], learning_rate=LEARNING_RATE).step()
    return penalty, w


def l2_step_in_torch(cell):
    import torch

    w = torch.tensor(WEIGHT, dtype=cell.dtype, device=cell.device, requires_grad=True)
    penalty = LAMBDA * (w**2).sum()
    penalty.backward()
    torch.optim.SGD([w], lr=LEARNING_RATE).step()
    return penalty, w


def l2_step_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    layer = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=keras.regularizers.L2(LAMBDA), dtype=cell.dtype.name
    )
    layer.build((None, 3))
    layer.set_weights([WEIGHT])
    optimizer = keras.optimizers.SGD(LEARNING_RATE)
    optimizer.build(layer.trainable_variables)

    with tf.GradientTape() as tape:
        penalty = tf.add_n(layer.losses)
    gradient = tape.gradient(penalty, layer.trainable_variables)
    optimizer.apply(gradient, layer.trainable_variables)
    return penalty, tf.identity(layer.kernel)


def l2_step_in_keras(cell):
    import keras

    layer = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=keras.regularizers.L2(LAMBDA), dtype=cell.dtype
    )
    model = keras.Sequential([keras.Input((3,)), layer])
    model.set_weights([WEIGHT])
    cell.compile_model(model, optimizer=keras.optimizers.SGD(LEARNING_RATE), loss="mse")
    zeros = np.zeros((4, 3), "float32"), np.zeros((4, 2), "float32")
    history = model.fit(*zeros, batch_size=4, epochs=1, verbose=0)
    return history.history["loss"][0], layer.kernel


def l2_step_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    w = jnp.asarray(WEIGHT, cell.dtype)
    optimizer = optax.sgd(LEARNING_RATE)

    @cell.compile
    def train_step(w, state):
        penalty, gradient = jax.value_and_grad(lambda w: LAMBDA * (w**2).sum())(w)
        updates, state = optimizer.update(gradient, state, w)
        return penalty, optax.apply_updates(w, updates)

    return train_step(w, optimizer.init(w))


@behaviour(
    "regularization.l2-penalty",
    frameworks="numpy torch tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"jax": "compiled", "others": "eager"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="keras.l2-with-a-factor-of-one-half[tensorflow-*|keras_torch-*-float32-*] "
    "torch.gradient-off-by-a-thousandth[torch-*-float32-*]",
)
def test_l2_penalty(l2_step, cell, expect):
    """L2 adds lambda * sum w^2, 1/8 * 23.75 = 2.96875, and takes an eighth off each weight.

    There is no half in it: a step of SGD with learning rate 1/2 is w - 1/2 * 2 * 1/8 * w = 7/8 w.
    """
    penalty, weight = l2_step(cell)
    expect.exactly(observed=penalty, expected=2.96875, what="penalty")
    expect.exactly(observed=weight, expected=0.875 * WEIGHT, what="weight after a step")


def decayed_in_torch(cell):
    import torch

    w = torch.tensor(WEIGHT, dtype=cell.dtype, device=cell.device, requires_grad=True)
    w.grad = torch.zeros_like(w)
    torch.optim.SGD([w], lr=LEARNING_RATE, weight_decay=2 * LAMBDA).step()
    return w


def decayed_in_jax(cell):
    import jax.numpy as jnp
    import optax

    w = jnp.asarray(WEIGHT, cell.dtype)
    optimizer = optax.chain(optax.add_decayed_weights(2 * LAMBDA), optax.sgd(LEARNING_RATE))
    updates, _ = optimizer.update(jnp.zeros_like(w), optimizer.init(w), w)
    return optax.apply_updates(w, updates)


@behaviour(
    "defaults.l2-factor-two",
    frameworks="torch jax",
    precisions="float64 float32 bfloat16 float16",
    modes="eager",
    needs={"jax": "optax>=0.2"},
    catches="torch.sgd-halves-weight-decay optax.weight-decay-off-by-a-thousandth",
)
def test_l2_factor_two(decayed, cell, expect):
    """weight_decay is added to the gradient as it is: 2 * lambda of it equals an L2 of lambda.

    With weight_decay 1/4 and learning rate 1/2 a step of SGD is w - 1/2 * 1/4 * w = 7/8 w.
    """
    expect.exactly(observed=decayed(cell), expected=0.875 * WEIGHT, what="weight after a step")
