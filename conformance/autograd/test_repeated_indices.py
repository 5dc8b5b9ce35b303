"""Rows of a table that are looked up more than once: their gradients add up.

A table of four rows is read at 1, 3, 3 and 3, and what is read is weighed by 1, 2, 4 and 8:

    row          0    1    2    3
    gradient     0    1    0    2 + 4 + 8 = 14

Rows that nobody reads have the gradient 0, and plain SGD leaves them as they are. A library that
keeps the last or the largest of a row's gradients has 8 for row 3, a mean 14/3. TensorFlow hands
the gradient over as tf.IndexedSlices, with a row for each reading, and adds when these become a
tensor.

Sources: class 140, topics 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html,
https://docs.pytorch.org/docs/stable/generated/torch.index_select.html,
https://www.tensorflow.org/api_docs/python/tf/IndexedSlices,
https://www.tensorflow.org/api_docs/python/tf/gather,
https://keras.io/api/layers/core_layers/embedding/,
https://docs.jax.dev/en/latest/_autosummary/jax.numpy.take.html
"""

import numpy as np

from fixtures.matrix import behaviour

TABLE = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
INDICES = np.array([1, 3, 3, 3])
WEIGHTS = np.array([[1.0], [2.0], [4.0], [8.0]])
GRADIENT = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [14.0, 14.0]])

# torch.compile takes half a minute over Keras's train step, and JAX without jit compiles every
# operation by itself. The rest waits for depth full.
COSTLY = "keras_torch-*-compiled keras_jax-*-eager jax-*-float64-eager jax-*float16-eager"


# Each program returns {what: gradient by the table} of sum(weights * table[indices]).


def gradients_in_numpy(cell):
    from reference.autodiff import Tensor

    table = Tensor(TABLE.astype(cell.dtype), requires_grad=True)
    (table[INDICES] * Tensor(WEIGHTS.astype(cell.dtype))).sum().backward()
    return {"table[indices]": table.grad}


def gradients_in_torch(cell):
    import torch

    indices = torch.tensor(INDICES, device=cell.device)
    weights = torch.tensor(WEIGHTS, dtype=cell.dtype, device=cell.device)
    table = torch.tensor(TABLE, dtype=cell.dtype, device=cell.device, requires_grad=True)

    readings = {
        "embedding": torch.nn.functional.embedding(indices, table),
        "index_select": table.index_select(0, indices),
        "table[indices]": table[indices],
        "gather": table.gather(0, indices[:, None].expand(-1, 2)),
    }
    found = {}
    for what, reading in readings.items():
        table.grad = None
        (weights * reading).sum().backward()
        found[what] = table.grad
    return found


def gradients_in_tensorflow(cell):
    import tensorflow as tf

    weights = tf.constant(WEIGHTS, cell.dtype)
    table = tf.Variable(TABLE, dtype=cell.dtype)

    @cell.compile
    def gradients(indices):
        with tf.GradientTape(persistent=True) as tape:
            sums = {
                "embedding_lookup": tf.reduce_sum(weights * tf.nn.embedding_lookup(table, indices)),
                "gather": tf.reduce_sum(weights * tf.gather(table, indices)),
                "gather_nd": tf.reduce_sum(weights * tf.gather_nd(table, indices[:, None])),
            }
        return {
            what: tf.convert_to_tensor(tape.gradient(total, table)) for what, total in sums.items()
        }

    return gradients(tf.constant(INDICES))


def gradients_in_keras(cell):
    """SGD with learning rate 1 subtracts the gradient."""
    import keras

    layer = keras.layers.Embedding(4, 2, dtype=cell.dtype)
    model = keras.Sequential([keras.Input((1,), dtype="int32"), layer])
    layer.set_weights([TABLE])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(learning_rate=1.0),
        loss=lambda weights, read: keras.ops.sum(keras.ops.reshape(weights, (-1, 1, 1)) * read),
    )
    model.fit(INDICES[:, None], WEIGHTS, batch_size=4, shuffle=False, epochs=1, verbose=0)
    return {"Embedding": TABLE - cell.to_numpy(layer.get_weights()[0])}


def gradients_in_jax(cell):
    import jax
    import jax.numpy as jnp

    weights = jnp.asarray(WEIGHTS, cell.dtype)
    readers = {
        "take": lambda table, indices: jnp.take(table, indices, axis=0),
        "table[indices]": lambda table, indices: table[indices],
    }

    @cell.compile
    def gradients(table, indices):
        return {
            what: jax.grad(lambda table, read=read: (weights * read(table, indices)).sum())(table)
            for what, read in readers.items()
        }

    return gradients(jnp.asarray(TABLE, cell.dtype), jnp.asarray(INDICES))


@behaviour(
    "autograd.repeated-indices",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"keras": "float32", "others": "float64 float32 bfloat16 float16"},
    modes={"numpy": "eager", "torch": "eager", "others": "eager compiled"},
    costly=COSTLY,
    catches="torch.embedding-gradient-counts-a-row-once "
    "tensorflow.embedding-gradient-counts-a-row-once "
    "keras.embedding-gradient-counts-a-row-once "
    "jax.take-gradient-counts-a-row-once",
)
def test_repeated_indices(gradients, cell, expect):
    """The gradient of a row is the sum over all its readings: 1, and 2 + 4 + 8 = 14; others 0.

    Small whole numbers: exact in every precision.
    """
    for what, gradient in gradients(cell).items():
        expect.exactly(
            observed=gradient,
            expected=GRADIENT,
            what=f"gradient of {what}",
            other_precision="in Keras it is a difference of weights, taken in float64",
        )
