"""An embedding is a table: index i gives row i, and the gradient comes back to the rows read.

The table of four rows and two columns, and the indices 1, 3, 3 of one sentence:

    row 0    1  2          output   3  4        gradient   0  0      nobody read it
    row 1    3  4                   7  8                   1  1      read once
    row 2    5  6                   7  8                   0  0
    row 3    7  8                                          2  2      read twice: the sum

It is the product of one-hot rows with a matrix, without the multiplications. The sum is what goes
wrong first where gradients are scattered instead of multiplied: an index that occurs twice in a
batch must count twice. One step of plain SGD with rate 1/2 takes half of the gradient off, and rows
that nobody read stay as they are, bit for bit.

Sources: class 140, topics 2, definitions 1, results 2;
https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html,
https://keras.io/api/layers/core_layers/embedding/,
https://www.tensorflow.org/api_docs/python/tf/nn/embedding_lookup,
https://flax.readthedocs.io/en/latest/api_reference/flax.nnx/nn/linear.html#flax.nnx.Embed
"""

import numpy as np

from fixtures.matrix import behaviour

TABLE = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], float)
INDICES = [[1, 3, 3]]  # batch, time
ROWS = [[[3, 4], [7, 8], [7, 8]]]
GRADIENT = [[0, 0], [1, 1], [0, 0], [2, 2]]
AFTER_A_STEP = [[1, 2], [2.5, 3.5], [5, 6], [6, 7]]
RATE = 1 / 2


def looked_up_in_numpy(cell):
    """(the rows, the product of one-hot rows with the table)."""
    import numpy as np

    table, indices = TABLE.astype(cell.dtype), np.array(INDICES)
    return table[indices], np.eye(4, dtype=cell.dtype)[indices] @ table


def looked_up_in_torch(cell):
    import torch

    indices = torch.tensor(INDICES, device=cell.device)
    layer = _layer_in_torch(cell)
    one_hot = torch.nn.functional.one_hot(indices, 4).to(cell.dtype)
    with torch.no_grad():
        return layer(indices), one_hot @ layer.weight


def _layer_in_torch(cell, **options):
    import torch

    layer = torch.nn.Embedding(4, 2, dtype=cell.dtype, device=cell.device, **options)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(TABLE))
    return layer


def looked_up_in_tensorflow(cell):
    import tensorflow as tf

    table, indices = tf.constant(TABLE, cell.dtype), tf.constant(INDICES)
    one_hot = tf.one_hot(indices, 4, dtype=cell.dtype)
    return tf.nn.embedding_lookup(table, indices), tf.einsum("bti,ij->btj", one_hot, table)


def looked_up_in_keras(cell):
    import keras

    layer = keras.layers.Embedding(4, 2, dtype=cell.dtype)
    layer.build()
    layer.set_weights([TABLE])
    one_hot = keras.ops.one_hot(np.array(INDICES), 4, dtype=cell.dtype)
    return layer(np.array(INDICES)), keras.ops.matmul(one_hot, layer.embeddings)


def looked_up_in_jax(cell):
    import jax
    import jax.numpy as jnp
    from flax import nnx

    layer = nnx.Embed(4, 2, dtype=cell.dtype, param_dtype=cell.dtype, rngs=nnx.Rngs(cell.seed))
    table = jnp.asarray(TABLE, cell.dtype)
    nnx.update(layer, jax.tree.map(lambda _: table, nnx.state(layer, nnx.Param)))
    indices = jnp.asarray(INDICES)
    return layer(indices), jax.nn.one_hot(indices, 4, dtype=cell.dtype) @ table


