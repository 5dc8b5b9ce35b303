"""Learning rates: what a framework makes of 0.1, and different ones for different layers.

A learning rate is a Python float, that is, a double. torch and optax use it as it is. Keras keeps
it in a variable of its default type, float32, so that it can be changed during a training: with
float64 weights 0.1 then acts as 0.10000000149. That is one part in 70 million, and enough to tell a
float64 training in Keras from the same one elsewhere. Powers of two pass unharmed.

Layers may have learning rates of their own, small for a pretrained body and large for a new head:

    torch, Lightning   one optimizer, one parameter group for each rate
    Keras, TensorFlow  two optimizers in a train step of one's own
    optax              optax.multi_transform, one transformation for each label

The common mistake is one optimizer with one rate: the body forgets what it was trained for.

Sources: class 113, definition of SGD; class 112, topics (differential learning rates); class 121,
exercise 5 and learning outcome 4;
https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options,
https://keras.io/api/optimizers/, https://keras.io/guides/customizing_what_happens_in_fit/,
https://optax.readthedocs.io/en/latest/api/combining_optimizers.html#optax.multi_transform
"""

import numpy as np

from fixtures.matrix import behaviour

# ----------------------------------------------------------------------------------------------
# A learning rate of 0.1 for float64 weights. From w = 0 a gradient of -1 puts w on the rate itself.

rate_in_effect_in_torch = 0.1
rate_in_effect_in_tensorflow = float(np.float32(0.1))
rate_in_effect_in_keras = float(np.float32(0.1))
rate_in_effect_in_jax = 0.1


def first_step_in_torch(cell):
    import torch

    w = torch.zeros(1, dtype=cell.dtype, device=cell.device)
    optimizer = torch.optim.SGD([w], lr=0.1)
    w.grad = torch.tensor([-1.0], dtype=cell.dtype, device=cell.device)
    optimizer.step()
    return w


def first_step_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    w = tf.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(learning_rate=0.1)
    optimizer.apply_gradients([(tf.constant([-1.0], cell.dtype), w)])
    return w


