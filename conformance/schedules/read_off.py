"""The learning rates of a schedule, read off what an optimizer does with them.

From w = 0 a gradient of -1 takes w to the rate itself: what counts is not what a schedule says when
it is asked, but what reaches the weights.
"""


def rates_of_torch(cell, steps, rate, schedule):
    """`schedule(optimizer)` makes the schedule of an SGD with learning rate `rate`."""
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=rate)
    scheduler = schedule(optimizer)
    rates = []
    for _ in range(steps):
        w.zero_()
        w.grad = -torch.ones_like(w)
        optimizer.step()
        scheduler.step()
        rates.append(w.clone())
    return rates


def rates_of_tensorflow(cell, steps, schedule):
    """A schedule of Keras, in a train step of one's own."""
    import keras
    import tensorflow as tf

    w = tf.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(schedule)
    optimizer.build([w])

    @cell.compile
    def step():
        w.assign([0.0])
        optimizer.apply_gradients([(tf.constant([-1.0], cell.dtype), w)])
        return tf.identity(w)

    return [step() for _ in range(steps)]


def rates_of_keras(cell, steps, schedule):
    import keras

    w = keras.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(schedule)
    rates = []
    for _ in range(steps):
        w.assign([0.0])
        optimizer.apply([keras.ops.convert_to_tensor([-1.0], cell.dtype)], [w])
        rates.append(w + 0)
    return rates


def rates_of_optax(cell, steps, schedule):
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(schedule)
    zero = jnp.zeros(1, cell.dtype)
    state = optimizer.init(zero)

    @cell.compile
    def step(state):
        updates, state = optimizer.update(-jnp.ones(1, cell.dtype), state)
        return optax.apply_updates(zero, updates), state

    rates = []
    for _ in range(steps):
        w, state = step(state)
        rates.append(w)
    return rates