@behaviour(
    "embedding.lookup-table",
    frameworks="numpy torch tensorflow keras jax",
    precisions={"numpy": "float64 float32 float16", "others": "float64 float32 bfloat16 float16"},
    modes="eager",
    needs={"jax": "flax>=0.10"},
    costly="jax-*float16-eager",
    catches="torch.embedding-reads-the-row-before flax.embed-doubles-its-rows",
)
def test_lookup_table(looked_up, cell, expect):
    """Indices 1, 3, 3 give the rows (3, 4), (7, 8), (7, 8), as one-hot rows times the table do."""
    rows, product = looked_up(cell)
    expect.exactly(observed=rows, expected=ROWS, what="rows")
    expect.exactly(observed=product, expected=ROWS, what="one-hot rows times the table")


# ----------------------------------------------------------------------------------------------
# The gradient of the sum of the output, and one step of SGD on it.


def trained_in_torch(cell):
    """(gradient of the table, table after a step): dense, and with sparse=True."""
    import torch

    results = []
    for sparse in (False, True):
        layer = _layer_in_torch(cell, sparse=sparse)
        layer(torch.tensor(INDICES, device=cell.device)).sum().backward()
        gradient = layer.weight.grad
        torch.optim.SGD(layer.parameters(), lr=RATE).step()
        results.append((gradient.to_dense() if sparse else gradient, layer.weight.detach()))
    return results


def trained_in_tensorflow(cell):
    """The gradient is tf.IndexedSlices: rows and their indices, each occurrence for itself."""
    import keras
    import tensorflow as tf

    table = tf.Variable(TABLE, dtype=cell.dtype)
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build([table])

    @cell.compile
    def train_step(indices):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.nn.embedding_lookup(table, indices))
        gradient = tape.gradient(loss, table)
        dense = tf.convert_to_tensor(gradient)
        optimizer.apply([gradient], [table])
        return dense

    gradient = train_step(tf.constant(INDICES))
    return [(gradient, tf.identity(table))]


def trained_in_keras(cell):
    """The gradient is what SGD took off, divided by the rate."""
    import keras

    model = keras.Sequential([keras.layers.Embedding(4, 2, dtype=cell.dtype)])
    model.build((1, 3))
    model.set_weights([TABLE])
    cell.compile_model(
        model,
        optimizer=keras.optimizers.SGD(RATE),
        loss=lambda target, rows: keras.ops.sum(rows),
    )
    model.fit(np.array(INDICES), np.zeros((1, 3, 2)), batch_size=1, epochs=1, verbose=0)
    (table,) = model.weights
    start = keras.ops.convert_to_tensor(TABLE, cell.dtype)
    return [((start - keras.ops.convert_to_tensor(table)) / RATE, table)]


def trained_in_jax(cell):
    import jax
    import jax.numpy as jnp
    import optax

    optimizer = optax.sgd(RATE)

    @cell.compile
    def train_step(table, indices):
        gradient = jax.grad(lambda table: table[indices].sum())(table)
        updates, _ = optimizer.update(gradient, optimizer.init(table), table)
        return gradient, optax.apply_updates(table, updates)

    return [train_step(jnp.asarray(TABLE, cell.dtype), jnp.asarray(INDICES))]


@behaviour(
    "embedding.gradient-only-used-rows",
    frameworks="torch tensorflow keras jax",
    precisions="float64 float32",
    modes={"torch": "eager", "keras": "eager", "others": "eager compiled"},
    needs={"tensorflow": "keras>=3.0 keras-backend:tensorflow", "jax": "optax>=0.2"},
    catches="torch.embedding-counts-an-index-once tensorflow.repeated-slices-are-averaged "
    "keras.embedding-trains-at-half-the-rate",
)
def test_gradient_only_used_rows(trained, cell, expect):
    """Row 1, read once, has the gradient 1; row 3, read twice, 2; the others 0, and do not move.

    So it is where the gradient is sparse: torch's sparse=True, TensorFlow's tf.IndexedSlices.
    """
    for gradient, table in trained(cell):
        expect.exactly(observed=gradient, expected=GRADIENT, what="gradient of the table")
        expect.exactly(observed=table, expected=AFTER_A_STEP, what="table after a step")