def first_step_in_keras(cell):
    import keras

    w = keras.Variable([0.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(learning_rate=0.1)
    optimizer.apply([keras.ops.convert_to_tensor([-1.0], cell.dtype)], [w])
    return w


def first_step_in_jax(cell):
    import jax.numpy as jnp
    import optax

    w = jnp.zeros(1, cell.dtype)
    optimizer = optax.sgd(learning_rate=0.1)
    updates, _ = optimizer.update(jnp.asarray([-1.0], cell.dtype), optimizer.init(w), w)
    return optax.apply_updates(w, updates)


@behaviour(
    "optimizers.keras-float32-learning-rate",
    frameworks="torch tensorflow keras jax",
    precisions="float64",
    modes="eager",
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.learning-rate-through-float32",
)
def test_keras_float32_learning_rate(first_step, rate_in_effect, cell, expect):
    """Keras keeps a learning rate of 0.1 in float32: float64 weights step by 0.10000000149.

    torch and optax step by 0.1. The product of the rate with a gradient of -1 rounds nothing.
    """
    expect.exactly(observed=first_step(cell), expected=[rate_in_effect], what="w")


# ----------------------------------------------------------------------------------------------
# Two layers of one weight each, with learning rates of 1/4 for the head and 1/16 for the body. The
# loss is their product, so the gradient of the head is body and that of the body is head.
#
#                  body                    head
#     start        1                       2
#     step 1       1 - 2/16 = 0.875        2 - 1/4 = 1.75
#     step 2       0.875 - 1.75/16         1.75 - 0.875/4
#                  = 0.765625              = 1.53125

BODY, HEAD = 0.765625, 1.53125
# With 1/4 for both, the first step takes the body to 1 - 2/4 = 1/2, the second to 1/2 - 1.75/4.
BODY_WITH_ONE_RATE = 0.0625


def two_rates_in_torch(cell):
    import torch

    body = torch.ones(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    head = torch.full([1], 2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    groups = [{"params": [body], "lr": 1 / 16}, {"params": [head]}]
    optimizer = torch.optim.SGD(groups, lr=1 / 4)
    loss = cell.compile(lambda body, head: (head * body).sum())
    for _ in range(2):
        optimizer.zero_grad()
        loss(body, head).backward()
        optimizer.step()
    return body, head


def one_rate_in_torch(cell):
    import torch

    body = torch.ones(1, dtype=cell.dtype, device=cell.device, requires_grad=True)
    head = torch.full([1], 2.0, dtype=cell.dtype, device=cell.device, requires_grad=True)
    optimizer = torch.optim.SGD([body, head], lr=1 / 4)
    loss = cell.compile(lambda body, head: (head * body).sum())
    for _ in range(2):
        optimizer.zero_grad()
        loss(body, head).backward()
        optimizer.step()
    return body, head


def fitted(cell, groups_of):
    """A LightningModule after two steps under SGD(groups_of(body, head), lr=1/4)."""
    import lightning
    import torch

    class Product(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Parameter(torch.tensor([1.0]))
            self.head = torch.nn.Parameter(torch.tensor([2.0]))
            self.loss = cell.compile(lambda body, head: (head * body).sum())

        def training_step(self, batch, batch_index):
            return self.loss(self.body, self.head)

        def configure_optimizers(self):
            return torch.optim.SGD(groups_of(self.body, self.head), lr=1 / 4)

    model = Product()
    two_batches = torch.utils.data.DataLoader([0, 0])
    lightning.Trainer(max_epochs=1, **cell.trainer_options).fit(model, two_batches)
    return model.body, model.head


def two_rates_in_lightning(cell):
    return fitted(cell, lambda body, head: [{"params": [body], "lr": 1 / 16}, {"params": [head]}])


def one_rate_in_lightning(cell):
    return fitted(cell, lambda body, head: [body, head])


def two_rates_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    body, head = tf.Variable([1.0], dtype=cell.dtype), tf.Variable([2.0], dtype=cell.dtype)
    slow, fast = keras.optimizers.SGD(1 / 16), keras.optimizers.SGD(1 / 4)
    slow.build([body])
    fast.build([head])

    @cell.compile
    def train_step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(head * body)
        of_body, of_head = tape.gradient(loss, [body, head])
        slow.apply_gradients([(of_body, body)])
        fast.apply_gradients([(of_head, head)])

    for _ in range(2):
        train_step()
    return tf.identity(body), tf.identity(head)


def one_rate_in_tensorflow(cell):
    import keras
    import tensorflow as tf

    body, head = tf.Variable([1.0], dtype=cell.dtype), tf.Variable([2.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(1 / 4)
    optimizer.build([body, head])

    @cell.compile
    def train_step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(head * body)
        gradients = tape.gradient(loss, [body, head])
        optimizer.apply_gradients(zip(gradients, [body, head], strict=True))

    for _ in range(2):
        train_step()
    return tf.identity(body), tf.identity(head)


def two_rates_in_keras(cell):
    """Two optimizers, each built for its own variables; the gradients are written out."""
    import keras

    body, head = keras.Variable([1.0], dtype=cell.dtype), keras.Variable([2.0], dtype=cell.dtype)
    slow, fast = keras.optimizers.SGD(1 / 16), keras.optimizers.SGD(1 / 4)
    for _ in range(2):
        of_body, of_head = head + 0, body + 0
        slow.apply([of_body], [body])
        fast.apply([of_head], [head])
    return body, head


def one_rate_in_keras(cell):
    import keras

    body, head = keras.Variable([1.0], dtype=cell.dtype), keras.Variable([2.0], dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(1 / 4)
    for _ in range(2):
        of_body, of_head = head + 0, body + 0
        optimizer.apply([of_body, of_head], [body, head])
    return body, head


def two_rates_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    parameters = {"body": jnp.ones(1, cell.dtype), "head": jnp.full(1, 2, cell.dtype)}
    optimizer = optax.multi_transform(
        {"slow": optax.sgd(1 / 16), "fast": optax.sgd(1 / 4)}, {"body": "slow", "head": "fast"}
    )
    state = optimizer.init(parameters)

    @cell.compile
    def train_step(parameters, state):
        gradients = jax.grad(lambda p: (p["head"] * p["body"]).sum())(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    for _ in range(2):
        parameters, state = train_step(parameters, state)
    return parameters["body"], parameters["head"]


def one_rate_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    parameters = {"body": jnp.ones(1, cell.dtype), "head": jnp.full(1, 2, cell.dtype)}
    optimizer = optax.sgd(1 / 4)
    state = optimizer.init(parameters)

    @cell.compile
    def train_step(parameters, state):
        gradients = jax.grad(lambda p: (p["head"] * p["body"]).sum())(parameters)
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    for _ in range(2):
        parameters, state = train_step(parameters, state)
    return parameters["body"], parameters["head"]


@behaviour(
    "optimizers.differential-learning-rates",
    frameworks="torch lightning tensorflow keras jax",
    precisions="float64 float32 bfloat16 float16",
    modes={"keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    costly="jax-*float16-eager torch-*-compiled lightning-*-compiled",
    catches="torch.parameter-groups-share-one-rate",
)
def test_differential_learning_rates(two_rates, one_rate, cell, expect):
    """Each group moves by its own rate: 1/4 for the head, 1/16 for the body.

    Two steps on loss = head * body from (2, 1) take the head to 1.53125 and the body to 0.765625;
    with one rate of 1/4 for both the body falls to 0.0625 instead. Powers of two: nothing rounds.
    """
    body, head = two_rates(cell)
    expect.exactly(observed=body, expected=[BODY], what="body with rate 1/16")
    expect.exactly(observed=head, expected=[HEAD], what="head with rate 1/4")

    body, _ = one_rate(cell)
    expect.exactly(observed=body, expected=[BODY_WITH_ONE_RATE], what="body with the head's rate")
